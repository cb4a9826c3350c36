package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func mustRules(t testing.TB, text string) *Rules {
	t.Helper()
	r, err := ParseRules([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func person(subject string, rights Rights, issuer Issuer) Identity {
	return Identity{Subject: subject, Rights: rights, TokenID: "t", Issuer: issuer, Expires: noon.Add(time.Hour)}
}

// TestDefaultRules: without a file, everybody reads, and all else needs its
// right, as a token says it.
func TestDefaultRules(t *testing.T) {
	r := mustRules(t, DefaultRules)
	for rights := range All + 1 {
		for _, id := range []Identity{{}, {Rights: rights}, person("ann", rights, IssuerOwn), person("ann", rights, IssuerTrusted), person("ann", rights, IssuerDev)} {
			for doors := Door(1); doors < 1<<numDoors; doors++ {
				for action := ActionRead; action < numActions; action++ {
					req := Request{Action: action, Doors: doors, Identity: id}
					want := id.Require(action.Right())
					if action == ActionRead {
						want = nil
					}
					err := r.Decide(&req, noon).Err(&req)
					if errors.Is(err, ErrForbidden) != errors.Is(want, ErrForbidden) || errors.Is(err, ErrUnauthenticated) != errors.Is(want, ErrUnauthenticated) {
						t.Errorf("%s by %s, %+v: %v; want %v", action, doors, id, err, want)
					}
				}
				for object, right := range map[Object]Rights{ObjectOwn: Write, ObjectOthers: Write | Admin} {
					req := Request{Action: ActionWrite, Doors: doors, Identity: id, Object: object}
					if got, want := r.Decide(&req, noon).Allow, id.Require(right) == nil; got != want {
						t.Errorf("write to %s by %+v: %t", objectNames[object], id, got)
					}
				}
			}
		}
	}
	if !r.Open(ActionRead, DoorHTTP) || r.Open(ActionWrite, DoorHTTP) || r.Open(0, DoorHTTP) || r.Open(ActionRead, 1<<numDoors) || r.Open(numActions, DoorHTTP) {
		t.Error("what is open")
	}
	late := Request{Action: ActionRead, Doors: DoorConnect, Identity: person("ann", All, IssuerOwn)}
	if d := r.Decide(&late, noon.Add(time.Hour)); d.Allow || !errors.Is(d.Err(&late), ErrUnauthenticated) {
		t.Errorf("an expired token: %+v", d)
	}
	for _, req := range []Request{{}, {Action: numActions}, {Action: ActionRead, Doors: 1 << numDoors}, {Action: ActionWrite, Object: numObjects}} {
		if d := r.Decide(&req, noon); d.Allow {
			t.Errorf("%+v is allowed", req)
		}
	}
}

func TestRules(t *testing.T) {
	r := mustRules(t, `
[[rule]]
name = "not mallory"
effect = "deny"
actions = ["read", "write", "publish"]
subjects = ["mallory"]

[[rule]]
name = "not from there"
effect = "deny"
actions = ["read"]
networks = ["198.51.100.0/24", "2001:db8:bad::/48"]

[[rule]]
name = "home reads"
actions = ["read"]
networks = ["192.0.2.0/24", "2001:db8::/48"]
doors = ["http"]

[[rule]]
name = "members read"
actions = ["read"]
rights = ["read"]

[[rule]]
name = "own users write"
actions = ["write"]
rights = ["write"]
issuers = ["own"]

[[rule]]
name = "a moderator"
actions = ["write"]
rights = ["write"]
subjects = ["mod"]
objects = ["others"]
doors = ["connect"]

[[rule]]
name = "admins behind the proxy"
actions = ["admin"]
rights = ["admin"]
doors = ["proxy"]

[[rule]]
name = "metrics"
actions = ["read"]
doors = ["admin"]
`)
	addr := netip.MustParseAddr
	ann, mod := person("ann", Read|Write, IssuerOwn), person("mod", Write, IssuerTrusted)
	root := person("root", All, IssuerOwn)
	for _, tc := range []struct {
		req  Request
		rule string // that allows; "!name" denies; "" none
	}{
		{Request{Action: ActionRead, Doors: DoorHTTP}, "!not from there"}, // nobody knows from where
		{Request{Action: ActionRead, Doors: DoorHTTP, Client: addr("203.0.113.1")}, ""},
		{Request{Action: ActionRead, Doors: DoorHTTP, Client: addr("192.0.2.9")}, "home reads"},
		{Request{Action: ActionRead, Doors: DoorHTTP | DoorProxy, Client: addr("2001:db8::1")}, "home reads"},
		{Request{Action: ActionRead, Doors: DoorConnect, Client: addr("192.0.2.9")}, ""},
		{Request{Action: ActionRead, Doors: DoorHTTP, Client: addr("198.51.100.7"), Identity: ann}, "!not from there"},
		{Request{Action: ActionRead, Doors: DoorConnect, Client: addr("203.0.113.1"), Identity: ann}, "members read"},
		{Request{Action: ActionRead, Doors: DoorConnect, Client: addr("203.0.113.1"), Identity: mod}, ""},
		{Request{Action: ActionRead, Doors: DoorHTTP, Client: addr("192.0.2.9"), Identity: person("mallory", All, IssuerOwn)}, "!not mallory"},
		{Request{Action: ActionRead, Doors: DoorAdmin, Client: addr("203.0.113.1")}, "metrics"},
		{Request{Action: ActionWrite, Doors: DoorHTTP, Identity: ann}, "own users write"},
		{Request{Action: ActionWrite, Doors: DoorHTTP, Identity: ann, Object: ObjectOwn}, "own users write"},
		{Request{Action: ActionWrite, Doors: DoorHTTP, Identity: ann, Object: ObjectOthers}, ""},
		{Request{Action: ActionWrite, Doors: DoorHTTP, Identity: mod}, ""},
		{Request{Action: ActionWrite, Doors: DoorConnect, Identity: mod, Object: ObjectOthers}, "a moderator"},
		{Request{Action: ActionWrite, Doors: DoorHTTP, Identity: mod, Object: ObjectOthers}, ""},
		{Request{Action: ActionPublish, Doors: DoorConnect, Identity: ann}, ""},
		{Request{Action: ActionAdmin, Doors: DoorConnect, Identity: root}, ""},
		{Request{Action: ActionAdmin, Doors: DoorConnect | DoorProxy, Identity: root}, "admins behind the proxy"},
		{Request{Action: ActionAdmin, Doors: DoorConnect | DoorProxy, Identity: ann}, ""},
	} {
		d := r.Decide(&tc.req, noon)
		got := d.Rule
		if !d.Allow && got != "" {
			got = "!" + got
		}
		if got != tc.rule || d.Allow != (d.Err(&tc.req) == nil) {
			t.Errorf("%+v: %q; want %q", tc.req, got, tc.rule)
		}
	}
	if r.Open(ActionRead, DoorHTTP) || r.Open(ActionRead, DoorAdmin) || r.Open(ActionPledge, DoorHTTP) {
		t.Error("what is open")
	}
}

func TestRulesFail(t *testing.T) {
	for text, want := range map[string]string{
		"":         "0 [[rule]] tables",
		"[[rule]]": "a name has",
		"[[rule":   "line 1",
		"x = 1":    "x is no key",
		"rule = 5": "line 1",
		"[[rule]]\nname = \"a\"\nactions = [\"read\"]\nright = [\"read\"]": "line 4: rule.right is no key",
		rule("a", ``):                                                                                   "actions are needed",
		rule("a", `actions = ["fly"]`):                                                                  "is no action",
		rule("a", `actions = ["none"]`):                                                                 "is no action",
		rule("a", `actions = ["write"]`):                                                                `add "write" to rights`,
		rule("a", `actions = ["read","admin"]`):                                                         `add "admin" to rights`,
		rule("a", "actions = [\"publish\"]\nrights = [\"read\", \"admin\"]"):                            `add "write" to rights`,
		rule("a", "actions = [\"read\"]\nrights = [\"sing\"]"):                                          "is no right",
		rule("a", "actions = [\"read\"]\neffect = \"maybe\""):                                           "allow or deny",
		rule("a", "actions = [\"read\"]\nissuers = [\"me\"]"):                                           "is no issuer",
		rule("a", "actions = [\"read\"]\ndoors = [\"window\"]"):                                         "is no door",
		rule("a", "actions = [\"read\"]\nobjects = [\"own\"]"):                                          "for write alone",
		rule("a", "actions = [\"write\"]\nrights = [\"write\"]\nobjects = [\"all\"]"):                   "is no object",
		rule("a", "actions = [\"read\"]\nnetworks = [\"10.0.0.1\"]"):                                    "is no network",
		rule("a", "actions = [\"read\"]\nnetworks = [\"10.0.0.1/8\"]"):                                  "is no network",
		rule("a", "actions = [\"read\"]\nnetworks = [\"::ffff:10.0.0.0/104\"]"):                         "is no network",
		rule("a", "actions = [\"read\"]\nsubjects = [\"\"]"):                                            "a subject is",
		rule("a", `actions = ["read"]`) + rule("a", `actions = ["read"]`):                               "name of another",
		rule(strings.Repeat("a", 65), `actions = ["read"]`):                                             "a name has",
		strings.Repeat("#", maxRulesText+1):                                                             "more than",
		rule("a", `actions = ["read"]`) + strings.Repeat("[[rule]]\n", maxRules):                        "257 [[rule]] tables",
		rule("a", "actions = [\"read\"]\nnetworks = ["+strings.Repeat(`"::/0",`, maxEntries)+`"::/0"]`): "more than",
	} {
		_, err := ParseRules([]byte(text))
		if !errors.Is(err, ErrRules) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v; want %q", text, err, want)
		}
	}
}

func rule(name, lines string) string {
	return fmt.Sprintf("[[rule]]\nname = %q\n%s\n", name, lines)
}

// TestAgainstNaive holds the compiled table against the rules as they are
// written, for anything that can be asked.
func TestAgainstNaive(t *testing.T) {
	names := func(all []string) *rapid.Generator[[]string] {
		return rapid.SliceOfNDistinct(rapid.SampledFrom(all), 0, 2, rapid.ID[string])
	}
	networks := []string{"192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"}
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		var rules []ruleText
		for i := range rapid.IntRange(1, 5).Draw(t, "rules") {
			in := ruleText{
				Name: fmt.Sprint("r", i), Effect: rapid.SampledFrom([]string{"allow", "deny"}).Draw(t, "effect"),
				Actions: rapid.SliceOfNDistinct(rapid.SampledFrom(actionNames[1:]), 1, 3, rapid.ID[string]).Draw(t, "actions"),
				Rights:  names(rightNames[:]).Draw(t, "rights"), Subjects: names([]string{"ann", "bob"}).Draw(t, "subjects"),
				Issuers: names(issuerNames[:]).Draw(t, "issuers"), Networks: names(networks).Draw(t, "networks"), Doors: names(doorNames[:]).Draw(t, "doors"),
			}
			if slices.Equal(in.Actions, []string{"write"}) {
				in.Objects = names(objectNames[:]).Draw(t, "objects")
			}
			one := rule(in.Name, "effect = \""+in.Effect+"\"\n"+lists(in))
			if _, err := ParseRules([]byte(one)); err != nil {
				continue // it allows more than the token has: TestRulesFail
			}
			rules = append(rules, in)
			text.WriteString(one)
		}
		if len(rules) == 0 {
			return
		}
		r, err := ParseRules([]byte(text.String()))
		if err != nil {
			t.Fatal(err)
		}
		req := Request{
			Action: Action(rapid.IntRange(1, numActions-1).Draw(t, "action")), Doors: Door(rapid.IntRange(1, 1<<numDoors-1).Draw(t, "doors")),
			Client: rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("203.0.113.1")}).Draw(t, "client"),
		}
		if req.Action == ActionWrite {
			req.Object = Object(rapid.IntRange(0, numObjects-1).Draw(t, "object"))
		}
		if subject := rapid.SampledFrom([]string{"", "ann", "bob", "carl"}).Draw(t, "subject"); subject != "" {
			req.Identity = person(subject, Rights(rapid.IntRange(0, int(All)).Draw(t, "rights")), Issuer(rapid.IntRange(1, numIssuers-1).Draw(t, "issuer")))
		}
		d := r.Decide(&req, noon)
		if allow, name := naive(rules, &req); d.Allow != allow || d.Rule != name {
			t.Fatalf("%+v: %+v; want %t by %q\n%s", req, d, allow, name, text.String())
		}
		if r.Open(req.Action, req.Doors) && !d.Allow {
			t.Fatalf("%+v: open, and denied", req)
		}
	})
}

func lists(in ruleText) string {
	var b strings.Builder
	for key, list := range map[string][]string{"actions": in.Actions, "rights": in.Rights, "subjects": in.Subjects, "issuers": in.Issuers, "networks": in.Networks, "doors": in.Doors, "objects": in.Objects} {
		if len(list) > 0 {
			fmt.Fprintf(&b, "%s = [\"%s\"]\n", key, strings.Join(list, `", "`))
		}
	}
	return b.String()
}

// naive evaluates rules as DefaultRules documents them.
func naive(rules []ruleText, req *Request) (allow bool, name string) {
	has := func(list []string, s string) bool { return len(list) == 0 || slices.Contains(list, s) }
	for _, in := range rules {
		fits := slices.Contains(in.Actions, req.Action.String()) && has(in.Issuers, issuerNames[req.Identity.Issuer]) &&
			(len(in.Subjects) == 0 || req.Identity.Subject != "" && slices.Contains(in.Subjects, req.Identity.Subject))
		for _, right := range in.Rights {
			fits = fits && req.Identity.Subject != "" && slices.Contains(req.Identity.Rights.names(), right)
		}
		if len(in.Doors) > 0 {
			fits = fits && slices.ContainsFunc(in.Doors, func(d string) bool { return slices.Contains(strings.Split(req.Doors.String(), "+"), d) })
		}
		if len(in.Networks) > 0 {
			inside := !req.Client.IsValid() && in.Effect == "deny"
			for _, n := range in.Networks {
				inside = inside || netip.MustParsePrefix(n).Contains(req.Client)
			}
			fits = fits && inside
		}
		objects := in.Objects
		if len(objects) == 0 && in.Effect == "allow" && slices.Contains(in.Actions, "write") {
			objects = []string{"none", "own"}
		}
		if fits && has(objects, objectNames[req.Object]) {
			return in.Effect == "allow", in.Name
		}
	}
	return false, ""
}

func FuzzParseRules(f *testing.F) {
	f.Add(DefaultRules)
	f.Add(rule("a", "actions = [\"read\"]\nnetworks = [\"10.0.0.0/8\"]\nsubjects = [\"ann\"]"))
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRules([]byte(text))
		if err != nil {
			if !errors.Is(err, ErrRules) {
				t.Error(err)
			}
			return
		}
		for action := ActionWrite; action < numActions; action++ { // whatever the rules are
			for object := range Object(numObjects) {
				if r.Decide(&Request{Action: action, Doors: DoorHTTP, Object: object}, noon).Allow {
					t.Errorf("anybody may %s", action)
				}
			}
		}
	})
}

// TestRulesInDocs: the example that operators begin with does what it says.
func TestRulesInDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```toml\n")
	text, _, _ = strings.Cut(text, "```")
	r := mustRules(t, text)
	everything, reader := person("ann", Read|Write|Admin, IssuerOwn), person("bob", Read, IssuerOwn)
	inside := netip.MustParseAddr("10.9.1.1")
	for what, tc := range map[string]struct {
		req  Request
		want bool
	}{
		"metrics":           {Request{Action: ActionRead, Doors: DoorAdmin}, true},
		"a stranger":        {Request{Action: ActionRead, Doors: DoorHTTP}, false},
		"a reader":          {Request{Action: ActionRead, Doors: DoorHTTP, Identity: reader}, true},
		"a writer":          {Request{Action: ActionWrite, Doors: DoorHTTP, Identity: everything, Client: netip.MustParseAddr("192.0.2.1")}, true},
		"in the laboratory": {Request{Action: ActionWrite, Doors: DoorHTTP, Identity: everything, Client: inside}, false},
		"others' object":    {Request{Action: ActionWrite, Doors: DoorHTTP, Object: ObjectOthers, Identity: everything, Client: netip.MustParseAddr("192.0.2.1")}, false},
		"the editor":        {Request{Action: ActionWrite, Doors: DoorHTTP, Object: ObjectOthers, Identity: person("editor", Write, IssuerOwn), Client: netip.MustParseAddr("192.0.2.1")}, true},
		"an administrator":  {Request{Action: ActionAdmin, Doors: DoorConnect, Identity: everything, Client: inside}, true},
	} {
		if d := r.Decide(&tc.req, noon); d.Allow != tc.want {
			t.Errorf("%s: %+v", what, d)
		}
	}
}

// BenchmarkDecide: a read under the default rules, beside one that has to be
// looked at.
func BenchmarkDecide(b *testing.B) {
	private := rule("home", "actions = [\"read\"]\nnetworks = [\"192.0.2.0/24\"]") + rule("members", "actions = [\"read\"]\nrights = [\"read\"]")
	for name, text := range map[string]string{"open": DefaultRules, "private": private} {
		b.Run(name, func(b *testing.B) {
			r := mustRules(b, text)
			req := Request{Action: ActionRead, Doors: DoorHTTP}
			if name == "private" {
				req.Identity, req.Client = person("ann", Read, IssuerOwn), netip.MustParseAddr("203.0.113.1")
			}
			b.ReportAllocs()
			for b.Loop() {
				if !r.Decide(&req, noon).Allow {
					b.Fatal("denied")
				}
			}
		})
	}
}

// BenchmarkOpenRead is what the doors ask for a read by a stranger.
func BenchmarkOpenRead(b *testing.B) {
	p, err := OpenPolicy(PolicyConfig{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !p.OpenRead(DoorHTTP) {
			b.Fatal("denied")
		}
	}
}

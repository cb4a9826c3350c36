package auth_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"inos.dev/edge/gateway/auth"
)

var now = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func verifier(tb testing.TB, cfg auth.Config) *auth.Verifier {
	tb.Helper()
	v, err := auth.NewVerifier(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func issue(tb testing.TB, k auth.SecretKey, subject string, rights auth.Rights, from time.Time, term time.Duration) auth.Token {
	tb.Helper()
	token, err := k.Issue(subject, rights, from, from.Add(term))
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

// quotes reports a piece of secret in text.
func quotes(text, secret string) bool {
	const piece = 12
	for i := 0; i+piece <= len(secret); i++ {
		if strings.Contains(text, secret[i:i+piece]) {
			return true
		}
	}
	return false
}

func TestVerify(t *testing.T) {
	own, friend, stranger := auth.NewSecretKey(), auth.NewSecretKey(), auth.NewSecretKey()
	v := verifier(t, auth.Config{Own: own.Public(), Trusted: []auth.PublicKey{friend.Public()}})
	tests := []struct {
		name   string
		token  auth.Token
		rights auth.Rights // None: refused
		op     bool
	}{
		{"own", issue(t, own, "alice", auth.Write, now, time.Hour), auth.Write, false},
		{"own operator", issue(t, own, auth.OperatorSubject, auth.All, now, time.Hour), auth.All, true},
		{"admin is no operator", issue(t, own, "alice", auth.All, now, time.Hour), auth.All, false},
		{"a friend's", issue(t, friend, "bob", auth.Read|auth.Write, now, time.Hour), auth.Read | auth.Write, false},
		{"a friend's admin", issue(t, friend, "bob", auth.All, now, time.Hour), auth.Read | auth.Write, false},
		{"a friend's operator", issue(t, friend, auth.OperatorSubject, auth.Write, now, time.Hour), auth.None, false},
		{"a stranger's", issue(t, stranger, "eve", auth.Write, now, time.Hour), auth.None, false},
		{"expired", issue(t, own, "alice", auth.Write, now.Add(-time.Hour), time.Hour), auth.None, false},
		{"one second left", issue(t, own, "alice", auth.Write, now.Add(-time.Hour), time.Hour+time.Second), auth.Write, false},
		{"clock a minute ahead", issue(t, own, "alice", auth.Write, now.Add(time.Minute), time.Hour), auth.Write, false},
		{"clock an hour ahead", issue(t, own, "alice", auth.Write, now.Add(time.Hour), time.Hour), auth.None, false},
		{"empty", "", auth.None, false},
		{"another purpose", "v4.local.AAAA", auth.None, false},
		{"another version", "v2.public.AAAA", auth.None, false},
		{"long", auth.Token("v4.public." + strings.Repeat("A", 5000)), auth.None, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := v.Verify(tt.token, now)
			if tt.rights == auth.None {
				if !errors.Is(err, auth.ErrUnauthenticated) || !id.Anonymous() {
					t.Fatalf("%+v, %v; want ErrUnauthenticated", id, err)
				}
				if text := fmt.Sprintf("%v %+v %#v", err, err, err); quotes(text, strings.TrimPrefix(tt.token.Reveal(), "v4.public.")) {
					t.Errorf("the error quotes the token: %s", text)
				}
				return
			}
			if err != nil || id.Rights != tt.rights || id.Operator != tt.op || id.TokenID == "" {
				t.Errorf("%+v, %v", id, err)
			}
		})
	}
}

func TestEveryByteOfATokenCounts(t *testing.T) {
	own := auth.NewSecretKey()
	v := verifier(t, auth.Config{Own: own.Public()})
	text := issue(t, own, "alice", auth.Write, now, time.Hour).Reveal()
	for i := range len(text) {
		for _, with := range []byte{'A', 'B', '.', '\n', 0} {
			if text[i] == with {
				continue
			}
			if _, err := v.Verify(auth.Token(text[:i]+string(with)+text[i+1:]), now); !errors.Is(err, auth.ErrUnauthenticated) {
				t.Fatalf("byte %d as %q: %v", i, with, err)
			}
		}
		if _, err := v.Verify(auth.Token(text[:i]), now); !errors.Is(err, auth.ErrUnauthenticated) {
			t.Fatalf("first %d bytes: %v", i, err)
		}
	}
	if _, err := v.Verify(auth.Token(text+".Zm9v"), now); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("with a footer: %v", err)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	key := auth.NewSecretKey()
	token := issue(t, key, "alice", auth.All, now, time.Hour)
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "token", token, "key", key, "list", []auth.Token{token})
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "token", token, "key", key, "list", []auth.Token{token})
	type holder struct {
		Token auth.Token
		Key   auth.SecretKey
	}
	var all strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&all, verb+verb+verb, token, key, holder{token, key})
	}
	hidden := struct{ key auth.SecretKey }{key}
	fmt.Fprintf(&all, "%v %+v %#v", hidden, hidden, hidden)
	for name, text := range map[string]string{"log": logged.String(), "fmt": all.String()} {
		if quotes(text, token.Reveal()) || quotes(text, fmt.Sprintf("%x", token.Reveal())) {
			t.Errorf("%s shows the token: %s", name, text)
		}
	}
	if !strings.Contains(logged.String(), "(token)") || len(all.String()) > 2000 {
		t.Errorf("logged %s, printed %s", logged.String(), all.String())
	}
}

func TestFromRequest(t *testing.T) {
	own := auth.NewSecretKey()
	v := verifier(t, auth.Config{Own: own.Public()})
	good := issue(t, own, "alice", auth.Write, time.Now(), time.Hour).Reveal()
	for name, tt := range map[string]struct {
		header []string
		who    string // "!" is refused
	}{
		"none":         {nil, ""},
		"bearer":       {[]string{"Bearer " + good}, "alice"},
		"case, spaces": {[]string{"bEARER  " + good + " "}, "alice"},
		"basic":        {[]string{"Basic " + good}, "!"},
		"bare":         {[]string{good}, "!"},
		"empty":        {[]string{""}, "!"},
		"no token":     {[]string{"Bearer "}, "!"},
		"two":          {[]string{"Bearer " + good, "Bearer " + good}, "!"},
		"joined":       {[]string{"Bearer " + good + ", Bearer " + good}, "!"},
	} {
		r := httptest.NewRequest(http.MethodPost, "/object", nil)
		r.Header["Authorization"] = tt.header
		id, err := v.FromRequest(r, auth.ConnOf(r, false))
		if refused := err != nil; refused != (tt.who == "!") || !refused && id.Subject != tt.who {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
		if err != nil && (!errors.Is(err, auth.ErrUnauthenticated) || quotes(err.Error(), good)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRequire(t *testing.T) {
	alice := auth.Identity{Subject: "alice", Rights: auth.Read}
	for _, tt := range []struct {
		id   auth.Identity
		need auth.Rights
		want error
	}{
		{auth.Identity{}, auth.Read, auth.ErrUnauthenticated},
		{auth.Identity{Rights: auth.All}, auth.Read, auth.ErrUnauthenticated},
		{alice, auth.Read, nil},
		{alice, auth.Write, auth.ErrForbidden},
		{alice, auth.Read | auth.Write, auth.ErrForbidden},
	} {
		if err := tt.id.Require(tt.need); !errors.Is(err, tt.want) {
			t.Errorf("%+v needs %s: %v, want %v", tt.id, tt.need, err, tt.want)
		}
	}
}

func TestIssueRefuses(t *testing.T) {
	key := auth.NewSecretKey()
	for name, err := range map[string]error{
		"no subject":   second(key.Issue("", auth.Read, now, now.Add(1))),
		"long subject": second(key.Issue(strings.Repeat("x", 129), auth.Read, now, now.Add(1))),
		"line feed":    second(key.Issue("a\nb", auth.Read, now, now.Add(1))),
		"no UTF-8":     second(key.Issue("a\xff", auth.Read, now, now.Add(1))),
		"no rights":    second(key.Issue("a", auth.None, now, now.Add(1))),
		"other rights": second(key.Issue("a", 128, now, now.Add(1))),
		"past":         second(key.Issue("a", auth.Read, now, now)),
	} {
		if err == nil {
			t.Errorf("%s: issued", name)
		}
	}
}

func second(_ auth.Token, err error) error { return err }

func TestConfig(t *testing.T) {
	own := auth.NewSecretKey().Public()
	for name, cfg := range map[string]auth.Config{
		"no own key": {},
		"empty key":  {Own: own, Trusted: []auth.PublicKey{{}}},
		"too many":   {Own: own, Trusted: make([]auth.PublicKey, auth.MaxTrusted+1)},
	} {
		if _, err := auth.NewVerifier(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	again, err := auth.ParsePublicKey(own.String())
	if err != nil || again.String() != own.String() {
		t.Errorf("%s, %v", again, err)
	}
	for _, s := range []string{"", "k4.public.", own.String() + "A", own.String()[:50], strings.Replace(own.String(), "public", "secret", 1)} {
		if _, err := auth.ParsePublicKey(s); err == nil {
			t.Errorf("%q: accepted", s)
		}
	}
}

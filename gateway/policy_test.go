package gateway_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inos.dev/edge/gateway"
	"inos.dev/edge/gateway/auth"
)

// privateRules let nobody read without the right read, but metrics.
const privateRules = `
[[rule]]
name = "metrics"
actions = ["read"]
doors = ["admin"]

[[rule]]
name = "members"
actions = ["read"]
rights = ["read"]

[[rule]]
name = "writers"
actions = ["write"]
rights = ["write"]
`

// house is a gateway with rules of its own, and people with tokens.
type house struct {
	url    string
	g      *gateway.Gateway
	policy *auth.Policy
	audit  string
	tokens map[string]string // Authorization headers
}

func newHouse(t *testing.T, rules string, change func(*gateway.Config)) *house {
	t.Helper()
	h := &house{audit: filepath.Join(t.TempDir(), "audit.log"), tokens: map[string]string{"nobody": "", "liar": "Bearer nonsense"}}
	path := filepath.Join(t.TempDir(), "rules.toml")
	if err := os.WriteFile(path, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if h.policy, err = auth.OpenPolicy(auth.PolicyConfig{Rules: path, Audit: h.audit}); err != nil {
		t.Fatal(err)
	}
	key := auth.NewSecretKey()
	for name, rights := range map[string]auth.Rights{"reader": auth.Read, "writer": auth.Write, "both": auth.Read | auth.Write, "admin": auth.All} {
		token, err := key.Issue(name, rights, time.Now(), time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		h.tokens[name] = "Bearer " + token.Reveal()
	}
	verifier, err := auth.NewVerifier(auth.Config{Own: key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	h.g, _ = inMemory(t, func(cfg *gateway.Config) {
		cfg.Auth, cfg.Policy = verifier, h.policy
		change(cfg)
	})
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = h.g.Server(false)
	srv.Start()
	t.Cleanup(srv.Close)
	h.url = srv.URL
	return h
}

// answer is what a house says.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request as somebody.
func (h *house) ask(t *testing.T, who, method, path string, header http.Header, body string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, h.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header.Clone()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if token := h.tokens[who]; token != "" {
		r.Header.Set("Authorization", token)
	}
	tr := &http.Transport{DisableCompression: true}
	defer tr.CloseIdleConnections()
	resp, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// TestPrivateNode: rules that want a right for reading hold for every way to
// read, conditional or in part, and no shared cache keeps what they let out.
func TestPrivateNode(t *testing.T) {
	h := newHouse(t, privateRules, func(*gateway.Config) {})
	put := h.ask(t, "both", "POST", "/object?name=a.txt", nil, "a secret")
	var file struct{ Hash string }
	if err := json.Unmarshal([]byte(put.body), &file); err != nil || put.status != http.StatusCreated {
		t.Fatalf("%+v, %v", put, err)
	}
	root := h.ask(t, "both", "POST", "/inos.cas.v1.CasService/GetManifest", http.Header{"Content-Type": {"application/json"}}, `{"hash":"`+file.Hash+`"}`)
	var record struct {
		Manifest struct{ Pieces []struct{ Hash string } }
	}
	if err := json.Unmarshal([]byte(root.body), &record); err != nil || len(record.Manifest.Pieces) != 1 {
		t.Fatalf("%+v, %v", root, err)
	}
	chunk, object := "/chunk/"+record.Manifest.Pieces[0].Hash, "/object/"+file.Hash
	connect := func(method string) string { return "/inos.cas.v1.CasService/" + method }
	rpcJSON := http.Header{"Content-Type": {"application/json"}}
	for _, tc := range []struct {
		method, path string
		header       http.Header
		body         string
		status       int // for a reader
		cache        string
	}{
		{"GET", chunk, nil, "", 200, "private, max-age=31536000, immutable, no-transform"},
		{"HEAD", chunk, nil, "", 200, "private, max-age=31536000, immutable, no-transform"},
		{"GET", chunk + "?form=stored", nil, "", 200, "private, max-age=31536000, immutable, no-transform"},
		{"GET", chunk, http.Header{"Accept-Encoding": {"br"}}, "", 200, "private, max-age=31536000, immutable, no-transform"},
		{"GET", chunk, http.Header{"If-None-Match": {"*"}}, "", 304, "private, max-age=31536000, immutable, no-transform"},
		{"GET", chunk, http.Header{"Range": {"bytes=1-2"}}, "", 206, "private, max-age=31536000, immutable, no-transform"},
		{"GET", object, nil, "", 200, "private, max-age=31536000, immutable, no-transform"},
		{"HEAD", object, nil, "", 200, "private, max-age=31536000, immutable, no-transform"},
		{"GET", object, http.Header{"If-None-Match": {"*"}}, "", 304, "private, max-age=31536000, immutable, no-transform"},
		{"GET", object, http.Header{"Range": {"bytes=1-2,4-5"}}, "", 206, "private, max-age=31536000, immutable, no-transform"},
		{"GET", object + "/", nil, "", 404, "no-store"},
		{"GET", "/object/" + strings.Repeat("0", 64), nil, "", 404, "no-store"},
		{"POST", chunk + "/report", nil, "", 204, "no-store"},
		{"GET", "/", nil, "", 200, "no-store"},
		{"POST", connect("Stat"), rpcJSON, `{"hashes":["` + file.Hash + `"]}`, 200, "no-store"},
		{"GET", connect("GetManifest") + `?connect=v1&encoding=json&message=%7B%22hash%22%3A%22` + file.Hash + `%22%7D`, nil, "", 200, "private, max-age=86400"},
		{"POST", connect("ListObjects"), rpcJSON, "{}", 200, "no-store"},
		{"POST", connect("GetNode"), rpcJSON, "{}", 200, "no-store"},
	} {
		for who, status := range map[string]int{"nobody": 401, "liar": 401, "writer": 403, "reader": tc.status, "both": tc.status} {
			got := h.ask(t, who, tc.method, tc.path, tc.header, tc.body)
			if got.status != status {
				t.Errorf("%s %s by %s: %d; want %d\n%s", tc.method, tc.path, who, got.status, status, got.body)
			}
			cache := tc.cache
			if status == 401 || status == 403 {
				cache = "no-store"
				if strings.Contains(got.body, "secret") || got.header.Get("Etag") != "" || got.header.Get("Www-Authenticate") != "" != (status == 401) {
					t.Errorf("%s %s by %s: %v\n%s", tc.method, tc.path, who, got.header, got.body)
				}
			}
			if cc := got.header.Get("Cache-Control"); cc != cache {
				t.Errorf("%s %s by %s: Cache-Control %q; want %q", tc.method, tc.path, who, cc, cache)
			}
		}
	}
	for _, path := range []string{"/health/live", "/health/ready"} {
		if got := h.ask(t, "nobody", "GET", path, nil, ""); got.status != http.StatusNoContent {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	if got := h.ask(t, "nobody", "POST", "/grpc.health.v1.Health/Check", rpcJSON, "{}"); got.status != http.StatusOK {
		t.Errorf("health: %d", got.status)
	}
}

// TestRulesOfWrites: what no rule allows is denied, whatever the token has.
func TestRulesOfWrites(t *testing.T) {
	h := newHouse(t, privateRules, func(*gateway.Config) {})
	put := h.ask(t, "writer", "POST", "/object", nil, "hello")
	var file struct{ Hash string }
	if err := json.Unmarshal([]byte(put.body), &file); err != nil || put.status != http.StatusCreated {
		t.Fatalf("%+v, %v", put, err)
	}
	for _, tc := range []struct {
		who, method, path string
		status            int
	}{
		{"nobody", "DELETE", "/object/" + file.Hash, 401},
		{"reader", "DELETE", "/object/" + file.Hash, 403},
		{"both", "DELETE", "/object/" + file.Hash, 403},  // another's
		{"admin", "DELETE", "/object/" + file.Hash, 403}, // which no rule here gives even to him
		{"writer", "DELETE", "/object/" + file.Hash, 204},
	} {
		if got := h.ask(t, tc.who, tc.method, tc.path, nil, ""); got.status != tc.status {
			t.Errorf("%s %s by %s: %d; want %d\n%s", tc.method, tc.path, tc.who, got.status, tc.status, got.body)
		}
	}
	// The record of all that.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.policy.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.policy.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(h.audit)
	if err != nil {
		t.Fatal(err)
	}
	var last struct {
		Subject, Action, Door, Object, Resource, Rule string
		Allow                                         bool
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatal(err)
	}
	if last.Subject != "writer" || last.Action != "write" || last.Door != "http" || last.Object != "own" || last.Resource != file.Hash || last.Rule != "writers" || !last.Allow {
		t.Errorf("%+v", last)
	}
	if n := strings.Count(string(data), `"allow":false`); n != 4 {
		t.Errorf("%d denials in\n%s", n, data)
	}
	for who, token := range h.tokens {
		if secret := strings.TrimPrefix(token, "Bearer "); secret != "" && strings.Contains(string(data), secret) {
			t.Errorf("the token of %s stands in the record", who)
		}
	}
}

// TestAdmits: the admin listener asks the same rules, by its own door.
func TestAdmits(t *testing.T) {
	h := newHouse(t, privateRules, func(*gateway.Config) {})
	for _, tc := range []struct {
		who    string
		action auth.Action
		admits bool
	}{
		{"nobody", auth.ActionRead, true},
		{"liar", auth.ActionRead, true},
		{"nobody", auth.ActionAdmin, false},
		{"admin", auth.ActionAdmin, false}, // no rule says so
	} {
		r := httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody)
		if token := h.tokens[tc.who]; token != "" {
			r.Header.Set("Authorization", token)
		}
		if err := h.g.Admits(r, tc.action); (err == nil) != tc.admits {
			t.Errorf("%s by %s: %v", tc.action, tc.who, err)
		}
	}
}

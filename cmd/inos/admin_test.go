package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cas/mem"
	"inos.dev/edge/gateway"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/gateway/content"
	"inos.dev/edge/gateway/rpc"
	"inos.dev/edge/gateway/upload"
	"inos.dev/edge/mesh"
)

// TestAdminRights asks the admin listener from loopback: metrics are open, all
// else needs a token with the right admin, or --dev.
func TestAdminRights(t *testing.T) {
	key := auth.NewSecretKey()
	token := func(rights auth.Rights) string {
		token, err := key.Issue("ci", rights, time.Now(), time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + token.Reveal()
	}
	for _, test := range []struct {
		method, path, token string
		dev                 bool
		status              int
	}{
		{"GET", "/metrics", "", false, http.StatusOK},
		{"GET", "/debug/pprof/cmdline", "", false, http.StatusUnauthorized},
		{"POST", collectPath, "", false, http.StatusUnauthorized},
		{"POST", collectPath, "Bearer nonsense", true, http.StatusUnauthorized},
		{"POST", collectPath, token(auth.Read | auth.Write), false, http.StatusForbidden},
		{"GET", "/debug/pprof/cmdline", token(auth.Write), true, http.StatusForbidden},
		{"GET", "/debug/pprof/cmdline", token(auth.Admin), false, http.StatusOK},
		{"GET", "/debug/pprof/cmdline", "", true, http.StatusOK},
	} {
		admits := admitsOf(t, auth.Config{Own: key.Public(), Dev: test.dev})
		r := httptest.NewRequestWithContext(t.Context(), test.method, "http://127.0.0.1:8081"+test.path, nil)
		r.RemoteAddr = "127.0.0.1:5555"
		if test.token != "" {
			r.Header.Set("Authorization", test.token)
		}
		w := httptest.NewRecorder()
		adminServer(&node{registry: newRegistry()}, admits).Handler.ServeHTTP(w, r)
		if w.Code != test.status {
			t.Errorf("%s %s, dev %v: %d, want %d", test.method, test.path, test.dev, w.Code, test.status)
		}
		if asks := w.Header().Get("WWW-Authenticate") != ""; asks != (test.status == http.StatusUnauthorized) {
			t.Errorf("%s %s: asks for a token: %v", test.method, test.path, asks)
		}
	}
}

// admitsOf is the question that the admin listener asks a gateway.
func admitsOf(t *testing.T, cfg auth.Config) func(*http.Request, auth.Action) error {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	store, err := mem.New(mem.Config{})
	must(err)
	secret, err := mesh.NewSecret()
	must(err)
	c, err := content.New(content.Config{Store: store, Keeper: memKeeper{store}, Catalog: &catalog.Memory{}, Key: secret})
	must(err)
	writer := dag.NewWriter(c, dag.WriterConfig{})
	uploads, err := upload.Open(upload.Config{Dir: t.TempDir(), Writer: writer})
	must(err)
	t.Cleanup(func() { must(uploads.Close()) })
	verifier, err := auth.NewVerifier(cfg)
	must(err)
	g, err := gateway.New(gateway.Config{Content: c, Writer: writer, Auth: verifier, Uploads: uploads,
		Node: func(context.Context) (rpc.NodeInfo, error) { return rpc.NodeInfo{}, nil }, Ready: func() error { return nil }})
	must(err)
	return g.Admits
}

// memKeeper lets a store in memory stand where the disk does.
type memKeeper struct{ *mem.Store }

func (k memKeeper) Touch(ctx context.Context, h cas.Hash) (cas.Info, error) { return k.Stat(ctx, h) }
func (memKeeper) Report(context.Context, cas.Hash) error                    { return nil }

// TestProxySocket: what a crash left behind is removed, anything else stays.
func TestProxySocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	crashed, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenProxy(t.Context(), path); err == nil {
		t.Error("a socket in use was taken")
	}
	unix, ok := crashed.(*net.UnixListener)
	if !ok {
		t.Fatalf("%T", crashed)
	}
	unix.SetUnlinkOnClose(false)
	if err := crashed.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := listenProxy(t.Context(), path)
	if err != nil {
		t.Fatalf("a socket that nobody listens on: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != proxyMode {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "dir")
	for name, make := range map[string]func() error{
		"file":      func() error { return os.WriteFile(path, []byte("precious"), 0o600) },
		"directory": func() error { return os.Mkdir(path, 0o700) },
		"link":      func() error { return os.Symlink(other, path) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if _, err := listenProxy(t.Context(), path); !errors.Is(err, errUsage) {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.Remove(path); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
}

// TestAdminAddress: what the node listens on is what inos gc asks.
func TestAdminAddress(t *testing.T) {
	for admin, want := range map[string]string{
		"127.0.0.1:8081":      "http://127.0.0.1:8081",
		"[::1]:8081":          "http://[::1]:8081",
		":8081":               "http://localhost:8081",
		"0.0.0.0:8081":        "http://localhost:8081",
		"[::]:8081":           "http://localhost:8081",
		"10.0.0.5:8081":       "http://10.0.0.5:8081",
		"https://edge.test/":  "https://edge.test",
		"http://edge.test:81": "http://edge.test:81",
	} {
		if got := (&gcCmd{Admin: admin}).address(); got != want {
			t.Errorf("%s: %s, want %s", admin, got, want)
		}
	}
}

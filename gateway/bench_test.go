package gateway_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/brotli"
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

// memKeeper lets a store in memory stand where the disk does.
type memKeeper struct{ *mem.Store }

func (k memKeeper) Touch(ctx context.Context, h cas.Hash) (cas.Info, error) { return k.Stat(ctx, h) }
func (k memKeeper) Report(context.Context, cas.Hash) error                  { return nil }

// inMemory is a gateway over a store in memory; change may set more of its
// configuration.
func inMemory(b testing.TB, change func(*gateway.Config)) (*gateway.Gateway, *mem.Store) {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	store, err := mem.New(mem.Config{})
	must(err)
	key, err := mesh.NewSecret()
	must(err)
	c, err := content.New(content.Config{Store: store, Keeper: memKeeper{store}, Catalog: &catalog.Memory{}, Key: key})
	must(err)
	w := dag.NewWriter(c, dag.WriterConfig{})
	uploads, err := upload.Open(upload.Config{Dir: b.TempDir(), Writer: w})
	must(err)
	b.Cleanup(func() { must(uploads.Close()) })
	verifier, err := auth.NewVerifier(auth.Config{Own: auth.NewSecretKey().Public()})
	must(err)
	cfg := gateway.Config{Content: c, Writer: w, Auth: verifier, Uploads: uploads,
		Node: func(context.Context) (rpc.NodeInfo, error) { return rpc.NodeInfo{}, nil }, Ready: func() error { return nil }}
	change(&cfg)
	g, err := gateway.New(cfg)
	must(err)
	return g, store
}

// discard is a ResponseWriter that forgets.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

// BenchmarkChunk is what the gateway itself adds to net/http for a chunk of
// 1 KiB; bare is a handler that only writes the bytes with their length.
func BenchmarkChunk(b *testing.B) {
	g, store := inMemory(b, func(*gateway.Config) {})
	chunk, err := brotli.Encode([]byte("a small piece"))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := store.Put(b.Context(), chunk); err != nil {
		b.Fatal(err)
	}
	bare := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", "20")
		if _, err := w.Write(chunk.Bytes()); err != nil {
			b.Error(err)
		}
	})
	for name, h := range map[string]http.Handler{"gateway": g.Handler(false), "bare": bare} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, "/chunk/"+chunk.Hash().String(), nil)
			r.Header.Set("Accept-Encoding", "br")
			w := &discard{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				h.ServeHTTP(w, r)
			}
		})
	}
}

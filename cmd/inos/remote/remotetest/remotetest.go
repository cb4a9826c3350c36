// Package remotetest has a node in memory for the tests of its clients: the
// Connect service over maps, and the chunk route, which can be told to
// misbehave. It knows the contract of the service, and nothing of the gateway.
package remotetest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/brotli"
	"inos.dev/edge/cas/mem"
	casv1 "inos.dev/edge/proto/gen/inos/cas/v1"
	"inos.dev/edge/proto/gen/inos/cas/v1/casv1connect"
)

// Node is one node in memory.
type Node struct {
	*httptest.Server
	Store *mem.Store
	// Token, if it is not empty, is what writes have to send.
	Token string
	// Gets, Puts and Calls count requests: of single chunks, and to the service.
	Gets, Puts, Calls atomic.Int64

	answer atomic.Pointer[Answer]

	mu      sync.Mutex
	objects map[cas.Hash]*casv1.Object // guarded by mu
}

// Answer stands in for the answer to a GET of a chunk, if it returns true. It
// is called at the same time.
type Answer func(w http.ResponseWriter, h cas.Hash, data []byte) bool

// SetAnswer sets who answers from now on.
func (n *Node) SetAnswer(a Answer) { n.answer.Store(&a) }

// New starts a node that ends with the test.
func New(tb testing.TB) *Node {
	tb.Helper()
	store, err := mem.New(mem.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	n := &Node{Store: store, objects: map[cas.Hash]*casv1.Object{}}
	prefix, handler := casv1connect.NewCasServiceHandler(&service{n: n})
	mux := http.NewServeMux()
	mux.HandleFunc(prefix, func(w http.ResponseWriter, r *http.Request) {
		n.Calls.Add(1)
		reads := strings.HasSuffix(r.URL.Path, "/ListObjects") || strings.HasSuffix(r.URL.Path, "/GetObject")
		if reads || n.allowed(w, r) {
			handler.ServeHTTP(w, r)
		}
	})
	mux.HandleFunc("GET /chunk/{hash}", n.getChunk)
	mux.HandleFunc("PUT /chunk/{hash}", n.putChunk)
	n.Server = httptest.NewServer(mux)
	tb.Cleanup(n.Close)
	return n
}

// allowed reports whether r carries the token; else it has been answered.
func (n *Node) allowed(w http.ResponseWriter, r *http.Request) bool {
	if n.Token == "" || r.Header.Get("Authorization") == "Bearer "+n.Token {
		return true
	}
	w.WriteHeader(http.StatusUnauthorized)
	return false
}

func (n *Node) getChunk(w http.ResponseWriter, r *http.Request) {
	n.Gets.Add(1)
	h, err := cas.ParseHash(r.PathValue("hash"))
	if err != nil || r.FormValue("form") != "stored" {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	body, err := n.Store.Open(r.Context(), h)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	defer body.Close()
	data, err := cas.Load(body, nil)
	if err != nil {
		panic(err)
	}
	if a := n.answer.Load(); a != nil && (*a)(w, h, data) {
		return
	}
	_, _ = w.Write(data) // the client may have gone
}

func (n *Node) putChunk(w http.ResponseWriter, r *http.Request) {
	n.Puts.Add(1)
	if !n.allowed(w, r) {
		return
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, cas.MaxChunkSize+1))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	added, err := n.put(r.Context(), r.PathValue("hash"), data)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	case added:
		w.WriteHeader(http.StatusCreated)
	}
}

func (n *Node) put(ctx context.Context, hash string, data []byte) (added bool, err error) {
	h, err := cas.ParseHash(hash)
	if err != nil {
		return false, err
	}
	c, err := cas.Verify(h, bytes.Clone(data))
	if err != nil {
		return false, err
	}
	if _, err := brotli.Check(nil, c); err != nil {
		return false, err
	}
	return n.Store.Put(ctx, c)
}

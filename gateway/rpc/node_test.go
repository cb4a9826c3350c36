package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/brotli"
	"inos.dev/edge/cas/mem"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/mesh"
	"inos.dev/edge/proto/gen/inos/cas/v1/casv1connect"
)

// fakeNode implements Chunks and Objects in memory. A test that sets fail,
// denied or rights does so before the first call.
type fakeNode struct {
	store  *mem.Store
	fail   error            // what every method answers, if set
	denied cas.Hash         // the one hash of the deny list
	rights error            // what Authorize answers; nil grants
	log    *strings.Builder // what was logged; read it after the calls

	mu      sync.Mutex
	objects map[cas.Hash]catalog.Record // guarded by mu
	touched []cas.Hash                  // guarded by mu
}

func newFakeNode(t *testing.T) *fakeNode {
	t.Helper()
	store, err := mem.New(mem.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return &fakeNode{store: store, objects: map[cas.Hash]catalog.Record{}, log: &strings.Builder{}}
}

func (n *fakeNode) config() Config {
	return Config{
		Chunks:  n,
		Objects: fakeList{n},
		Node: func(context.Context) (NodeInfo, error) {
			return NodeInfo{Version: "v1.2.3", Uptime: time.Minute, Chunks: 7, Formats: []string{"br1"}}, n.fail
		},
		Authorize: func(_ context.Context, action auth.Action, _ string) error {
			if action == auth.ActionRead {
				return nil
			}
			return n.rights
		},
		Log: slog.New(slog.NewTextHandler(n.log, nil)),
	}
}

func (n *fakeNode) Stat(ctx context.Context, h cas.Hash) (cas.Info, error) {
	if n.fail != nil {
		return cas.Info{}, n.fail
	}
	if h == n.denied {
		return cas.Info{}, cas.ErrDenied
	}
	return n.store.Stat(ctx, h)
}

func (n *fakeNode) Touch(ctx context.Context, hashes []cas.Hash) (missing []int, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, h := range hashes {
		if _, err := n.store.Stat(ctx, h); err != nil {
			missing = append(missing, i)
			continue
		}
		n.touched = append(n.touched, h)
	}
	return missing, n.fail
}

func (n *fakeNode) Put(ctx context.Context, uploads []Upload) ([]PutResult, error) {
	results := make([]PutResult, len(uploads))
	for i, u := range uploads {
		c, err := cas.Verify(u.Hash, u.Data)
		if err == nil {
			_, err = brotli.Check(nil, c)
		}
		if err != nil {
			results[i].Err = err
			continue
		}
		if results[i].Added, err = n.store.Put(ctx, c); err != nil {
			return nil, err
		}
	}
	return results, n.fail
}

func (n *fakeNode) Manifest(ctx context.Context, h cas.Hash) (*cas.Manifest, error) {
	if n.fail != nil {
		return nil, n.fail
	}
	b, err := n.store.Open(ctx, h)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	stored, err := cas.Load(b, nil)
	if err != nil {
		return nil, err
	}
	record, err := brotli.Decode(nil, stored)
	if err != nil {
		return nil, err
	}
	return cas.ParseManifest(record)
}

// missingError is what the gateway's Commit answers.
type missingError []cas.Hash

func (e missingError) Error() string                     { return fmt.Sprintf("%d chunks are missing", len(e)) }
func (e missingError) MissingChunks() ([]cas.Hash, bool) { return e, false }

// fakeList is the Objects of a fakeNode.
type fakeList struct{ *fakeNode }

func (n fakeList) Commit(ctx context.Context, h cas.Hash, name string, policy *mesh.Policy) (catalog.Record, bool, error) {
	m, err := n.Manifest(ctx, h)
	if err != nil {
		return catalog.Record{}, false, err
	}
	var lacking missingError
	for _, p := range m.Pieces {
		if _, err := n.store.Stat(ctx, p.Hash); err != nil {
			lacking = append(lacking, p.Hash)
		}
	}
	if lacking != nil {
		return catalog.Record{}, false, fmt.Errorf("commit: %w", lacking)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	o, there := n.objects[h]
	o.Hash, o.Kind, o.Size, o.Encoded, o.Pieces, o.MediaType = h, m.Kind, m.Size, m.Encoded, m.Count, m.MediaType
	o.Name, o.Owner, o.Owners = cmp.Or(name, o.Name), "alice", 1
	if policy != nil {
		o.Policy = *policy
	}
	n.objects[h] = o
	return o, !there, nil
}

func (n fakeList) Object(_ context.Context, h cas.Hash) (catalog.Record, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if o, ok := n.objects[h]; ok {
		return o, n.fail
	}
	return catalog.Record{}, errors.Join(n.fail, cas.ErrNotFound)
}

func (n fakeList) Objects(_ context.Context, after cas.Hash, limit int) ([]catalog.Record, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []catalog.Record
	for h, o := range n.objects {
		if h.String() > after.String() {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b catalog.Record) int { return strings.Compare(a.Hash.String(), b.Hash.String()) })
	return list[:min(limit, len(list))], n.fail
}

func (n fakeList) Remove(ctx context.Context, h cas.Hash) error {
	if _, err := n.Object(ctx, h); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.objects, h)
	return nil
}

func (n fakeList) SetPolicy(ctx context.Context, h cas.Hash, p mesh.Policy) (catalog.Record, error) {
	o, err := n.Object(ctx, h)
	if err != nil {
		return catalog.Record{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	o.Policy = p
	n.objects[h] = o
	return o, nil
}

// serve starts the routes of n on HTTP/1.1 and h2c.
func serve(t *testing.T, n *fakeNode) *httptest.Server {
	t.Helper()
	return serveConfig(t, n.config())
}

func serveConfig(t *testing.T, cfg Config) *httptest.Server {
	t.Helper()
	routes, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.Handle(r.Prefix, r.Handler)
	}
	srv := httptest.NewUnstartedServer(mux)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

// h2c is a client that speaks HTTP/2 without TLS and nothing else.
func h2c(t *testing.T) *http.Client {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func client(t *testing.T, srv *httptest.Server, opts ...connect.ClientOption) casv1connect.CasServiceClient {
	t.Helper()
	return casv1connect.NewCasServiceClient(srv.Client(), srv.URL, opts...)
}

// file encodes a one-piece file: its chunk and the chunk of its manifest.
func file(t *testing.T, content string) (piece, root cas.Chunk) {
	t.Helper()
	piece, err := brotli.Encode([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	raw := cas.Sum([]byte(content))
	size := int64(len(content))
	m := cas.Manifest{
		Kind: cas.KindFile, Size: size, Encoded: piece.Size(), Count: 1, MediaType: "text/plain", Raw: raw, SHA256: cas.Hash{1},
		Pieces: []cas.Piece{{Hash: piece.Hash(), Size: size, Encoded: piece.Size(), Raw: raw, CV: cas.Hash{2}}},
	}
	root, err = brotli.Encode(m.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	return piece, root
}

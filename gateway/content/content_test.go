package content_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/castest"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cas/mem"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/gateway/content"
	"inos.dev/edge/mesh"
)

// shelf is a store in memory that knows when its chunks were touched and
// counts how often they are opened.
type shelf struct {
	*mem.Store
	opens atomic.Int64

	mu      sync.Mutex
	touched map[cas.Hash]time.Time // guarded by mu
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	store, err := mem.New(mem.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return &shelf{Store: store, touched: map[cas.Hash]time.Time{}}
}

func (s *shelf) Open(ctx context.Context, h cas.Hash) (cas.Body, error) {
	s.opens.Add(1)
	return s.Store.Open(ctx, h)
}

func (s *shelf) Put(ctx context.Context, c cas.Chunk) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touched[c.Hash()] = time.Now()
	return s.Store.Put(ctx, c)
}

func (s *shelf) Touch(ctx context.Context, h cas.Hash) (cas.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := s.Stat(ctx, h)
	if err == nil {
		s.touched[h] = time.Now()
	}
	return info, err
}

func (s *shelf) Report(context.Context, cas.Hash) error { return nil }

func (s *shelf) sweep(ctx context.Context, live func(cas.Hash) bool, before time.Time) (chunks int, stored int64, err error) {
	for info, err := range s.All(ctx) {
		if err != nil {
			return chunks, stored, err
		}
		s.mu.Lock()
		if !live(info.Hash) && s.touched[info.Hash].Before(before) {
			chunks, stored = chunks+1, stored+info.Size
			err = s.Delete(ctx, info.Hash)
		}
		s.mu.Unlock()
		if err != nil {
			return chunks, stored, err
		}
	}
	return chunks, stored, nil
}

// age makes all chunks look as if nobody had touched them for a while.
func (s *shelf) age(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for h := range s.touched {
		s.touched[h] = s.touched[h].Add(-d)
	}
}

// room is a Content over a shelf.
type room struct {
	*content.Content
	shelf   *shelf
	catalog *catalog.Memory
	writer  *dag.Writer
}

func newRoom(t *testing.T, change func(*content.Config)) *room {
	t.Helper()
	r := &room{shelf: newShelf(t), catalog: new(catalog.Memory)}
	key, err := mesh.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	cfg := content.Config{Store: r.shelf, Keeper: r.shelf, Catalog: r.catalog, Key: key, Sweep: r.shelf.sweep, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	c, err := content.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Content, r.writer = c, dag.NewWriter(c, dag.WriterConfig{})
	return r
}

// file writes a file of random bytes, without putting it on the list.
func (r *room) file(t *testing.T, seed uint64, size int) dag.Object {
	t.Helper()
	o, err := r.writer.File(t.Context(), bytes.NewReader(noise(seed, size)), "text/plain")
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func noise(seed uint64, size int) []byte {
	b := make([]byte, size)
	g := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

func text(size int) []byte {
	return bytes.Repeat([]byte("a sentence that compresses. "), size/28+1)[:size]
}

// forge puts the manifest of a one-piece file, changed by lie, and its chunk.
func (r *room) forge(t *testing.T, piece []byte, lie func(*cas.Manifest)) (root cas.Hash, link cas.Piece) {
	t.Helper()
	chunk, link, err := dag.EncodePiece(piece, 0)
	if err != nil {
		t.Fatal(err)
	}
	m := &cas.Manifest{Kind: cas.KindFile, Size: link.Size, Encoded: link.Encoded, Count: 1, MediaType: "text/plain",
		Raw: link.Raw, SHA256: sha256.Sum256(piece), Pieces: []cas.Piece{link}}
	lie(m)
	record, err := dag.EncodeManifest(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []cas.Chunk{chunk, record} {
		if _, err := r.PutForeign(t.Context(), c.Hash(), c.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	return record.Hash(), m.Pieces[0]
}

func honest(*cas.Manifest) {}

// TestPutForeign: only what br1 would have made becomes a chunk.
func TestPutForeign(t *testing.T) {
	r := newRoom(t, nil)
	good, _, err := dag.EncodePiece(text(5000), 0)
	if err != nil {
		t.Fatal(err)
	}
	raw := castest.Raw(text(5000))
	long := make([]byte, cas.MaxChunkSize+1)
	for name, test := range map[string]struct {
		h    cas.Hash
		data []byte
		err  error
	}{
		"another hash":  {cas.Sum(nil), good.Bytes(), cas.ErrHashMismatch},
		"no frame":      {cas.Sum(text(100)), text(100), cas.ErrShape},
		"nothing":       {cas.Sum(nil), nil, cas.ErrShape},
		"not canonical": {cas.Sum(raw), raw, cas.ErrNotCanonical},
		"too long":      {cas.Sum(long), long, cas.ErrTooLarge},
		"good":          {good.Hash(), good.Bytes(), nil},
	} {
		added, err := r.PutForeign(t.Context(), test.h, test.data)
		if !errors.Is(err, test.err) || added != (test.err == nil) {
			t.Errorf("%s: added %v, %v; want %v", name, added, err, test.err)
		}
	}
	if added, err := r.PutForeign(t.Context(), good.Hash(), good.Bytes()); added || err != nil {
		t.Errorf("once more: added %v, %v", added, err)
	}
	if n, _ := r.shelf.Size(); n != 1 {
		t.Errorf("%d chunks are stored", n)
	}
}

// TestPieceDecodesOnce: a hot chunk is decoded once for all its readers.
func TestPieceDecodesOnce(t *testing.T) {
	r := newRoom(t, nil)
	piece := text(300_000)
	_, link := r.forge(t, piece, honest)
	r.shelf.opens.Store(0)
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			p, err := r.Piece(t.Context(), link.Hash, &link, false)
			if err != nil {
				t.Error(err)
				return
			}
			var out bytes.Buffer
			if _, err := p.WriteSection(&out, 0, p.Size()); err != nil || !bytes.Equal(out.Bytes(), piece) {
				t.Errorf("%d bytes, %v", out.Len(), err)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	p, err := r.Piece(t.Context(), link.Hash, &link, false)
	if err != nil || !p.Cached || p.Raw() {
		t.Fatalf("afterwards: %+v, %v", p, err)
	}
	opens := r.shelf.opens.Load()
	if _, err := r.Piece(t.Context(), link.Hash, &link, false); err != nil || r.shelf.opens.Load() != opens {
		t.Errorf("a cached piece opens its chunk again: %v", err)
	}
}

// TestPieceChecksLink: what a link claims is compared before a byte leaves,
// for pieces of both forms, decoded now or before.
func TestPieceChecksLink(t *testing.T) {
	for name, piece := range map[string][]byte{"encoded": text(5000), "raw form": noise(1, 5000)} {
		for lie, change := range map[string]func(*cas.Piece){
			"size":    func(p *cas.Piece) { p.Size-- },
			"raw":     func(p *cas.Piece) { p.Raw[3] ^= 1 },
			"encoded": func(p *cas.Piece) { p.Encoded++ },
		} {
			r := newRoom(t, nil)
			_, link := r.forge(t, piece, honest)
			lying := link
			change(&lying)
			for range 2 {
				if _, err := r.Piece(t.Context(), link.Hash, &lying, false); !errors.Is(err, cas.ErrCorrupt) && lie != "encoded" {
					t.Errorf("%s, a lie about %s: %v", name, lie, err)
				}
			}
			p, err := r.Piece(t.Context(), link.Hash, &link, false)
			if err != nil {
				t.Fatalf("%s, the truth after a lie about %s: %v", name, lie, err)
			}
			if p.Raw() != (name == "raw form") {
				t.Errorf("%s: sent as it is: %v", name, p.Raw())
			}
			if n, err := p.WriteSection(io.Discard, 10, 100); n != 100 || err != nil {
				t.Errorf("%s: a section: %d, %v", name, n, err)
			}
		}
	}
}

// TestCommit: an object is on the list only if all of it is here and is what
// its links say.
func TestCommit(t *testing.T) {
	r := newRoom(t, nil)
	root, link := r.forge(t, text(5000), honest)
	if err := r.shelf.Delete(t.Context(), link.Hash); err != nil {
		t.Fatal(err)
	}
	var missing *content.MissingError
	_, _, err := r.Commit(t.Context(), content.Commit{Hash: root, Owner: "a"})
	if !errors.As(err, &missing) || len(missing.Some) != 1 || missing.Some[0] != link.Hash || missing.More {
		t.Fatalf("a missing chunk: %v", err)
	}
	nowhere := cas.Sum([]byte("nowhere"))
	if _, _, err = r.Commit(t.Context(), content.Commit{Hash: nowhere}); !errors.As(err, &missing) || missing.Some[0] != nowhere {
		t.Errorf("a missing root: %v", err)
	}
	lying, _ := r.forge(t, text(5000), func(m *cas.Manifest) { m.Pieces[0].Encoded++; m.Encoded++ })
	if _, _, err := r.Commit(t.Context(), content.Commit{Hash: lying, Owner: "a"}); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("a wrong encoded size: %v", err)
	}
	root, link = r.forge(t, text(5000), honest)
	record, created, err := r.Commit(t.Context(), content.Commit{Hash: root, Owner: "a", Name: "n"})
	if err != nil || !created || record.Owner != "a" || record.Size != 5000 || record.Encoded != link.Encoded || record.Pieces != 1 || record.DigestChecked {
		t.Errorf("%+v, created %v, %v", record, created, err)
	}
	if _, created, err := r.Commit(t.Context(), content.Commit{Hash: root, Owner: "b"}); err != nil || created {
		t.Errorf("again: created %v, %v", created, err)
	}
	if o, err := r.Object(t.Context(), root); err != nil || o.Owner != "a" {
		t.Errorf("%+v, %v", o, err)
	}
	if _, _, err := r.Commit(t.Context(), content.Commit{Hash: link.Hash}); !errors.Is(err, cas.ErrNotObject) {
		t.Errorf("a chunk as an object: %v", err)
	}
}

// TestCommitCounts: what stands in a directory twice counts twice, whoever
// adds it up.
func TestCommitCounts(t *testing.T) {
	r := newRoom(t, nil)
	tree := r.writer.Tree(t.Context())
	for _, name := range []string{"a", "b", "sub/c", "sub/d"} {
		if err := tree.File(name, bytes.NewReader(text(3000)), 3000, false); err != nil {
			t.Fatal(err)
		}
	}
	o, err := tree.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	record, _, err := r.Commit(t.Context(), content.Commit{Hash: o.Hash, Owner: "a"})
	if err != nil || record.Pieces != 4 || o.Pieces != 4 || record.Encoded != o.Encoded || record.Size != 12_000 {
		t.Errorf("%+v, %v; the writer says %+v", record, err, o)
	}
}

// TestWalk: every chunk of a tree is visited, and a manifest that is lost ends
// the walk.
func TestWalk(t *testing.T) {
	r := newRoom(t, nil)
	tree := r.writer.Tree(t.Context())
	for i, name := range []string{"a", "b", "sub/c"} {
		b := noise(uint64(i), 2_500_000)
		if err := tree.File(name, bytes.NewReader(b), int64(len(b)), false); err != nil {
			t.Fatal(err)
		}
	}
	o, err := tree.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[cas.Hash]bool{}
	visit := func(h cas.Hash) error { seen[h] = true; return nil }
	if err := r.Walk(t.Context(), o.Hash, visit); err != nil {
		t.Fatal(err)
	}
	n := 0
	for info, err := range r.shelf.All(t.Context()) {
		if n++; err != nil || !seen[info.Hash] {
			t.Errorf("%s was not visited, %v", info.Hash, err)
		}
	}
	if n != len(seen) || n != 3*3+3+2 {
		t.Errorf("%d chunks, %d visited", n, len(seen))
	}
	stop := errors.New("stop")
	if err := r.Walk(t.Context(), o.Hash, func(cas.Hash) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	if err := r.shelf.Delete(t.Context(), o.Hash); err != nil {
		t.Fatal(err)
	}
	if err := r.Walk(t.Context(), o.Hash, visit); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("a lost manifest: %v", err)
	}
}

// TestRunChecksDigests: what others cut is checked in the background, and
// what was a lie is taken off the list.
func TestRunChecksDigests(t *testing.T) {
	r := newRoom(t, nil)
	before, _ := r.forge(t, text(1000), honest)
	commit := func(h cas.Hash) {
		t.Helper()
		if _, _, err := r.Commit(t.Context(), content.Commit{Hash: h, Owner: "a"}); err != nil {
			t.Fatal(err)
		}
	}
	commit(before) // found at the start
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	good, _ := r.forge(t, text(2000), honest)
	badSHA, _ := r.forge(t, text(3000), func(m *cas.Manifest) { m.SHA256[0] ^= 1 })
	badRaw, _ := r.forge(t, text(4000), func(m *cas.Manifest) { m.Raw[0] ^= 1 })
	for _, h := range []cas.Hash{good, badSHA, badRaw} {
		commit(h)
	}
	for deadline := time.Now().Add(30 * time.Second); ; <-time.After(5 * time.Millisecond) {
		_, errSHA := r.Object(t.Context(), badSHA)
		_, errRaw := r.Object(t.Context(), badRaw)
		if r.DigestChecked(t.Context(), before) && r.DigestChecked(t.Context(), good) && errors.Is(errSHA, cas.ErrNotFound) && errors.Is(errRaw, cas.ErrNotFound) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("lies are still on the list: %v, %v", errSHA, errRaw)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

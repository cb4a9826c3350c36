package payer_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/gateway/payer"
	"inos.dev/edge/mesh"
)

// world is a catalog and what its objects link.
type world struct {
	catalog.Memory
	key   mesh.Secret
	walks atomic.Int64

	mu    sync.Mutex
	links map[cas.Hash][]cas.Hash // guarded by mu; what is not there cannot be walked
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	key, err := mesh.SecretFromSeed(make([]byte, 32))
	if err != nil {
		tb.Fatal(err)
	}
	return &world{key: key, links: map[cas.Hash][]cas.Hash{}}
}

func (w *world) walk(ctx context.Context, root cas.Hash, visit func(cas.Hash) error) error {
	w.mu.Lock()
	links, ok := w.links[root]
	w.mu.Unlock()
	w.walks.Add(1)
	if !ok {
		return errors.New("its manifest is lost")
	}
	for _, h := range append([]cas.Hash{root}, links...) {
		if err := errors.Join(visit(h), ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) table(tb testing.TB, dir string) *payer.Table {
	tb.Helper()
	t, err := payer.New(tb.Context(), payer.Config{Catalog: w, Walk: w.walk, Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// say publishes or withdraws, and says nothing to any table.
func (w *world) say(ctx context.Context, h cas.Hash, owner string, change func(*mesh.Publication)) error {
	known, err := w.Publications(ctx, h)
	if err != nil {
		return err
	}
	p := mesh.Publication{Object: h, Owner: owner}
	if at := slices.IndexFunc(known, func(p catalog.Publication) bool { return p.Owner == owner }); at >= 0 {
		p = known[at].Publication
	}
	previous := p.Sequence
	p.Sequence++
	change(&p)
	signed, err := p.Sign(w.key)
	if err != nil {
		return err
	}
	w.mu.Lock()
	pieces := int64(len(w.links[h]))
	w.mu.Unlock()
	_, err = w.Publish(ctx, catalog.Record{Hash: h, Kind: cas.KindFile, Pieces: pieces},
		catalog.Change{Publication: catalog.Publication{Publication: signed}, Previous: previous})
	return err
}

func at(n int) time.Time { return time.Unix(1_000_000+int64(n), 0).UTC() }

func (w *world) put(tb testing.TB, h cas.Hash, owner string, age int, links ...cas.Hash) {
	tb.Helper()
	w.mu.Lock()
	w.links[h] = links
	w.mu.Unlock()
	if err := w.say(tb.Context(), h, owner, func(p *mesh.Publication) { p.Created, p.Withdrawn = at(age), false }); err != nil {
		tb.Fatal(err)
	}
}

func (w *world) remove(tb testing.TB, h cas.Hash, owner string) {
	tb.Helper()
	err := w.say(tb.Context(), h, owner, func(p *mesh.Publication) { p.Withdrawn, p.Policy, p.Created = true, mesh.Policy{}, time.Now() })
	if err != nil {
		tb.Fatal(err)
	}
}

func hash(kind byte, n int) (h cas.Hash) {
	h = cas.Sum([]byte{kind, byte(n), byte(n >> 8), byte(n >> 16)})
	return h
}

func wantPayer(tb testing.TB, name string, r payer.Ref, ok bool, object cas.Hash, owner string) {
	tb.Helper()
	if ok != (owner != "") || ok && (r.Object != object || r.Owner != owner) {
		tb.Errorf("%s: %s pays, %v; want %q", name, r.Owner, ok, owner)
	}
}

// TestWhoPays: an object's owner pays for it, and the oldest one for a chunk.
func TestWhoPays(t *testing.T) {
	w := newWorld(t)
	table := w.table(t, "")
	old, young, shared, alone := hash('o', 1), hash('o', 2), hash('c', 1), hash('c', 2)
	put := func(h cas.Hash, owner string, age int, links ...cas.Hash) {
		t.Helper()
		w.put(t, h, owner, age, links...)
		table.Changed(t.Context(), h)
	}
	want := func(h cas.Hash, whole bool, object cas.Hash, owner string) {
		t.Helper()
		ask := table.Chunk
		if whole {
			ask = table.Object
		}
		r, ok := ask(h)
		wantPayer(t, "", r, ok, object, owner)
	}
	put(young, "bob", 2, shared, alone)
	want(shared, false, young, "bob")
	put(old, "alice", 1, shared, young) // a directory that holds the other object
	want(shared, false, old, "alice")
	want(shared, true, old, "alice") // nobody has published the chunk itself
	want(alone, false, young, "bob")
	want(young, true, young, "bob")
	want(young, false, old, "alice")
	want(hash('c', 9), true, cas.Hash{}, "")

	policy := mesh.Policy{RF: 7, MaxRF: 9, Tier: mesh.Hot, Expires: at(1 << 30), PriceCap: 5}
	if err := w.say(t.Context(), old, "alice", func(p *mesh.Publication) { p.Policy = policy }); err != nil {
		t.Fatal(err)
	}
	table.Changed(t.Context(), old)
	if r, ok := table.Chunk(shared); !ok || r.Policy != policy || r.Object != old {
		t.Errorf("%+v, %v", r, ok)
	}

	w.remove(t, old, "alice")
	table.Changed(t.Context(), old)
	want(shared, false, cas.Hash{}, "") // the house, until all are looked at again
	want(old, true, cas.Hash{}, "")
	want(young, true, young, "bob")
	if !table.Stats().Partial {
		t.Error("nothing is left to do")
	}
	if err := table.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(shared, false, young, "bob")
	if s := table.Stats(); s.Chunks != 3 || s.Objects != 1 || s.Partial {
		t.Errorf("%+v", s)
	}
}

// TestTableAgreesWithCatalog: whatever is published and withdrawn, nobody pays
// for what he does not link, and after a walk over all everybody pays for what
// he is the oldest of.
func TestTableAgreesWithCatalog(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		table := w.table(t, "")
		if err := table.Rebuild(t.Context()); err != nil {
			rt.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- table.Run(ctx) }()
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			h := hash('o', rapid.IntRange(0, 4).Draw(rt, "object"))
			w.mu.Lock()
			if w.links[h] == nil { // what an object links never changes
				for _, c := range rapid.SliceOfN(rapid.IntRange(0, 6), 0, 5).Draw(rt, "chunks") {
					w.links[h] = append(w.links[h], hash('c', c))
				}
				w.links[h] = append(w.links[h], hash('c', 7))
			}
			links := w.links[h]
			w.mu.Unlock()
			owner := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "owner")
			if rapid.IntRange(0, 2).Draw(rt, "what") > 0 {
				w.put(t, h, owner, rapid.IntRange(0, 50).Draw(rt, "age"), links...)
			} else {
				w.remove(t, h, owner)
			}
			table.Changed(t.Context(), h)
			checkTable(rt, w, table, false)
		}
		stop()
		if err := <-done; err != nil {
			rt.Fatal(err)
		}
		if err := table.Rebuild(t.Context()); err != nil {
			rt.Fatal(err)
		}
		checkTable(rt, w, table, true)
	})
}

func checkTable(t *rapid.T, w *world, table *payer.Table, exact bool) {
	all, err := w.List(context.Background(), cas.Hash{}, catalog.MaxList)
	if err != nil {
		t.Fatal(err)
	}
	older := func(a, b catalog.Record) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return slices.Compare(a.Hash[:], b.Hash[:])
	}
	slices.SortFunc(all, older)
	for c := range 8 {
		var want []payer.Ref
		for _, r := range all {
			if slices.Contains(w.links[r.Hash], hash('c', c)) {
				want = append(want, payer.Ref{Object: r.Hash, Owner: r.Owner, Policy: r.Policy})
			}
		}
		got, ok := table.Chunk(hash('c', c))
		switch {
		case ok && !slices.Contains(want, got):
			t.Fatalf("%+v pays for chunk %d, which none of it links: %+v", got, c, want)
		case exact && (ok != (len(want) > 0) || ok && got != want[0]):
			t.Fatalf("%+v pays for chunk %d, %v; the oldest of %+v should", got, c, ok, want)
		}
	}
	for o := range 5 {
		at := slices.IndexFunc(all, func(r catalog.Record) bool { return r.Hash == hash('o', o) })
		got, ok := table.Object(hash('o', o))
		if ok != (at >= 0) || ok && (got.Owner != all[at].Owner || got.Object != all[at].Hash) {
			t.Fatalf("object %d: %+v, %v", o, got, ok)
		}
	}
	if s := table.Stats(); exact && (s.Partial || s.Objects != len(all)) {
		t.Fatalf("%+v, %d objects", s, len(all))
	}
}

// TestLostManifest: what cannot be walked now is looked at again, and then
// left to the house.
func TestLostManifest(t *testing.T) {
	w := newWorld(t)
	table := w.table(t, "")
	if err := table.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	h, c := hash('o', 1), hash('c', 1)
	w.put(t, h, "alice", 1, c)
	w.links = map[cas.Hash][]cas.Hash{}
	table.Changed(t.Context(), h)
	if _, ok := table.Chunk(c); ok || !table.Stats().Partial {
		t.Error("the chunk has a payer")
	}
	if r, ok := table.Object(h); !ok || r.Owner != "alice" {
		t.Errorf("%+v, %v", r, ok)
	}
	if err := table.Rebuild(t.Context()); err != nil || table.Stats().Partial {
		t.Errorf("%+v, %v", table.Stats(), err)
	}
	w.links[h] = []cas.Hash{c}
	if err := table.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, ok := table.Chunk(c); !ok || r.Owner != "alice" {
		t.Errorf("%+v, %v", r, ok)
	}
}

// TestAtTheSameTime: changes, walks over all, the background and readers.
func TestAtTheSameTime(t *testing.T) {
	w := newWorld(t)
	table := w.table(t, "")
	ctx, stop := context.WithCancel(t.Context())
	var background, all sync.WaitGroup
	background.Go(func() {
		if err := table.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	background.Go(func() {
		for ctx.Err() == nil {
			table.Chunk(hash('c', 3))
			table.Object(hash('o', 3))
		}
	})
	for g := range 4 {
		all.Go(func() {
			for i := range 60 {
				h := hash('o', g*100+i%7)
				var links []cas.Hash
				for c := range 600 { // more than are linked at once
					links = append(links, hash('c', c+i%3))
				}
				w.put(t, h, fmt.Sprint(g), i, links...)
				table.Changed(t.Context(), h)
				if i%2 == 1 {
					w.remove(t, h, fmt.Sprint(g))
					table.Changed(t.Context(), h)
				}
				if i%20 == 0 {
					if err := table.Rebuild(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	stop()
	background.Wait()
	if err := table.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	list, err := w.List(t.Context(), cas.Hash{}, catalog.MaxList)
	if err != nil || table.Stats().Objects != len(list) {
		t.Errorf("%+v; %d objects, %v", table.Stats(), len(list), err)
	}
	oldest := slices.MinFunc(list, func(a, b catalog.Record) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return slices.Compare(a.Hash[:], b.Hash[:])
	})
	if r, ok := table.Chunk(hash('c', 300)); !ok || r.Object != oldest.Hash {
		t.Errorf("%+v pays, %v; want %+v", r, ok, oldest)
	}
}

// million is a table with so many objects of so many chunks each.
func million(b *testing.B, objects, each int) (*payer.Table, []cas.Hash) {
	b.Helper()
	w := newWorld(b)
	table := w.table(b, "")
	chunks := make([]cas.Hash, 0, objects*each)
	for o := range objects {
		var seed [16]byte
		first := len(chunks)
		for c := range each {
			binary.BigEndian.PutUint64(seed[:], uint64(o))
			binary.BigEndian.PutUint64(seed[8:], uint64(c))
			chunks = append(chunks, cas.Sum(seed[:]))
		}
		h := cas.Sum(seed[:9])
		w.put(b, h, fmt.Sprint("owner ", o%10), o, chunks[first:]...)
		table.Changed(b.Context(), h)
	}
	return table, chunks
}

// BenchmarkLookup asks a table of a million chunks: for any of them, whose
// entries lie anywhere in its memory, and for a thousand that are hot.
func BenchmarkLookup(b *testing.B) {
	table, chunks := million(b, 1000, 1000)
	stats := table.Stats()
	for name, among := range map[string]int{"any": len(chunks), "hot": 1000} {
		for kind, ask := range map[string]func(cas.Hash) (payer.Ref, bool){"chunk": table.Chunk, "object": table.Object} {
			b.Run(name+"/"+kind, func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if i++; i == among {
						i = 0
					}
					if _, ok := ask(chunks[i]); !ok {
						b.Fatal("nobody pays")
					}
				}
				b.ReportMetric(float64(stats.Bytes)/float64(stats.Chunks), "B/chunk")
			})
		}
	}
	// The naive twin.
	refs := make(map[cas.Hash]payer.Ref, len(chunks))
	for _, h := range chunks {
		refs[h], _ = table.Chunk(h)
	}
	b.Run("any/map", func(b *testing.B) {
		i := 0
		for b.Loop() {
			if i++; i == len(chunks) {
				i = 0
			}
			if refs[chunks[i]].Owner == "" {
				b.Fatal("nobody pays")
			}
		}
	})
}

// TestMemory: a table of a million chunks takes at most 24 MiB, and asking it
// takes none.
func TestMemory(t *testing.T) {
	w := newWorld(t)
	table := w.table(t, "")
	const objects, each = 250, 4000
	links := make([]cas.Hash, each)
	for o := range objects {
		for c := range links {
			// What a hash is made of is of no account: it only has to lie anywhere.
			binary.BigEndian.PutUint64(links[c][:], uint64(o*each+c)*0x9e3779b97f4a7c15)
		}
		w.put(t, hash('o', o), "alice", o, links...)
		table.Changed(t.Context(), hash('o', o))
	}
	if s := table.Stats(); s.Chunks != objects*(each+1) || s.Bytes > 24<<20 {
		t.Errorf("%+v", s)
	}
	allocs := testing.AllocsPerRun(100, func() {
		table.Chunk(links[7])
		table.Object(links[8])
		table.Object(hash('o', 3))
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

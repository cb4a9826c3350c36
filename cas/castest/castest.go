// Package castest is the exam of every cas.Store: one suite that says in code
// what the interface says in words, and the small chunks that tests need.
package castest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
)

// Run examines the stores that open makes. Each call of open returns an empty
// store, which open's own t.Cleanup takes down.
func Run(t *testing.T, open func(t *testing.T) cas.Store) {
	t.Helper()
	for _, c := range []struct {
		name string
		exam func(*testing.T, cas.Store)
	}{
		{"Empty", examEmpty},
		{"RoundTrip", examRoundTrip},
		{"Sections", examSections},
		{"PutTwice", examPutTwice},
		{"Delete", examDelete},
		{"OpenBodyOutlivesDelete", examOpenBody},
		{"All", examAll},
		{"ZeroChunk", examZero},
		{"Cancelled", examCancelled},
		{"Model", examModel},
		{"ConcurrentPut", examConcurrentPut},
		{"ConcurrentChurn", examChurn},
	} {
		t.Run(c.name, func(t *testing.T) { c.exam(t, open(t)) })
	}
}

func examEmpty(t *testing.T, s cas.Store) {
	t.Helper()
	h := Random(t, 1, 100).Hash()
	wantAbsent(t, s, h)
	wantAbsent(t, s, cas.Hash{})
	if err := s.Delete(t.Context(), h); err != nil {
		t.Errorf("Delete of an absent chunk: %v", err)
	}
	if got := list(t, s); len(got) != 0 {
		t.Errorf("an empty store lists %d chunks", len(got))
	}
}

// sizes has the shortest and the longest raw-form chunk, and page borders.
func sizes() []int {
	return []int{
		cas.MinChunkSize, 9, 16, 511, 512, 4095, 4096, 4097, 65536 + cas.RawOverhead, 100_000,
		cas.PieceSize, cas.PieceSize + cas.RawOverhead,
	}
}

func examRoundTrip(t *testing.T, s cas.Store) {
	t.Helper()
	for i, n := range sizes() {
		c := Random(t, uint64(i), n)
		if added := put(t, s, c); !added {
			t.Errorf("Put of a new chunk of %d bytes: added is false", n)
		}
		wantChunk(t, s, c)
	}
}

func examPutTwice(t *testing.T, s cas.Store) {
	t.Helper()
	c := Random(t, 1, 5000)
	put(t, s, c)
	if put(t, s, c) {
		t.Error("the second Put says added")
	}
	wantChunk(t, s, c)
	if got := list(t, s); len(got) != 1 {
		t.Errorf("one chunk, put twice, is listed %d times", len(got))
	}
}

func examDelete(t *testing.T, s cas.Store) {
	t.Helper()
	a, b := Random(t, 1, 5000), Random(t, 2, 5000)
	put(t, s, a)
	put(t, s, b)
	wantChunk(t, s, a) // a store that caches handles or bytes has it by now
	for range 2 {
		if err := s.Delete(t.Context(), a.Hash()); err != nil {
			t.Fatalf("Delete: %v", err)
		}
		wantAbsent(t, s, a.Hash())
	}
	wantChunk(t, s, b)
	if !put(t, s, a) {
		t.Error("Put after Delete: added is false")
	}
	wantChunk(t, s, a)
}

func examOpenBody(t *testing.T, s cas.Store) {
	t.Helper()
	c := Random(t, 1, 70_000)
	put(t, s, c)
	b, err := s.Open(t.Context(), c.Hash())
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	if err := s.Delete(t.Context(), c.Hash()); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	got, err := cas.Load(b, nil)
	if err != nil || !bytes.Equal(got, c.Bytes()) {
		t.Errorf("a body that was open when its chunk was deleted: %d bytes, %v", len(got), err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	wantAbsent(t, s, c.Hash())
}

func examAll(t *testing.T, s cas.Store) {
	t.Helper()
	want := map[cas.Hash]int64{}
	for i := range 300 {
		c := Random(t, uint64(i), 16+i)
		put(t, s, c)
		want[c.Hash()] = c.Size()
	}
	got := list(t, s)
	if len(got) != len(want) {
		t.Errorf("All lists %d chunks, want %d", len(got), len(want))
	}
	for h, n := range want {
		if got[h] != n {
			t.Errorf("All has %d bytes for %s, want %d", got[h], h, n)
		}
	}
	seen := 0
	for _, err := range s.All(t.Context()) {
		if err != nil {
			t.Fatalf("All: %v", err)
		}
		if seen++; seen == 3 {
			break
		}
	}
	if seen != 3 {
		t.Errorf("a listing that is left at 3 gave %d", seen)
	}
}

func examZero(t *testing.T, s cas.Store) {
	t.Helper()
	if added, err := s.Put(t.Context(), cas.Chunk{}); err == nil || added {
		t.Errorf("Put of the zero Chunk: added %v, error %v; want an error", added, err)
	}
	if got := list(t, s); len(got) != 0 {
		t.Errorf("the zero Chunk is listed")
	}
}

func examCancelled(t *testing.T, s cas.Store) {
	t.Helper()
	c := Random(t, 1, 100)
	put(t, s, c)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, openErr := s.Open(ctx, c.Hash())
	_, putErr := s.Put(ctx, Random(t, 2, 100))
	var allErr error
	for _, err := range s.All(ctx) {
		allErr = err
	}
	for name, err := range map[string]error{"Open": openErr, "Put": putErr, "Delete": s.Delete(ctx, c.Hash()), "All": allErr} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v", name, err)
		}
	}
	wantChunk(t, s, c)
}

// examModel runs random operations on the store and on a map.
func examModel(t *testing.T, s cas.Store) {
	t.Helper()
	chunks := make([]cas.Chunk, 8)
	for i := range chunks {
		chunks[i] = Random(t, uint64(i), 50+i)
	}
	model := map[cas.Hash]bool{}
	rapid.Check(t, func(rt *rapid.T) {
		for _, op := range rapid.SliceOfN(rapid.IntRange(0, 3*len(chunks)-1), 1, 12).Draw(rt, "ops") {
			c := chunks[op/3]
			switch op % 3 {
			case 0:
				if added := put(t, s, c); added == model[c.Hash()] {
					rt.Fatalf("Put: added %v, but there before: %v", added, model[c.Hash()])
				}
				model[c.Hash()] = true
			case 1:
				if err := s.Delete(t.Context(), c.Hash()); err != nil {
					rt.Fatalf("Delete: %v", err)
				}
				delete(model, c.Hash())
			case 2:
				if _, err := s.Stat(t.Context(), c.Hash()); (err == nil) != model[c.Hash()] {
					rt.Fatalf("Stat: %v, but there: %v", err, model[c.Hash()])
				}
			}
		}
		if got := list(t, s); len(got) != len(model) {
			rt.Fatalf("All lists %d, want %d", len(got), len(model))
		}
	})
}

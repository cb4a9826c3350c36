package payer_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/payer"
)

// TestRun: at the start all objects are walked at once; later those that went
// are made up for once, together, when others have had time to go too.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		shared := hash('c', 1)
		for i := range 20 {
			w.put(t, hash('o', i), "alice", i, shared, hash('c', 100+i))
		}
		table := w.table(t, "")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- table.Run(ctx) }()
		synctest.Wait()
		if r, ok := table.Chunk(shared); !ok || r.Object != hash('o', 0) || table.Stats().Partial {
			t.Fatalf("at the start: %+v, %v", r, ok)
		}
		if w.walks.Load() != 20 {
			t.Errorf("%d walks", w.walks.Load())
		}
		time.Sleep(time.Hour)
		for i := range 10 {
			w.remove(t, hash('o', i), "alice")
			table.Changed(t.Context(), hash('o', i))
			time.Sleep(time.Second)
		}
		if _, ok := table.Chunk(shared); ok || w.walks.Load() != 20 {
			t.Errorf("a payer before its time, %d walks", w.walks.Load())
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if r, ok := table.Chunk(shared); !ok || r.Object != hash('o', 10) || table.Stats().Partial || w.walks.Load() != 30 {
			t.Errorf("afterwards: %+v, %v, %d walks", r, ok, w.walks.Load())
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestBackground: what is large is linked behind its commit, and what shares
// nothing is taken out without a walk over all.
func TestBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		table := w.table(t, "")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- table.Run(ctx) }()
		synctest.Wait()
		var links []cas.Hash
		for i := range 5000 {
			links = append(links, hash('c', i))
		}
		h := hash('o', 1)
		w.put(t, h, "alice", 1, links...)
		table.Changed(t.Context(), h)
		if r, ok := table.Object(h); !ok || r.Owner != "alice" {
			t.Errorf("at once: %+v, %v", r, ok)
		}
		synctest.Wait()
		for _, c := range links {
			if _, ok := table.Chunk(c); !ok {
				t.Fatal("nobody pays for a chunk")
			}
		}
		w.remove(t, h, "alice")
		table.Changed(t.Context(), h)
		synctest.Wait()
		if s := table.Stats(); s.Chunks != 0 || s.Objects != 0 || s.Partial || w.walks.Load() != 2 {
			t.Errorf("%+v, %d walks", s, w.walks.Load())
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestSnapshot: a table comes back as it was, without a walk, unless the
// catalog has changed.
func TestSnapshot(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	path := filepath.Join(dir, payer.File)
	table := w.table(t, dir)
	shared := hash('c', 0)
	for i := range 300 {
		w.put(t, hash('o', i), []string{"alice", "bob", ""}[i%3], i, shared, hash('c', i+1))
		table.Changed(t.Context(), hash('o', i))
	}
	closed := func(table *payer.Table, kept bool) {
		t.Helper()
		if err := table.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); (err == nil) != kept {
			t.Errorf("kept: %v, want %v", err, kept)
		}
	}
	closed(table, false) // who has not walked all cannot know
	for i := range 100 {
		w.remove(t, hash('o', 3*i), "alice")
		table.Changed(t.Context(), hash('o', 3*i))
	}
	if err := table.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	closed(table, true)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	walks := w.walks.Load()
	again := w.table(t, dir)
	a, b := table.Stats(), again.Stats()
	if a.Chunks != b.Chunks || a.Objects != b.Objects || b.Partial || w.walks.Load() != walks {
		t.Errorf("%+v, then %+v, %d walks", a, b, w.walks.Load()-walks)
	}
	for i := range 302 {
		for name, ask := range map[string][2]func(cas.Hash) (payer.Ref, bool){"chunk": {table.Chunk, again.Chunk}, "object": {table.Object, again.Object}} {
			for _, h := range []cas.Hash{hash('c', i), hash('o', i)} {
				r, ok := ask[0](h)
				if r2, ok2 := ask[1](h); r2 != r || ok2 != ok {
					t.Errorf("%s %d: %+v, %v became %+v, %v", name, i, r, ok, r2, ok2)
				}
			}
		}
	}
	w.put(t, hash('o', 0), "carol", 5, shared) // life goes on in it
	again.Changed(t.Context(), hash('o', 0))
	if r, ok := again.Chunk(hash('o', 0)); !ok || r.Owner != "carol" {
		t.Errorf("%+v, %v", r, ok)
	}
	if stale := w.table(t, dir); !stale.Stats().Partial || stale.Stats().Chunks != 0 {
		t.Errorf("of another change: %+v", stale.Stats())
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("it is still there")
	}
	closed(again, true)
	refuseDamaged(t, w, dir, good)
}

// refuseDamaged checks that no damaged snapshot is taken, and that each is
// removed.
func refuseDamaged(t *testing.T, w *world, dir string, good []byte) {
	t.Helper()
	path := filepath.Join(dir, payer.File)
	for i := 0; i < len(good)+3; i += 1 + len(good)/97 {
		bad := bytes.Clone(good)
		if i < len(good) {
			bad[i] ^= 0x40
		} else {
			bad = append(bad, 0)
		}
		for name, b := range map[string][]byte{"changed": bad, "cut off": good[:min(i, len(good)-1)]} {
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if s := w.table(t, dir).Stats(); !s.Partial || s.Objects != 0 {
				t.Fatalf("%s at byte %d: %+v", name, i, s)
			}
			if _, err := os.Stat(path); err == nil {
				t.Fatalf("%s at byte %d: it is still there", name, i)
			}
		}
	}
}

func TestConfig(t *testing.T) {
	w := newWorld(t)
	for name, cfg := range map[string]payer.Config{
		"no catalog": {Walk: w.walk}, "no walk": {Catalog: w}, "negative": {Catalog: w, Walk: w.walk, Settle: -1},
	} {
		if _, err := payer.New(t.Context(), cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := w.table(t, "").Close(); err != nil {
		t.Error(err)
	}
}

package disk

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/castest"
)

// rot flips a bit in a chunk's file, behind the store's back.
func rot(t *testing.T, s *Store, h cas.Hash) {
	t.Helper()
	name := filepath.Join(s.cfg.Dir, chunkPath(h))
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// wantRotten: the chunk is gone, and its file is in the quarantine.
func wantRotten(t *testing.T, s *Store, h cas.Hash) {
	t.Helper()
	if _, err := s.Stat(t.Context(), h); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("Stat of a rotten chunk: %v", err)
	}
	if _, err := s.Open(t.Context(), h); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("Open of a rotten chunk: %v", err)
	}
	if _, err := s.root.Stat(filepath.Join(quarantineName, h.String())); err != nil {
		t.Errorf("not in the quarantine: %v", err)
	}
	if _, err := s.root.Stat(chunkPath(h)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still in its place: %v", err)
	}
}

func TestFirstReadChecks(t *testing.T) {
	s := openTest(t, Config{})
	chunks := fill(t, s, 3)
	h := chunks[0].Hash()
	rot(t, s, h)
	s = reopen(t, s, func(string) {})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if b, err := s.Open(t.Context(), h); !errors.Is(err, cas.ErrNotFound) || b != nil {
				t.Errorf("Open of a rotten chunk: %v", err)
			}
		})
		wg.Go(func() {
			b, err := s.Open(t.Context(), chunks[1].Hash())
			if err != nil {
				t.Errorf("Open of a good chunk: %v", err)
				return
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantRotten(t, s, h)
	wantChunks(t, s, chunks[1:])
	if st := s.Stats(); st.Quarantined != 1 || st.Checked != 2 {
		t.Errorf("%d quarantined, %d checked; want 1, 2: one check per chunk", st.Quarantined, st.Checked)
	}
}

func TestCheckSaysWhy(t *testing.T) {
	s := openTest(t, Config{})
	c := fill(t, s, 1)[0]
	rot(t, s, c.Hash())
	if err := s.Report(t.Context(), c.Hash()); !errors.Is(err, cas.ErrCorrupt) || !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("Report of a rotten chunk: %v", err)
	}
	wantRotten(t, s, c.Hash())
	if err := s.Report(t.Context(), c.Hash()); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("Report of an absent chunk: %v", err)
	}
}

func TestReportOfAGoodChunk(t *testing.T) {
	s := openTest(t, Config{})
	chunks := fill(t, s, 2)
	if err := s.Report(t.Context(), chunks[0].Hash()); err != nil {
		t.Error(err)
	}
	wantChunks(t, s, chunks)
}

// TestPutRepairs: a Put of a chunk that is here, but rotten, must not say that
// it is stored and leave it so.
func TestPutRepairs(t *testing.T) {
	s := openTest(t, Config{})
	chunks := fill(t, s, 2)
	rot(t, s, chunks[0].Hash())
	s = reopen(t, s, func(string) {})
	for i, want := range []bool{true, false} {
		if added, err := s.Put(t.Context(), chunks[i]); added != want || err != nil {
			t.Errorf("Put = %v, %v; want %v", added, err, want)
		}
	}
	wantChunks(t, s, chunks)
}

// TestScrub: rot of chunks that nobody reads is found by Run, no faster than
// its rate, and once per interval.
func TestScrub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate = 100 << 10
		s := openTest(t, Config{Dir: t.TempDir(), ScrubRate: rate, ScrubEvery: time.Hour})
		var chunks []cas.Chunk
		for i := range 4 {
			c := castest.Random(t, uint64(i), cas.PieceSize)
			if _, err := s.Put(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			chunks = append(chunks, c)
		}
		rot(t, s, chunks[2].Hash())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()

		// The first chunk is read at once, the others take their time.
		const each = cas.PieceSize / rate * time.Second
		time.Sleep(2 * each)
		if n := s.Stats().ScrubbedBytes; n > 3*cas.PieceSize {
			t.Errorf("%d bytes were read in %v, at %d per second", n, 2*each, rate)
		}
		time.Sleep(2 * each)
		if st := s.Stats(); st.ScrubPasses != 1 || st.Quarantined != 1 || st.ScrubbedBytes != 4*cas.PieceSize || st.ScrubbedAt.IsZero() {
			t.Errorf("after a pass: %+v", st)
		}
		time.Sleep(time.Hour)
		if n := s.Stats().ScrubPasses; n != 2 {
			t.Errorf("%d passes, an hour later", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		wantRotten(t, s, chunks[2].Hash())
	})
}

// TestLost: somebody removes a file by hand.
func TestLost(t *testing.T) {
	s := openTest(t, Config{})
	chunks := fill(t, s, 2)
	if err := os.Remove(filepath.Join(s.cfg.Dir, chunkPath(chunks[0].Hash()))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), chunks[0].Hash()); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("Open: %v", err)
	}
	if st := s.Stats(); st.Lost != 1 || st.Chunks != 1 {
		t.Errorf("%d lost, %d chunks; want 1, 1", st.Lost, st.Chunks)
	}
	if added, err := s.Put(t.Context(), chunks[0]); !added || err != nil {
		t.Errorf("Put = %v, %v", added, err)
	}
}

// TestShrunk: a file is cut under an open body; the reader gets an error, the
// next one no bytes.
func TestShrunk(t *testing.T) {
	s := openTest(t, Config{})
	c := castest.Random(t, 1, 50_000)
	if _, err := s.Put(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	b, err := s.Open(t.Context(), c.Hash())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(s.cfg.Dir, chunkPath(c.Hash())), 20_000); err != nil {
		t.Fatal(err)
	}
	var w recorder
	if n, err := b.WriteSection(&w, 0, c.Size()); n != 20_000 || err == nil {
		t.Errorf("WriteSection of a cut file: %d bytes, %v", n, err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Open(t.Context(), c.Hash()); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("the next Open: %v", err)
	}
	wantRotten(t, s, c.Hash())
}

func TestVerifyAll(t *testing.T) {
	s := openTest(t, Config{})
	chunks := fill(t, s, 20)
	dir := s.cfg.Dir
	if _, err := VerifyAll(t.Context(), dir, VerifyConfig{}); !errors.Is(err, ErrLocked) {
		t.Errorf("VerifyAll of a directory in use: %v", err)
	}
	rot(t, s, chunks[3].Hash())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var bad []BadFile
	cfg := VerifyConfig{Bad: func(b BadFile) { bad = append(bad, b) }}
	for range 2 { // it changes nothing
		bad = nil
		st, err := VerifyAll(t.Context(), dir, cfg)
		if err != nil || st.Dirs != shardCount || st.Chunks != 20 || st.Bad != 1 || len(bad) != 1 {
			t.Fatalf("VerifyAll = %+v, %v, bad %v", st, err, bad)
		}
	}
	if bad[0].Path != chunkPath(chunks[3].Hash()) || !errors.Is(bad[0].Err, cas.ErrCorrupt) {
		t.Errorf("bad file %+v", bad[0])
	}
	cfg.Quarantine = true
	dirs := 0
	cfg.Progress = func(VerifyStats) { dirs++ }
	if _, err := VerifyAll(t.Context(), dir, cfg); err != nil || dirs != shardCount {
		t.Errorf("VerifyAll: %v, %d calls of Progress", err, dirs)
	}
	s = openTest(t, Config{Dir: dir})
	wantRotten(t, s, chunks[3].Hash())
	if n := s.Stats().Chunks; n != 19 {
		t.Errorf("%d chunks, want 19", n)
	}
	if _, err := VerifyAll(t.Context(), t.TempDir(), VerifyConfig{}); !errors.Is(err, ErrFormat) {
		t.Errorf("VerifyAll of a directory without a store: %v", err)
	}
}

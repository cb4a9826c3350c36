package disk

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/castest"
)

func none(cas.Hash) bool { return false }

func untold(cas.Hash) {}

// setTouched makes a chunk look as if it was put at that time.
func setTouched(t *testing.T, s *Store, h cas.Hash, at time.Time) {
	t.Helper()
	s.shard(h).index.update(h, func(e *entry) { e.touched, e.saved = uint32(at.Unix()), uint32(at.Unix()) })
	if err := os.Chtimes(filepath.Join(s.cfg.Dir, chunkPath(h)), at, at); err != nil {
		t.Fatal(err)
	}
}

func sweep(t *testing.T, s *Store, live func(cas.Hash) bool, before time.Time) SweepStats {
	t.Helper()
	st, err := s.Sweep(t.Context(), live, before, untold)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestSweep(t *testing.T) {
	s := openTest(t, Config{})
	chunks := fill(t, s, 6)
	now := time.Now()
	for _, c := range chunks[:5] {
		setTouched(t, s, c.Hash(), now.Add(-48*time.Hour))
	}
	if _, err := s.Touch(t.Context(), chunks[1].Hash()); err != nil {
		t.Fatal(err)
	}
	if added, err := s.Put(t.Context(), chunks[2]); added || err != nil {
		t.Fatal(added, err)
	}
	live := func(h cas.Hash) bool { return h == chunks[3].Hash() }
	st := sweep(t, s, live, now.Add(-24*time.Hour))
	want := SweepStats{Chunks: 6, Live: 1, Young: 3, Swept: 2, Bytes: chunks[0].Size() + chunks[4].Size()}
	if st != want {
		t.Errorf("Sweep = %+v, want %+v", st, want)
	}
	wantChunks(t, s, []cas.Chunk{chunks[1], chunks[2], chunks[3], chunks[5]})
	if st := sweep(t, s, none, now.Add(time.Minute)); st.Swept != 4 {
		t.Errorf("a sweep of all: %+v", st)
	}
	wantNothing(t, s)
	if _, err := s.Touch(t.Context(), chunks[0].Hash()); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("Touch of a swept chunk: %v", err)
	}
}

// TestSweepTells: whoever keeps bytes in memory is told of each chunk that went,
// after it went.
func TestSweepTells(t *testing.T) {
	s := openTest(t, Config{})
	chunks := fill(t, s, 4)
	told := map[cas.Hash]bool{}
	live := func(h cas.Hash) bool { return h == chunks[1].Hash() }
	_, err := s.Sweep(t.Context(), live, time.Now().Add(time.Minute), func(h cas.Hash) {
		if _, err := s.Stat(t.Context(), h); !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("told before it was gone: %v", err)
		}
		told[h] = true
	})
	if err != nil || len(told) != 3 || told[chunks[1].Hash()] {
		t.Errorf("told of %d chunks, want 3: %v", len(told), err)
	}
}

// TestTouchSurvives: a touch is not forgotten by a restart, whether the
// snapshot of the index knows it, is older, or is missing.
func TestTouchSurvives(t *testing.T) {
	for name, between := range map[string]func(t *testing.T, dir string, old []byte){
		"snapshot": func(*testing.T, string, []byte) {},
		"older snapshot": func(t *testing.T, dir string, old []byte) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(dir, indexName), old, 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"no snapshot": func(t *testing.T, dir string, _ []byte) {
			t.Helper()
			if err := os.Remove(filepath.Join(dir, indexName)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, Config{})
			chunks := fill(t, s, 2)
			now := time.Now()
			for _, c := range chunks {
				setTouched(t, s, c.Hash(), now.Add(-48*time.Hour))
			}
			age(t, s)
			old := indexBytes(t, s)
			if _, err := s.Touch(t.Context(), chunks[0].Hash()); err != nil {
				t.Fatal(err)
			}
			s = reopen(t, s, func(dir string) { between(t, dir, old) })
			if st := sweep(t, s, none, now.Add(-24*time.Hour)); st.Swept != 1 {
				t.Errorf("Sweep = %+v; want the one that was not touched", st)
			}
			wantChunks(t, s, chunks[:1])
		})
	}
}

// TestSweepRace puts chunks while everything old enough is swept: whoever has
// an answer from Put or Touch since before the sweep's limit finds the chunk.
func TestSweepRace(t *testing.T) {
	s := openTest(t, Config{})
	chunks := make([]cas.Chunk, 4)
	for i := range chunks {
		chunks[i] = castest.Random(t, uint64(i), 100+i)
	}
	var stop atomic.Bool
	var sweeping, putting sync.WaitGroup
	sweeping.Go(func() {
		for !stop.Load() {
			if _, err := s.Sweep(t.Context(), none, time.Now().Add(-time.Second), untold); err != nil {
				t.Errorf("Sweep: %v", err)
			}
		}
	})
	for w := range 4 {
		putting.Go(func() {
			for i := range 100 {
				c := chunks[(w+i)%len(chunks)]
				// As old as can be: the next sweep takes it, unless it is put.
				s.shard(c.Hash()).index.update(c.Hash(), func(e *entry) { e.touched = 0 })
				if _, err := s.Put(t.Context(), c); err != nil {
					t.Errorf("Put: %v", err)
				}
			}
		})
	}
	putting.Wait()
	stop.Store(true)
	sweeping.Wait()
	for _, c := range chunks {
		if _, err := s.Put(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
	wantChunks(t, s, chunks)
}

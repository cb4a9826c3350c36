package disk

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"inos.dev/edge/cas"
)

// childPutForEver puts and deletes chunks from many goroutines, while
// snapshots are taken all the time, until it is killed.
func childPutForEver(dir string, seed uint64) error {
	s, err := Open(Config{Dir: dir, Logger: slog.New(slog.DiscardHandler), SnapshotEvery: time.Millisecond})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(context.Background())
	g.Go(func() error { return s.Run(ctx) })
	var next atomic.Uint64
	for range 16 {
		g.Go(func() error {
			for {
				if err := childPut(ctx, s, seed+next.Add(1)); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

func childPut(ctx context.Context, s *Store, n uint64) error {
	c, err := childChunk(n, 16+int(n%9000))
	if err != nil {
		return err
	}
	if _, err := s.Put(ctx, c); err != nil {
		return err
	}
	if err := say("put", c.Hash()); err != nil || n%5 != 0 {
		return err
	}
	if err := say("delete", c.Hash()); err != nil {
		return err
	}
	return s.Delete(ctx, c.Hash())
}

// TestKill kills a process that puts, at random moments. What it has
// acknowledged is here afterwards, and nothing is here that is not whole.
func TestKill(t *testing.T) {
	const perDir = 20 // a directory lives through many kills
	rounds := soak(200)
	total := 0
	for first := 0; first < rounds; first += perDir {
		dir := t.TempDir()
		want := map[cas.Hash]bool{}
		for r := first; r < min(first+perDir, rounds); r++ {
			killOne(t, dir, uint64(r)<<32, want)
			wantWhole(t, dir)
			s := openTest(t, Config{Dir: dir})
			wantAll(t, s, want)
			if st := s.Stats(); st.Quarantined > 0 || st.Lost > 0 {
				t.Errorf("%d in quarantine, %d lost", st.Quarantined, st.Lost)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		total += len(want)
	}
	t.Logf("%d kills, %d acknowledged chunks, all here", rounds, total)
	if total < rounds {
		t.Errorf("only %d chunks were acknowledged in %d rounds: the test tests nothing", total, rounds)
	}
}

// killOne runs a child until it has said something for a random number of
// times, kills it, and adds what it has acknowledged to want.
func killOne(t *testing.T, dir string, seed uint64, want map[cas.Hash]bool) {
	t.Helper()
	cmd := childCommand(t, "put-for-ever", dir, seed)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(pipe)
	for left := rand.IntN(200); ; left-- {
		if left == 0 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		verb, h, ok := heard(t, out)
		if !ok {
			break
		}
		switch verb {
		case "put":
			want[h] = true
		case "delete": // it may be here or not
			delete(want, h)
		}
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child ended by itself: %v", err)
	}
}

// wantWhole looks at a directory that no process has open: every name in it is
// a chunk with the right bytes.
func wantWhole(t *testing.T, dir string) {
	t.Helper()
	st, err := VerifyAll(t.Context(), dir, VerifyConfig{Bad: func(b BadFile) { t.Errorf("%s: %v", b.Path, b.Err) }})
	if errors.Is(err, ErrFormat) || errors.Is(err, os.ErrNotExist) {
		return // killed before the directory was made
	}
	if err != nil {
		t.Fatal(err)
	}
	if st.Bad+st.Foreign > 0 {
		t.Errorf("after a kill: %+v", st)
	}
}

func wantAll(t *testing.T, s *Store, want map[cas.Hash]bool) {
	t.Helper()
	if names, err := readNames(s.temp); err != nil || len(names) > 0 {
		t.Errorf("temporary files after Open: %v, %v", names, err)
	}
	for h := range want {
		b, err := s.Open(t.Context(), h)
		if err != nil {
			t.Errorf("acknowledged, then killed: %v", err)
			continue
		}
		got := cas.Hash{}
		if bytes, err := cas.Load(b, nil); err == nil {
			got = cas.Sum(bytes)
		}
		if got != h {
			t.Errorf("the bytes of %s are wrong", h)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestTornTemp: what a write has left that was cut off is removed and never
// seen.
func TestTornTemp(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, Config{Dir: dir})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	}()
	for _, name := range []string{"tmp/1", "tmp/2", "index.tmp", "FORMAT.tmp"} {
		if err := root.WriteFile(name, []byte{0x69}, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s = openTest(t, Config{Dir: dir})
	wantAll(t, s, nil)
	for _, err := range s.All(t.Context()) {
		t.Errorf("a torn file is listed (%v)", err)
	}
}

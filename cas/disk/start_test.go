package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inos.dev/edge/cas"
)

// childOpen opens a store of many chunks and says how long that took, and what
// memory the process has.
func childOpen(dir string, _ uint64) error {
	started := time.Now()
	s, err := Open(Config{Dir: dir})
	if err != nil {
		return err
	}
	took := time.Since(started)
	var c cas.Hash
	for info, err := range s.All(context.Background()) {
		if err != nil {
			return err
		}
		c = info.Hash
		break
	}
	if _, err := s.Stat(context.Background(), c); err != nil {
		return err
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	fmt.Printf("%d %d %d %d\n", s.Stats().Chunks, took.Microseconds(), field(status, "VmRSS:"), field(status, "VmHWM:"))
	return s.Close()
}

// field returns a number of /proc/self/status.
func field(status []byte, name string) (n int64) {
	_, rest, _ := strings.Cut(string(status), name)
	if _, err := fmt.Sscan(rest, &n); err != nil {
		return -1
	}
	return n
}

// TestStart opens a directory of a million chunks (a tenth without INOS_SOAK)
// from the snapshot of the index and, after it was deleted, without.
func TestStart(t *testing.T) {
	const million = 1_000_000
	n := soak(million)
	dir := t.TempDir()
	fillDir(t, dir, n)
	first := startOne(t, dir, n)
	t.Logf("%d chunks, no index: %v, RSS %d KiB, at most %d KiB", n, first.took, first.rss, first.peak)
	second := startOne(t, dir, n)
	t.Logf("%d chunks, from the index: %v, RSS %d KiB, at most %d KiB", n, second.took, second.rss, second.peak)
	if err := os.Remove(filepath.Join(dir, indexName)); err != nil {
		t.Fatal(err)
	}
	third := startOne(t, dir, n)
	t.Logf("%d chunks, index deleted: %v, RSS %d KiB, at most %d KiB", n, third.took, third.rss, third.peak)

	if raceDetector {
		t.Log("the bars are not for the race detector; the chunks were all there")
		return
	}
	// A small directory has the fixed costs of a large one, and shares the
	// machine with other tests: only the million is held to the very bar.
	const fixed = 2 * time.Second
	scale := func(bar time.Duration) time.Duration {
		return min(bar, fixed+bar*time.Duration(n)/million)
	}
	if bar := scale(3 * time.Second); second.took > bar {
		t.Errorf("start from the index: %v, bar %v", second.took, bar)
	}
	if bar := scale(10 * time.Second); third.took > bar {
		t.Errorf("start without the index: %v, bar %v", third.took, bar)
	}
	if bar := int64(150 << 10); second.peak > bar || third.rss > bar {
		t.Errorf("RSS: at most %d KiB, and %d KiB without the index; bar %d", second.peak, third.rss, bar)
	}
}

type started struct {
	took      time.Duration
	rss, peak int64 // KiB
}

func startOne(t *testing.T, dir string, n int) (st started) {
	t.Helper()
	cmd := childCommand(t, "open", dir, 0)
	cmd.Env = append(cmd.Env, "GOGC=100", "GOMEMLIMIT=")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var chunks int
	var micros int64
	if _, err := fmt.Sscan(string(out), &chunks, &micros, &st.rss, &st.peak); err != nil {
		t.Fatalf("the child says %q: %v", out, err)
	}
	if chunks != n {
		t.Errorf("%d chunks after the start, want %d", chunks, n)
	}
	st.took = time.Duration(micros) * time.Microsecond
	return st
}

// fillDir makes n files that look like chunks until they are read: holes, so
// that a million of them are made and removed quickly.
func fillDir(t *testing.T, dir string, n int) {
	t.Helper()
	s := openTest(t, Config{Dir: dir})
	parallel(8, n, func(i int) {
		h := cas.Sum(fmt.Append(nil, "chunk ", i))
		f, err := s.shard(h).root.Create(h.String())
		if err == nil {
			err = errors.Join(f.Truncate(100), f.Close())
		}
		if err != nil {
			t.Error(err)
		}
	})
	// The directories of a node that has run for a while have not all changed
	// in its last seconds.
	old := time.Now().Add(-time.Minute)
	for i := range s.shards {
		if err := s.root.Chtimes(filepath.Join(chunksName, shardName(i)), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, indexName)); err != nil {
		t.Fatal(err)
	}
}

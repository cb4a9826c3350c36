package disk

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/castest"
)

// faultyDisk fails the fsyncs of files whose path contains part.
type faultyDisk struct {
	part  atomic.Value // string; "" fails none
	calls atomic.Int64
	err   error
}

func (d *faultyDisk) fsync(f *os.File) error {
	d.calls.Add(1)
	if part, _ := d.part.Load().(string); part != "" && strings.Contains(f.Name(), part) {
		return d.err
	}
	return f.Sync()
}

// TestFailedSync: after a failed fsync of a file or of a directory the Put
// fails, all who waited for it as well, nothing is left, and the next Put
// writes anew.
func TestFailedSync(t *testing.T) {
	for _, part := range []string{tempName + "/", chunksName + "/"} {
		for _, fault := range []struct{ disk, want error }{{syscall.EIO, syscall.EIO}, {syscall.ENOSPC, cas.ErrNoSpace}, {syscall.EDQUOT, cas.ErrNoSpace}} {
			d := &faultyDisk{err: fault.disk}
			s := openTest(t, Config{fsync: d.fsync})
			c := castest.Random(t, 1, 5000)
			d.part.Store(part)
			var wg sync.WaitGroup
			for range 5 {
				wg.Go(func() {
					if added, err := s.Put(t.Context(), c); added || !errors.Is(err, fault.want) {
						t.Errorf("fsync in %s fails with %v: Put = %v, %v", part, fault.disk, added, err)
					}
				})
			}
			wg.Wait()
			wantNothing(t, s)
			if st := s.Stats(); st.SyncFailures == 0 || st.PutFailures == 0 {
				t.Errorf("%+v counts no failure", st)
			}
			d.part.Store("")
			if added, err := s.Put(t.Context(), c); !added || err != nil {
				t.Errorf("Put on the mended disk = %v, %v", added, err)
			}
			wantChunks(t, s, []cas.Chunk{c})
		}
	}
}

// wantNothing looks for chunks in the index and for files in the directories.
func wantNothing(t *testing.T, s *Store) {
	t.Helper()
	if n, bytes := s.count(); n != 0 || bytes != 0 || s.room.used != 0 {
		t.Errorf("%d chunks, %d bytes, %d reserved; want none", n, bytes, s.room.used)
	}
	for i := range s.shards {
		if names, err := readNames(s.shards[i].root); err != nil || len(names) > 0 {
			t.Errorf("chunks/%02x has %v, %v", i, names, err)
		}
	}
	if names, err := readNames(s.temp); err != nil || len(names) > 0 {
		t.Errorf("tmp has %v, %v", names, err)
	}
}

// TestOneSyncFails: the other chunks of a batch do not suffer.
func TestOneSyncFails(t *testing.T) {
	d := &faultyDisk{err: syscall.EIO}
	s := openTest(t, Config{fsync: d.fsync})
	bad := castest.Random(t, 0, 100)
	d.part.Store(chunksName + "/" + bad.Hash().String()[:2])
	var wg sync.WaitGroup
	var good []cas.Chunk
	for i := range 40 {
		c := castest.Random(t, uint64(i), 100)
		spared := c.Hash()[0] != bad.Hash()[0]
		if spared {
			good = append(good, c)
		}
		wg.Go(func() {
			if added, err := s.Put(t.Context(), c); added != spared || (err == nil) != spared {
				t.Errorf("Put = %v, %v; want success: %v", added, err, spared)
			}
		})
	}
	wg.Wait()
	d.part.Store("")
	wantChunks(t, s, good)
}

// TestStartSyncsNames: a kill between a rename and the fsync of its directory
// leaves a name that the next start finds, and a power loss may still take away.
// The start makes it durable before a Put is answered "here already".
func TestStartSyncsNames(t *testing.T) {
	s := openTest(t, Config{})
	dir := s.cfg.Dir
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c := castest.Random(t, 1, 500)
	if err := os.WriteFile(filepath.Join(dir, chunkPath(c.Hash())), c.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	d := &faultyDisk{err: syscall.EIO}
	d.part.Store(chunksName + "/" + c.Hash().String()[:2])
	if _, err := Open(Config{Dir: dir, fsync: d.fsync}); !errors.Is(err, syscall.EIO) {
		t.Fatalf("a start that cannot make the name durable: %v", err)
	}
	d.part.Store("")
	d.calls.Store(0)
	s = openTest(t, Config{Dir: dir, fsync: d.fsync})
	if n := d.calls.Load(); n != 1 {
		t.Errorf("%d fsyncs at the start, want one for the one directory with a name", n)
	}
	if added, err := s.Put(t.Context(), c); added || err != nil {
		t.Errorf("Put of what is here = %v, %v", added, err)
	}
}

func TestMaxBytes(t *testing.T) {
	s := openTest(t, Config{MaxBytes: 2500})
	a, b, c := castest.Random(t, 1, 1000), castest.Random(t, 2, 1000), castest.Random(t, 3, 1000)
	for _, chunk := range []cas.Chunk{a, b, a} {
		if _, err := s.Put(t.Context(), chunk); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Put(t.Context(), c); !errors.Is(err, cas.ErrNoSpace) {
		t.Errorf("Put above the cap: %v", err)
	}
	if !s.Stats().Full {
		t.Error("Stats does not say that it is full")
	}
	wantChunks(t, s, []cas.Chunk{a, b})
	if err := s.Delete(t.Context(), a.Hash()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), c); err != nil {
		t.Errorf("Put after a Delete: %v", err)
	}
	s = reopen(t, s, func(string) {})
	if s.room.used != 2000 {
		t.Errorf("%d bytes after a restart, want 2000", s.room.used)
	}
}

// TestHeadroom: the disk fills up and empties; writes stop and go on, by
// themselves, within a second.
func TestHeadroom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var free atomic.Int64
		free.Store(2 << 20)
		s := openTest(t, Config{Dir: t.TempDir(), Headroom: 1 << 20, statfs: func(*os.File) (int64, int64, error) {
			return free.Load(), 1 << 40, nil
		}})
		put := func(seed uint64) error {
			_, err := s.Put(t.Context(), castest.Random(t, seed, 512<<10))
			return err
		}
		// Between two looks at the file system the store counts itself.
		if err := errors.Join(put(1), put(2)); err != nil {
			t.Fatal(err)
		}
		if err := put(3); !errors.Is(err, cas.ErrNoSpace) {
			t.Errorf("Put into the headroom: %v", err)
		}
		if _, err := s.Stat(t.Context(), castest.Random(t, 1, 512<<10).Hash()); err != nil {
			t.Errorf("reads do not go on: %v", err)
		}
		free.Store(1 << 30)
		if err := put(3); !errors.Is(err, cas.ErrNoSpace) {
			t.Errorf("the file system was asked twice within a second: %v", err)
		}
		time.Sleep(lookEvery)
		if err := put(3); err != nil {
			t.Errorf("Put after room was made: %v", err)
		}
	})
}

func TestHeadroomDefault(t *testing.T) {
	for _, c := range []struct{ asked, total, want int64 }{
		{-1, 1 << 40, 0},
		{5, 1 << 40, 5},
		{0, 1 << 30, 1 << 30 / 10},     // a small one: a tenth
		{0, 10 << 30, 256 << 20},       // the least
		{0, 100 << 30, 2 << 30},        // 2 %
		{0, 100 << 40, 16 << 30},       // the most
		{0, 0, 0},                      // a file system that does not know
		{1 << 50, 1 << 40, 1 << 50},    // as asked
		{0, 50 << 30, (50 << 30) / 50}, // 1 GiB
	} {
		if got := headroomOf(c.asked, c.total); got != c.want {
			t.Errorf("headroomOf(%d, %d) = %d, want %d", c.asked, c.total, got, c.want)
		}
	}
}

func TestClosed(t *testing.T) {
	s := openTest(t, Config{})
	c := fill(t, s, 1)[0]
	body, err := s.Open(t.Context(), c.Hash())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := body.WriteSection(io.Discard, 0, c.Size()); n != c.Size() || err != nil {
		t.Errorf("a body that was open at Close: %d bytes, %v", n, err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	_, putErr := s.Put(t.Context(), castest.Random(t, 2, 100))
	_, openErr := s.Open(t.Context(), c.Hash())
	_, touchErr := s.Touch(t.Context(), c.Hash())
	_, sweepErr := s.Sweep(t.Context(), func(cas.Hash) bool { return true }, time.Now(), untold)
	for _, err := range []error{putErr, openErr, touchErr, sweepErr, s.Delete(t.Context(), c.Hash()), s.Report(t.Context(), c.Hash()), s.Close(), body.Close()} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

func TestConfig(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "never")
	for _, cfg := range []Config{
		{}, {Dir: dir, MaxBytes: -1}, {Dir: dir, Writers: -1}, {Dir: dir, Syncs: -1},
		{Dir: dir, ScrubEvery: -1}, {Dir: dir, SnapshotEvery: -1}, {Dir: dir, ScrubRate: 1 << 40},
	} {
		if _, err := Open(cfg); err == nil {
			t.Errorf("Open takes %+v", cfg)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a bad configuration has made the directory: %v", err)
	}
}

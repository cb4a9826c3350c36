package journal

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

// faultyDisk fails what it is told to.
type faultyDisk struct {
	realDisk
	write, sync, truncate atomic.Pointer[error]
	short                 atomic.Int64 // bytes of a failing write that reach the file
	syncs                 atomic.Int64
}

func (d *faultyDisk) WriteAt(f *os.File, b []byte, off int64) (int, error) {
	if err := d.write.Load(); err != nil {
		n, _ := f.WriteAt(b[:min(int(d.short.Load()), len(b))], off)
		return n, *err
	}
	return d.realDisk.WriteAt(f, b, off)
}

func (d *faultyDisk) Sync(f *os.File) error {
	d.syncs.Add(1)
	if err := d.sync.Load(); err != nil {
		return *err
	}
	return d.realDisk.Sync(f)
}

func (d *faultyDisk) Truncate(f *os.File, size int64) error {
	if err := d.truncate.Load(); err != nil {
		return *err
	}
	return d.realDisk.Truncate(f, size)
}

// TestFaults: a failed write or fsync fails all who wait, the journal takes
// nothing more, and what has failed is not there when it is opened again.
func TestFaults(t *testing.T) {
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, io.ErrShortWrite} {
		for name, hook := range map[string]func(*faultyDisk) *atomic.Pointer[error]{
			"write": func(d *faultyDisk) *atomic.Pointer[error] { return &d.write },
			"sync":  func(d *faultyDisk) *atomic.Pointer[error] { return &d.sync },
		} {
			for _, segmentBytes := range []int64{1, 1 << 20} {
				for _, short := range []int64{0, 50, 150, 1 << 20} {
					disk := &faultyDisk{}
					disk.short.Store(short)
					cfg := config(t.TempDir())
					cfg.Disk, cfg.SegmentBytes = disk, segmentBytes
					j, _ := open(t, cfg)
					write(t, j)
					hook(disk).Store(&fault)
					wantFailure(t, j, fault)
					hook(disk).Store(nil)
					syncs := disk.syncs.Load()
					wantFailure(t, j, fault) // it stays so
					if n := disk.syncs.Load(); n != syncs {
						t.Errorf("a failed %s: %d more syncs", name, n-syncs)
					}
					if !j.Clean() || j.Durable().Seq != 1 {
						t.Errorf("clean: %v, durable: %d", j.Clean(), j.Durable().Seq)
					}
					closed(t, j)
					j, records := open(t, cfg)
					wantRecords(t, records, 1)
					write(t, j)
					closed(t, j)
				}
			}
		}
	}
}

// wantFailure stages, if it can, and wants a failure.
func wantFailure(t *testing.T, j *Journal, fault error) {
	t.Helper()
	for range 3 {
		m, err := stage(j)
		if err == nil {
			err = j.Sync(t.Context(), m.Seq)
		}
		if !errors.Is(err, ErrFailed) || !errors.Is(err, fault) {
			t.Errorf("after a failure: %v, want %v", err, fault)
		}
	}
}

// TestDoubt: what can neither be made durable nor be cut off may be there at
// the next start, and the journal says so.
func TestDoubt(t *testing.T) {
	var eio error = syscall.EIO
	disk := &faultyDisk{}
	cfg := config(t.TempDir())
	cfg.Disk = disk
	j, _ := open(t, cfg)
	write(t, j)
	disk.sync.Store(&eio)
	disk.truncate.Store(&eio)
	wantFailure(t, j, eio)
	if j.Clean() {
		t.Error("clean")
	}
	closed(t, j)
	if _, err := Open(t.Context(), cfg, Mark{}, func(*Record) error { return nil }); !errors.Is(err, eio) {
		t.Errorf("a start that cannot make the tail durable: %v", err)
	}
	disk.sync.Store(nil)
	disk.truncate.Store(nil)
	j, records := open(t, cfg)
	wantRecords(t, records, 2) // the first of the failed ones was whole
	write(t, j)
	closed(t, j)
}

// TestRewrite: a start writes the last batch again before it syncs.
func TestRewrite(t *testing.T) {
	cfg := config(t.TempDir())
	j, _ := open(t, cfg)
	for range 3 {
		write(t, j)
	}
	tip := j.Tip()
	closed(t, j)
	disk := &lossyDisk{durable: map[string][]byte{}}
	cfg.Disk = disk
	j, _ = open(t, cfg)
	closed(t, j)
	if want := []int64{int64(tip.Last)}; len(disk.offsets) != 1 || disk.offsets[0] != want[0] {
		t.Errorf("written at %v, want %v", disk.offsets, want)
	}
}

// lossyDisk remembers what a power loss would leave of each file. Its syncs
// wait for a token, if there is a channel for them.
type lossyDisk struct {
	realDisk
	durable map[string][]byte // as of the last sync
	offsets []int64           // of all writes
	tokens  chan error
}

func (d *lossyDisk) WriteAt(f *os.File, b []byte, off int64) (int, error) {
	d.offsets = append(d.offsets, off)
	return d.realDisk.WriteAt(f, b, off)
}

func (d *lossyDisk) Sync(f *os.File) error {
	if d.tokens != nil {
		if err := <-d.tokens; err != nil {
			return err
		}
	}
	if !strings.HasSuffix(f.Name(), segmentSuffix) {
		return nil // the directory
	}
	b, err := os.ReadFile(f.Name())
	d.durable[f.Name()] = b
	return err
}

// sector is how many bytes reach a disk together.
const sector = 64

// lose writes what a power loss leaves of a file: what was synced, and of what
// was written since, any sectors, and any length.
func lose(t *rapid.T, durable, now []byte) []byte {
	size := len(now)
	if rapid.IntRange(0, 3).Draw(t, "short") == 0 {
		size = rapid.IntRange(min(len(durable), len(now)), len(now)).Draw(t, "size")
	}
	left := append([]byte(nil), now[:size]...)
	for at := 0; at < size; at += sector {
		end := min(at+sector, size)
		if end > len(durable) && rapid.IntRange(0, 5).Draw(t, "lost") == 5 {
			n := copy(left[at:end], durable[min(at, len(durable)):])
			clear(left[at+n : end])
		}
	}
	return left
}

// files reads a directory.
func files(t *rapid.T, dir string) map[string][]byte {
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]byte)
	for _, file := range list {
		path := filepath.Join(dir, file.Name())
		if all[path], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestPowerLoss: whatever a power loss leaves of the writes that were under
// way, the journal opens, and has all that was acknowledged and nothing that
// was not appended.
func TestPowerLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ rapid.TB }{t}, func(rt *rapid.T) { // rapid asks a testing.T for its deadline, which a bubble refuses
			dir, acknowledged, staged := t.TempDir(), 0, 0
			for range rapid.IntRange(1, 4).Draw(rt, "rounds") {
				disk := &lossyDisk{durable: files(rt, dir)}
				cfg := config(dir)
				cfg.Disk, cfg.SegmentBytes = disk, int64(rapid.SampledFrom([]int{1, 700, 1 << 20}).Draw(rt, "segment"))
				j, records := open(t, cfg)
				wantRecords(t, records, len(records))
				if len(records) < acknowledged || len(records) > staged {
					rt.Fatalf("%d records, %d were acknowledged, %d staged", len(records), acknowledged, staged)
				}
				staged = len(records) + powered(rt, j, disk)
				acknowledged = int(j.Durable().Seq)
				next := t.TempDir()
				for path, b := range files(rt, dir) {
					if err := os.WriteFile(filepath.Join(next, filepath.Base(path)), lose(rt, disk.durable[path], b), 0o600); err != nil {
						rt.Fatal(err)
					}
				}
				disk.tokens <- syscall.EIO // to the one who waits
				close(disk.tokens)
				closed(t, j)
				dir = next
			}
		})
	})
}

// powered stages records and lets syncs pass, until the power goes in the
// middle of one. It returns the number of records.
func powered(t *rapid.T, j *Journal, disk *lossyDisk) (staged int) {
	disk.tokens = make(chan error)
	for staged == 0 || rapid.IntRange(0, 12).Draw(t, "more") > 0 {
		if rapid.IntRange(0, 3).Draw(t, "sync") > 0 {
			if _, err := stage(j); err != nil {
				t.Fatal(err)
			}
			staged++
		} else {
			select {
			case disk.tokens <- nil:
			default: // nobody waits
			}
		}
		synctest.Wait()
	}
	if _, err := stage(j); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return staged + 1
}

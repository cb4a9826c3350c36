package ledger

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/journal"
)

// faultyDisk fails what it is told to, and holds syncs back while it has a
// gate.
type faultyDisk struct {
	write, sync, truncate atomic.Pointer[error]
	gate                  atomic.Pointer[chan struct{}]
}

func (d *faultyDisk) WriteAt(f *os.File, b []byte, off int64) (int, error) {
	if err := d.write.Load(); err != nil {
		n, _ := f.WriteAt(b[:len(b)/2], off)
		return n, *err
	}
	return f.WriteAt(b, off)
}

func (d *faultyDisk) Sync(*os.File) error {
	if gate := d.gate.Load(); gate != nil {
		<-*gate
	}
	if err := d.sync.Load(); err != nil {
		return *err
	}
	return nil
}

func (d *faultyDisk) Truncate(f *os.File, size int64) error {
	if err := d.truncate.Load(); err != nil {
		return *err
	}
	return f.Truncate(size)
}

// TestFailure: the disk fails for a while. Who writes meanwhile is told, what
// they wrote is in no book, and afterwards the books go on by themselves.
func TestFailure(t *testing.T) {
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
		for name, hook := range map[string]func(*faultyDisk) *atomic.Pointer[error]{
			"write": func(d *faultyDisk) *atomic.Pointer[error] { return &d.write },
			"sync":  func(d *faultyDisk) *atomic.Pointer[error] { return &d.sync },
		} {
			t.Run(name+" "+fault.Error(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					disk := &faultyDisk{}
					cfg := config(t.TempDir())
					cfg.Disk = disk
					l := open(t, cfg)
					mustAppend(t, l, "first", grant(ann, 10), setDoc("d", "1"))
					if err := l.Checkpoint(t.Context()); err != nil {
						t.Fatal(err)
					}
					mustAppend(t, l, "second", grant(ann, 10))
					hook(disk).Store(&fault)
					for range 5 {
						if _, _, err := l.Append(t.Context(), "third", []credit.Entry{grant(ann, 10), setDoc("d", "2")}); !errors.Is(err, journal.ErrFailed) || !errors.Is(err, fault) {
							t.Errorf("on a failing disk: %v", err)
						}
						time.Sleep(700 * time.Millisecond)
					}
					if err := l.Checkpoint(t.Context()); !errors.Is(err, journal.ErrFailed) && err != nil {
						t.Error(err)
					}
					hook(disk).Store(nil)
					time.Sleep(reviveEvery)
					wantState(t, l, ann, credit.State{Balance: 20, Entries: 3})
					if data, err := l.Doc(t.Context(), "d"); string(data) != "1" || err != nil {
						t.Errorf("%s, %v", data, err)
					}
					if seq, again, err := l.Append(t.Context(), "third", []credit.Entry{grant(ann, 10)}); seq != 3 || again || err != nil {
						t.Errorf("on the mended disk: %d, %v, %v", seq, again, err)
					}
					if _, again, err := l.Append(t.Context(), "second", []credit.Entry{grant(ann, 10)}); !again || err != nil {
						t.Errorf("an id from before: %v, %v", again, err)
					}
					wantAudit(t, l)
					drop(t, l)
					l = open(t, cfg)
					wantState(t, l, ann, credit.State{Balance: 30, Entries: 4})
					wantAudit(t, l)
					closed(t, l)
				})
			})
		}
	}
}

// TestDoubt: if what has failed cannot be cut off, the books stay shut until
// the next start, which decides what is in them.
func TestDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var eio error = syscall.EIO
		disk := &faultyDisk{}
		cfg := config(t.TempDir())
		cfg.Disk = disk
		l := open(t, cfg)
		mustAppend(t, l, "", grant(ann, 10))
		disk.sync.Store(&eio)
		disk.truncate.Store(&eio)
		for range 3 {
			if _, _, err := l.Append(t.Context(), "a", []credit.Entry{grant(ann, 10)}); !errors.Is(err, journal.ErrFailed) {
				t.Error(err)
			}
			if _, err := l.State(t.Context(), ann); !errors.Is(err, journal.ErrFailed) {
				t.Errorf("a balance that may be wrong is told: %v", err)
			}
			wantState(t, l, bob, credit.State{})
			disk.sync.Store(nil)
			disk.truncate.Store(nil)
			time.Sleep(time.Minute)
		}
		drop(t, l)
		l = open(t, cfg)
		if _, again, err := l.Append(t.Context(), "a", []credit.Entry{grant(ann, 10)}); err != nil || !again {
			t.Errorf("the record was whole: %v, %v", again, err)
		}
		wantState(t, l, ann, credit.State{Balance: 20, Entries: 2})
		closed(t, l)
	})
}

// TestNothingEarly: nothing is told before it is durable, be it to the writer,
// to a reader, to a second writer with the same id, or to one who decides on
// the ground of it.
func TestNothingEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &faultyDisk{}
		cfg := config(t.TempDir())
		cfg.Disk = disk
		l := open(t, cfg)
		mustAppend(t, l, "", grant(ann, 10), setDoc("d", "1"))
		gate := make(chan struct{})
		disk.gate.Store(&gate)
		var told atomic.Int64
		ask := func(f func() error) {
			go func() {
				if err := f(); err != nil {
					t.Error(err)
				}
				told.Add(1)
			}()
			synctest.Wait()
		}
		record := []credit.Entry{grant(ann, 5), setDoc("d", "2"), {Kind: credit.KindLease, From: ann, Bytes: 9}}
		ask(func() error { _, _, err := l.Append(t.Context(), "a", record); return err })
		ask(func() error { _, _, err := l.Append(t.Context(), "a", record); return err })
		ask(func() error { wantState(t, l, ann, credit.State{Balance: 15, Leased: 9, Entries: 5}); return nil })
		ask(func() error { _, err := l.Doc(t.Context(), "d"); return err })
		ask(func() error { _, err := l.Docs(t.Context(), "d", "", 5); return err })
		ask(func() error { _, err := l.Leases(t.Context()); return err })
		ask(func() error { _, err := l.Accounts(t.Context(), "", 5); return err })
		ask(func() error { _, _, err := l.Statement(t.Context(), ann, "", 5); return err })
		ask(func() error {
			_, _, err := l.Decide(t.Context(), "", func(v credit.View) ([]credit.Entry, error) {
				s, err := v.State(t.Context(), ann)
				if s.Balance != 15 {
					t.Errorf("one who decides sees %+v", s)
				}
				return nil, err
			})
			return err
		})
		ask(func() error { return l.Checkpoint(t.Context()) })
		if told.Load() != 0 || l.Seq() != 1 {
			t.Errorf("%d were told early, seq %d", told.Load(), l.Seq())
		}
		wantState(t, l, bob, credit.State{}) // who has nothing to do with it does not wait
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := l.State(ctx, ann); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a reader who gives up: %v", err)
		}
		cancel()
		close(gate)
		synctest.Wait()
		if told.Load() != 10 || l.Seq() != 2 {
			t.Errorf("%d were told, seq %d", told.Load(), l.Seq())
		}
		closed(t, l)
	})
}

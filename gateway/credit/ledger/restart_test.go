package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/journal"
)

// TestRebuild: the file of checkpoints is lost, and made anew; the memory that
// this takes is bounded.
func TestRebuild(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.MaxDirty = 100
	l := open(t, cfg)
	for i := range 500 {
		mustAppend(t, l, fmt.Sprint(i), grant(credit.User(fmt.Sprint(i)), 1), setDoc(fmt.Sprint("d", i), "x"))
	}
	closed(t, l)
	if err := os.Remove(filepath.Join(cfg.Dir, File)); err != nil {
		t.Fatal(err)
	}
	l = open(t, cfg)
	if n := l.dirty.weight + l.clean.weight; n > 3*cfg.MaxDirty {
		t.Errorf("%d changes in memory, a checkpoint is due at %d", n, cfg.MaxDirty)
	}
	wantState(t, l, credit.User("77"), credit.State{Balance: 1, Entries: 1})
	if seq, again, err := l.Append(t.Context(), "77", []credit.Entry{grant(ann, 1)}); seq != 78 || !again || err != nil {
		t.Errorf("an id after a rebuild: %d, %v, %v", seq, again, err)
	}
	if r := wantAudit(t, l); r.Documents != 500 || r.Accounts != 502 {
		t.Errorf("%+v", r)
	}
	closed(t, l)
}

// TestBehind: checkpoints of a journal that has lost records, or of another
// one, are refused.
func TestBehind(t *testing.T) {
	cfg := config(t.TempDir())
	l := open(t, cfg)
	mustAppend(t, l, "", grant(ann, 1))
	closed(t, l)
	dir := filepath.Join(cfg.Dir, JournalDir)
	if err := os.Rename(dir, dir+".kept"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); !errors.Is(err, journal.ErrDamaged) {
		t.Errorf("without a journal: %v", err)
	}
	other := config(t.TempDir())
	l = open(t, other)
	mustAppend(t, l, "", grant(ann, 2))
	closed(t, l)
	if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(filepath.Join(other.Dir, JournalDir)))); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); !errors.Is(err, journal.ErrDamaged) {
		t.Errorf("with another journal: %v", err)
	}
	if err := errors.Join(os.RemoveAll(dir), os.Rename(dir+".kept", dir)); err != nil {
		t.Fatal(err)
	}
	l = open(t, cfg)
	wantAudit(t, l)
	closed(t, l)
}

// TestBounded: however much is written, the changes in memory and what a
// restart reads are bounded, without Run.
func TestBounded(t *testing.T) {
	for _, cfg := range []Config{{MaxDirty: 50}, {CheckpointBytes: 5000}} {
		c := config(t.TempDir())
		c.MaxDirty, c.CheckpointBytes = cfg.MaxDirty, cfg.CheckpointBytes
		l := open(t, c)
		for i := range 300 {
			mustAppend(t, l, fmt.Sprint(i), grant(credit.User(fmt.Sprint(i)), 1))
			if c.MaxDirty > 0 && l.dirty.weight > c.MaxDirty+3 {
				t.Fatalf("%d changes", l.dirty.weight)
			}
			if behind := l.tip.Pos - l.saved.Pos; c.CheckpointBytes > 0 && int64(behind) > c.CheckpointBytes+1000 {
				t.Fatalf("%d bytes behind a checkpoint", behind)
			}
		}
		closed(t, l)
	}
}

// TestRun: checkpoints come with time, and only if there is something new.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t.TempDir())
		l := open(t, cfg)
		go func() {
			if err := l.Run(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		saved := func() uint64 {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.saved.Seq
		}
		mustAppend(t, l, "", grant(ann, 1))
		time.Sleep(29 * time.Second)
		synctest.Wait()
		if saved() != 0 {
			t.Error("a checkpoint before its time")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if saved() != 1 {
			t.Error("no checkpoint")
		}
		id := func() (n int) {
			if err := l.db.View(func(tx *bbolt.Tx) error { n = tx.ID(); return nil }); err != nil {
				t.Error(err)
			}
			return n
		}
		before := id()
		time.Sleep(time.Hour)
		synctest.Wait()
		if id() != before {
			t.Error("the file is written although nothing is new")
		}
		closed(t, l)
	})
}

// TestForget: ids are known for their time, and not too many of them.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t.TempDir())
		cfg.MaxIDs = 10
		l := open(t, cfg)
		known := func(id string) bool {
			_, again, err := l.Decide(t.Context(), id, func(credit.View) ([]credit.Entry, error) { return nil, nil })
			if err != nil {
				t.Error(err)
			}
			return again
		}
		save := func() {
			if err := l.Checkpoint(t.Context()); err != nil {
				t.Error(err)
			}
		}
		mustAppend(t, l, "old", grant(ann, 1))
		save()
		time.Sleep(7 * 24 * time.Hour)
		mustAppend(t, l, "new", grant(ann, 1))
		save()
		save()
		l.clean = newChanges()
		if !known("old") || !known("new") {
			t.Error("forgotten within 7 days")
		}
		time.Sleep(2 * 24 * time.Hour)
		mustAppend(t, l, "newer", grant(ann, 1))
		save()
		l.clean = newChanges()
		if known("old") || !known("new") {
			t.Errorf("after 9 days: old %v, new %v", known("old"), known("new"))
		}
		for i := range 20 {
			mustAppend(t, l, fmt.Sprint(i), grant(ann, 1))
		}
		save()
		l.clean = newChanges()
		n := 0
		for i := range 20 {
			if known(fmt.Sprint(i)) {
				n++
			}
		}
		if n != 10 || !known("19") || known("9") {
			t.Errorf("%d ids are known, 10 may be", n)
		}
		closed(t, l)
	})
}

package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"inos.dev/edge/gateway/credit"
)

// someBooks fills a directory and closes it.
func someBooks(t *testing.T) Config {
	t.Helper()
	cfg := config(t.TempDir())
	l := open(t, cfg)
	for i := range 50 {
		mustAppend(t, l, fmt.Sprint(i), grant(credit.User(fmt.Sprint(i%7)), 10), setDoc(fmt.Sprint("d", i%5), "x"),
			credit.Entry{Kind: credit.KindLease, From: credit.User(fmt.Sprint(i % 3)), Bytes: 5})
	}
	closed(t, l)
	return cfg
}

// TestAuditFinds: whatever is changed in the file of checkpoints, an audit
// tells, on line and off line.
func TestAuditFinds(t *testing.T) {
	user := []byte("user:1")
	change := func(tx *bbolt.Tx, name []byte, f func(*account)) error {
		a, err := loadAccount(tx, credit.Account(name))
		if err != nil {
			return err
		}
		f(a)
		return tx.Bucket(accountBucket).Put(name, a.bytes())
	}
	for what, c := range map[string]struct {
		edit func(*bbolt.Tx) error
		want string
	}{
		"balance":    {func(tx *bbolt.Tx) error { return change(tx, user, func(a *account) { a.state.Balance++ }) }, "add up to 1"},
		"lease":      {func(tx *bbolt.Tx) error { return change(tx, user, func(a *account) { a.state.Leased++ }) }, "user:1: derived"},
		"last":       {func(tx *bbolt.Tx) error { return change(tx, user, func(a *account) { a.last++ }) }, "user:1: derived"},
		"number":     {func(tx *bbolt.Tx) error { return change(tx, user, func(a *account) { a.number++ }) }, "is not account"},
		"big number": {func(tx *bbolt.Tx) error { return change(tx, user, func(a *account) { a.number = 1 << 31 }) }, "is not account"},
		"form":       {func(tx *bbolt.Tx) error { return tx.Bucket(accountBucket).Put(user, []byte("x")) }, "not what a checkpoint"},
		"gone":       {func(tx *bbolt.Tx) error { return tx.Bucket(accountBucket).Delete(user) }, "accounts are derived"},
		"more": {func(tx *bbolt.Tx) error {
			return tx.Bucket(accountBucket).Put([]byte("user:x"), (&account{number: 99}).bytes())
		}, "user:x is not account 99"},
		"name":        {func(tx *bbolt.Tx) error { return tx.Bucket(nameBucket).Put(numberKey(2), []byte("user:x")) }, "is not account 2"},
		"lease list":  {func(tx *bbolt.Tx) error { return tx.Bucket(leaseBucket).Delete(user) }, "not on the list"},
		"lease list+": {func(tx *bbolt.Tx) error { return tx.Bucket(leaseBucket).Put([]byte("user:6"), []byte{1}) }, "on the list, there are"},
		"doc":         {func(tx *bbolt.Tx) error { return tx.Bucket(docBucket).Put([]byte("d1"), []byte("y")) }, `"d1"`},
		"doc gone":    {func(tx *bbolt.Tx) error { return tx.Bucket(docBucket).Delete([]byte("d1")) }, "documents are derived"},
		"next": {func(tx *bbolt.Tx) error {
			m, err := loadMeta(tx)
			m.next++
			return errors.Join(err, tx.Bucket(metaBucket).Put(stateKey, m.bytes()))
		}, "the next account"},
	} {
		t.Run(what, func(t *testing.T) {
			cfg := someBooks(t)
			edit(t, cfg.Dir, c.edit)
			r, err := AuditDir(t.Context(), cfg.Dir, nil)
			if err != nil || r.OK || !strings.Contains(strings.Join(r.Problems, "\n"), c.want) {
				t.Errorf("off line: %+v, %v", r, err)
			}
			l := open(t, cfg)
			r, err = l.Audit(t.Context())
			if err != nil || r.OK || !strings.Contains(strings.Join(r.Problems, "\n"), c.want) || r.Sum != 0 {
				t.Errorf("on line: %+v, %v", r, err)
			}
			closed(t, l)
		})
	}
}

// TestAuditJournal: a changed byte of the past is told with its place,
// although the balances know nothing of it.
func TestAuditJournal(t *testing.T) {
	cfg := someBooks(t)
	l := open(t, cfg)
	defer func() { closed(t, l) }()
	path := filepath.Join(cfg.Dir, JournalDir, "0000000000000000.log")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	for _, at := range []int64{60, 100, 1000, 5000} {
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
		r, err := l.Audit(t.Context())
		if err != nil || r.OK || !strings.Contains(strings.Join(r.Problems, "\n"), "0000000000000000.log at byte ") {
			t.Errorf("byte %d: %+v, %v", at, r, err)
		}
		b[0] ^= 1
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	wantAudit(t, l)
}

// TestAuditProblems: a report is bounded.
func TestAuditProblems(t *testing.T) {
	cfg := config(t.TempDir())
	l := open(t, cfg)
	var entries []credit.Entry
	for i := range 300 {
		entries = append(entries, grant(credit.User(fmt.Sprint(i)), 1))
	}
	mustAppend(t, l, "", entries...)
	closed(t, l)
	edit(t, cfg.Dir, func(tx *bbolt.Tx) error {
		for i := range 300 {
			if err := tx.Bucket(accountBucket).Put([]byte(credit.User(fmt.Sprint(i))), (&account{number: uint32(i)}).bytes()); err != nil {
				return err
			}
		}
		return nil
	})
	r, err := AuditDir(t.Context(), cfg.Dir, nil)
	if err != nil || r.OK || len(r.Problems) != maxProblems+1 || !strings.HasSuffix(r.Problems[maxProblems], " more") {
		t.Errorf("%d problems, %v", len(r.Problems), err)
	}
}

// TestAuditDir reads what a crash has left, and changes nothing.
func TestAuditDir(t *testing.T) {
	if _, err := AuditDir(t.Context(), filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	cfg := someBooks(t)
	l := open(t, cfg)
	mustAppend(t, l, "", credit.Entry{Kind: credit.KindServe, From: ann, To: node, Amount: 1, Bytes: 77}, credit.Entry{Kind: credit.KindLease, From: ann, Bytes: 5})
	drop(t, l)
	path := filepath.Join(cfg.Dir, JournalDir, "0000000000000000.log")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(whole, "a torn record"...), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := os.ReadFile(filepath.Join(cfg.Dir, File))
	if err != nil {
		t.Fatal(err)
	}
	for _, lost := range []bool{false, true} {
		var served, leased int64
		r, err := AuditDir(t.Context(), cfg.Dir, func(_ credit.Account, s credit.State) error {
			served += s.Served
			leased += s.Leased
			return nil
		})
		if err != nil || !r.OK || r.Records != 51 || served != 77 || leased != 20 || r.Leased != 20 || r.Torn != 13 {
			t.Errorf("%+v, %d served, %d leased, %v", r, served, leased, err)
		}
		after, err := os.ReadFile(path)
		if err != nil || len(after) != len(whole)+13 {
			t.Error("the journal was changed", err)
		}
		if lost {
			break
		}
		if after, err := os.ReadFile(filepath.Join(cfg.Dir, File)); err != nil || string(after) != string(db) {
			t.Error("the checkpoints were changed", err)
		}
		if err := os.Remove(filepath.Join(cfg.Dir, File)); err != nil {
			t.Fatal(err)
		}
	}
	stop := errors.New("stop")
	if _, err := AuditDir(t.Context(), cfg.Dir, func(credit.Account, credit.State) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
}

func TestInt128(t *testing.T) {
	for _, c := range []struct {
		terms []int64
		want  int64
		zero  bool
	}{
		{nil, 0, true}, {[]int64{5, -5}, 0, true}, {[]int64{-5, 3}, -2, false}, {[]int64{math.MaxInt64, math.MaxInt64, 1, 1}, math.MaxInt64, false},
		{[]int64{math.MinInt64, math.MinInt64}, math.MinInt64, false}, {[]int64{math.MaxInt64, math.MaxInt64, math.MinInt64, math.MinInt64, 2}, 0, true},
		{[]int64{math.MinInt64, math.MaxInt64}, -1, false}, {[]int64{math.MaxInt64}, math.MaxInt64, false}, {[]int64{math.MinInt64}, math.MinInt64, false},
	} {
		var n int128
		for _, v := range c.terms {
			n.add(v)
		}
		if n.clamped() != c.want || (n == int128{}) != c.zero {
			t.Errorf("%v: %d", c.terms, n.clamped())
		}
	}
}

// FuzzStored reads values of the file of checkpoints, and cursors.
func FuzzStored(f *testing.F) {
	f.Add((&account{number: 1, totals: totals{last: 7, state: credit.State{Balance: -5, Rest: 3}}}).bytes())
	f.Add([]byte(place{next: 1}.cursor([]byte("secret"), ann)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := parseAccount(b); err == nil && string(a.bytes()) != string(b) {
			t.Errorf("%x became %x", b, a.bytes())
		}
		if p, err := Cursor(b).place([]byte("secret"), ann); err == nil && string(p.cursor([]byte("secret"), ann)) != string(b) {
			t.Errorf("the cursor %q became %q", b, p.cursor([]byte("secret"), ann))
		}
		if len(b) >= 8 {
			var n int128
			v := int64(binary.BigEndian.Uint64(b))
			if n.add(v); n.clamped() != v {
				t.Errorf("%d became %d", v, n.clamped())
			}
		}
	})
}

package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/journal"
)

func config(dir string) Config {
	return Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}
}

func open(t testing.TB, cfg Config) *Ledger {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closed(t testing.TB, l *Ledger) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// drop closes a ledger as a crash does: without a checkpoint.
func drop(t testing.TB, l *Ledger) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if err := errors.Join(l.journal.Close(), l.db.Close()); err != nil {
		t.Fatal(err)
	}
}

// mustAppend writes a record and returns its seq.
func mustAppend(t testing.TB, l *Ledger, id string, entries ...credit.Entry) uint64 {
	t.Helper()
	seq, _, err := l.Append(context.Background(), id, entries)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func wantState(t testing.TB, l *Ledger, a credit.Account, want credit.State) {
	t.Helper()
	if got, err := l.State(t.Context(), a); err != nil || got != want {
		t.Errorf("%s is %+v, %v; want %+v", a, got, err, want)
	}
}

// wantAudit wants books that are right.
func wantAudit(t testing.TB, l *Ledger) Report {
	t.Helper()
	r, err := l.Audit(t.Context())
	if err != nil || !r.OK || r.Sum != 0 || len(r.Problems) > 0 {
		t.Errorf("audit: %+v, %v", r, err)
	}
	return r
}

const (
	ann  = credit.Account("user:ann")
	bob  = credit.Account("user:bob")
	node = credit.Account("node:n")
)

func grant(to credit.Account, amount credit.Amount) credit.Entry {
	return credit.Entry{Kind: credit.KindGrant, From: credit.Treasury, To: to, Amount: amount, Ref: "a gift"}
}

func setDoc(name, data string) credit.Entry {
	return credit.Entry{Kind: credit.KindDoc, From: ann, Ref: name, Doc: []byte(data)}
}

// TestKinds: what each kind of entry does to its accounts.
func TestKinds(t *testing.T) {
	cfg := config(t.TempDir())
	l := open(t, cfg)
	escrow := credit.Escrow("p")
	mustAppend(t, l, "",
		grant(ann, 1000),
		credit.Entry{Kind: credit.KindServe, From: ann, To: node, Amount: 100, Bytes: 5000, Rest: 77},
		credit.Entry{Kind: credit.KindLease, From: ann, Bytes: 1 << 20},
		credit.Entry{Kind: credit.KindAttest, From: ann, To: node, Bytes: 3000},
		credit.Entry{Kind: credit.KindEscrow, From: ann, To: escrow, Amount: 300},
		credit.Entry{Kind: credit.KindRetain, From: escrow, To: node, Amount: 50, Bytes: 9},
		credit.Entry{Kind: credit.KindRelease, From: escrow, To: ann, Amount: 200},
		setDoc("terms", "{}"),
	)
	mustAppend(t, l, "",
		credit.Entry{Kind: credit.KindServe, From: ann, To: node, Amount: 1, Bytes: 10, Rest: 5},
		credit.Entry{Kind: credit.KindLease, From: ann, Bytes: 100},
	)
	for _, reopen := range []func(){func() {}, func() { drop(t, l); l = open(t, cfg) }, func() { closed(t, l); l = open(t, cfg) }} {
		reopen()
		wantState(t, l, credit.Treasury, credit.State{Balance: -1000, Entries: 1})
		wantState(t, l, ann, credit.State{Balance: 799, Leased: 100, Rest: 5, Served: 5010, Attested: 3000, Entries: 9})
		wantState(t, l, node, credit.State{Balance: 151, Earned: 5010, Proven: 3000, Entries: 4})
		wantState(t, l, escrow, credit.State{Balance: 50, Entries: 3})
		wantState(t, l, bob, credit.State{})
		if l.Seq() != 2 || l.Head().IsZero() || l.Head() == l.Origin() {
			t.Errorf("seq %d, head %s", l.Seq(), l.Head())
		}
	}
	if r := wantAudit(t, l); r.Records != 2 || r.Entries != 10 || r.Accounts != 4 || r.Documents != 1 || r.Leased != 100 || r.Head != l.Head() {
		t.Errorf("%+v", r)
	}
	closed(t, l)
}

// TestAgain: an id is written once, while it waits for the disk, after it,
// after a crash, and after a checkpoint.
func TestAgain(t *testing.T) {
	cfg := config(t.TempDir())
	l := open(t, cfg)
	var wg sync.WaitGroup
	var first atomic.Int64
	for range 20 {
		wg.Go(func() {
			seq, again, err := l.Append(t.Context(), "one", []credit.Entry{grant(ann, 5)})
			if seq != 1 || err != nil {
				t.Error(seq, err)
			}
			if !again {
				first.Add(1)
			}
		})
	}
	wg.Wait()
	if first.Load() != 1 {
		t.Errorf("%d were the first", first.Load())
	}
	mustAppend(t, l, "", grant(ann, 5))
	mustAppend(t, l, "", grant(ann, 5)) // the empty id is never the same
	for _, reopen := range []func(){func() { drop(t, l) }, func() { closed(t, l) }, func() { closed(t, l) }} {
		reopen()
		l = open(t, cfg)
		if seq, again, err := l.Append(t.Context(), "one", []credit.Entry{grant(ann, 5)}); seq != 1 || !again || err != nil {
			t.Errorf("again: %d, %v, %v", seq, again, err)
		}
		wantState(t, l, ann, credit.State{Balance: 15, Entries: 3})
	}
	closed(t, l)
}

// TestRefused: what is refused has changed nothing.
func TestRefused(t *testing.T) {
	l := open(t, config(t.TempDir()))
	defer func() { closed(t, l) }()
	mustAppend(t, l, "", grant(ann, 100), credit.Entry{Kind: credit.KindServe, From: ann, To: node, Bytes: math.MaxInt64})
	refuse := errors.New("no")
	for name, c := range map[string]struct {
		id      string
		entries []credit.Entry
		err     error
		want    error
	}{
		"entry":    {entries: []credit.Entry{grant(bob, 1), {Kind: credit.KindGrant, From: ann, To: ann}}, want: credit.ErrEntry},
		"account":  {entries: []credit.Entry{grant(bob, 1), grant("user:", 1)}, want: credit.ErrAccount},
		"overflow": {entries: []credit.Entry{grant(bob, 1), {Kind: credit.KindServe, From: ann, To: node, Bytes: 1}}, want: credit.ErrEntry},
		"id":       {id: strings.Repeat("x", 129), entries: []credit.Entry{grant(bob, 1)}, want: credit.ErrEntry},
		"many":     {entries: make([]credit.Entry, journal.MaxEntries+1), want: credit.ErrEntry},
		"f":        {id: "f", entries: []credit.Entry{grant(bob, 1)}, err: refuse, want: refuse},
		"nothing":  {id: "n"},
	} {
		if name == "many" {
			for i := range c.entries {
				c.entries[i] = grant(bob, 1)
			}
		}
		seq, again, err := l.Decide(t.Context(), c.id, func(credit.View) ([]credit.Entry, error) { return c.entries, c.err })
		if seq != 0 || again || !errors.Is(err, c.want) {
			t.Errorf("%s: %d, %v, %v", name, seq, again, err)
		}
		wantState(t, l, bob, credit.State{})
	}
	wantState(t, l, ann, credit.State{Balance: 100, Served: math.MaxInt64, Entries: 2})
	if r := wantAudit(t, l); r.Records != 1 {
		t.Errorf("%d records", r.Records)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := l.Append(ctx, "", []credit.Entry{grant(bob, 1)}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestOverflow: balances do not wrap, in either direction.
func TestOverflow(t *testing.T) {
	var s totals
	for _, c := range []struct {
		have, add int64
		ok        bool
	}{
		{math.MaxInt64, 0, true}, {math.MaxInt64, 1, false}, {math.MaxInt64 - 1, 1, true}, {-1, math.MaxInt64, true},
		{math.MinInt64, 0, true}, {math.MinInt64, -1, false}, {math.MinInt64 + 1, -1, true}, {1, math.MinInt64, true}, {0, math.MinInt64, true}, {-1, math.MinInt64, false},
	} {
		ok := true
		s.state.Balance = credit.Amount(c.have)
		balance(&s.state, credit.Amount(c.add), &ok)
		if want := c.have + c.add; ok != c.ok || ok && int64(s.state.Balance) != want || !ok && int64(s.state.Balance) != c.have {
			t.Errorf("%d + %d: %v, %d", c.have, c.add, ok, s.state.Balance)
		}
	}
}

// TestDecide: nothing comes between a look and its record, and the look sees
// everything.
func TestDecide(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.MaxDirty = 50 // checkpoints come in between
	l := open(t, cfg)
	defer func() { closed(t, l) }()
	mustAppend(t, l, "", grant(ann, 100))
	short := errors.New("short")
	var paid atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 40 {
				_, _, err := l.Decide(t.Context(), "", func(v credit.View) ([]credit.Entry, error) {
					s, err := v.State(t.Context(), ann)
					if err != nil {
						return nil, err
					}
					if s.Balance < 1 {
						return nil, short
					}
					return []credit.Entry{
						{Kind: credit.KindServe, From: ann, To: node, Amount: 1},
						{Kind: credit.KindDoc, From: ann, Ref: fmt.Sprintf("d/%d/%d", i, n), Doc: []byte("x")},
					}, nil
				})
				switch {
				case err == nil:
					paid.Add(1)
				case !errors.Is(err, short):
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if paid.Load() != 100 {
		t.Errorf("%d were paid out of 100", paid.Load())
	}
	wantState(t, l, ann, credit.State{Balance: 0, Entries: 201})
	docs, err := l.Docs(t.Context(), "d/", "", 1000)
	if len(docs) != 100 || err != nil {
		t.Errorf("%d documents, %v", len(docs), err)
	}
	wantAudit(t, l)
}

// TestConcurrent appends, reads, lists, checkpoints and audits at once.
func TestConcurrent(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.MaxDirty, cfg.SegmentBytes = 200, 50_000
	l := open(t, cfg)
	ctx, stop := context.WithCancel(t.Context())
	var background, writers sync.WaitGroup
	background.Go(func() {
		if err := l.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	background.Go(func() {
		for ctx.Err() == nil {
			wantAudit(t, l)
		}
	})
	background.Go(func() {
		for ctx.Err() == nil {
			_, err := l.Accounts(t.Context(), "", 100)
			_, err2 := l.Leases(t.Context())
			_, _, err3 := l.Statement(t.Context(), node, "", 50)
			if err := errors.Join(err, err2, err3); err != nil {
				t.Error(err)
			}
		}
	})
	const each = 60
	for w := range 8 {
		writers.Go(func() {
			for n := range each {
				user := credit.User(fmt.Sprint(w, "-", n%30))
				mustAppend(t, l, fmt.Sprint(w, n),
					credit.Entry{Kind: credit.KindServe, From: user, To: node, Amount: 1, Bytes: 10},
					credit.Entry{Kind: credit.KindLease, From: user, Bytes: int64(n)})
				if s, err := l.State(t.Context(), user); err != nil || s.Leased != int64(n) {
					t.Errorf("%s: %+v, %v", user, s, err)
				}
			}
		})
	}
	writers.Wait()
	stop()
	background.Wait()
	wantState(t, l, node, credit.State{Balance: 8 * each, Earned: 80 * each, Entries: 8 * each})
	closed(t, l)
}

func TestClosed(t *testing.T) {
	l := open(t, config(t.TempDir()))
	mustAppend(t, l, "", grant(ann, 1))
	closed(t, l)
	_, _, err1 := l.Append(t.Context(), "", []credit.Entry{grant(ann, 1)})
	_, err2 := l.State(t.Context(), ann)
	_, err3 := l.Doc(t.Context(), "x")
	_, err4 := l.Docs(t.Context(), "x", "", 1)
	_, _, err5 := l.Statement(t.Context(), ann, "", 1)
	_, err6 := l.Accounts(t.Context(), "", 1)
	_, err7 := l.Leases(t.Context())
	_, err8 := l.Audit(t.Context())
	for i, err := range []error{err1, err2, err3, err4, err5, err6, err7, err8, l.Close(), l.Checkpoint(t.Context())} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%d after Close: %v", i+1, err)
		}
	}
}

func TestInUse(t *testing.T) {
	cfg := config(t.TempDir())
	l := open(t, cfg)
	defer func() { closed(t, l) }()
	if _, err := Open(cfg); !errors.Is(err, ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	if _, err := AuditDir(t.Context(), cfg.Dir, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("an audit of a directory in use: %v", err)
	}
}

func TestConfig(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "never")
	for _, cfg := range []Config{
		{}, {Dir: dir, CheckpointEvery: -1}, {Dir: dir, CheckpointBytes: -1}, {Dir: dir, MaxDirty: -1},
		{Dir: dir, KeepIDs: -1}, {Dir: dir, MaxIDs: -1}, {Dir: dir, SegmentBytes: -1},
	} {
		if _, err := Open(cfg); err == nil {
			t.Errorf("Open takes %+v", cfg)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a bad configuration has made the directory: %v", err)
	}
}

// edit changes the file of checkpoints of a closed ledger.
func edit(t testing.TB, dir string, f func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, File), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(f), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestFormat(t *testing.T) {
	cfg := config(t.TempDir())
	closed(t, open(t, cfg))
	edit(t, cfg.Dir, func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(formatKey, []byte("2")) })
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("a newer format: %v", err)
	}
	if err := os.WriteFile(filepath.Join(cfg.Dir, File), []byte(strings.Repeat("no database", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "made anew") {
		t.Errorf("another kind of file: %v", err)
	}
}

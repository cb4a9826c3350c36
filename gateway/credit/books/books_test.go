package books

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

var object = cas.Hash{7}

// serve sends n bytes on a line.
func serve(t testing.TB, b *Books, owner string, n int64) {
	t.Helper()
	l := b.Open(owner, object)
	defer l.Close()
	if err := l.Take(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	l.Settle(n, n)
}

// inMemory is how much the books keep.
func inMemory(b *Books) (lines, payers int) {
	b.payersMu.Lock()
	defer b.payersMu.Unlock()
	return int(b.lines.Load()), len(b.payers)
}

func TestConfig(t *testing.T) {
	l := newMemLedger()
	for name, cfg := range map[string]Config{
		"no ledger": {Key: key(1)}, "no key": {Ledger: l}, "negative": {Ledger: l, Key: key(1), Lease: -1},
		"price": {Ledger: l, Key: key(1), Retrieval: -1}, "free": {Ledger: l, Key: key(1), Retrieval: 1, Free: true}, "huge": {Ledger: l, Key: key(1), Float: 1 << 60},
	} {
		if _, err := New(t.Context(), cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestFresh: on a node where nobody has credits, the house pays for all.
func TestFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLedger()
		b := open(t, config(l))
		run(t, b)
		for _, owner := range []string{"", "op", "alice", "not\nan account"} {
			line := b.Open(owner, object)
			if err := line.Admit(""); err != nil {
				t.Fatal(err)
			}
			line.Close()
			serve(t, b, owner, 1000)
			time.Sleep(time.Second)
			if err := line.Admit(owner); err != nil {
				t.Errorf("%q: %v", owner, err)
			}
		}
		if s := state(t, l, credit.House(key(1))); s.Served != 4000 || s.Rest == 0 {
			t.Errorf("the house: %+v", s)
		}
		if s := state(t, l, credit.Node(key(1))); s.Earned != 4000 || s.Balance != 3 {
			t.Errorf("the node: %+v", s)
		}
		if s := state(t, l, credit.User("alice")); s.Served != 0 || s.Balance != 0 {
			t.Errorf("alice: %+v", s)
		}
	})
}

func TestIdleWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLedger()
		b := open(t, config(l))
		run(t, b)
		give(t, l, "rich", credit.Credit)
		serve(t, b, "rich", 1000)
		time.Sleep(20 * time.Second)
		if s := state(t, l, credit.User("rich")); s.Leased != 0 || s.Served != 1000 {
			t.Errorf("after a while: %+v", s)
		}
		n := len(l.since(0))
		time.Sleep(time.Hour)
		if more := len(l.since(n)); more != 0 {
			t.Errorf("%d records in an idle hour", more)
		}
		if lines, payers := inMemory(b); lines != 0 || payers != 0 {
			t.Errorf("%d lines and %d payers are left", lines, payers)
		}
	})
}

// TestSteadyLease: steady traffic is one charge in a window, and no new lease.
func TestSteadyLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLedger()
		b := open(t, config(l))
		run(t, b)
		give(t, l, "rich", credit.Credit)
		for range 100 {
			serve(t, b, "rich", 100<<10)
			time.Sleep(10 * time.Millisecond)
		}
		n := len(l.since(0))
		for range 1000 {
			serve(t, b, "rich", 100<<10)
			time.Sleep(10 * time.Millisecond)
		}
		records, leases := l.since(n), 0
		for _, r := range records {
			for _, e := range r {
				if e.Kind == credit.KindLease {
					leases++
				}
			}
		}
		if len(records) > 41 || leases > 4 {
			t.Errorf("%d records with %d leases in 10 s", len(records), leases)
		}
	})
}

// TestManyPayers: more charges and leases than a record holds, in one flush,
// whether or not they fill it exactly.
func TestManyPayers(t *testing.T) {
	for _, lines := range []int{1, 2} {
		l := newMemLedger()
		b := open(t, config(l))
		const payers = maxEntries + 3
		for i := range payers {
			for k := range lines {
				line := b.Open(fmt.Sprint(i), cas.Hash{byte(i), byte(k)})
				if err := line.Take(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
				line.Settle(1, 1)
				line.Close()
			}
		}
		if err := b.flush(t.Context(), time.Now(), serving); err != nil {
			t.Fatal(err)
		}
		for _, r := range l.since(0) {
			if len(r) > maxEntries {
				t.Errorf("a record of %d entries", len(r))
			}
		}
		if err := b.Close(t.Context()); err != nil { // which returns all leases at once
			t.Fatal(err)
		}
		if charged, leased := l.covered(); charged != int64(lines*payers) || leased != 0 {
			t.Errorf("%d bytes are charged, %d leased; want %d and 0", charged, leased, lines*payers)
		}
	}
}

// TestWait: a lease that is used up is raised at once, not after a window.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(newMemLedger())
		cfg.Window = time.Hour
		registry := prometheus.NewRegistry()
		cfg.Registry = registry
		b := open(t, cfg)
		run(t, b)
		time.Sleep(cfg.Window + cfg.Window/10 + 1)
		start := time.Now()
		serve(t, b, "", 10*mib)
		if took := time.Since(start); took != 0 || metric(t, registry, "inos_credit_lease_waits_total") != 1 {
			t.Errorf("it took %v, %v waited", took, metric(t, registry, "inos_credit_lease_waits_total"))
		}
		line := b.Open("alice", object)
		defer line.Close()
		if err := line.Take(t.Context(), cfg.MaxLease+1); err == nil || !strings.Contains(err.Error(), "take less") {
			t.Errorf("more than any lease: %v", err)
		}
		// Everything that a lease may have is taken by slow readers: one more
		// waits until one of them is done, or until it is tired of it.
		for range 16 {
			if err := line.Take(t.Context(), mib); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := line.Take(ctx, mib); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("beyond the limit: %v", err)
		}
		time.AfterFunc(time.Minute, func() { line.Settle(mib, 0) })
		start = time.Now()
		if err := line.Take(t.Context(), mib); err != nil || time.Since(start) != time.Minute {
			t.Errorf("after another was done: %v, %v", err, time.Since(start))
		}
		line.Settle(16*mib, 0)
	})
}

func TestTerms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLedger()
		b := open(t, config(l))
		run(t, b)
		alice := credit.User("alice")
		refuse, throttle, debt := credit.Refuse, credit.Throttle, credit.Amount(100)
		if err := b.SetTerms(t.Context(), alice, &refuse, nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.Grant(t.Context(), "grant 1", alice, 1, ""); err != nil {
			t.Fatal(err)
		}
		line := b.Open("alice", object)
		defer line.Close()
		time.Sleep(time.Second)
		if err := line.Admit(""); err != nil {
			t.Fatal("with credits: ", err)
		}
		serve(t, b, "alice", 5000)
		time.Sleep(time.Second)
		for reader, own := range map[string]bool{"": false, "bob": false, "alice": true} {
			out, ok := errors.AsType[*OutOfCreditError](line.Admit(reader))
			if !ok || !errors.Is(out, credit.ErrOutOfCredit) || out.Own != own || out.RetryAfter <= 0 {
				t.Errorf("%q without credits: %v", reader, out)
			}
		}
		if _, again, err := b.Grant(t.Context(), "grant 1", alice, 1, ""); err != nil || !again {
			t.Errorf("the same grant: %v, %v", again, err)
		}
		if _, _, err := b.Grant(t.Context(), "grant 2", alice, 100, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := line.Admit(""); err != nil {
			t.Error("after a grant: ", err)
		}
		if err := b.SetTerms(t.Context(), alice, &throttle, &debt); err != nil {
			t.Fatal(err)
		}
		if got, err := b.Terms(t.Context(), alice); err != nil || got != (credit.Terms{WhenEmpty: throttle, Debt: debt}) {
			t.Errorf("terms: %+v, %v", got, err)
		}
		bad := credit.Empty("never")
		if err := b.SetTerms(t.Context(), alice, &bad, nil); !errors.Is(err, credit.ErrEntry) {
			t.Errorf("bad terms: %v", err)
		}
		long := credit.User(strings.Repeat("x", 128))
		if err := b.SetTerms(t.Context(), long, nil, &debt); err != nil {
			t.Error("a long name: ", err)
		}
		if got, err := b.Terms(t.Context(), long); err != nil || got.Debt != debt {
			t.Errorf("its terms: %+v, %v", got, err)
		}
	})
}

// TestBadTerms: what is no terms holds nobody up, and can be set again.
func TestBadTerms(t *testing.T) {
	l := newMemLedger()
	b := open(t, config(l))
	alice, debt := credit.User("alice"), credit.Amount(5)
	give(t, l, "alice", 1<<40)
	for _, bad := range []string{"x", `{"debt":-1}`} {
		l.docs[termsDoc(alice)] = []byte(bad)
		if _, err := b.Terms(t.Context(), alice); !errors.Is(err, errTerms) {
			t.Errorf("%s: %v", bad, err)
		}
		serve(t, b, "alice", 1000)
		serve(t, b, "bob", 1000)
		if err := b.flush(t.Context(), time.Now(), serving); err != nil {
			t.Fatal(err)
		}
	}
	if charged, _ := l.covered(); charged != 4000 || state(t, l, alice).Served != 2000 {
		t.Errorf("%d charged", charged)
	}
	if err := b.SetTerms(t.Context(), alice, nil, &debt); err != nil {
		t.Error(err)
	}
	if got, err := b.Terms(t.Context(), alice); err != nil || got != (credit.Terms{Debt: debt}) {
		t.Errorf("set again: %+v, %v", got, err)
	}
}

// TestThrottle: a throttled account is served slowly, down to its debt limit
// on its own account, and beyond it on the house.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLedger()
		b := open(t, config(l))
		run(t, b)
		throttle, debt := credit.Throttle, credit.Amount(5000)
		if err := b.SetTerms(t.Context(), credit.User("alice"), &throttle, &debt); err != nil {
			t.Fatal(err)
		}
		line := b.Open("alice", object)
		defer line.Close()
		time.Sleep(time.Second)
		start := time.Now()
		for range 41 { // one is the burst
			serve(t, b, "alice", mib)
		}
		if took := time.Since(start).Round(time.Second); took != 40*time.Second {
			t.Errorf("41 MiB took %v", took)
		}
		time.Sleep(time.Second)
		served := state(t, l, credit.User("alice"))
		if house := state(t, l, credit.House(key(1))); served.Served+house.Served != 41*mib || served.Balance > -debt || served.Balance < -debt-2000 {
			t.Errorf("alice %+v, the house %+v", served, house)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := line.Take(ctx, 10*mib); err == nil {
			t.Error("10 MiB in a second")
		}
	})
}

// TestJournalDown: readers notice nothing of a journal that fails or hangs,
// until what may be lost is used up; and then everything is charged.
func TestJournalDown(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		t.Run(fmt.Sprint("hangs=", hangs), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { journalDown(t, hangs) })
		})
	}
}

func journalDown(t *testing.T, hangs bool) {
	t.Helper()
	l := newMemLedger()
	b := open(t, config(l))
	give(t, l, "rich", 1<<40)
	release := make(chan struct{})
	if hangs {
		l.before = func() { <-release }
	} else {
		l.setFail(errors.New("no space left on device"))
	}
	run(t, b)
	sent := int64(0)
	for i := range 6 { // of 1 lease, 1 float and 4 unbooked
		serve(t, b, []string{"", "rich"}[i%2], mib)
		sent += mib
		time.Sleep(3 * time.Second)
	}
	if !b.failing.Load() {
		t.Error("the journal does not count as failing")
	}
	line := b.Open("rich", object)
	defer line.Close()
	if err := line.Take(t.Context(), mib); !errors.Is(err, ErrUnbooked) {
		t.Errorf("beyond what may be lost: %v", err)
	}
	l.setFail(nil)
	close(release)
	time.Sleep(3 * time.Second)
	serve(t, b, "rich", mib)
	sent += mib
	time.Sleep(time.Second)
	if charged, _ := l.covered(); charged != sent || b.failing.Load() {
		t.Errorf("%d charged of %d", charged, sent)
	}
}

func TestClose(t *testing.T) {
	l := newMemLedger()
	b := open(t, config(l))
	give(t, l, "rich", 1<<40)
	line := b.Open("rich", object)
	if err := line.Take(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	line.Settle(600, 500) // 400 are still on their way
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	charged, leased := l.covered()
	if charged != 500 || leased < 400 {
		t.Errorf("%d charged, leases of %d", charged, leased)
	}
	if err := line.Take(t.Context(), 1000); !errors.Is(err, ErrClosed) {
		t.Errorf("Take after Close: %v", err)
	}
	b = open(t, config(l))
	if s := state(t, l, credit.User("rich")); s.Leased != 0 {
		t.Errorf("after a start: %+v", s)
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, leased := l.covered(); leased != 0 {
		t.Errorf("a close that nobody disturbed leaves leases of %d", leased)
	}
}

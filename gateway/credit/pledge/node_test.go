package pledge_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/pledge"
)

// hour is a pledge that costs 1,000.
func hour(rf int) pledge.Request {
	return pledge.Request{Object: object, Bytes: gib, RF: rf, For: time.Hour}
}

func create(tb testing.TB, s *pledge.Pledges, owner credit.Account, id string, r pledge.Request) pledge.Pledge {
	tb.Helper()
	p, err := s.Create(context.Background(), owner, id, r)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestCreateAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := books(t)
		s := open(t, pledge.Config{Ledger: l})
		grant(t, l, alice, 100_000)
		first := create(t, s, alice, "p", hour(2))
		for range 10 {
			if again := create(t, s, alice, "p", hour(2)); again != first {
				t.Errorf("%+v", again)
			}
		}
		if got := balance(t, l, alice); got != 98_000 {
			t.Errorf("%d left", got)
		}
		for name, err := range map[string]error{
			"another owner":   second(s.Create(t.Context(), bob, "p", hour(2))),
			"another request": second(s.Create(t.Context(), alice, "p", hour(3))),
		} {
			if !errors.Is(err, pledge.ErrExists) {
				t.Errorf("%s: %v", name, err)
			}
		}
		s = open(t, pledge.Config{Ledger: l}) // after a restart
		if again := create(t, s, alice, "p", hour(2)); again != first {
			t.Errorf("%+v", again)
		}
		if _, err := s.Release(t.Context(), alice, "p"); err != nil {
			t.Fatal(err)
		}
		if again := create(t, s, alice, "p", hour(2)); again.State != pledge.Released {
			t.Errorf("what is over was made again: %+v", again)
		}
		for more := true; more; {
			var err error
			if more, err = s.Settle(t.Context(), time.Now().Add(30*24*time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Get(t.Context(), "p"); !errors.Is(err, pledge.ErrUnknown) {
			t.Errorf("after a month: %v", err)
		}
		if _, err := s.Create(t.Context(), alice, "p", hour(2)); !errors.Is(err, pledge.ErrExists) {
			t.Errorf("the escrow's statement would be that of two: %v", err)
		}
		if docs, err := l.Docs(t.Context(), "pledge/", "", 10); err != nil || len(docs) != 0 {
			t.Errorf("%v, %v", docs, err)
		}
	})
}

func second(_ pledge.Pledge, err error) error { return err }

func TestCreateRefuses(t *testing.T) {
	l := books(t)
	s := open(t, pledge.Config{Ledger: l})
	grant(t, l, alice, 100_000)
	house := credit.Account("house:n")
	for name, tt := range map[string]struct {
		owner credit.Account
		id    string
		rf    int
		want  error
	}{
		"id":        {alice, "a b", 1, pledge.ErrRequest},
		"request":   {alice, "p", 0, pledge.ErrRequest},
		"account":   {"alice", "p", 1, credit.ErrAccount},
		"treasury":  {credit.Treasury, "p", 1, pledge.ErrRequest},
		"an escrow": {credit.Escrow("q"), "p", 1, pledge.ErrRequest},
		"nothing":   {bob, "p", 1, credit.ErrUnderfunded},
	} {
		if _, err := s.Create(t.Context(), tt.owner, tt.id, hour(tt.rf)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Create(t.Context(), bob, "q", hour(1)); !errors.Is(err, credit.ErrUnderfunded) || !strings.Contains(err.Error(), "0.001000") || !strings.Contains(err.Error(), "0.000000") {
		t.Errorf("it should say what it takes and what there is: %v", err)
	}
	create(t, s, house, "p", hour(1)) // who pays when nobody else does may go below zero
	if got := balance(t, l, house); got != -1000 {
		t.Errorf("the house has %d", got)
	}
}

func TestLimits(t *testing.T) {
	l := books(t)
	s := open(t, pledge.Config{Ledger: l, MaxPerOwner: 2, MaxPledges: 3})
	grant(t, l, alice, 100_000)
	grant(t, l, bob, 100_000)
	create(t, s, alice, "a1", hour(1))
	create(t, s, alice, "a2", hour(1))
	if _, err := s.Create(t.Context(), alice, "a3", hour(1)); !errors.Is(err, pledge.ErrTooMany) {
		t.Errorf("a third one: %v", err)
	}
	create(t, s, bob, "b1", hour(1))
	if _, err := s.Create(t.Context(), bob, "b2", hour(1)); !errors.Is(err, pledge.ErrTooMany) {
		t.Errorf("a fourth one of all: %v", err)
	}
	if _, err := s.Create(t.Context(), credit.User("poor"), "x", hour(1)); !errors.Is(err, pledge.ErrTooMany) {
		t.Errorf("a fifth one: %v", err)
	}
}

// TestForget: those that are over stay for a while, and not without a bound.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := books(t)
		s := open(t, pledge.Config{Ledger: l, MaxPledges: 100, MaxPerOwner: 100})
		grant(t, l, alice, 1_000_000)
		time.Sleep(time.Minute)
		for round := range 3 {
			for i := range 80 {
				create(t, s, alice, fmt.Sprintf("p%d-%d", round, i), pledge.Request{Object: object, Bytes: gib, RF: 1, For: time.Minute})
			}
			time.Sleep(10 * time.Minute)
			if _, err := s.Settle(t.Context(), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		list, err := s.List(t.Context(), alice, "", 1000)
		if err != nil || len(list) != 100 || !strings.HasPrefix(list[20].ID, "p2-") {
			t.Errorf("%d kept, %v", len(list), err)
		}
		if got := balance(t, l, alice); got != 1_000_000 {
			t.Errorf("nobody held anything, and %d are left", got)
		}
		time.Sleep(7 * 24 * time.Hour)
		if _, err := s.Settle(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		if list, err = s.List(t.Context(), alice, "", 1000); err != nil || len(list) != 0 {
			t.Errorf("%d kept for ever, %v", len(list), err)
		}
	})
}

func TestList(t *testing.T) {
	l := books(t)
	s := open(t, pledge.Config{Ledger: l})
	grant(t, l, alice, 100_000)
	grant(t, l, bob, 100_000)
	for i := range 7 {
		create(t, s, alice, fmt.Sprintf("p%d", i), hour(1))
	}
	create(t, s, bob, "p33", hour(1))
	read := func(owner credit.Account) (ids []string) {
		for after := ""; ; after = ids[len(ids)-1] {
			page, err := s.List(t.Context(), owner, after, 3)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range page {
				ids = append(ids, p.ID)
			}
			if len(page) < 3 {
				return ids
			}
		}
	}
	if got := strings.Join(read(alice), " "); got != "p0 p1 p2 p3 p4 p5 p6" {
		t.Error(got)
	}
	if got := strings.Join(read(""), " "); got != "p0 p1 p2 p3 p33 p4 p5 p6" {
		t.Error(got)
	}
	if got := read(credit.User("carol")); got != nil {
		t.Error(got)
	}
	if _, err := s.List(t.Context(), alice, "", 0); err == nil {
		t.Error("a page of nothing")
	}
}

// TestFloor: the greatest RF of those that are live counts, and it is there
// again after a restart.
func TestFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := books(t)
		s := open(t, pledge.Config{Ledger: l})
		grant(t, l, alice, 1_000_000)
		for i, rf := range []int{4, 9, 2, 9} {
			create(t, s, alice, fmt.Sprint("p", i), pledge.Request{Object: object, Bytes: gib, RF: rf, For: time.Duration(i+1) * time.Hour})
		}
		create(t, s, alice, "dry", pledge.Request{Object: object, Bytes: gib, RF: 1, Credits: 50_000})
		create(t, s, alice, "other", pledge.Request{Object: cas.Sum([]byte("another")), Bytes: gib, RF: 33, Credits: 50_000})
		floor(t, s, 9)
		for _, want := range []int{9, 9, 9, 1} { // the first is over, the second, …
			time.Sleep(time.Hour)
			floor(t, s, want)
		}
		s = open(t, pledge.Config{Ledger: l})
		floor(t, s, 1)
		if _, err := s.Release(t.Context(), alice, "dry"); err != nil {
			t.Fatal(err)
		}
		floor(t, s, 0)
		if rf, ok := s.Floor(cas.Sum([]byte("nothing"))); rf != 0 || ok {
			t.Error(rf, ok)
		}
	})
}

// TestMissedEpochs: what passed while the node was down is settled in order,
// each epoch once and a bounded number of them at once.
func TestMissedEpochs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, h := books(t), &holders{}
		s := open(t, pledge.Config{Ledger: l, Holders: h})
		grant(t, l, alice, 1_000_000)
		h.set(many(1, gib), nil)
		create(t, s, alice, "p", pledge.Request{Object: object, Bytes: gib, RF: 1, For: 10 * time.Hour})
		time.Sleep(5*time.Hour + time.Minute)
		s = open(t, pledge.Config{Ledger: l, Holders: h, MaxEpochs: 7})
		for settled := 7; ; settled += 7 {
			more, err := s.Settle(t.Context(), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if p := get(t, s, "p"); p.Epochs != int64(min(settled, 30)) {
				t.Fatalf("%d epochs settled, want %d", p.Epochs, min(settled, 30))
			}
			if !more {
				break
			}
		}
		if p := get(t, s, "p"); p.Paid != 5000 || balance(t, l, holder(0)) != 5000 {
			t.Errorf("%+v", p)
		}
		for i, e := range h.asked {
			if i > 0 && (e.Number != h.asked[i-1].Number+1 || !e.Start.Equal(h.asked[i-1].End)) {
				t.Errorf("%+v was asked for after %+v", e, h.asked[i-1])
			}
		}
		if len(h.asked) != 30 {
			t.Errorf("asked %d times", len(h.asked))
		}
	})
}

// TestHoldersFail: an epoch stays to be settled, and Run comes back to it.
func TestHoldersFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, h, registry := books(t), &holders{}, prometheus.NewRegistry()
		s := open(t, pledge.Config{Ledger: l, Holders: h, Registry: registry})
		grant(t, l, alice, 1_000_000)
		h.set(nil, errHolders)
		create(t, s, alice, "p", hour(1))
		run(t, s)
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		if p := get(t, s, "p"); p.Epochs != 0 || p.Paid != 0 {
			t.Errorf("%+v", p)
		}
		if got := metric(t, registry, "inos_pledge_failed_total"); got != 6 { // at once, and each minute
			t.Errorf("%v failures", got)
		}
		h.set(many(1, gib), nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if p := get(t, s, "p"); p.Epochs != 1 || p.Paid != 166 {
			t.Errorf("%+v", p)
		}
		for name, want := range map[string]float64{
			"inos_pledge_live": 1, "inos_pledge_escrow_microcredits": 834, "inos_pledge_paid_microcredits_total": 166, "inos_pledge_epochs_total": 1,
		} {
			if got := metric(t, registry, name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
	})
}

func metric(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

// TestSharedBalance: Spend decides instead of the ledger's balance.
func TestSharedBalance(t *testing.T) {
	l := books(t)
	var spent credit.Amount
	fails := errors.New("shared balances cannot be reached")
	s := open(t, pledge.Config{Ledger: l, Spend: func(ctx context.Context, id string, _ credit.Account, amount credit.Amount, entries []credit.Entry) error {
		if amount > 5000 {
			return fails
		}
		spent += amount
		_, _, err := l.Append(ctx, id, entries)
		return err
	}})
	p := create(t, s, alice, "p", hour(3)) // alice has credits at another gateway
	if spent != 3000 || balance(t, l, alice) != -3000 || balance(t, l, credit.Escrow("p")) != 3000 {
		t.Errorf("%d spent", spent)
	}
	if _, err := s.Create(t.Context(), alice, "q", hour(6)); !errors.Is(err, fails) {
		t.Error(err)
	}
	if got, err := s.TopUp(t.Context(), alice, "p", "key", 5001); !errors.Is(err, fails) {
		t.Errorf("%+v, %v", got, err)
	}
	if got := get(t, s, "p"); got != p {
		t.Errorf("%+v", got)
	}
	if list, err := s.List(t.Context(), "", "", 10); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	create(t, s, alice, "q", hour(5)) // its id is free
}

// TestAtTheSameTime: requests come beside each other and beside a settlement.
func TestAtTheSameTime(t *testing.T) {
	l, h := books(t), &holders{}
	s := open(t, pledge.Config{Ledger: l, Holders: h})
	h.set(many(2, gib), nil)
	grant(t, l, alice, 40_000)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 5 {
				id := fmt.Sprint("p", (i+k)%6)
				if _, err := s.Create(t.Context(), alice, id, hour(1)); err != nil {
					t.Error(err)
				}
				if _, err := s.TopUp(t.Context(), alice, id, fmt.Sprint(k), 10); err != nil && !errors.Is(err, pledge.ErrOver) {
					t.Error(err)
				}
				if k == 3 {
					if _, err := s.Release(t.Context(), alice, id); err != nil {
						t.Error(err)
					}
				}
				s.Floor(object)
				if _, err := s.Settle(t.Context(), time.Now().Add(time.Duration(k)*20*time.Minute)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	list, err := s.List(t.Context(), alice, "", 10)
	if err != nil || len(list) != 6 {
		t.Fatalf("%v, %v", list, err)
	}
	left := balance(t, l, alice)
	for _, p := range list {
		if got := balance(t, l, credit.Escrow(p.ID)); got != p.Escrow() {
			t.Errorf("%s has %d: %+v", p.ID, got, p)
		}
		left += p.Escrow() + p.Paid
	}
	if left != 40_000 {
		t.Errorf("%d of 40,000", left)
	}
	if report, err := l.Audit(t.Context()); err != nil || !report.OK {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestBooksDoNotFit: nobody is paid from an escrow that is not what its
// document says.
func TestBooksDoNotFit(t *testing.T) {
	l, h := books(t), &holders{}
	s := open(t, pledge.Config{Ledger: l, Holders: h})
	h.set(many(1, gib), nil)
	grant(t, l, alice, 10_000)
	create(t, s, alice, "p", hour(1))
	grant(t, l, credit.Escrow("p"), 1)
	if _, err := s.Settle(t.Context(), time.Now().Add(20*time.Minute)); !errors.Is(err, pledge.ErrBooks) {
		t.Error(err)
	}
	if _, err := s.Release(t.Context(), alice, "p"); !errors.Is(err, pledge.ErrBooks) {
		t.Error(err)
	}
	if got := balance(t, l, holder(0)); got != 0 {
		t.Errorf("%d paid", got)
	}
	if _, _, err := l.Append(t.Context(), "", []credit.Entry{{Kind: credit.KindDoc, From: alice, Ref: "pledge/q", Doc: []byte("{}")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := pledge.Open(t.Context(), pledge.Config{Ledger: l}); !errors.Is(err, pledge.ErrBooks) {
		t.Errorf("opened: %v", err)
	}
}

func TestConfig(t *testing.T) {
	l := books(t)
	for name, cfg := range map[string]pledge.Config{
		"no ledger": {},
		"price":     {Ledger: l, Retention: -1},
		"epoch":     {Ledger: l, Epoch: time.Millisecond},
		"long":      {Ledger: l, Epoch: 48 * time.Hour},
		"notice":    {Ledger: l, NoticeEpochs: 1},
		"negative":  {Ledger: l, MaxPledges: -1},
	} {
		if _, err := pledge.Open(t.Context(), cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func BenchmarkFloor(b *testing.B) {
	l := books(b)
	s := open(b, pledge.Config{Ledger: l})
	grant(b, l, alice, 100_000)
	create(b, s, alice, "p", hour(10))
	b.ReportAllocs()
	for b.Loop() {
		s.Floor(object)
	}
}

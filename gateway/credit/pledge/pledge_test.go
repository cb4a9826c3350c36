package pledge_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/ledger"
	"inos.dev/edge/gateway/credit/pledge"
)

const gib = 1 << 30

var (
	object = cas.Sum([]byte("an object"))
	alice  = credit.User("alice")
	bob    = credit.User("bob")
)

// books opens a ledger in a new directory.
func books(tb testing.TB) *ledger.Ledger {
	tb.Helper()
	l, err := ledger.Open(ledger.Config{Dir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	return l
}

func grant(tb testing.TB, l credit.Ledger, to credit.Account, amount credit.Amount) {
	tb.Helper()
	if _, _, err := l.Append(context.Background(), "", []credit.Entry{{Kind: credit.KindGrant, From: credit.Treasury, To: to, Amount: amount}}); err != nil {
		tb.Fatal(err)
	}
}

func balance(tb testing.TB, l credit.View, a credit.Account) credit.Amount {
	tb.Helper()
	state, err := l.State(context.Background(), a)
	if err != nil {
		tb.Fatal(err)
	}
	return state.Balance
}

// holders are who holds every object, in every epoch.
type holders struct {
	mu    sync.Mutex
	list  []pledge.Holding // guarded by mu
	err   error            // guarded by mu
	asked []pledge.Epoch   // guarded by mu
}

func (h *holders) Holders(_ context.Context, _ cas.Hash, e pledge.Epoch) ([]pledge.Holding, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, e)
	return slices.Clone(h.list), h.err
}

func (h *holders) set(list []pledge.Holding, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list, h.err = list, err
}

// many are n holders of a whole object that ask for 1,000, 1,001, …
func many(n int, bytes int64) []pledge.Holding {
	var list []pledge.Holding
	for i := range n {
		list = append(list, pledge.Holding{Account: holder(i), Bytes: bytes, Ask: credit.Price(1000 + i)})
	}
	return list
}

func holder(i int) credit.Account { return credit.Account(fmt.Sprintf("node:%03d", i)) }

// notices are the events of pledges, as "id kind".
type notices struct {
	mu   sync.Mutex
	list []string // guarded by mu
}

func (n *notices) add(_ context.Context, e pledge.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, e.Pledge.ID+" "+string(e.Kind))
}

func (n *notices) want(tb testing.TB, want ...string) {
	tb.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.list, want) {
		tb.Errorf("told %q, want %q", n.list, want)
	}
}

func open(tb testing.TB, cfg pledge.Config) *pledge.Pledges {
	tb.Helper()
	s, err := pledge.Open(context.Background(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// run runs s until the test's end.
func run(t *testing.T, s *pledge.Pledges) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func floor(tb testing.TB, s *pledge.Pledges, want int) {
	tb.Helper()
	if rf, ok := s.Floor(object); rf != want || ok != (want > 0) {
		tb.Errorf("the floor is %d, %t, want %d", rf, ok, want)
	}
}

func get(tb testing.TB, s *pledge.Pledges, id string) pledge.Pledge {
	tb.Helper()
	p, err := s.Get(context.Background(), id)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// TestAnHourOfTen is a pledge of RF 10 for an hour: its escrow holds, streams
// to the holders epoch by epoch, and the rest goes back.
func TestAnHourOfTen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, h, told := books(t), &holders{}, &notices{}
		s := open(t, pledge.Config{Ledger: l, Holders: h, Notice: told.add})
		grant(t, l, alice, 100_000)
		time.Sleep(3*time.Minute + 500*time.Millisecond) // in the middle of an epoch
		h.set(many(12, gib), nil)

		ask := pledge.Request{Object: object, Bytes: gib, RF: 10, For: time.Hour, PriceCap: 1008}
		if _, err := s.Create(t.Context(), bob, "hour", ask); !errors.Is(err, credit.ErrUnderfunded) || !strings.Contains(err.Error(), "0.010080") {
			t.Fatalf("without a credit: %v", err)
		}
		floor(t, s, 0)
		p, err := s.Create(t.Context(), alice, "hour", ask)
		if err != nil || p.Locked != 10_080 || p.State != pledge.Active {
			t.Fatalf("%+v, %v", p, err)
		}
		floor(t, s, 10)
		if balance(t, l, alice) != 89_920 || balance(t, l, credit.Escrow("hour")) != 10_080 {
			t.Error("the escrow does not hold what was locked")
		}
		run(t, s)
		before := credit.Amount(10_080)
		for epoch := range 6 { // the first has 7 minutes
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			now := balance(t, l, credit.Escrow("hour"))
			if now >= before || now < 0 {
				t.Errorf("%d in escrow after epoch %d, %d before", now, epoch, before)
			}
			before = now
			if epoch < 5 {
				floor(t, s, 10)
			}
		}
		floor(t, s, 0) // its hour is over, and what it has of the epoch is not yet paid
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		p = get(t, s, "hour")
		// Nine are within the cap: 1000 … 1008 for an hour.
		if p.State != pledge.Done || p.Paid != 9036 || p.Returned != 1044 || balance(t, l, credit.Escrow("hour")) != 0 || balance(t, l, alice) != 90_964 {
			t.Errorf("%+v", p)
		}
		for i := range 12 {
			if got, want := balance(t, l, holder(i)), credit.Amount(1000+i); i < 9 && (got < want-7 || got > want+7) || i >= 9 && got != 0 { // in 7 payments
				t.Errorf("holder %d has got %d", i, got)
			}
		}
		told.want(t, "hour opened", "hour low", "hour ended")
	})
}

// TestRunsDry: notice comes first, then the RF falls to the floor.
func TestRunsDry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, h, told := books(t), &holders{}, &notices{}
		s := open(t, pledge.Config{Ledger: l, Holders: h, Notice: told.add, NoticeEpochs: 3})
		grant(t, l, alice, 100_000)
		h.set(many(2, 6*gib), nil)
		// An epoch of 6 GiB on two replicas costs 2,000 at the cap of 1,000.
		ask := pledge.Request{Object: object, Bytes: 6 * gib, RF: 2, Credits: 10_500}
		if _, err := s.Create(t.Context(), alice, "short", pledge.Request{Object: object, Bytes: 6 * gib, RF: 2, Credits: 1999}); !errors.Is(err, credit.ErrUnderfunded) {
			t.Errorf("less than an epoch: %v", err)
		}
		p, err := s.Create(t.Context(), alice, "dry", ask)
		if err != nil || p.Until().Sub(p.Opened) != 52*time.Minute+30*time.Second {
			t.Fatalf("until %v, %v", p.Until(), err)
		}
		h.set(append(many(1, 6*gib), pledge.Holding{Account: holder(9), Bytes: 1 << 50, Ask: 1000}), nil)
		run(t, s)
		for range 3 {
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			floor(t, s, 2)
		}
		if p = get(t, s, "dry"); p.State != pledge.Low || p.Escrow() != 4500 {
			t.Errorf("%+v", p)
		}
		told.want(t, "dry opened", "dry low")
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		floor(t, s, 0)
		if p = get(t, s, "dry"); p.State != pledge.Dry || p.Paid != 10_000 || p.Returned != 500 {
			t.Errorf("%+v", p)
		}
		if balance(t, l, holder(0)) != 5000 || balance(t, l, holder(9)) != 5000 || balance(t, l, alice) != 90_000 {
			t.Error("the payments differ")
		}
		told.want(t, "dry opened", "dry low", "dry dry")
	})
}

func TestRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, h, told := books(t), &holders{}, &notices{}
		s := open(t, pledge.Config{Ledger: l, Holders: h, Notice: told.add})
		grant(t, l, alice, 1_000_000)
		h.set([]pledge.Holding{{Account: holder(0), Bytes: 6 * gib, Ask: 500}}, nil)
		ask := pledge.Request{Object: object, Bytes: 6 * gib, RF: 1, For: 24 * time.Hour}
		if _, err := s.Create(t.Context(), alice, "p", ask); err != nil {
			t.Fatal(err)
		}
		run(t, s)
		time.Sleep(15 * time.Minute)
		if _, err := s.Release(t.Context(), bob, "p"); !errors.Is(err, pledge.ErrOwner) {
			t.Errorf("by somebody else: %v", err)
		}
		if _, err := s.Release(t.Context(), alice, "q"); !errors.Is(err, pledge.ErrUnknown) {
			t.Errorf("another one: %v", err)
		}
		p, err := s.Release(t.Context(), alice, "p")
		// One epoch is paid, and half of one may cost 500 at the cap.
		if err != nil || p.State != pledge.Released || p.Paid != 500 || p.Escrow() != 500 || balance(t, l, alice) != 999_000 {
			t.Fatalf("%+v, %v", p, err)
		}
		floor(t, s, 0)
		again, err := s.Release(t.Context(), alice, "p")
		if err != nil || again != p {
			t.Errorf("%+v, %v", again, err)
		}
		if _, err := s.TopUp(t.Context(), alice, "p", "key", 5); !errors.Is(err, pledge.ErrOver) {
			t.Errorf("more for what has ended: %v", err)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		p = get(t, s, "p")
		if p.Paid != 750 || p.Escrow() != 0 || p.Over.IsZero() || balance(t, l, alice) != 999_250 || balance(t, l, holder(0)) != 750 {
			t.Errorf("%+v", p)
		}
		told.want(t, "p opened", "p released", "p ended")

		// On the border of an epoch nothing is left to settle.
		if _, err := s.Create(t.Context(), alice, "q", ask); err != nil {
			t.Fatal(err)
		}
		p, err = s.Release(t.Context(), alice, "q")
		if err != nil || p.Escrow() != 0 || p.Over.IsZero() || balance(t, l, alice) != 999_250 {
			t.Errorf("%+v, %v", p, err)
		}
	})
}

func TestTopUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, told := books(t), &notices{}
		s := open(t, pledge.Config{Ledger: l, Notice: told.add})
		grant(t, l, alice, 100_000)
		term, err := s.Create(t.Context(), alice, "term", pledge.Request{Object: object, Bytes: gib, RF: 1, For: 10 * time.Minute})
		if err != nil || term.State != pledge.Low {
			t.Fatalf("%+v, %v", term, err)
		}
		dry, err := s.Create(t.Context(), alice, "dry", pledge.Request{Object: object, Bytes: gib, RF: 3, Credits: 3000})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 { // with the same key
			p, err := s.TopUp(t.Context(), alice, "term", "key", 1000)
			if err != nil || p.Ends != term.Ends.Add(time.Hour) || p.Locked != term.Locked+1000 || p.State != pledge.Active {
				t.Fatalf("%+v, %v", p, err)
			}
		}
		for i := range 2 {
			p, err := s.TopUp(t.Context(), alice, "dry", fmt.Sprint(i), 1500)
			if err != nil || p.Locked != dry.Locked+credit.Amount(i+1)*1500 || !p.Until().After(dry.Until()) {
				t.Fatalf("%+v, %v", p, err)
			}
		}
		if got := balance(t, l, alice); got != 100_000-167-1000-3000-3000 {
			t.Errorf("%d left", got)
		}
		for name, tt := range map[string]struct {
			id     string
			by     credit.Account
			amount credit.Amount
			want   error
		}{
			"not there":  {"nothing", alice, 1, pledge.ErrUnknown},
			"another's":  {"term", bob, 1, pledge.ErrOwner},
			"nothing":    {"term", alice, 0, pledge.ErrRequest},
			"all":        {"term", alice, credit.MaxAmount, pledge.ErrRequest},
			"too long":   {"term", alice, 1e9, pledge.ErrRequest},
			"not enough": {"dry", alice, 1e9, credit.ErrUnderfunded},
		} {
			if _, err := s.TopUp(t.Context(), tt.by, tt.id, name, tt.amount); !errors.Is(err, tt.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if p := get(t, s, "dry"); p.Locked != 6000 {
			t.Errorf("%+v", p)
		}
		told.want(t, "term opened", "term low", "dry opened", "term topped-up", "dry topped-up", "dry topped-up")
	})
}

// TestTopUpTooLittle: with longer epochs than before, what is added may still
// not last for one. Then nothing moves.
func TestTopUpTooLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := books(t)
		grant(t, l, alice, 100_000)
		s := open(t, pledge.Config{Ledger: l})
		was, err := s.Create(t.Context(), alice, "p", pledge.Request{Object: object, Bytes: gib, RF: 1, Credits: 3000})
		if err != nil {
			t.Fatal(err)
		}
		s = open(t, pledge.Config{Ledger: l, Epoch: 24 * time.Hour})
		if _, err := s.TopUp(t.Context(), alice, "p", "key", 10); !errors.Is(err, credit.ErrUnderfunded) {
			t.Errorf("too little: %v", err)
		}
		if got := balance(t, l, credit.Escrow("p")); got != was.Escrow() {
			t.Errorf("the escrow holds %d, it held %d", got, was.Escrow())
		}
		if p, err := s.TopUp(t.Context(), alice, "p", "more", 30_000); err != nil || p.Escrow() != balance(t, l, credit.Escrow("p")) {
			t.Errorf("enough: %+v, %v", p, err)
		}
	})
}

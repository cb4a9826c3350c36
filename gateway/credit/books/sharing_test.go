package books

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/redistest"
)

// flaky is a Share that a test can cut off.
type flaky struct {
	Share
	mu  sync.Mutex // guards err
	err error
}

func (f *flaky) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *flaky) Sync(ctx context.Context, r Request) (Reply, error) {
	f.mu.Lock()
	err := f.err
	f.mu.Unlock()
	if err != nil {
		return Reply{}, err
	}
	return f.Share.Sync(ctx, r)
}

var errAway = errors.New("away")

// gateway is books over a share, with a ledger of their own.
func gateway(t testing.TB, s Share, first byte) (*Books, *memLedger) {
	t.Helper()
	l := newMemLedger()
	cfg := config(l)
	cfg.Key, cfg.Share = key(first), s
	return open(t, cfg), l
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func whole(b *Books) func() bool {
	return func() bool { s := b.Status(); return s.Up && !s.Behind }
}

func TestSharedBalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewMemoryShare()
		a, la := gateway(t, s, 1)
		b, lb := gateway(t, s, 2)
		if st := a.Status(); !st.Shared || st.Up || !st.Behind {
			t.Errorf("before the first exchange: %+v", st)
		}
		run(t, a)
		run(t, b)
		alice, refuse := credit.User("alice"), credit.Refuse
		if err := b.SetTerms(t.Context(), alice, &refuse, nil); err != nil {
			t.Fatal(err)
		}
		line := b.Open("alice", object)
		defer line.Close()
		time.Sleep(2 * time.Second)
		if err := line.Admit(""); !errors.Is(err, credit.ErrOutOfCredit) {
			t.Errorf("without credits: %v", err)
		}
		if _, _, err := a.Grant(t.Context(), "", alice, 5000, ""); err != nil {
			t.Fatal(err)
		}
		eventually(t, "alice has credits, from another gateway", func() bool { return line.Admit("") == nil })
		serve(t, b, "alice", mib) // 976 micro-credits
		time.Sleep(time.Second)
		for name, books := range map[string]*Books{"a": a, "b": b} {
			got, err := books.Balance(t.Context(), alice)
			if err != nil || got.Shared != 5000-976 || !got.Known {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
		if pa, pb := state(t, la, alice), state(t, lb, alice); pa.Balance != 5000 || pb.Balance != -976 || pb.Served != mib {
			t.Errorf("journals: %+v, %+v", pa, pb)
		}
	})
}

// TestWhoPays: whether an owner pays or the house, is decided by what all
// gateways have of him, also for the first bytes after a while.
func TestWhoPays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewMemoryShare()
		a, la := gateway(t, s, 1)
		b, lb := gateway(t, s, 2)
		run(t, a)
		run(t, b)
		time.Sleep(3 * time.Second)
		if _, _, err := a.Grant(t.Context(), "", credit.User("rich"), credit.Credit, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for range 3 {
			serve(t, b, "rich", 1000)
			serve(t, b, "poor", 1000)
			time.Sleep(time.Minute) // they are forgotten
		}
		if n := state(t, la, credit.User("rich")).Balance; n != credit.Credit {
			t.Errorf("there is %d left where it was granted", n)
		}
		for account, want := range map[credit.Account]int64{credit.User("rich"): 3000, credit.User("poor"): 0, credit.House(key(2)): 3000} {
			if got := state(t, lb, account); got.Served != want {
				t.Errorf("%s paid for %d bytes, want %d", account, got.Served, want)
			}
		}
	})
}

// TestOverspend: two gateways that serve the same account at full speed spend
// no more than there is, and their leases.
func TestOverspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewMemoryShare()
		a, la := gateway(t, s, 1)
		b, lb := gateway(t, s, 2)
		run(t, a)
		run(t, b)
		alice, refuse := credit.User("alice"), credit.Refuse
		for _, books := range []*Books{a, b} {
			if err := books.SetTerms(t.Context(), alice, &refuse, nil); err != nil {
				t.Fatal(err)
			}
		}
		const granted = 50_000
		if _, _, err := a.Grant(t.Context(), "", alice, granted, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		var wg sync.WaitGroup
		for _, books := range []*Books{a, b} {
			wg.Go(func() {
				line := books.Open("alice", object)
				defer line.Close()
				for line.Admit("") == nil {
					if err := line.Take(t.Context(), 64<<10); err != nil {
						t.Error(err)
						return
					}
					line.Settle(64<<10, 64<<10)
					time.Sleep(10 * time.Millisecond) // 6.25 MiB/s: 50 MiB last for 4 s
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Second)
		spent := -state(t, la, alice).Balance - state(t, lb, alice).Balance + granted
		leases := credit.Amount(4 * 2 * 7 / 4 * 976) // of four windows at most, on two gateways
		if spent < granted || spent > granted+2*leases {
			t.Errorf("spent %d of %d, leases cost %d", spent, granted, leases)
		}
	})
}

func TestSpendShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &flaky{Share: NewMemoryShare()}
		a, la := gateway(t, s, 1)
		b, lb := gateway(t, s, 2)
		run(t, a)
		run(t, b)
		alice, escrow := credit.User("alice"), credit.Escrow("p")
		if _, _, err := a.Grant(t.Context(), "", alice, 100, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		spend := func(b *Books, id string, n credit.Amount) error {
			return b.Spend(t.Context(), id, alice, n, []credit.Entry{{Kind: credit.KindEscrow, From: alice, To: escrow, Amount: n}})
		}
		if err := spend(b, "first", 40); err != nil {
			t.Error(err)
		}
		if err := spend(b, "first", 40); err != nil {
			t.Errorf("the same again: %v", err)
		}
		if err := spend(a, "too much", 61); !errors.Is(err, credit.ErrUnderfunded) {
			t.Errorf("too much: %v", err)
		}
		var wg sync.WaitGroup
		var done atomic.Int64
		for i := range 10 { // each is most of what is left
			wg.Go(func() {
				if err := spend([]*Books{a, b}[i%2], fmt.Sprint("race", i), 50); err == nil {
					done.Add(1)
				} else if !errors.Is(err, credit.ErrUnderfunded) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if done.Load() > 1 {
			t.Errorf("%d of those who raced for the same credits got them", done.Load())
		}
		time.Sleep(2 * time.Second)
		left := state(t, la, alice).Balance + state(t, lb, alice).Balance
		if got, err := a.Balance(t.Context(), alice); err != nil || got.Shared != left || left != 60-50*credit.Amount(done.Load()) {
			t.Errorf("%+v, %v; journals say %d", got, err, left)
		}
		s.set(errAway)
		time.Sleep(2 * time.Second)
		if err := spend(a, "away", 1); !errors.Is(err, ErrShare) {
			t.Errorf("while nobody answers: %v", err)
		}
		if err := spend(b, "first", 40); err != nil {
			t.Errorf("what was done before, while nobody answers: %v", err)
		}
		if got, err := a.Balance(t.Context(), alice); err != nil || got.Known {
			t.Errorf("while nobody answers: %+v, %v", got, err)
		}
		s.set(nil)
		time.Sleep(2 * time.Second)
		if got, err := b.Balance(t.Context(), alice); err != nil || got.Shared != left {
			t.Errorf("what was held is gone: %+v, %v", got, err)
		}
	})
}

// said1 is what the first gateway has said of an account.
func said1(s *MemoryShare, a credit.Account) Sum {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sums[a][key(1)]
}

// TestRebuild: when the shared memory is lost, nobody relies on it before all
// have said their sums again.
func TestRebuild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewMemoryShare()
		away := &flaky{Share: s}
		a, la := gateway(t, away, 1)
		b, _ := gateway(t, s, 2)
		const accounts = 2*MaxPage + 500
		for i := range accounts {
			la.states[credit.User(fmt.Sprint("u", i))] = credit.State{Balance: 1}
		}
		alice, refuse := credit.User("alice"), credit.Refuse
		la.states[alice] = credit.State{Balance: 1 << 30}
		if err := b.SetTerms(t.Context(), alice, &refuse, nil); err != nil {
			t.Fatal(err)
		}
		run(t, a)
		run(t, b)
		line := b.Open("alice", object)
		defer line.Close()
		serve(t, b, "alice", 1)
		time.Sleep(3 * time.Second)
		if !whole(a)() || !whole(b)() {
			t.Fatalf("not up: %+v, %+v", a.Status(), b.Status())
		}
		generation := b.Status().Generation
		away.set(errAway)
		s.forget()
		for range 60 {
			serve(t, b, "alice", mib)
			time.Sleep(time.Second)
			if err := line.Admit(""); err != nil {
				t.Fatalf("refused by balances of half of the gateways: %v", err)
			}
		}
		if st := b.Status(); !st.Up || !st.Behind || st.Generation == generation {
			t.Errorf("while another gateway is away: %+v", st)
		}
		away.set(nil)
		time.Sleep(3 * time.Second)
		if !whole(a)() || !whole(b)() {
			t.Errorf("not up again: %+v, %+v", a.Status(), b.Status())
		}
		for i := range accounts {
			if got := said1(s, credit.User(fmt.Sprint("u", i))); got.Balance != 1 {
				t.Fatalf("account %d: %+v", i, got)
			}
		}
		// One that never comes back is waited for two minutes.
		away.set(errAway)
		s.forget()
		time.Sleep(peerGrace - time.Second)
		if st := b.Status(); !st.Behind {
			t.Errorf("too early: %+v", st)
		}
		time.Sleep(4 * time.Second)
		if st := b.Status(); st.Behind {
			t.Errorf("it is given up: %+v", st)
		}
	})
}

// TestOlderCopy: a share that falls back to an older state of itself, as a
// failover may, gets everything again; so does one that knows of a later run
// of this gateway than the gateway itself.
func TestOlderCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewMemoryShare()
		a, _ := gateway(t, s, 1)
		run(t, a)
		alice := credit.User("alice")
		time.Sleep(2 * time.Second)
		for name, seq := range map[string]uint64{"older": 1, "newer": math.MaxUint64 / 2} {
			if _, _, err := a.Grant(t.Context(), "", alice, 5, ""); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			want := state(t, a.cfg.Ledger, alice).Balance
			s.mu.Lock()
			s.gateways[key(1)] = said{seq: seq}
			delete(s.sums, alice)
			s.mu.Unlock()
			time.Sleep(3 * time.Second)
			if got := said1(s, alice).Balance; got != want {
				t.Errorf("%s: %d, want %d", name, got, want)
			}
		}
	})
}

// TestUnknown: while nobody knows what others have, nobody is refused, and
// what it costs is bounded.
func TestUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, l := gateway(t, &flaky{err: errAway}, 1)
		run(t, b)
		alice, refuse := credit.User("alice"), credit.Refuse
		if err := b.SetTerms(t.Context(), alice, &refuse, nil); err != nil {
			t.Fatal(err)
		}
		line := b.Open("alice", object)
		defer line.Close()
		for range 100 {
			serve(t, b, "alice", mib)
			time.Sleep(250 * time.Millisecond)
			if err := line.Admit(""); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		own, house := state(t, l, alice), state(t, l, credit.House(key(1)))
		if own.Served+house.Served != 100*mib || own.Served < 16*mib || own.Served > 18*mib {
			t.Errorf("alice %+v, the house %+v", own, house)
		}
	})
}

// TestRedisOutage has a server freeze, and die with its memory lost, while two
// gateways serve: no reader notices, and afterwards the shared sums are those
// of the journals.
func TestRedisOutage(t *testing.T) {
	frozen := 1500 * time.Millisecond // longer than a timeout
	if os.Getenv("INOS_SOAK") == "1" {
		frozen = 5 * time.Second
	}
	server := redistest.Start(t)
	type node struct {
		*Books
		l *memLedger
	}
	var nodes []node
	for i := range 2 {
		b, l := gateway(t, openRedis(t, server), byte(i+1))
		give(t, l, "rich", credit.Amount(1<<40))
		run(t, b)
		nodes = append(nodes, node{b, l})
	}
	start := time.Now()
	var sent [2]atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for i, n := range nodes {
		for k := range 4 {
			readers.Go(func() {
				for j := 0; ctx.Err() == nil; j++ {
					line := n.Open([]string{"rich", "poor", "", fmt.Sprint("user", j%50)}[k], cas.Hash{byte(j)})
					took := time.Now()
					err := errors.Join(line.Admit(""), line.Take(t.Context(), 10_000))
					if since := time.Since(took); err != nil || since > 500*time.Millisecond {
						t.Errorf("a reader waited for %v: %v", since, err)
					}
					line.Settle(10_000, 9_999)
					sent[i].Add(9_999)
					line.Close()
					time.Sleep(time.Millisecond)
				}
			})
		}
	}
	both := func() bool { return whole(nodes[0].Books)() && whole(nodes[1].Books)() }
	eventually(t, "both gateways share", both)
	server.Freeze()
	eventually(t, "the first one notices", func() bool { return !nodes[0].Status().Up })
	time.Sleep(frozen - min(frozen, exchangeTimeout))
	server.Thaw()
	eventually(t, "both share again", both)
	server.Kill()
	eventually(t, "the second one notices", func() bool { return !nodes[1].Status().Up })
	server.Restart()
	eventually(t, "both have said everything again", both)
	cancel()
	readers.Wait()
	if n, most := server.CommandCount(), int64(4*time.Since(start).Seconds()+4)*2; n > most {
		t.Errorf("%d commands of two gateways in %v, want at most %d: %v", n, time.Since(start), most, server.Commands())
	}
	quiet := func() bool {
		for i, n := range nodes {
			if charged, _ := n.l.covered(); charged != sent[i].Load() {
				return false
			}
		}
		return true
	}
	eventually(t, "everything is charged exactly", quiet)
	for _, a := range []credit.Account{credit.User("rich"), credit.User("poor"), credit.User("user7"), credit.House(key(1)), credit.Node(key(2))} {
		want := state(t, nodes[0].l, a).Balance + state(t, nodes[1].l, a).Balance
		for i, n := range nodes {
			eventually(t, fmt.Sprintf("gateway %d has %d for %s", i, want, a), func() bool {
				got, err := n.Balance(t.Context(), a)
				return err == nil && got.Known && got.Shared == want
			})
		}
	}
}

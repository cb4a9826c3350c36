package exchange_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/mem"
	"inos.dev/edge/mesh/exchange"
)

func TestFullDiskStillAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, seen := sealed(t, "no room"), &log{}
		e := running(t, exchange.Config{Store: newStore(t, mem.Config{MaxBytes: 1}), Observer: seen}, after("up", 0, c.Bytes(), nil))
		for range 2 {
			if r, err := e.Fill(t.Context(), c.Hash()); err != nil || r.Source != "up" {
				t.Errorf("from %q: %v", r.Source, err)
			}
			synctest.Wait()
		}
		if len(seen.unstored) != 2 || !errors.Is(seen.unstored[0], cas.ErrNoSpace) {
			t.Errorf("unstored: %v", seen.unstored)
		}
	})
}

// gated is a store whose Put waits, and whose Open may be broken.
type gated struct {
	cas.Store
	gate   chan struct{}
	broken atomic.Bool
}

func (g *gated) Put(ctx context.Context, c cas.Chunk) (bool, error) {
	<-g.gate
	return g.Store.Put(ctx, c)
}

func (g *gated) Open(ctx context.Context, h cas.Hash) (cas.Body, error) {
	if g.broken.Load() {
		return nil, errors.New("input/output error")
	}
	return g.Store.Open(ctx, h)
}

func TestCallersDuringThePutAreServedByTheFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sealed(t, "slow disk")
		store := &gated{Store: newStore(t, mem.Config{}), gate: make(chan struct{})}
		up := after("up", 0, c.Bytes(), nil)
		e := running(t, exchange.Config{Store: store}, up)
		for hops := range exchange.MaxHops {
			r, err := e.Fill(exchange.WithHops(t.Context(), hops), c.Hash())
			if err != nil || r.Joined != (hops > 0) {
				t.Errorf("hops %d: %+v, %v", hops, r, err)
			}
		}
		close(store.gate)
		synctest.Wait()
		if r, err := e.Fill(t.Context(), c.Hash()); err != nil || r.Source != exchange.Local {
			t.Errorf("from %q: %v", r.Source, err)
		}
		if up.asked.Load() != 1 {
			t.Errorf("%d fetches, want 1", up.asked.Load())
		}
	})
}

func TestBrokenStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sealed(t, "elsewhere")
		store := &gated{Store: newStore(t, mem.Config{}), gate: make(chan struct{})}
		close(store.gate)
		store.broken.Store(true)
		e := running(t, exchange.Config{Store: store}, holds("up", 0, c))
		if r, err := e.Fill(t.Context(), c.Hash()); err != nil || r.Source != "up" {
			t.Errorf("from %q: %v", r.Source, err)
		}
		_, err := e.Fill(t.Context(), cas.Hash{1})
		if !missOf(t, err).Unanswered {
			t.Errorf("a store that cannot say is no absence: %v", err)
		}
	})
}

func TestNoProviders(t *testing.T) {
	c, store := sealed(t, "here"), newStore(t, mem.Config{})
	if _, err := store.Put(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	e, err := exchange.New(exchange.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Fill(t.Context(), cas.Hash{1}) // immediate: nobody runs it
	wantTried(t, missOf(t, err).Tried, "local: said no")
	if !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if r, err := e.Fill(t.Context(), c.Hash()); err != nil || r.Source != exchange.Local {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, store := sealed(t, "forbidden"), newStore(t, mem.Config{})
		var listed atomic.Bool
		up := after("up", time.Second, c.Bytes(), nil)
		e := running(t, exchange.Config{Store: store, Denied: func(cas.Hash) bool { return listed.Load() }}, up)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := e.Fill(t.Context(), c.Hash()); !errors.Is(err, cas.ErrDenied) {
				t.Errorf("listed during the flight: %v", err)
			}
		})
		synctest.Wait()
		listed.Store(true)
		wg.Wait()
		if _, err := e.Fill(t.Context(), c.Hash()); !errors.Is(err, cas.ErrDenied) {
			t.Errorf("listed before: %v", err)
		}
		synctest.Wait()
		if _, err := store.Stat(t.Context(), c.Hash()); !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("a denied chunk was stored: %v", err)
		}
	})
}

func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := never("up")
		e := running(t, exchange.Config{MaxFlights: 3, MaxFetches: 2}, up)
		var wg sync.WaitGroup
		errs := make([]error, 3)
		for i := range errs {
			wg.Go(func() { _, errs[i] = e.FillWhole(t.Context(), cas.Hash{byte(i + 1)}) })
		}
		synctest.Wait()
		if _, err := e.Fill(t.Context(), cas.Hash{9}); !errors.Is(err, exchange.ErrBusy) {
			t.Errorf("a flight too many: %v", err)
		}
		if n := up.asked.Load(); n != 2 {
			t.Errorf("%d fetches at the same time, want 2", n)
		}
		wg.Wait()
		var busy int
		for _, err := range errs {
			if errors.Is(err, exchange.ErrBusy) {
				busy++
			} else {
				missOf(t, err)
			}
		}
		// The third flight's deadline and the end of the others are the same
		// moment: it is busy, or it got its turn without time left.
		if busy > 1 {
			t.Errorf("%d busy", busy)
		}
		synctest.Wait()
		if n := e.Stats().Flights; n != 0 {
			t.Errorf("%d flights left", n)
		}
	})
}

func TestCloseEndsFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := exchange.New(exchange.Config{Store: newStore(t, mem.Config{}), Providers: []exchange.Provider{never("up")}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := e.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if _, err := e.Fill(t.Context(), cas.Hash{1}); !errors.Is(err, exchange.ErrClosed) {
				t.Errorf("in the air: %v", err)
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
		if _, err := e.Fill(t.Context(), cas.Hash{2}); !errors.Is(err, exchange.ErrClosed) {
			t.Errorf("afterwards: %v", err)
		}
		if e.Run(t.Context()) == nil {
			t.Error("Run twice")
		}
	})
}

func TestNobodyRunsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := exchange.New(exchange.Config{Store: newStore(t, mem.Config{}), Providers: []exchange.Provider{never("up")}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.FillWhole(t.Context(), cas.Hash{1})
		if !missOf(t, err).Unanswered {
			t.Errorf("%v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := e.Run(ctx); err != nil || e.Stats().Flights != 0 {
			t.Errorf("%v, %d flights left", err, e.Stats().Flights)
		}
	})
}

// node is a Provider that is another exchange, as a node behind HTTP is.
type node struct {
	name string
	*exchange.Exchange
}

func (n *node) Name() string { return n.name }

func (n *node) Fetch(ctx context.Context, h cas.Hash) ([]byte, error) {
	r, err := n.Fill(exchange.WithHops(ctx, exchange.Hops(ctx)+1), h)
	return r.Chunk.Bytes(), err
}

func TestTwoNodesThatNameEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &node{name: "a"}, &node{name: "b"}
		a.Exchange, b.Exchange = running(t, exchange.Config{}, b), running(t, exchange.Config{}, a)
		start := time.Now()
		var wg sync.WaitGroup
		for range 50 {
			for _, n := range []*node{a, b} {
				wg.Go(func() {
					_, err := n.Fill(t.Context(), cas.Hash{1})
					if !errors.Is(err, cas.ErrNotFound) {
						t.Errorf("%s: %v", n.name, err)
					}
				})
			}
		}
		wg.Wait()
		if d := time.Since(start); d != 0 {
			t.Errorf("waited %v for each other", d)
		}
	})
}

func TestAbsenceForAFarRequestIsNotAbsenceForANearOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sealed(t, "one node further")
		up := &fake{name: "up", fetch: func(ctx context.Context, _ cas.Hash) ([]byte, error) {
			if exchange.Hops(ctx) == exchange.MaxHops-1 {
				return nil, exchange.ErrSaidNo // it could not ask on
			}
			return c.Bytes(), nil
		}}
		e := running(t, exchange.Config{}, up)
		_, err := e.Fill(exchange.WithHops(t.Context(), exchange.MaxHops-1), c.Hash())
		missOf(t, err)
		if _, err := e.Fill(t.Context(), c.Hash()); err != nil {
			t.Error(err)
		}
		up.asked.Store(0)
		_, err = e.Fill(exchange.WithHops(t.Context(), 1000), cas.Hash{1})
		wantTried(t, missOf(t, err).Tried, "local: said no")
		if up.asked.Load() != 0 {
			t.Error("asked on beyond MaxHops")
		}
	})
}

func TestRetryAfterIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for after, want := range map[time.Duration]time.Duration{0: time.Second, 7 * time.Second: 7 * time.Second, time.Hour: time.Minute} {
			e := running(t, exchange.Config{}, &fake{name: "up", fetch: func(context.Context, cas.Hash) ([]byte, error) {
				return nil, &exchange.RetryError{After: after, Err: fmt.Errorf("%w: overloaded", exchange.ErrUnanswered)}
			}})
			_, err := e.Fill(t.Context(), cas.Hash{1})
			if m := missOf(t, err); m.RetryAfter != want {
				t.Errorf("told %v, passed on %v, want %v", after, m.RetryAfter, want)
			}
		}
	})
}

func TestConfig(t *testing.T) {
	store := newStore(t, mem.Config{})
	for name, cfg := range map[string]exchange.Config{
		"no store":          {},
		"negative duration": {Store: store, FillTimeout: -1},
		"negative limit":    {Store: store, MaxFlights: -1},
		"same names":        {Store: store, Providers: []exchange.Provider{never("a"), never("a")}},
		"local taken":       {Store: store, Providers: []exchange.Provider{never(exchange.Local)}},
	} {
		if _, err := exchange.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

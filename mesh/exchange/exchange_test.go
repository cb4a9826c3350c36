package exchange_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/mem"
	"inos.dev/edge/mesh/exchange"
)

// sealed returns the raw-form chunk of a piece.
func sealed(tb testing.TB, piece string) cas.Chunk {
	tb.Helper()
	head, block := cas.Head(), cas.RawHeader(len(piece))
	b := slices.Concat(head[:], block[:], []byte(piece), []byte{0x06, cas.Tail()})
	c, err := cas.Seal(b)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// fake is a Provider whose answers are a function.
type fake struct {
	name  string
	asked atomic.Int64
	fetch func(ctx context.Context, h cas.Hash) ([]byte, error)
}

func (f *fake) Name() string { return f.name }

func (f *fake) Fetch(ctx context.Context, h cas.Hash) ([]byte, error) {
	f.asked.Add(1)
	return f.fetch(ctx, h)
}

// after answers with b and err when d is over.
func after(name string, d time.Duration, b []byte, err error) *fake {
	return &fake{name: name, fetch: func(ctx context.Context, _ cas.Hash) ([]byte, error) {
		select {
		case <-time.After(d):
			return b, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
}

// holds has these chunks and answers after d.
func holds(name string, d time.Duration, chunks ...cas.Chunk) *fake {
	return &fake{name: name, fetch: func(ctx context.Context, h cas.Hash) ([]byte, error) {
		i := slices.IndexFunc(chunks, func(c cas.Chunk) bool { return c.Hash() == h })
		if i < 0 {
			return nil, exchange.ErrSaidNo
		}
		return after(name, d, chunks[i].Bytes(), nil).fetch(ctx, h)
	}}
}

// never does not answer before ctx is done.
func never(name string) *fake { return after(name, time.Hour, nil, nil) }

// log is an Observer that remembers.
type log struct {
	mu       sync.Mutex
	attempts []exchange.Attempt
	settled  []error
	unstored []error
}

func (l *log) Attempted(a exchange.Attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempts = append(l.attempts, a)
}

func (l *log) Settled(_ time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settled = append(l.settled, err)
}

func (l *log) Unstored(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unstored = append(l.unstored, err)
}

func newStore(tb testing.TB, cfg mem.Config) *mem.Store {
	tb.Helper()
	s, err := mem.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// running returns an Exchange that Run carries until the test (or its bubble)
// is over.
func running(t *testing.T, cfg exchange.Config, providers ...exchange.Provider) *exchange.Exchange {
	t.Helper()
	if cfg.Store == nil {
		cfg.Store = newStore(t, mem.Config{})
	}
	cfg.Providers = providers
	e, err := exchange.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return e
}

func outcomes(tried []exchange.Attempt) (list []string) {
	for _, a := range tried {
		list = append(list, a.Source+": "+a.Outcome.String())
	}
	return list
}

func wantTried(t *testing.T, tried []exchange.Attempt, want ...string) {
	t.Helper()
	if got := outcomes(tried); !slices.Equal(got, want) {
		t.Errorf("tried %q, want %q", got, want)
	}
}

func missOf(t *testing.T, err error) *exchange.MissError {
	t.Helper()
	m, ok := errors.AsType[*exchange.MissError](err)
	if !ok {
		t.Fatalf("error is %v, want a *MissError", err)
	}
	return m
}

func TestFillStores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sealed(t, "hello")
		store, seen := newStore(t, mem.Config{}), &log{}
		up := after("up", 30*time.Millisecond, c.Bytes(), nil)
		e := running(t, exchange.Config{Store: store, Observer: seen}, up)
		r, err := e.Fill(t.Context(), c.Hash())
		if err != nil {
			t.Fatal(err)
		}
		if r.Chunk.Hash() != c.Hash() || r.Source != "up" || r.Joined || r.Took != 30*time.Millisecond {
			t.Errorf("result %+v", r)
		}
		wantTried(t, r.Tried, "local: said no", "up: served")
		synctest.Wait()
		if _, err := store.Stat(t.Context(), c.Hash()); err != nil {
			t.Errorf("not stored: %v", err)
		}
		r, err = e.Fill(t.Context(), c.Hash())
		if err != nil || r.Source != exchange.Local {
			t.Errorf("second fill from %q, %v; want the store", r.Source, err)
		}
		if n := up.asked.Load(); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
		synctest.Wait()
		if len(seen.settled) != 2 || len(seen.attempts) != 1 || seen.attempts[0].Bytes != c.Size() {
			t.Errorf("observed %d flights, attempts %v", len(seen.settled), seen.attempts)
		}
		s := e.Stats()
		if s.Flights != 0 || s.Sources[0].Bytes != c.Size() || s.Sources[0].Outcomes[exchange.Served] != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestFiveHundredWaitersOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sealed(t, "cold")
		up := after("up", 200*time.Millisecond, c.Bytes(), nil)
		e := running(t, exchange.Config{}, up)
		leader, hangUp := context.WithCancel(t.Context())
		var led error
		var wg sync.WaitGroup
		wg.Go(func() { _, led = e.Fill(leader, c.Hash()) })
		synctest.Wait()
		var good, joined atomic.Int64
		for range 499 {
			wg.Go(func() {
				r, err := e.Fill(t.Context(), c.Hash())
				if err == nil && r.Chunk.Hash() == c.Hash() && r.Took == 200*time.Millisecond {
					good.Add(1)
				}
				if r.Joined {
					joined.Add(1)
				}
			})
		}
		synctest.Wait()
		hangUp()
		wg.Wait()
		if !errors.Is(led, context.Canceled) {
			t.Errorf("the leader got %v, want its own cancellation", led)
		}
		if good.Load() != 499 || joined.Load() != 499 || up.asked.Load() != 1 {
			t.Errorf("%d good answers, %d joined, %d fetches; want 499, 499, 1", good.Load(), joined.Load(), up.asked.Load())
		}
	})
}

func TestFlightOutlivesItsLastCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sealed(t, "late")
		store := newStore(t, mem.Config{})
		e := running(t, exchange.Config{Store: store}, after("up", 5*time.Second, c.Bytes(), nil))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := e.Fill(ctx, c.Hash())
		m := missOf(t, err)
		wantTried(t, m.Tried, "local: said no", "up: asking")
		if !m.Unanswered || m.RetryAfter <= 0 || m.Tried[1].Duration != time.Second {
			t.Errorf("miss %+v", m)
		}
		_, err = e.Fill(t.Context(), c.Hash()) // until 4 s: FirstAnswer
		missOf(t, err)
		if !errors.Is(err, exchange.ErrUnanswered) || errors.Is(err, cas.ErrNotFound) {
			t.Errorf("error %v, want ErrUnanswered alone", err)
		}
		r, err := e.FillWhole(t.Context(), c.Hash())
		if err != nil || !r.Joined || r.Took != time.Second {
			t.Errorf("third caller: %+v, %v", r, err)
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := running(t, exchange.Config{}, never("up"))
		start := time.Now()
		_, err := e.Fill(t.Context(), cas.Hash{1})
		if d := time.Since(start); d != 3*time.Second || !missOf(t, err).Unanswered {
			t.Errorf("answered after %v: %v", d, err)
		}
		_, err = e.FillWhole(t.Context(), cas.Hash{1})
		m := missOf(t, err)
		if d := time.Since(start); d != 10*time.Second || !m.Unanswered {
			t.Errorf("the flight ended after %v: %v", d, err)
		}
		wantTried(t, m.Tried, "local: said no", "up: no answer")
		if e.Stats().Remembered != 0 {
			t.Error("silence was remembered as absence")
		}
	})
}

func TestLieIsNotStored(t *testing.T) {
	c := sealed(t, "truth")
	lies := map[string][]byte{
		"another chunk": sealed(t, "wrong").Bytes(),
		"truncated":     c.Bytes()[:c.Size()-1],
		"one more byte": append(slices.Clone(c.Bytes()), 3),
		"empty":         {},
		"too large":     make([]byte, cas.MaxChunkSize+1),
	}
	for name, bytes := range lies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, other := newStore(t, mem.Config{}), sealed(t, "next")
				liar, honest := after("liar", 0, bytes, nil), holds("honest", 0, c, other)
				e := running(t, exchange.Config{Store: store}, liar, honest)
				r, err := e.Fill(t.Context(), c.Hash())
				if err != nil || r.Source != "honest" {
					t.Fatalf("from %q: %v", r.Source, err)
				}
				wantTried(t, r.Tried, "local: said no", "liar: wrong bytes", "honest: served")
				synctest.Wait()
				for info := range store.All(t.Context()) {
					if info.Hash != c.Hash() {
						t.Errorf("stored %s", info.Hash)
					}
				}
				if s := e.Stats().Sources[0]; s.Outcomes[exchange.Lied] != 1 || s.Yield > 0.5 {
					t.Errorf("the lie cost nothing: %+v", s)
				}
				if r, err = e.Fill(t.Context(), other.Hash()); err != nil {
					t.Fatal(err)
				}
				wantTried(t, r.Tried, "local: said no", "honest: served")
			})
		})
	}
}

func TestOnlyLiarsIsNotAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := running(t, exchange.Config{}, after("liar", 0, sealed(t, "x").Bytes(), nil), after("no", 0, nil, exchange.ErrSaidNo))
		_, err := e.Fill(t.Context(), cas.Hash{1})
		m := missOf(t, err)
		wantTried(t, m.Tried, "local: said no", "liar: wrong bytes", "no: said no")
		if !m.Unanswered || errors.Is(err, cas.ErrNotFound) || e.Stats().Remembered != 0 {
			t.Errorf("%v; remembered %d", err, e.Stats().Remembered)
		}
	})
}

func TestHedging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var chunks []cas.Chunk
		for i := range 20 {
			chunks = append(chunks, sealed(t, string(rune('a'+i))))
		}
		first, second := chunks[0], chunks[1]
		var well atomic.Bool
		fast, slowly := holds("fast", 50*time.Millisecond, chunks...), holds("slow", 0, chunks...)
		slow := &fake{name: "slow", fetch: func(ctx context.Context, h cas.Hash) ([]byte, error) {
			if well.Load() {
				return slowly.Fetch(ctx, h)
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		e := running(t, exchange.Config{HedgeDelay: 400 * time.Millisecond}, slow, fast)
		r, err := e.Fill(t.Context(), first.Hash())
		if err != nil {
			t.Fatal(err)
		}
		if r.Took != 450*time.Millisecond {
			t.Errorf("took %v, want the hedge delay and 50 ms", r.Took)
		}
		wantTried(t, r.Tried, "local: said no", "fast: served", "slow: outrun")

		if r, err = e.Fill(t.Context(), second.Hash()); err != nil {
			t.Fatal(err)
		}
		wantTried(t, r.Tried, "local: said no", "fast: served")

		// The other one is well again: after some minutes it gets its chance.
		well.Store(true)
		for i := 2; r.Source == "fast"; i++ {
			if i == len(chunks) {
				t.Fatalf("never tried again: %+v", e.Stats().Sources)
			}
			time.Sleep(time.Minute)
			if r, err = e.Fill(t.Context(), chunks[i].Hash()); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestFiveSilentSourcesDoNotHideTheSixth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sealed(t, "behind")
		short := func(name string) *fake { return after(name, 2*time.Second, nil, exchange.ErrUnanswered) }
		e := running(t, exchange.Config{}, short("1"), short("2"), short("3"), short("4"), short("5"), after("6", 0, c.Bytes(), nil))
		r, err := e.FillWhole(t.Context(), c.Hash())
		if err != nil || r.Source != "6" {
			t.Errorf("from %q: %v", r.Source, err)
		}
	})
}

func TestAbsenceIsRememberedForSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := after("a", 0, nil, exchange.ErrSaidNo), after("b", 0, nil, cas.ErrNotFound)
		e := running(t, exchange.Config{NegativeTTL: 5 * time.Second}, a, b)
		for range 3 {
			_, err := e.Fill(t.Context(), cas.Hash{7})
			m := missOf(t, err)
			wantTried(t, m.Tried, "local: said no", "a: said no", "b: said no")
			if m.Unanswered || !errors.Is(err, cas.ErrNotFound) {
				t.Errorf("%v", err)
			}
		}
		if a.asked.Load() != 1 || b.asked.Load() != 1 {
			t.Errorf("asked %d and %d times, want once", a.asked.Load(), b.asked.Load())
		}
		time.Sleep(5 * time.Second)
		_, err := e.Fill(t.Context(), cas.Hash{7})
		missOf(t, err)
		if a.asked.Load() != 2 {
			t.Error("not asked again after the TTL")
		}
	})
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sealed(t, "uploaded")
		store := newStore(t, mem.Config{})
		up := after("up", time.Second, nil, exchange.ErrSaidNo)
		e := running(t, exchange.Config{Store: store}, up)
		_, err := e.Fill(t.Context(), c.Hash())
		missOf(t, err)
		if _, err := store.Put(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		e.Forget(c.Hash())
		if r, err := e.Fill(t.Context(), c.Hash()); err != nil || r.Source != exchange.Local {
			t.Errorf("after Forget: %q, %v", r.Source, err)
		}

		// The upload arrives while a flight is up: its waiters get it, and
		// nothing is remembered.
		d := sealed(t, "meanwhile")
		var wg sync.WaitGroup
		wg.Go(func() {
			r, err := e.Fill(t.Context(), d.Hash())
			if err != nil || r.Source != exchange.Local {
				t.Errorf("put during the flight: %q, %v", r.Source, err)
			}
		})
		synctest.Wait()
		if _, err := store.Put(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		e.Forget(d.Hash())
		wg.Wait()

		// Put and deleted during the flight: a miss, but not a remembered one.
		wg.Go(func() {
			_, err := e.Fill(t.Context(), cas.Hash{9})
			missOf(t, err)
		})
		synctest.Wait()
		e.Forget(cas.Hash{9})
		wg.Wait()
		if n := e.Stats().Remembered; n != 0 {
			t.Errorf("%d remembered, want 0", n)
		}
	})
}

func TestMissesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := running(t, exchange.Config{NegativeMax: 8}, after("up", 0, nil, exchange.ErrSaidNo))
		for i := range 100 {
			_, err := e.Fill(t.Context(), cas.Hash{byte(i)})
			missOf(t, err)
		}
		if n := e.Stats().Remembered; n != 8 {
			t.Errorf("%d remembered, want 8", n)
		}
	})
}

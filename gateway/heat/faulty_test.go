package heat_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"inos.dev/edge/gateway/heat"
)

var errAway = errors.New("away")

// faulty is a Store that fails as the ones behind a network do.
type faulty struct {
	mu    sync.Mutex // guards the fields below
	inner heat.Store
	fail  func() (heard, answered bool) // nil: all is well
	tops  int
	calls []time.Time
	late  []heat.Window // copies that still travel
}

// set changes what the store does from now on.
func (f *faulty) set(inner heat.Store, fail func() (heard, answered bool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inner, f.fail, f.late, f.calls = inner, fail, nil, nil
}

func (f *faulty) called() []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func never() (heard, answered bool) { return false, false }

func (f *faulty) Apply(ctx context.Context, w heat.Window) (heat.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, time.Now())
	if f.fail == nil {
		return f.inner.Apply(ctx, w)
	}
	heard, answered := f.fail()
	if !heard {
		f.late = append(f.late, w)
		return heat.View{}, errAway
	}
	v, err := f.inner.Apply(ctx, w)
	if err == nil && !answered {
		return heat.View{}, errAway
	}
	return v, err
}

func (f *faulty) Top(ctx context.Context, n int) ([]heat.Rate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tops++
	return f.inner.Top(ctx, n)
}

func (f *faulty) Freeze(ctx context.Context, on bool, by string) (heat.Switch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		if heard, _ := f.fail(); !heard {
			return heat.Switch{}, errAway
		}
	}
	return f.inner.Freeze(ctx, on, by)
}

// tally counts the bytes that a Memory has taken in, and decays nothing.
type tally struct {
	heat.Memory

	mu    sync.Mutex // guards bytes, and makes Apply one step
	bytes int64
}

func (s *tally) counted() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

func (s *tally) Apply(ctx context.Context, w heat.Window) (heat.View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	poll := w
	poll.Seq, poll.Deltas, poll.Proposals, poll.Known = poll.Base, nil, nil, nil
	before, err := s.Memory.Apply(ctx, poll)
	if err != nil {
		return before, err
	}
	v, err := s.Memory.Apply(ctx, w)
	if err == nil && (v.LastSeq != before.LastSeq || v.Epoch != before.Epoch) {
		for _, d := range w.Deltas {
			s.bytes += d.Bytes
		}
	}
	return v, err
}

// TestEveryByteOnce loses calls and answers, and has copies of old calls come
// later: in the end each byte was counted once.
func TestEveryByteOnce(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			store := &tally{}
			f := &faulty{inner: store}
			f.fail = func() (heard, answered bool) {
				f.late = slices.DeleteFunc(f.late, func(w heat.Window) bool {
					if rng.IntN(3) > 0 {
						return false
					}
					if _, err := store.Apply(t.Context(), w); err != nil {
						t.Error(err)
					}
					return true
				})
				return rng.IntN(3) > 0, rng.IntN(3) > 0
			}
			n := run(t, heat.Config{Store: f})
			var total int64
			reads := rand.New(rand.NewPCG(seed, 2))
			for range 400 {
				b := reads.Int64N(1 << 20)
				n.Count(chunk(reads.IntN(50)), b)
				total += b
				time.Sleep(50 * time.Millisecond)
			}
			time.Sleep(time.Second)
			f.set(store, nil)
			time.Sleep(5 * time.Second)
			if got := store.counted(); got != total {
				t.Errorf("seed %d: %d bytes were counted, want %d", seed, got, total)
			}
		})
	}
}

// TestStoreAway: decisions go on, by what the node sees itself, up to a lower
// cap and never down; then the store gets what it missed.
func TestStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &tally{}
		f := &faulty{inner: store}
		n := run(t, heat.Config{Store: f})
		n.load(chunk(1), 5.5*replica, 20*time.Second)
		if got := target(n.decided(), chunk(1)); got != 6 || !n.Status().Up {
			t.Fatalf("target %d, status %+v", got, n.Status())
		}
		counted := store.counted()

		f.set(store, never)
		n.load(chunk(1), 50*replica, 10*time.Second)
		if got := target(n.decided(), chunk(1)); got != 8 || n.Status().Up {
			t.Errorf("while the store is away: target %d, want the cap of 8; status %+v", got, n.Status())
		}
		n.load(chunk(2), 50*replica, 10*time.Second)
		time.Sleep(2 * time.Minute)
		if got := target(n.decided(), chunk(1)); got != 8 {
			t.Errorf("while the store is away, the target went down to %d", got)
		}
		if top, err := n.Top(t.Context(), 1); err != nil || len(top) != 1 || top[0].Reason != heat.Alone {
			t.Errorf("top: %+v, %v", top, err)
		}
		if calls := len(f.called()); calls > 2*140+1 {
			t.Errorf("%d calls in 140 s", calls)
		}
		before := len(n.decided())

		f.set(store, nil)
		time.Sleep(3 * time.Second)
		if missed := store.counted() - counted; missed < 1000*replica-2*replica {
			t.Errorf("%d bytes were told afterwards, want about %d", missed, 1000*replica)
		}
		if !n.Status().Up || len(n.decided()) != before {
			t.Errorf("status %+v, and announced again: %v", n.Status(), n.decided()[before:])
		}
		view, err := store.Apply(t.Context(), heat.Window{Node: "x"})
		if err != nil || len(view.Rates) != 2 || of(view, chunk(1)).Decision.Target != 8 {
			t.Errorf("the store knows of %+v, %v", view.Rates, err)
		}
		time.Sleep(6 * time.Minute)
		if got := target(n.decided(), chunk(1)); got != 3 {
			t.Errorf("long after: target %d", got)
		}
	})
}

// TestStoreForgets: the store comes back empty, and is told what the cluster
// had agreed upon, under the same epochs.
func TestStoreForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{inner: &heat.Memory{}}
		n := run(t, heat.Config{Store: f})
		n.load(chunk(1), 50*replica, 10*time.Second)
		if err := n.Freeze(t.Context(), true, "alice"); err != nil {
			t.Fatal(err)
		}
		before := n.decided()
		store := &tally{}
		f.set(store, nil)
		n.load(chunk(1), 50*replica, time.Second)
		v, err := store.Apply(t.Context(), heat.Window{Node: "x"})
		if err != nil || len(v.Rates) != 1 || v.Rates[0].Decision != before[len(before)-1] || !v.Switch.On || v.Switch.By != "alice" {
			t.Errorf("the new store knows %+v, %v, %v", v.Rates, v.Switch, err)
		}
		if store.counted() < 2*50*replica {
			t.Errorf("it was told %d bytes: those of the last seconds are missing", store.counted())
		}
		if now := n.decided(); len(now) != len(before) {
			t.Errorf("announced again: %v", now[len(before):])
		}
	})
}

// TestFreezeWithoutStore stops this node now and the others later.
func TestFreezeWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &heat.Memory{}
		f := &faulty{inner: store, fail: never}
		a, b := run(t, heat.Config{Node: "a", Store: f}), run(t, heat.Config{Node: "b", Store: &faulty{inner: store}})
		time.Sleep(2 * time.Second)
		if err := a.Freeze(t.Context(), true, "alice"); !errors.Is(err, errAway) || !a.Status().On {
			t.Errorf("error %v, status %+v", err, a.Status())
		}
		a.load(chunk(1), 50*replica, 5*time.Second)
		if d := a.decided(); len(d) != 0 {
			t.Errorf("decided %v", d)
		}
		if err := a.Freeze(t.Context(), false, "alice"); !errors.Is(err, errAway) || !a.Status().On {
			t.Errorf("thawed without the store: error %v, status %+v", err, a.Status())
		}
		f.set(store, nil)
		time.Sleep(3 * time.Second)
		if s := b.Status(); !s.On || s.By != "alice" {
			t.Errorf("the other node: %+v", s)
		}
	})
}

// TestCalls counts the calls of the store.
func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{inner: &heat.Memory{}}
		n := run(t, heat.Config{Store: f})
		time.Sleep(time.Minute)
		if calls := len(f.called()); calls < 55 || calls > 60 {
			t.Errorf("%d calls in an idle minute, want one a second", calls)
		}
		f.set(f.inner, nil)
		for i := range 1200 {
			for k := range 20 {
				n.Count(chunk((20*i+k)%2000), 100_000)
			}
			time.Sleep(50 * time.Millisecond)
		}
		calls := f.called()
		for i := 4; i < len(calls); i++ {
			if d := calls[i].Sub(calls[i-4]); d < time.Second {
				t.Errorf("5 calls within %v", d)
			}
		}
		if len(calls) < 4*58 {
			t.Errorf("%d calls in a minute of load, want four a second", len(calls))
		}
	})
}

// TestNewerProcess: the epoch of another process of the same name is passed.
func TestNewerProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &tally{}
		ahead := heat.Window{Node: "a", Epoch: uint64(time.Now().Add(time.Hour).UnixMicro()), Seq: 1}
		if _, err := store.Apply(t.Context(), ahead); err != nil {
			t.Fatal(err)
		}
		n := run(t, heat.Config{Store: &faulty{inner: store}})
		n.load(chunk(1), replica, 10*time.Second)
		time.Sleep(time.Second)
		if store.counted() < 9*replica {
			t.Errorf("%d bytes were counted, want about %d", store.counted(), 10*replica)
		}
	})
}

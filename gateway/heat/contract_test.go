package heat_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/heat"
	"inos.dev/edge/gateway/redistest"
)

const window = 250 * time.Millisecond

// TestContract is what every Store does.
func TestContract(t *testing.T) {
	server := redistest.Start(t)
	kinds := map[string]func(t *testing.T) heat.Store{
		"memory": func(*testing.T) heat.Store { return &heat.Memory{} },
		"redis": func(t *testing.T) heat.Store {
			t.Helper()
			flush(t, server)
			return openRedis(t, server)
		},
	}
	suite := map[string]func(t *testing.T, s heat.Store){
		"rates": testRates, "once": testOnce, "processes": testProcesses, "decisions": testDecisions, "end of a decision": testExpiry,
		"budget": testBudget, "large moves": testLargeMoves, "freeze": testFreeze, "known": testKnown, "limits": testLimits,
		"views": testViews, "at the same time": testConcurrent, "context": testContext,
	}
	for kind, open := range kinds {
		for name, test := range suite {
			t.Run(kind+"/"+name, func(t *testing.T) { test(t, open(t)) })
		}
	}
}

// teller numbers the windows of a node.
type teller struct {
	t     testing.TB
	store heat.Store
	next  heat.Window
}

func tell(t testing.TB, s heat.Store, node string) *teller {
	t.Helper()
	return &teller{t, s, heat.Window{Node: node, Epoch: 1, Seq: 1, Span: window, BytesPerMinute: 1 << 30}}
}

func apply(t testing.TB, s heat.Store, w heat.Window) heat.View {
	t.Helper()
	v, err := s.Apply(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// window tells the next one, which must count.
func (n *teller) window(change func(w *heat.Window)) heat.View {
	n.t.Helper()
	w := n.next
	if change != nil {
		change(&w)
	}
	v := apply(n.t, n.store, w)
	if v.LastSeq != w.Seq || v.Epoch != w.Epoch {
		n.t.Fatalf("window %d was not counted: the last one is %d", w.Seq, v.LastSeq)
	}
	n.next.Base, n.next.Seq = w.Seq, w.Seq+1
	return v
}

// count tells bytes of one chunk.
func (n *teller) count(h cas.Hash, bytes int64) heat.View {
	n.t.Helper()
	return n.window(func(w *heat.Window) { w.Deltas = []heat.Delta{{Chunk: h, Bytes: bytes}} })
}

// propose tells proposals alone.
func (n *teller) propose(d ...heat.Decision) heat.View {
	n.t.Helper()
	return n.window(func(w *heat.Window) { w.Proposals = d })
}

// ask tells nothing.
func (n *teller) ask() heat.View {
	n.t.Helper()
	w := n.next
	w.Seq = w.Base
	return apply(n.t, n.store, w)
}

// wait asks until the clock of the store has gone on by d.
func (n *teller) wait(d time.Duration) heat.View {
	n.t.Helper()
	start := n.ask().Now
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if v := n.ask(); v.Now.Sub(start) >= d {
			return v
		}
	}
	n.t.Fatal("the clock of the store stands still")
	return heat.View{}
}

// of returns what a view has of a chunk.
func of(v heat.View, h cas.Hash) heat.Rate {
	for _, r := range v.Rates {
		if r.Chunk == h {
			return r
		}
	}
	return heat.Rate{}
}

func near(a, b, part float64) bool { return math.Abs(a-b) <= part*math.Abs(b) }

func proposal(h cas.Hash, epoch uint64, from, to int, moves int64) heat.Decision {
	now := time.Now()
	return heat.Decision{Chunk: h, Epoch: epoch, Previous: from, Target: to, Policy: heat.Policy{RF: 3, MaxRF: 16, Size: 1 << 20}, Reason: heat.Hotter,
		Rate: 1.5e8, Moves: moves, Time: now, Expires: now.Add(10 * time.Minute)}
}

func testRates(t *testing.T, s heat.Store) {
	t.Helper()
	a, b := tell(t, s, "a"), tell(t, s, "b")
	first := a.count(chunk(1), 1<<20)
	r := of(first, chunk(1))
	if fast, slow := (1<<20)*heat.Share(window, heat.FastConstant), (1<<20)*heat.Share(window, heat.SlowConstant); !near(r.Fast, fast, 1e-5) || !near(r.Slow, slow, 1e-5) {
		t.Errorf("one window: rates %v, want %v and %v", r, fast, slow)
	}
	if first.Tracked != 1 {
		t.Errorf("%d chunks are tracked, want 1", first.Tracked)
	}
	aged := a.window(func(w *heat.Window) {
		w.Age, w.Deltas = time.Second, []heat.Delta{{Chunk: chunk(2), Bytes: 1 << 20}}
	})
	if got, want := of(aged, chunk(2)).Fast, (1<<20)*heat.Share(window, heat.FastConstant)*math.Exp(-1/heat.FastConstant); !near(got, want, 1e-5) {
		t.Errorf("a window that ended a second ago: rate %v, want %v", got, want)
	}
	later := a.wait(20 * time.Millisecond)
	passed := later.Now.Sub(first.Now).Seconds()
	got := of(later, chunk(1))
	if !near(got.Fast, r.Fast*math.Exp(-passed/heat.FastConstant), 1e-4) || !near(got.Slow, r.Slow*math.Exp(-passed/heat.SlowConstant), 1e-4) {
		t.Errorf("after %vs: rates %v, before that %v", passed, got, r)
	}
	both := of(b.count(chunk(1), 3<<20), chunk(1))
	if want := (4 << 20) * heat.Share(window, heat.SlowConstant); !near(both.Slow, want, .01) {
		t.Errorf("two nodes: slow average %v, want %v", both.Slow, want)
	}
}

// testOnce has windows come twice, late, and in the wrong order.
func testOnce(t *testing.T, s heat.Store) {
	t.Helper()
	n := tell(t, s, "a")
	var windows []heat.Window
	for i := range 4 {
		n.window(func(w *heat.Window) {
			w.Deltas = []heat.Delta{{Chunk: chunk(1), Bytes: int64(i+1) << 20}}
			windows = append(windows, *w)
		})
	}
	slices.Reverse(windows)
	for range 10 {
		for _, w := range windows {
			if v := apply(t, s, w); v.LastSeq != 4 {
				t.Fatalf("window %d came again: the last one is %d, want 4", w.Seq, v.LastSeq)
			}
		}
	}
	// One that merges what has been heard with more, and one that comes too early.
	for _, w := range []heat.Window{{Base: 3, Seq: 5}, {Base: 5, Seq: 6}, {Base: 0, Seq: 7}} {
		w.Node, w.Epoch, w.Span, w.Deltas = "a", 1, window, []heat.Delta{{Chunk: chunk(1), Bytes: 1 << 30}}
		if v := apply(t, s, w); v.LastSeq != 4 {
			t.Errorf("window %d on %d was counted: the last one is %d", w.Seq, w.Base, v.LastSeq)
		}
	}
	if got, want := of(n.ask(), chunk(1)).Slow, (10<<20)*heat.Share(window, heat.SlowConstant); !near(got, want, .02) {
		t.Errorf("slow average %v, want %v", got, want)
	}
	// A number may be left out, if the node says so.
	n.next.Seq = 9
	n.count(chunk(1), 1)
}

func testProcesses(t *testing.T, s heat.Store) {
	t.Helper()
	old := tell(t, s, "a")
	old.count(chunk(1), 1<<20)
	old.count(chunk(1), 1<<20)
	young := tell(t, s, "a")
	young.next.Epoch = 7
	if v := young.ask(); v.Epoch != 1 || v.LastSeq != 2 {
		t.Errorf("a process that has not counted yet: epoch %d, window %d, want 1, 2", v.Epoch, v.LastSeq)
	}
	young.count(chunk(1), 1<<20)
	w := old.next
	w.Deltas = []heat.Delta{{Chunk: chunk(1), Bytes: 1 << 30}}
	if v := apply(t, s, w); v.Epoch != 7 || v.LastSeq != 1 {
		t.Errorf("what the old process left: epoch %d, window %d, want 7, 1", v.Epoch, v.LastSeq)
	}
	w = young.next
	w.Epoch, w.Base, w.Deltas = 8, 1, []heat.Delta{{Chunk: chunk(1), Bytes: 1 << 30}}
	if v := apply(t, s, w); v.Epoch != 7 {
		t.Errorf("a new process that begins in the middle: epoch %d, want 7", v.Epoch)
	}
	if got, want := of(young.ask(), chunk(1)).Slow, (3<<20)*heat.Share(window, heat.SlowConstant); !near(got, want, .02) {
		t.Errorf("slow average %v, want %v", got, want)
	}
}

func testDecisions(t *testing.T, s heat.Store) {
	t.Helper()
	a, b := tell(t, s, "a"), tell(t, s, "b")
	v := a.propose(proposal(chunk(1), 0, 3, 9, 6<<20))
	d := of(v, chunk(1)).Decision
	want := proposal(chunk(1), d.Epoch, 3, 9, 6<<20)
	want.Node, want.Time, want.Expires = "a", v.Now, d.Expires
	if len(v.Refused) != 0 || d.Epoch == 0 || d != want {
		t.Fatalf("decision\n%+v, want\n%+v (refused: %v)", d, want, v.Refused)
	}
	if life := d.Expires.Sub(d.Time); life != 10*time.Minute {
		t.Errorf("it lasts %v, want 10m", life)
	}
	if v := b.propose(proposal(chunk(1), 0, 3, 8, 5<<20)); !slices.Equal(v.Refused, []heat.Refusal{{Chunk: chunk(1), Reason: heat.Outdated}}) || of(v, chunk(1)).Decision != d {
		t.Errorf("on no decision when there is one: refused %v", v.Refused)
	}
	next := of(b.propose(proposal(chunk(1), d.Epoch, 9, 8, 0)), chunk(1)).Decision
	if next.Epoch <= d.Epoch || next.Target != 8 || next.Node != "b" {
		t.Errorf("on the last one: %+v", next)
	}
	// The same window again, as after a timeout.
	w := b.next
	w.Base, w.Seq, w.Proposals = 1, 2, []heat.Decision{proposal(chunk(1), d.Epoch, 9, 8, 0)}
	if v := apply(t, s, w); of(v, chunk(1)).Decision != next || len(v.Refused) != 0 {
		t.Errorf("again: %+v, want %+v", of(v, chunk(1)).Decision, next)
	}
	if r, err := s.Top(t.Context(), 1); err != nil || len(r) > 0 && r[0].Decision != next {
		t.Errorf("top: %v, %v", r, err)
	}
}

func testExpiry(t *testing.T, s heat.Store) {
	t.Helper()
	n := tell(t, s, "a")
	d := proposal(chunk(1), 0, 3, 9, 0)
	d.Expires = d.Time.Add(30 * time.Millisecond)
	first := of(n.propose(d), chunk(1)).Decision
	if first.Epoch == 0 {
		t.Fatal("not accepted")
	}
	if v := n.wait(40 * time.Millisecond); len(v.Rates) != 0 {
		t.Errorf("after its end: %v", v.Rates)
	}
	if second := of(n.propose(proposal(chunk(1), 0, 3, 4, 0)), chunk(1)).Decision; second.Epoch <= first.Epoch {
		t.Errorf("the epoch went from %d to %d", first.Epoch, second.Epoch)
	}
}

func testBudget(t *testing.T, s heat.Store) {
	t.Helper()
	n := tell(t, s, "a")
	n.next.BytesPerMinute = 60 << 20
	var all []heat.Decision
	for i := range 8 {
		all = append(all, proposal(chunk(i), 0, 3, 4, 10<<20))
	}
	v := n.propose(all...)
	if len(v.Refused) != 2 || v.Refused[0] != (heat.Refusal{Chunk: chunk(6), Reason: heat.OverBudget}) || len(v.Rates) != 6 || v.Budget > 1<<20 {
		t.Fatalf("refused %v, accepted %d, budget %d; want chunks 6 and 7 refused", v.Refused, len(v.Rates), v.Budget)
	}
	was := v.Budget
	later := n.wait(100 * time.Millisecond)
	if got, want := float64(later.Budget-was), later.Now.Sub(v.Now).Seconds()*(1<<20); !near(got, want, .01) {
		t.Errorf("the budget has grown by %v, want %v", got, want)
	}
	if v := n.propose(proposal(chunk(6), 0, 3, 4, later.Budget)); len(v.Refused) != 0 {
		t.Errorf("refused %v within the budget", v.Refused)
	}
	if v := n.propose(proposal(chunk(7), 0, 4, 3, 0)); len(v.Refused) != 0 {
		t.Errorf("refused %v, which moves nothing", v.Refused)
	}
}

func testLargeMoves(t *testing.T, s heat.Store) {
	t.Helper()
	n := tell(t, s, "a")
	n.next.BytesPerMinute = 1 << 20
	if v := n.propose(proposal(chunk(1), 0, 3, 4, 5<<20)); len(v.Refused) != 0 || v.Budget != -4<<20 {
		t.Errorf("more than the whole budget, which is full: refused %v, budget %d", v.Refused, v.Budget)
	}
	if v := n.propose(proposal(chunk(2), 0, 3, 4, 1)); len(v.Refused) != 1 {
		t.Error("a move on debt was accepted")
	}
}

func testFreeze(t *testing.T, s heat.Store) {
	t.Helper()
	a, b := tell(t, s, "a"), tell(t, s, "b")
	d := of(a.propose(proposal(chunk(1), 0, 3, 9, 0)), chunk(1)).Decision
	on, err := s.Freeze(t.Context(), true, "alice")
	if err != nil || !on.On || on.By != "alice" {
		t.Fatal(on, err)
	}
	if v := b.propose(proposal(chunk(1), d.Epoch, 9, 8, 0), proposal(chunk(2), 0, 3, 4, 0)); len(v.Refused) != 2 || v.Refused[0].Reason != heat.Frozen || v.Switch != on {
		t.Errorf("frozen: refused %v, switch %v", v.Refused, v.Switch)
	}
	renewed := of(b.propose(proposal(chunk(1), d.Epoch, 9, 9, 0)), chunk(1)).Decision
	if renewed.Epoch <= d.Epoch {
		t.Error("frozen, a decision cannot be renewed")
	}
	off, err := s.Freeze(t.Context(), false, "bob")
	if err != nil || off.On || !off.At.After(on.At) {
		t.Fatal(off, err)
	}
	if v := a.window(func(w *heat.Window) { w.Switch = on }); v.Switch != off {
		t.Errorf("an older switch was taken over: %v", v.Switch)
	}
	ahead := heat.Switch{On: true, By: "a node whose clock is fast", At: off.At.Add(time.Hour)}
	if v := a.window(func(w *heat.Window) { w.Switch = ahead }); v.Switch != ahead {
		t.Errorf("a newer switch was not taken over: %v", v.Switch)
	}
	if off, err = s.Freeze(t.Context(), false, "bob"); err != nil || b.ask().Switch != off || off.On {
		t.Errorf("what is set now is the newest: %v, %v", off, err)
	}
}

func testKnown(t *testing.T, s heat.Store) {
	t.Helper()
	n := tell(t, s, "a")
	now := n.ask().Now
	d := proposal(chunk(1), 5, 3, 9, 1<<20)
	d.Node, d.Time, d.Expires = "b", now.Add(-time.Minute), now.Add(time.Minute)
	void := d
	void.Chunk, void.Expires = chunk(2), now.Add(-time.Millisecond)
	learn := func(d ...heat.Decision) heat.View {
		w := n.next
		w.Seq, w.Known = w.Base, d
		return apply(t, s, w)
	}
	if v := learn(d, void); len(v.Rates) != 1 || v.Rates[0].Decision != d || v.Budget != 1<<30 {
		t.Fatalf("%+v, want %+v, for nothing", v.Rates, d)
	}
	older, newer := d, d
	older.Epoch, older.Target = 4, 4
	if v := learn(older); v.Rates[0].Decision != d {
		t.Errorf("an older decision was taken over")
	}
	newer.Epoch, newer.Target = 6, 6
	if v := learn(newer); v.Rates[0].Decision != newer {
		t.Errorf("a newer decision was not taken over")
	}
}

func testLimits(t *testing.T, s heat.Store) {
	t.Helper()
	n := tell(t, s, "a")
	for part := range 5 {
		v := n.window(func(w *heat.Window) {
			w.Above = 1e12
			for i := range 1000 {
				k := part*1000 + i
				w.Deltas = append(w.Deltas, heat.Delta{Chunk: chunk(k), Bytes: int64(10000 + 10*k)})
			}
		})
		if v.Tracked > heat.MaxTracked {
			t.Fatalf("%d chunks are tracked", v.Tracked)
		}
	}
	top, err := s.Top(t.Context(), heat.MaxTop+1)
	if err != nil || len(top) != heat.MaxTop || top[0].Chunk != chunk(4999) {
		t.Errorf("%d of the top, %v", len(top), err)
	}
	var many []heat.Decision
	for i := range heat.MaxDecisions + 10 {
		many = append(many, proposal(chunk(i), 0, 3, 4, 0))
	}
	if v := n.window(func(w *heat.Window) { w.Above, w.Proposals = 1e12, many }); len(v.Refused) != 10 || len(v.Rates) != heat.MaxDecisions {
		t.Errorf("%d decisions, %d refused, want 1024 and 10", len(v.Rates), len(v.Refused))
	}
}

func testViews(t *testing.T, s heat.Store) {
	t.Helper()
	n := tell(t, s, "a")
	v := n.window(func(w *heat.Window) {
		w.Above = 100_000
		for i := range 1000 {
			w.Deltas = append(w.Deltas, heat.Delta{Chunk: chunk(i), Bytes: int64(i) * 100})
		}
		w.Proposals = []heat.Decision{proposal(chunk(7), 0, 3, 4, 0), proposal(chunk(5000), 0, 3, 4, 0)}
	})
	each := heat.Share(window, heat.FastConstant) * 100
	least := int(math.Ceil(100_000 / each)) // the coldest one that is asked for
	if want := min(1000-least, heat.MaxView) + 2; len(v.Rates) != want {
		t.Fatalf("%d chunks, want %d", len(v.Rates), want)
	}
	for i, r := range v.Rates[:len(v.Rates)-2] {
		if r.Chunk != chunk(999-i) || !near(r.Fast, each*float64(999-i), 1e-4) {
			t.Fatalf("line %d has a rate of %v, want %v", i, r.Fast, each*float64(999-i))
		}
	}
	if r := v.Rates[len(v.Rates)-2:]; r[0].Chunk != chunk(7) || r[1].Chunk != chunk(5000) || r[1].Fast != 0 || r[1].Decision.Epoch == 0 {
		t.Errorf("those with a decision: %v", r)
	}
	top, err := s.Top(t.Context(), 3)
	if err != nil || len(top) != 3 || top[0].Chunk != chunk(999) || top[2].Chunk != chunk(997) {
		t.Errorf("top 3: %v, %v", top, err)
	}
}

func testConcurrent(t *testing.T, s heat.Store) {
	t.Helper()
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			n := tell(t, s, fmt.Sprint("node ", k))
			for range 25 {
				w := n.next
				w.Deltas = []heat.Delta{{Chunk: chunk(1), Bytes: 1 << 20}}
				w.Proposals = []heat.Decision{proposal(chunk(2), 0, 3, 4, 0)}
				for range 2 { // each of them twice
					if v, err := s.Apply(t.Context(), w); err != nil || v.LastSeq != w.Seq {
						t.Errorf("window %d: %d, %v", w.Seq, v.LastSeq, err)
					}
				}
				n.next.Base, n.next.Seq = w.Seq, w.Seq+1
			}
		})
	}
	wg.Wait()
	v := tell(t, s, "x").ask()
	if got, want := of(v, chunk(1)).Slow, (100<<20)*heat.Share(window, heat.SlowConstant); !near(got, want, .05) {
		t.Errorf("slow average %v, want %v", got, want)
	}
	if d := of(v, chunk(2)).Decision; d.Target != 4 {
		t.Errorf("one of the proposals should have been accepted: %+v", d)
	}
}

func testContext(t *testing.T, s heat.Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Apply(ctx, tell(t, s, "a").next)
	_, err2 := s.Top(ctx, 1)
	_, err3 := s.Freeze(ctx, true, "")
	for _, err := range []error{err, err2, err3} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want that of the context", err)
		}
	}
}

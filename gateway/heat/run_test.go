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

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/heat"
)

const replica = 8 << 20 // bytes per second that one serves by default

func chunk(i int) cas.Hash { return cas.Sum([]byte{byte(i), byte(i >> 8), byte(i >> 16)}) }

// node is a Heat that runs, and what it announced.
type node struct {
	*heat.Heat

	stop func()

	mu        sync.Mutex // guards announced
	announced []heat.Decision
}

func (n *node) decided() []heat.Decision {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.announced)
}

func knowsAll(context.Context, cas.Hash) (heat.Policy, bool) { return policy, true }

func run(t *testing.T, cfg heat.Config) *node {
	t.Helper()
	n := &node{}
	if cfg.Node == "" {
		cfg.Node = "a"
	}
	if cfg.Policy == nil {
		cfg.Policy = knowsAll
	}
	if cfg.Decided == nil {
		cfg.Decided = func(_ context.Context, d heat.Decision) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.announced = append(n.announced, d)
			return nil
		}
	}
	h, err := heat.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Heat = h
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(n.stop)
	return n
}

// load reads a chunk at a rate for some time, in steps of 10 ms.
func (n *node) load(h cas.Hash, rate float64, d time.Duration) {
	for range d / (10 * time.Millisecond) {
		n.Count(h, int64(rate/100))
		time.Sleep(10 * time.Millisecond)
	}
}

// target is what was last announced about a chunk.
func target(decided []heat.Decision, h cas.Hash) int {
	for _, d := range slices.Backward(decided) {
		if d.Chunk == h {
			return d.Target
		}
	}
	return policy.RF
}

// steps are the targets one after the other; renewals are none.
func steps(decided []heat.Decision) (targets []int) {
	for _, d := range decided {
		if d.Target != d.Previous {
			targets = append(targets, d.Target)
		}
	}
	return targets
}

// TestViral has a step from nothing to 50 times what one replica serves.
func TestViral(t *testing.T) {
	for _, maxRF := range []int{4, 16, 50} {
		synctest.Test(t, func(t *testing.T) {
			n := run(t, heat.Config{Policy: func(context.Context, cas.Hash) (heat.Policy, bool) {
				return heat.Policy{RF: 3, MaxRF: maxRF, Size: 1 << 20}, true
			}})
			time.Sleep(time.Minute + 17*time.Millisecond)
			start := time.Now()
			n.load(chunk(1), 50*replica, 2*time.Minute)
			up := n.decided()
			d := up[len(up)-1]
			if took := d.Time.Sub(start); d.Target != maxRF || took > 3*time.Second {
				t.Errorf("max_rf %d: %v after the step the target is %d", maxRF, took, d.Target)
			}
			if !slices.IsSorted(steps(up)) {
				t.Errorf("max_rf %d: targets %v", maxRF, steps(up))
			}
			time.Sleep(9 * time.Minute)
			all := n.decided()
			down := steps(all[len(up):])
			if len(down) == 0 || down[len(down)-1] != 3 || !slices.IsSortedFunc(down, func(a, b int) int { return b - a }) || len(down) > 6 {
				t.Errorf("max_rf %d: targets %v afterwards", maxRF, down)
			}
			before := d.Time
			for _, d := range all[len(up):] {
				if d.Target < d.Previous && d.Time.Sub(before) < time.Minute {
					t.Errorf("down from %d to %d %v after the last decision", d.Previous, d.Target, d.Time.Sub(before))
				}
				before = d.Time
			}
			var moved int64
			for _, d := range all {
				moved += d.Moves
			}
			if want := int64(maxRF-3) << 20; moved != want {
				t.Errorf("max_rf %d: %d bytes moved, want %d", maxRF, moved, want)
			}
		})
	}
}

// TestNoisyLoad runs for ten minutes, with the target above the floor.
func TestNoisyLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := run(t, heat.Config{})
		rng := rand.New(rand.NewPCG(3, 4))
		for range 10 * 60 * 20 {
			n.Count(chunk(1), int64(9.5*replica/20*2*rng.Float64()))
			time.Sleep(50 * time.Millisecond)
		}
		targets := steps(n.decided())
		if final := targets[len(targets)-1]; len(targets) > 8 || final < 10 {
			t.Errorf("targets %v", targets)
		}
		var renewed int
		for _, d := range n.decided() {
			if d.Target == d.Previous {
				renewed++
			}
		}
		if renewed < 1 {
			t.Error("nothing was renewed")
		}
	})
}

// TestManyHot has more demand than the budget: the hottest comes first, and
// nothing is moved beyond it.
func TestManyHot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const budget = 100 << 20
		registry := prometheus.NewRegistry()
		n := run(t, heat.Config{Rules: heat.Rules{BytesPerMinute: budget}, Registry: registry})
		start := time.Now()
		for range 5 * 60 * 10 {
			for i := range 40 {
				n.Count(chunk(i), int64(replica/10*(60-i)))
			}
			time.Sleep(100 * time.Millisecond)
		}
		first := n.decided()[:4]
		for i, d := range first {
			if d.Chunk != chunk(i) {
				t.Errorf("decision %d is about another chunk than the hottest without replicas", i)
			}
		}
		var moved int64
		for _, d := range n.decided() {
			moved += d.Moves
			if allowed := budget + int64(d.Time.Sub(start).Seconds()*budget/60); moved > allowed {
				t.Fatalf("%d bytes moved after %v, %d are allowed", moved, d.Time.Sub(start), allowed)
			}
		}
		if moved < 4*budget {
			t.Errorf("%d bytes moved in five minutes: most of the budget was not used", moved)
		}
		plan := n.Plan(t.Context())
		if len(plan) != 40 || !slices.ContainsFunc(plan, func(d heat.Decision) bool { return d.Reason == heat.Ceiling }) {
			t.Errorf("plan of %d chunks: %+v", len(plan), plan)
		}
		if got := counterValue(t, registry, "inos_heat_moved_bytes_total"); got != float64(moved) {
			t.Errorf("metric says %v, want %d", got, moved)
		}
	})
}

func counterValue(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	synctest.Test(t, func(t *testing.T) {
		n := run(t, heat.Config{Registry: registry})
		n.load(chunk(1), 50*replica, 3*time.Second)
	})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	for name, want := range map[string]float64{"inos_heat_tracked_chunks": 1, "inos_heat_decisions_total": 1, "inos_heat_frozen": 0, "inos_heat_store_up": 1} {
		if got := counterValue(t, registry, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if _, err := heat.New(heat.Config{Node: "b", Policy: knowsAll, Registry: registry}); err == nil {
		t.Error("metrics can be registered twice")
	}
}

func TestFreezeStopsMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := run(t, heat.Config{})
		n.load(chunk(1), 8.5*replica, 10*time.Second)
		if err := n.Freeze(t.Context(), true, "alice"); err != nil {
			t.Fatal(err)
		}
		before := steps(n.decided())
		n.load(chunk(1), 50*replica, 10*time.Second)
		if d := n.Plan(t.Context())[0]; d.Reason != heat.Frozen || d.Target != 9 {
			t.Errorf("plan while frozen: %+v", d)
		}
		time.Sleep(20 * time.Minute)
		if now := steps(n.decided()); !slices.Equal(now, before) {
			t.Errorf("while frozen the targets went from %v to %v", before, now)
		}
		if ds := n.Decisions(); len(ds) != 1 || ds[0].Target != 9 {
			t.Errorf("after 20 minutes of frost the decisions are %v", ds)
		}
		if s := n.Status(); !s.On || s.By != "alice" || s.Shared || !s.Up {
			t.Errorf("status %+v", s)
		}
		if err := n.Freeze(t.Context(), false, "bob"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute)
		if got := target(n.decided(), chunk(1)); got != 3 {
			t.Errorf("after the frost the target is %d", got)
		}
	})
}

// TestPlanIsWhatRunDoes compares each decision with the plan just before it.
func TestPlanIsWhatRunDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := run(t, heat.Config{Rules: heat.Rules{BytesPerMinute: 20 << 20}})
		rng := rand.New(rand.NewPCG(5, 6))
		var compared int
		time.Sleep(time.Millisecond) // just after each window
		for range 4 * 60 * 6 {
			for i := range 5 {
				n.Count(chunk(i), int64(replica*4*rng.Float64()*float64(rng.IntN(2))))
			}
			planned := make(map[cas.Hash]heat.Decision)
			for _, d := range n.Plan(t.Context()) {
				planned[d.Chunk] = d
			}
			before := len(n.decided())
			time.Sleep(window)
			for _, d := range n.decided()[before:] {
				compared++
				if p := planned[d.Chunk]; p.Target != d.Target || p.Reason != d.Reason || p.Moves != d.Moves || p.Previous != d.Previous {
					t.Fatalf("planned %+v, done %+v", p, d)
				}
				delete(planned, d.Chunk)
			}
			for _, p := range planned {
				if p.Target != p.Previous {
					t.Fatalf("planned and not done: %+v", p)
				}
			}
		}
		if compared < 10 {
			t.Errorf("only %d decisions", compared)
		}
	})
}

// TestTwoNodes decide about the same chunks at the same moments.
func TestTwoNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{inner: &heat.Memory{}}
		a, b := run(t, heat.Config{Node: "a", Store: store}), run(t, heat.Config{Node: "b", Store: store})
		for range 60 * 10 {
			a.Count(chunk(1), 2*replica/10)
			b.Count(chunk(1), 6*replica/10)
			b.Count(chunk(2), 12*replica/10)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(10 * time.Minute)
		all := slices.Concat(a.decided(), b.decided())
		slices.SortFunc(all, func(x, y heat.Decision) int { return int(x.Epoch) - int(y.Epoch) })
		epochs := make(map[cas.Hash]uint64)
		targets := map[cas.Hash]int{chunk(1): 3, chunk(2): 3}
		for _, d := range all {
			if d.Epoch <= epochs[d.Chunk] {
				t.Errorf("epoch %d was announced twice", d.Epoch)
			}
			if d.Previous != targets[d.Chunk] {
				t.Errorf("decided from %d when the target was %d", d.Previous, targets[d.Chunk])
			}
			epochs[d.Chunk], targets[d.Chunk] = d.Epoch, d.Target
		}
		if len(all) < 4 || targets[chunk(1)] != 3 || targets[chunk(2)] != 3 {
			t.Errorf("%d decisions, targets %v", len(all), targets)
		}
	})
}

// TestAnnouncements come until one is heard, and a process that takes the
// place of one that died announces what it finds.
func TestAnnouncements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &heat.Memory{}
		failures := 0
		n := run(t, heat.Config{Store: store, Decided: func(context.Context, heat.Decision) error {
			failures++
			return errors.New("nobody is there")
		}})
		n.load(chunk(1), 8.5*replica, 10*time.Second)
		n.stop()
		if failures < 30 {
			t.Errorf("%d tries", failures)
		}
		again := run(t, heat.Config{Store: store})
		time.Sleep(2 * time.Second)
		if d := again.decided(); len(d) != 1 || d[0].Target != 9 {
			t.Errorf("announced %v", d)
		}
	})
}

// TestAnnouncementThatFails holds up no other.
func TestAnnouncementThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		heard := map[cas.Hash]bool{}
		n := run(t, heat.Config{Decided: func(_ context.Context, d heat.Decision) error {
			if d.Chunk == chunk(1) {
				return errors.New("nobody takes this one")
			}
			mu.Lock()
			defer mu.Unlock()
			heard[d.Chunk] = true
			return nil
		}})
		for range 40 { // the one that fails is the hottest
			n.Count(chunk(1), 9*replica)
			n.Count(chunk(2), 5*replica)
			time.Sleep(250 * time.Millisecond)
		}
		n.stop()
		if !heard[chunk(2)] {
			t.Error("a decision that nobody takes holds up another")
		}
	})
}

func TestTop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &faulty{inner: &heat.Memory{}}
		n := run(t, heat.Config{Store: store, Policy: func(_ context.Context, h cas.Hash) (heat.Policy, bool) {
			return policy, h != chunk(3)
		}})
		for range 100 {
			n.Count(chunk(1), 9*replica/10)
			n.Count(chunk(2), 2*replica/10)
			n.Count(chunk(3), 1*replica/10)
			time.Sleep(100 * time.Millisecond)
		}
		top, err := n.Top(t.Context(), 10)
		if err != nil || len(top) != 3 {
			t.Fatal(top, err)
		}
		if h := top[0]; h.Chunk != chunk(1) || !near(h.Rate, 9*replica, .5) || h.Target < 9 || h.Epoch == 0 || h.Policy != policy || h.Reason != heat.CoolDown && h.Reason != heat.Steady {
			t.Errorf("first: %+v", h)
		}
		if h := top[1]; h.Chunk != chunk(2) || h.Target != 3 || h.Epoch != 0 || h.Reason != heat.Floor {
			t.Errorf("second: %+v", h)
		}
		if h := top[2]; h.Chunk != chunk(3) || h.Target != 0 || h.Reason != "" {
			t.Errorf("one that this node knows nothing of: %+v", h)
		}
		for range 100 {
			if _, err := n.Top(t.Context(), 2); err != nil {
				t.Fatal(err)
			}
		}
		if store.tops != 1 {
			t.Errorf("the store was asked %d times for the list", store.tops)
		}
	})
}

func TestConfig(t *testing.T) {
	good := heat.Config{Node: "a", Policy: knowsAll}
	for name, change := range map[string]func(c *heat.Config){
		"no node": func(c *heat.Config) { c.Node = "" }, "no policy": func(c *heat.Config) { c.Policy = nil },
		"short window": func(c *heat.Config) { c.Window = 100 * time.Millisecond }, "long timeout": func(c *heat.Config) { c.Timeout = time.Second },
		"negative rule": func(c *heat.Config) { c.CoolDown = -1 },
	} {
		cfg := good
		change(&cfg)
		if _, err := heat.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := heat.New(good); err != nil {
		t.Error(err)
	}
}

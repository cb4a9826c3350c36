package heat_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inos.dev/edge/gateway/heat"
)

var (
	noon   = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	policy = heat.Policy{RF: 3, MaxRF: 16, Size: 1 << 20}
)

// seen is an observation, and what a node remembers that has seen nothing else
// for some time.
func seen(fast, slow float64, target int, since time.Duration) (heat.Observation, heat.State) {
	o := heat.Observation{Rate: heat.Rate{Chunk: chunk(1), Fast: fast, Slow: slow}, Budget: 1 << 30}
	if target != 0 {
		o.Decision = heat.Decision{Chunk: chunk(1), Epoch: 7, Target: target, Time: noon.Add(-since), Expires: noon.Add(10*time.Minute - since)}
	}
	var s heat.State
	for at := -since; at <= 0; at += window {
		s = s.Observe(o, policy, noon.Add(at), heat.Rules{})
	}
	return o, s
}

func TestDecide(t *testing.T) {
	type in struct {
		fast, slow float64 // in what one replica serves
		target     int     // of the last decision, 0: none
		since      time.Duration
		change     func(o *heat.Observation, p *heat.Policy)
	}
	type out struct {
		target int
		reason heat.Reason
		change bool
	}
	budget := func(n int64) func(*heat.Observation, *heat.Policy) {
		return func(o *heat.Observation, _ *heat.Policy) { o.Budget = n }
	}
	frozen := func(o *heat.Observation, _ *heat.Policy) { o.Frozen = true }
	alone := func(o *heat.Observation, _ *heat.Policy) { o.Alone = true }
	minutes := func(n float64) time.Duration { return time.Duration(n * float64(time.Minute)) }
	for name, c := range map[string]struct {
		in  in
		out out
	}{
		"nobody reads":             {in{0, 0, 0, minutes(2), nil}, out{3, heat.Floor, false}},
		"the floor serves it":      {in{3, 3, 0, minutes(2), nil}, out{3, heat.Floor, false}},
		"for one window":           {in{3.1, 1, 0, 0, nil}, out{3, heat.Settling, false}},
		"for two windows":          {in{3.1, 1, 0, window, nil}, out{4, heat.Hotter, true}},
		"viral":                    {in{50, 1, 0, window, nil}, out{16, heat.Hotter, true}},
		"not a number":             {in{math.NaN(), 1, 0, window, nil}, out{3, heat.Floor, false}},
		"without end":              {in{math.Inf(1), 1, 0, window, nil}, out{16, heat.Hotter, true}},
		"more than max_rf":         {in{50, 50, 16, minutes(2), nil}, out{16, heat.Ceiling, false}},
		"as it is":                 {in{8.5, 8.5, 9, minutes(2), nil}, out{9, heat.Steady, false}},
		"near the border":          {in{7.9, 7.9, 9, minutes(2), nil}, out{9, heat.Steady, false}},
		"colder":                   {in{4.9, 4.9, 9, minutes(2), nil}, out{6, heat.Cooler, true}},
		"cold":                     {in{0, 0, 16, minutes(2), nil}, out{9, heat.Cooler, true}},
		"cold, one above":          {in{0, 0, 4, minutes(2), nil}, out{3, heat.Cooler, true}},
		"cold for half a minute":   {in{0, 0, 9, minutes(.5), nil}, out{9, heat.CoolDown, false}},
		"cold, but not on average": {in{0, 8.5, 9, minutes(2), nil}, out{9, heat.Steady, false}},
		"renewed":                  {in{8.5, 8.5, 9, minutes(6), nil}, out{9, heat.Steady, true}},
		"void":                     {in{8.5, 8.5, 9, minutes(11), nil}, out{9, heat.Hotter, true}},
		"void and cold":            {in{0, 0, 9, minutes(11), nil}, out{3, heat.Floor, false}},

		"little budget":        {in{50, 1, 0, window, budget(5<<20 + 5)}, out{8, heat.Hotter, true}},
		"no budget":            {in{50, 1, 0, window, budget(1<<20 - 1)}, out{3, heat.OverBudget, false}},
		"budget overdrawn":     {in{50, 1, 0, window, budget(-5)}, out{3, heat.OverBudget, false}},
		"down costs nothing":   {in{0, 0, 4, minutes(2), budget(0)}, out{3, heat.Cooler, true}},
		"frozen, hot":          {in{50, 1, 0, window, frozen}, out{3, heat.Frozen, false}},
		"frozen, cold":         {in{0, 0, 9, minutes(2), frozen}, out{9, heat.Frozen, false}},
		"frozen, renewed":      {in{0, 0, 9, minutes(6), frozen}, out{9, heat.Frozen, true}},
		"alone, hot":           {in{50, 1, 0, window, alone}, out{8, heat.Hotter, true}},
		"alone, above the cap": {in{50, 1, 9, minutes(2), alone}, out{9, heat.Alone, false}},
		"alone, hot, renewed":  {in{50, 1, 9, minutes(6), alone}, out{9, heat.Alone, true}},
		"alone, cold":          {in{0, 0, 9, minutes(2), alone}, out{9, heat.Alone, false}},
		"alone, cold, ends":    {in{0, 0, 9, minutes(6), alone}, out{9, heat.Alone, false}},

		"the policy allows less": {in{50, 50, 16, minutes(2), func(_ *heat.Observation, p *heat.Policy) { p.MaxRF = 5 }}, out{5, heat.Ceiling, true}},
		"the floor rises":        {in{0, 0, 4, minutes(.5), func(_ *heat.Observation, p *heat.Policy) { p.RF = 10 }}, out{10, heat.Floor, true}},
		"a policy of zeros":      {in{50, 1, 0, window, func(_ *heat.Observation, p *heat.Policy) { *p = heat.Policy{} }}, out{16, heat.Hotter, true}},
		"a replica is larger than the budget": {in{50, 1, 0, window, func(o *heat.Observation, p *heat.Policy) { o.Budget, p.Size = 4<<30, 5<<30 }},
			out{4, heat.Hotter, true}},
	} {
		t.Run(name, func(t *testing.T) {
			o, s := seen(c.in.fast*replica, c.in.slow*replica, c.in.target, c.in.since)
			p := policy
			if c.in.change != nil {
				c.in.change(&o, &p)
			}
			d, change := heat.Decide(o, p, s, noon, heat.Rules{})
			if got := (out{d.Target, d.Reason, change}); got != c.out {
				t.Errorf("%+v, want %+v", got, c.out)
			}
			if moves := int64(max(d.Target-max(d.Previous, p.RF), 0)) * p.Size; d.Moves != moves {
				t.Errorf("it moves %d bytes, want %d", d.Moves, moves)
			}
		})
	}
}

// TestDecideBounds: whatever is observed, the target is within the policy, a
// move within the budget, nothing moves while frozen, and asking again gives
// the same answer.
func TestDecideBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.OneOf(rapid.Float64Range(0, 100*replica), rapid.Float64())
		p := heat.Policy{RF: rapid.IntRange(1, 20).Draw(t, "rf"), Size: rapid.Int64Range(0, 4<<20).Draw(t, "size")}
		p.MaxRF = p.RF + rapid.IntRange(0, 20).Draw(t, "above")
		r := heat.Rules{BytesPerMinute: 100 << 20}
		var s heat.State
		var last heat.Decision
		now := noon
		for range rapid.IntRange(1, 200).Draw(t, "windows") {
			now = now.Add(window * time.Duration(rapid.SampledFrom([]int{1, 1, 1, 40, 400}).Draw(t, "pause")))
			o := heat.Observation{Rate: heat.Rate{Fast: rate.Draw(t, "fast"), Slow: rate.Draw(t, "slow"), Decision: last},
				Budget: rapid.Int64Range(-1<<20, 100<<20).Draw(t, "budget"), Frozen: rapid.IntRange(0, 5).Draw(t, "frozen") == 0, Alone: rapid.IntRange(0, 5).Draw(t, "alone") == 0}
			s = s.Observe(o, p, now, r)
			d, change := heat.Decide(o, p, s, now, r)
			if again, _ := heat.Decide(o, p, s, now, r); again != d && !math.IsNaN(d.Rate) {
				t.Fatalf("asked again: %+v, before that %+v", again, d)
			}
			live := last.Epoch != 0 && now.Before(last.Expires)
			switch {
			case d.Target < p.RF || d.Target > p.MaxRF:
				t.Fatalf("target %d, policy %+v", d.Target, p)
			case d.Moves < 0 || d.Moves > max(o.Budget, 0):
				t.Fatalf("moves %d bytes of %d", d.Moves, o.Budget)
			case change && o.Frozen && d.Target != d.Previous:
				t.Fatalf("frozen, and %+v", d)
			case change && o.Alone && d.Target < d.Previous:
				t.Fatalf("alone, and %+v", d)
			case d.Reason == "":
				t.Fatalf("without a reason: %+v", d)
			case change && live && d.Target < d.Previous && now.Sub(last.Time) < time.Minute:
				t.Fatalf("down after %v", now.Sub(last.Time))
			}
			if change {
				d.Epoch = last.Epoch + 1
				last = d
			}
		}
	})
}

// TestNoFlapping has noisy loads near every border for ten minutes: once the
// target has found its level, it hardly ever changes.
func TestNoFlapping(t *testing.T) {
	for _, noise := range []float64{.05, .2, .5, 1} {
		for mean := 2.5; mean < 16; mean += .5 {
			rng := rand.New(rand.NewPCG(uint64(mean*10), uint64(noise*100)))
			fast, slow := mean*replica, mean*replica
			var last heat.Decision
			var s heat.State
			var early, late int
			start := noon
			for i := range int(10 * time.Minute / window) {
				now := start.Add(time.Duration(i) * window)
				rate := mean * replica * (1 + noise*(2*rng.Float64()-1))
				fast += (rate - fast) * (1 - math.Exp(-window.Seconds()/heat.FastConstant))
				slow += (rate - slow) * (1 - math.Exp(-window.Seconds()/heat.SlowConstant))
				o := heat.Observation{Rate: heat.Rate{Fast: fast, Slow: slow, Decision: last}, Budget: 1 << 40}
				s = s.Observe(o, policy, now, heat.Rules{})
				d, change := heat.Decide(o, policy, s, now, heat.Rules{})
				if !change {
					continue
				}
				if d.Target != d.Previous && now.Sub(start) < time.Minute {
					early++
				} else if d.Target != d.Previous {
					late++
				}
				d.Epoch = last.Epoch + 1
				last = d
			}
			if early > 8 || late > 2 {
				t.Errorf("mean %v, noise %v: %d changes in the first minute, %d in the nine after it", mean, noise, early, late)
			}
		}
	}
}

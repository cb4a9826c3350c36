package heat

import (
	"errors"
	"math"
	"time"
)

// Rules are what decisions go by. All nodes of a cluster should have the same.
// The zero value of a field is its default.
type Rules struct {
	// ReplicaBytes is what one replica serves, in bytes per second. Default
	// 8 MiB.
	ReplicaBytes int64
	// CoolDown is how long fewer replicas must have been enough before one is
	// taken away. Default 60 s.
	CoolDown time.Duration
	// BytesPerMinute bounds what all decisions of the cluster move. Default
	// 4 GiB.
	BytesPerMinute int64
	// DefaultMaxRF is the MaxRF of a policy that has none. Default 16.
	DefaultMaxRF int
	// LocalCap bounds the target that a node sets while the shared store is
	// away. Default 8.
	LocalCap int
}

func (r Rules) withDefaults() Rules {
	r.ReplicaBytes = orDefault(r.ReplicaBytes, 8<<20)
	r.CoolDown = orDefault(r.CoolDown, time.Minute)
	r.BytesPerMinute = orDefault(r.BytesPerMinute, 4<<30)
	r.DefaultMaxRF = orDefault(r.DefaultMaxRF, 16)
	r.LocalCap = orDefault(r.LocalCap, 8)
	return r
}

func (r Rules) validate() error {
	if r.ReplicaBytes < 0 || r.CoolDown < 0 || r.BytesPerMinute < 0 || r.DefaultMaxRF < 0 || r.LocalCap < 0 {
		return errors.New("heat: a rule must not be negative; 0 means its default")
	}
	return nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// margin is how much more than they must serve fewer replicas could serve
// before some are taken away: what keeps a rate near a border from going up and
// down.
const margin = 1.2

// life is how long a decision lasts unless it is renewed; at half of it, it is.
func (r Rules) life() time.Duration { return max(10*time.Minute, 4*r.CoolDown) }

// bounds makes p possible: 1 ≤ RF ≤ MaxRF.
func (r Rules) bounds(p Policy) Policy {
	p.RF = max(p.RF, 1)
	p.MaxRF = max(orDefault(p.MaxRF, r.DefaultMaxRF), p.RF)
	p.Size = max(p.Size, 0)
	return p
}

// replicas is how many a rate asks for, within the bounds of p.
func (r Rules) replicas(rate float64, p Policy) int {
	c := float64(r.ReplicaBytes)
	over := rate - float64(p.RF)*c
	if !(over > 0) { // nor is NaN
		return p.RF
	}
	return p.RF + int(min(math.Ceil(over/c), float64(p.MaxRF-p.RF)))
}

// Observation is what is seen of a chunk at a moment.
type Observation struct {
	Rate

	Budget int64 // bytes that may be moved now
	Frozen bool
	Alone  bool // the shared store is away: the rates are this node's own
}

// live reports whether the last decision is not void.
func (o *Observation) live(now time.Time) bool {
	return o.Decision.Epoch != 0 && now.Before(o.Decision.Expires)
}

// current is the target in force within the bounds of p.
func (o *Observation) current(p Policy, now time.Time) int {
	if !o.live(now) {
		return p.RF
	}
	return min(max(o.Decision.Target, p.RF), p.MaxRF)
}

// State is what a node remembers of a chunk from one window to the next. The
// zero State remembers nothing, and then a chunk does not cool down before
// CoolDown has passed.
type State struct {
	since time.Time // of the first observation of all nodes' demand
	above int       // windows in a row in which demand was above the target
	peaks peaks
}

// Observe returns the State after one more window.
func (s State) Observe(o Observation, p Policy, now time.Time, r Rules) State {
	r = r.withDefaults()
	p = r.bounds(p)
	if s.since.IsZero() || o.Alone { // alone, nobody knows whether it is cold elsewhere
		s.since = now
	}
	s.peaks.add(o.Fast, now, r.CoolDown)
	if r.replicas(o.Fast, p) > o.current(p, now) {
		s.above++
	} else {
		s.above = 0
	}
	return s
}

// Decide says how many replicas a chunk should have, and why. change reports
// whether that is news, a new target or the renewal of one; if not, Target is
// the one in force and Reason says why it stays. s has observed o. Decide is
// pure: the same arguments give the same answer.
func Decide(o Observation, p Policy, s State, now time.Time, r Rules) (d Decision, change bool) {
	r = r.withDefaults()
	p = r.bounds(p)
	live, current := o.live(now), o.current(p, now)
	d = Decision{Chunk: o.Chunk, Previous: p.RF, Policy: p, Rate: o.Fast, Time: now, Expires: now.Add(r.life())}
	if live {
		d.Epoch, d.Previous = o.Decision.Epoch, o.Decision.Target
	}
	wanted := r.replicas(o.Fast, p)
	if wanted > current {
		d.Target, d.Reason = r.raise(&o, p, s, current, wanted)
		d.Moves = int64(d.Target-current) * p.Size
	} else {
		d.Target, d.Reason = r.lower(&o, p, s, current, now)
	}
	switch {
	case d.Target != d.Previous:
		// Without a move of its own it follows a policy that has changed.
		return d, !o.Frozen
	case live && d.Target > p.RF && o.Decision.Expires.Sub(now) < r.life()/2:
		return d, wanted > current || d.Reason != Alone
	}
	return d, false
}

// raise is what becomes of a demand that is above the target in force.
func (r Rules) raise(o *Observation, p Policy, s State, current, wanted int) (int, Reason) {
	if s.above < 2 {
		return current, Settling
	}
	if o.Frozen {
		return current, Frozen
	}
	if o.Alone {
		if wanted = min(wanted, max(current, r.LocalCap)); wanted == current {
			return current, Alone
		}
	}
	if p.Size > 0 {
		fits := max(o.Budget/p.Size, 0)
		if fits == 0 && o.Budget >= r.BytesPerMinute {
			fits = 1 // one replica is more than the whole budget: that waits until it is full
		}
		if wanted = current + int(min(int64(wanted-current), fits)); wanted == current {
			return current, OverBudget
		}
	}
	return wanted, Hotter
}

// lower is what becomes of a demand that is not above the target in force.
func (r Rules) lower(o *Observation, p Policy, s State, current int, now time.Time) (int, Reason) {
	enough := r.replicas(max(s.peaks.greatest(), o.Fast, o.Slow)*margin, p)
	switch {
	case current == p.MaxRF && o.Fast > float64(p.MaxRF)*float64(r.ReplicaBytes):
		return current, Ceiling
	case current == p.RF:
		return current, Floor
	case r.replicas(max(o.Fast, o.Slow)*margin, p) >= current:
		return current, Steady
	case o.Frozen:
		return current, Frozen
	case o.Alone:
		return current, Alone
	case enough >= current, now.Sub(s.since) < r.CoolDown, now.Sub(o.Decision.Time) < r.CoolDown:
		return current, CoolDown
	}
	half := (current - p.RF + 1) / 2
	return max(enough, current-half), Cooler
}

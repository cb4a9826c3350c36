// Package heat counts which chunks are hot, and decides how many replicas a
// chunk should have.
package heat

import (
	"time"

	"inos.dev/edge/cas"
)

// Policy bounds the replicas of a chunk: RF at least, MaxRF at most, 1 ≤ RF ≤
// MaxRF. Size is its stored bytes: what one more replica moves.
type Policy struct {
	RF, MaxRF int
	Size      int64
}

// Reason says why a decision was made, or why none was.
type Reason string

// The reasons.
const (
	Hotter     Reason = "hotter"      // demand is above what the replicas serve
	Cooler     Reason = "cooler"      // it is below, and the cool-down is over
	CoolDown   Reason = "cool-down"   // it is below, and the cool-down is not over: no change yet
	Settling   Reason = "settling"    // it is above, but not for two windows: no change yet
	Ceiling    Reason = "ceiling"     // demand asks for more than MaxRF: stays there
	Floor      Reason = "floor"       // at RF, and demand asks for no more
	Steady     Reason = "steady"      // the target fits the demand
	OverBudget Reason = "over-budget" // the cluster moved too many bytes lately: later
	Frozen     Reason = "frozen"      // the operator froze all moves
)

// Decision says how many replicas a chunk should have from now on.
type Decision struct {
	Chunk    cas.Hash
	Epoch    uint64 // grows with every decision about this chunk, in the whole cluster
	Target   int
	Previous int
	Policy   Policy
	Reason   Reason
	Rate     float64 // bytes per second that it was decided on
	Moves    int64   // bytes that reaching the target moves
	Time     time.Time
	Expires  time.Time // when it is void unless it was renewed
	Node     string    // who decided
}

// Hot is one line of the list of the hottest chunks.
type Hot struct {
	Chunk  cas.Hash
	Rate   float64 // bytes per second: the fast average (1 s), over all nodes
	Slow   float64 // the slow average (60 s)
	Target int     // replicas wanted now
	Policy Policy
	Epoch  uint64 // of the last decision; 0: none
	Reason Reason // why the target is what it is
}

// Package heat counts which chunks are hot, and decides how many replicas a
// chunk should have.
//
// # The algorithm
//
// Counter takes the bytes of every read: in memory, sharded, bounded, without
// allocation. What it cannot tell apart goes into a total, the tail.
//
// A window, 250 ms, ends with one call of the Store, in which a node tells the
// bytes of its hottest chunks and gets to know what is hot over all nodes. The
// store keeps two averages for each chunk, of a second and of a minute, that
// decay exponentially: a rate is remembered as the number that it was, and
// when. An average over T has the time constant T/2, so that it is as old as
// the plain mean over the last T.
//
// Decide is a pure function of what was observed. One replica serves c bytes a
// second, so demand asks for
//
//	clamp(rf + ⌈max(0, rate − rf·c) / c⌉, rf, max_rf)
//
// replicas. Up goes the fast average, at once to what is asked for, after two
// windows in a row. Down goes what is the greatest of the slow average and of
// all that the fast one was during the last cool-down, with a fifth to spare:
// a peak that came back within a cool-down would find its replicas. A step
// down takes away at most half of what is above the floor, and the next one
// waits for a cool-down of its own: from 16 to 3 in five steps. Taking away
// one at a time would keep surplus copies for a quarter of an hour; all at
// once would move them back if the crowd does come back.
//
// A decision has an epoch, which grows, and an end. It is a proposal until the
// store accepts it, which it does if nobody was faster (the proposal names the
// epoch that it was made on) and the bytes that it moves are within the budget
// of the cluster: BytesPerMinute at once, and a 60th of that back every
// second. Who proposed it announces it (Config.Decided). A decision is renewed
// while its chunk is hot, and void at its end: when all nodes fail, the
// replicas above the floor end by themselves.
//
// # Counting once
//
// A call may time out and have been heard, and a store may have forgotten what
// it had acknowledged. So a window says which one came before it, and it only
// counts if the store knows that one as the last (compare and set). Every
// answer says which one it has.
//
//  1. A window that is unanswered is sent again as it was. What was counted
//     meanwhile is merged and waits. If the first one was heard, the second
//     one comes too late by its number, and counts for nothing.
//  2. A store that says it is behind gets what the node still has: the windows
//     of the last seconds, and the decisions and the switch that it knows.
//  3. A new process of the same node has a greater process epoch and starts at
//     zero; what an old one has left in the network counts for nothing.
//
// # The one race
//
// A proposes 8 replicas on epoch 5, B proposes 9 on epoch 5. The store takes
// A's as epoch 6 and dies before it answers A. A asks again: its proposal is on
// epoch 5 and refused, but the view has a decision of A that A has not yet
// announced, so A announces it, now. A announces what the view has, never what
// it proposed. B learns epoch 6 from its view and decides on that. A dies
// before it announces: its next process finds the decision in its view, too.
// So each decision is announced at least once, by one node, and once only
// unless that node died in between; its epoch makes it idempotent.
//
// # Without the store
//
// Every node keeps a store of its own in memory for what it counts itself.
// While the shared one is away, it decides by that: up to LocalCap replicas,
// on an eighth of the budget, and never down, since it does not see the
// others. Reads notice nothing of all this.
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
	Alone      Reason = "alone"       // the shared store is away, and this node does not know enough
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

package heat

import (
	"context"
	"time"

	"inos.dev/edge/cas"
)

// Store is where nodes add up what they counted and agree upon decisions.
// Memory is one for a single node, Redis one for many. All methods may be
// called at the same time.
type Store interface {
	// Apply ends a window of a node, and says what is hot over all nodes. It is
	// idempotent, see Window. An error means: unknown whether it was applied.
	Apply(ctx context.Context, w Window) (View, error)
	// Top returns the hottest chunks, at most n (1 … MaxTop) of them, the
	// hottest first.
	Top(ctx context.Context, n int) ([]Rate, error)
	// Freeze sets the switch for all nodes and returns it as it is set now.
	Freeze(ctx context.Context, on bool, by string) (Switch, error)
}

// Limits of a Store.
const (
	MaxTracked   = 4096 // chunks whose rates are kept; the coldest give way
	MaxDecisions = 1024 // chunks with a decision that is not void
	MaxView      = 512  // chunks of a View without a decision
	MaxTop       = 1000 // chunks of a Top
)

// Window is what a node tells at the end of one.
type Window struct {
	Node  string // its name, the same for all its processes
	Epoch uint64 // of its process: greater than that of the one before
	// Seq numbers the windows of the process, from 1. Base is the one before it,
	// 0 before the first: Deltas and Proposals count only if the store has
	// counted Base and nothing later, and no process with a greater Epoch. Base
	// = Seq tells nothing and only asks.
	Base, Seq uint64
	Span, Age time.Duration // how long Deltas were counted, and how long ago that ended
	Deltas    []Delta       // each chunk once
	// Proposals are decisions with the Epoch of the last decision that the node
	// knows, 0 if there is none. One that is accepted gets an Epoch of its own,
	// and the store's Time; it stays for the Expires−Time that it came with.
	Proposals []Decision
	// Known and Switch are what the node knows of the cluster, for a store that
	// has forgotten it: a decision that is not void counts if its epoch is
	// greater than the store's, a switch if it is newer.
	Known  []Decision
	Switch Switch

	// Above asks for the chunks whose fast average is not below it. The chunks
	// with a decision are in the View anyway.
	Above float64
	// BytesPerMinute is the budget of the cluster. 0: nothing is moved.
	BytesPerMinute int64
}

// View is what a store says to a node.
type View struct {
	Now     time.Time // by the clock of the store
	Epoch   uint64    // the greatest of the node's processes that have counted; 0: none
	LastSeq uint64    // the last window of that process that was counted
	Rates   []Rate    // the hottest first
	Refused []Refusal // proposals that were not accepted
	Switch  Switch
	Budget  int64 // bytes that may be moved now; below 0: so many too many were
	Tracked int   // chunks whose rates are kept
}

// Rate is the demand for a chunk over all nodes.
type Rate struct {
	Chunk      cas.Hash
	Fast, Slow float64  // averages over a second and a minute, bytes per second
	Decision   Decision // the last one; Epoch 0: none that is not void
}

// Refusal says why a proposal was not accepted: OverBudget, Frozen, or Outdated.
type Refusal struct {
	Chunk  cas.Hash
	Reason Reason
}

// Outdated is the reason of a Refusal: somebody else decided meanwhile.
const Outdated Reason = "outdated"

// Switch stops all moves. The zero value is off, and older than any other.
type Switch struct {
	On bool
	By string // who set it
	At time.Time
}

// newer returns what counts of two.
func (s Switch) newer(other Switch) Switch {
	if other.At.After(s.At) {
		return other
	}
	return s
}

// nextEpoch is the epoch of a decision that follows one of epoch last. It is a
// time, so that epochs go on growing after a store has forgotten them all.
func nextEpoch(last uint64, now time.Time) uint64 {
	return max(last+1, uint64(max(now.UnixMilli(), 0)))
}

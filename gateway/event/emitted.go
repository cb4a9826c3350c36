package event

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// The names of the node's own events, for Emit.
const (
	ReplicateChunkRequested  = "storage:replicate_chunk:v1:requested"
	ReplicateChunkProcessing = "storage:replicate_chunk:v1:processing"
	ReplicateChunkCompleted  = "storage:replicate_chunk:v1:completed"
	ReplicateChunkFailed     = "storage:replicate_chunk:v1:failed"
	PublishObjectCompleted   = "storage:publish_object:v1:completed"
	WithdrawObjectCompleted  = "storage:withdraw_object:v1:completed"
	GrantCreditsCompleted    = "credit:grant_credits:v1:completed"
	ChangePledgeCompleted    = "credit:change_pledge:v1:completed"
)

// ReplicateChunk asks for a number of replicas of a chunk.
type ReplicateChunk struct {
	Hash     string    `json:"hash"`
	Epoch    uint64    `json:"epoch"` // of the decision; the id of the operation has it too
	Target   int       `json:"target"`
	Previous int       `json:"previous"`
	Reason   string    `json:"reason"`
	Rate     float64   `json:"rate"`  // bytes per second that it was decided on
	Moves    int64     `json:"moves"` // bytes that reaching the target moves
	Node     string    `json:"node"`  // who decided
	Expires  time.Time `json:"expires"`
}

// ReplicatedChunk says how many replicas there are now.
type ReplicatedChunk struct {
	Hash     string `json:"hash"`
	Replicas int    `json:"replicas"`
}

// ObjectPublished says that an object has a new publication: an owner, a policy.
type ObjectPublished struct {
	Hash     string `json:"hash"`
	Owner    string `json:"owner"`
	Sequence uint64 `json:"sequence"` // of the publication
	RF       int    `json:"rf"`
	MaxRF    int    `json:"max_rf"`
}

// ObjectWithdrawn says that a publication has ended.
type ObjectWithdrawn struct {
	Hash     string `json:"hash"`
	Owner    string `json:"owner"`
	Sequence uint64 `json:"sequence"`
}

// CreditsGranted says that an account was given credits.
type CreditsGranted struct {
	Account string `json:"account"`
	Amount  int64  `json:"amount"` // micro-credits
	Seq     uint64 `json:"seq"`    // of the record in the journal
}

// PledgeChanged says what happened to a pledge.
type PledgeChanged struct {
	Pledge  string    `json:"pledge"`
	Account string    `json:"account"` // who pays
	Hash    string    `json:"hash"`
	RF      int       `json:"rf"`
	Change  string    `json:"change"` // opened, low, topped-up, dry, ended, released
	Escrow  int64     `json:"escrow"` // micro-credits that are still locked
	Until   time.Time `json:"until"`
}

// Progress is the payload of a processing that a handler of the node has begun.
type Progress struct {
	Node bool `json:"node"` // true: the handler is part of the node
}

// Failure is the payload of what a handler of the node did not do, and of what
// the bus gave up.
type Failure struct {
	Error string `json:"error"`
}

// Emitted is a row of the table of the node's own events.
type Emitted struct {
	Name    string
	Payload any  // a value of the payload's type
	Private bool // only whom it concerns and administrators see it
}

// Table lists every event that the node emits by itself. Services that stand
// in it belong to the node: nobody else publishes in their name, but an
// administrator may request.
func Table() []Emitted { return slices.Clone(table) }

var table = []Emitted{
	{ReplicateChunkRequested, ReplicateChunk{}, false},
	{ReplicateChunkProcessing, Progress{}, false},
	{ReplicateChunkCompleted, ReplicatedChunk{}, false},
	{ReplicateChunkFailed, Failure{}, false},
	{PublishObjectCompleted, ObjectPublished{}, true},
	{WithdrawObjectCompleted, ObjectWithdrawn{}, true},
	{GrantCreditsCompleted, CreditsGranted{}, true},
	{ChangePledgeCompleted, PledgeChanged{}, true},
}

// isOwn reports whether n's service is the node's.
func isOwn(n Name) bool {
	return slices.ContainsFunc(table, func(e Emitted) bool { return strings.HasPrefix(e.Name, n.Service+":") })
}

// isPrivate reports whether n is only for those whom it concerns.
func isPrivate(n Name) bool {
	prefix := n.Operation() + ":"
	return slices.ContainsFunc(table, func(e Emitted) bool { return e.Private && strings.HasPrefix(e.Name, prefix) })
}

// encodePayload writes the payload of an event of the node. A service of the
// table has only the events of the table, with payloads of their type.
func encodePayload(n Name, payload any) ([]byte, error) {
	at := slices.IndexFunc(table, func(e Emitted) bool { return e.Name == n.String() })
	switch {
	case at < 0 && isOwn(n):
		return nil, fmt.Errorf("event: %s is not in the table of what the node emits", n)
	case at >= 0 && reflect.TypeOf(payload) != reflect.TypeOf(table[at].Payload):
		return nil, fmt.Errorf("event: the payload of %s is %T, the table says %T", n, payload, table[at].Payload)
	}
	b, err := json.Marshal(payload)
	if err == nil && len(b) > MaxPayload {
		err = fmt.Errorf("%w: the payload of %s has %d bytes", ErrEvent, n, len(b))
	}
	return b, err
}

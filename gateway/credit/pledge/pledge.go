package pledge

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/mesh"
)

// Beside these, Create and TopUp answer credit.ErrUnderfunded and
// credit.ErrAccount.
var (
	// ErrUnknown says: there is no such pledge.
	ErrUnknown = errors.New("no such pledge")
	// ErrExists says: another pledge has this id, or had it.
	ErrExists = errors.New("another pledge has this id")
	// ErrRequest says: a pledge is asked for that is outside of the limits.
	ErrRequest = errors.New("not a possible pledge")
	// ErrOwner says: the pledge is somebody else's.
	ErrOwner = errors.New("the pledge is somebody else's")
	// ErrOver says: the pledge has ended.
	ErrOver = errors.New("the pledge has ended")
	// ErrTooMany says: there is no room for another pledge.
	ErrTooMany = errors.New("too many pledges")
	// ErrBooks says: what the ledger has of a pledge does not fit together.
	ErrBooks = errors.New("the books of the pledge do not fit together")
)

// Limits of a Request.
const (
	MaxID    = 64
	MaxBytes = 1 << 52
	MinTerm  = time.Minute
	MaxTerm  = 10 * 365 * 24 * time.Hour
)

// Request is what an owner asks for. Exactly one of For and Credits is set.
type Request struct {
	Object   cas.Hash
	Bytes    int64         // stored bytes of the object: what one replica keeps, 1 … MaxBytes
	RF       int           // replicas, 1 … mesh.MaxRF
	For      time.Duration // how long, MinTerm … MaxTerm, in whole seconds
	Credits  credit.Amount // or: until these are used up
	PriceCap credit.Price  // the most that a holder is paid, for 2³⁰ bytes and an hour; 0: Config.Retention
}

// check checks the limits of r: ErrRequest, credit.ErrPrice.
func (r Request) check() error {
	switch {
	case r.Object.IsZero():
		return fmt.Errorf("%w: it names no object", ErrRequest)
	case r.Bytes < 1 || r.Bytes > MaxBytes:
		return fmt.Errorf("%w: an object has 1 to 2⁵² bytes, this one has %d", ErrRequest, r.Bytes)
	case r.RF < 1 || r.RF > mesh.MaxRF:
		return fmt.Errorf("%w: rf is %d, it must be 1 to %d", ErrRequest, r.RF, mesh.MaxRF)
	case (r.For == 0) == (r.Credits == 0):
		return fmt.Errorf("%w: say either for how long, or how many credits", ErrRequest)
	case r.For != 0 && (r.For < MinTerm || r.For > MaxTerm || r.For%time.Second != 0):
		return fmt.Errorf("%w: its time is %v, it must be %v to %v in whole seconds", ErrRequest, r.For, MinTerm, MaxTerm)
	case r.Credits < 0 || r.Credits > credit.MaxAmount:
		return fmt.Errorf("%w: %d micro-credits, it must be 1 to %d", ErrRequest, r.Credits, credit.MaxAmount)
	}
	return r.PriceCap.Validate()
}

// checkID checks a pledge's name, which a URL and an account can have in them.
func checkID(id string) error {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_'
	}
	if id == "" || len(id) > MaxID || strings.ContainsFunc(id, func(r rune) bool { return !plain(r) }) {
		return fmt.Errorf("%w: an id is 1 to %d letters, digits, - and _", ErrRequest, MaxID)
	}
	return nil
}

// State is how far a pledge has come.
type State string

// The states.
const (
	Active   State = "active"
	Low      State = "low"      // notice was given: less than Config.NoticeEpochs are left
	Dry      State = "dry"      // what was left did not pay for another epoch
	Done     State = "done"     // its end was reached
	Released State = "released" // its owner ended it
)

// Pledge is credits locked for an object. Times are in UTC, to the second.
type Pledge struct {
	ID       string
	Owner    credit.Account
	Request  Request // with the price cap that holds
	State    State
	Opened   time.Time
	Ends     time.Time     // zero: when it is dry
	Settled  time.Time     // what is before that is paid
	Over     time.Time     // when its last credits went back; zero: not yet
	Locked   credit.Amount // by Create and TopUp
	Paid     credit.Amount // of that, to holders
	Returned credit.Amount // of that, to the owner
	Rest     uint64        // carried to the next payment, in parts of a micro-credit: see charge
	Epochs   int64         // settled, whole or in part
}

// Escrow is what is still locked.
func (p Pledge) Escrow() credit.Amount { return p.Locked - p.Paid - p.Returned }

// Live reports whether p holds its object at now.
func (p Pledge) Live(now time.Time) bool {
	return (p.State == Active || p.State == Low) && (p.Ends.IsZero() || now.Before(p.Ends))
}

// Until is when p ends, or for one without an end, until when its escrow lasts
// if all its holders ask for the price cap.
func (p Pledge) Until() time.Time {
	if !p.Ends.IsZero() {
		return p.Ends
	}
	return p.Settled.Add(Lasts(p.Request.Bytes, p.Request.RF, p.Escrow(), p.Request.PriceCap))
}

// EventKind is what happened to a pledge.
type EventKind string

// The kinds of events.
const (
	Opened   EventKind = "opened"
	RunsLow  EventKind = "low"       // once, before it ends or runs dry
	ToppedUp EventKind = "topped-up" // which takes the notice back if there is enough again
	RanDry   EventKind = "dry"
	Ended    EventKind = "ended"
	WasFreed EventKind = "released"
)

// Event is what happened to a pledge.
type Event struct {
	Kind   EventKind
	Pledge Pledge // after it
	Time   time.Time
}

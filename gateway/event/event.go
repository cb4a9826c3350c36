package event

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"
)

var (
	// ErrEvent says: an event is outside of its limits.
	ErrEvent = errors.New("not a possible event")
	// ErrTransition says: the state does not follow on the one that the
	// operation is in.
	ErrTransition = errors.New("this state does not follow")
	// ErrForeign says: an event claims an identity, or is about an operation,
	// that is not the publisher's.
	ErrForeign = errors.New("the event is not the publisher's to publish")
	// ErrTooMany says: there are as many streams as there may be.
	ErrTooMany = errors.New("too many event streams; end another one first")
	// ErrClosed says: the node goes down.
	ErrClosed = errors.New("the event bus is closed")
)

// Event is an envelope as it is kept.
type Event struct {
	Sequence uint64 // ascends, with gaps; none is given twice
	ID       string // names the operation: all its states have the same
	Name     Name
	Time     time.Time // of its acceptance, by this node's clock
	User     string    // subject of the publisher's token; of the node's own events whom they concern, or ""
	Device   string    // id of the publisher's token
	Trace    Trace
	Payload  []byte // must not be changed

	// For is the subject who requested the operation, who may follow it
	// whoever carries it out. It is not in the envelope.
	For string

	// handled marks the processing of a handler that the bus routed to: if the
	// bus is gone, so is the handler.
	handled bool
}

// Trace is the W3C trace context that an event came with.
type Trace struct {
	Parent string `json:"parent,omitempty"` // traceparent
	State  string `json:"state,omitempty"`  // tracestate
}

// Limits of an event.
const (
	// MaxID is the most bytes of an id.
	MaxID = 128
	// MaxPayload is the most bytes of a payload.
	MaxPayload = 64 << 10
	// MaxBatch is the most events of one Publish.
	MaxBatch      = 64
	maxTraceState = 512
	// maxSubject is more than any token has.
	maxSubject = 256
)

// nodesOwn is in the ids of the node's own operations, which can be foreseen,
// and in no client's: whoever takes such an id first would silence the node.
const nodesOwn = "/"

// Publisher is who publishes, by a verified token.
type Publisher struct {
	Subject string
	Device  string // the token's id
	Admin   bool   // may request what belongs to the node, and end what belongs to others

	node bool
}

// accept checks the limits of an event that p publishes and puts p's identity
// on it: ErrEvent, ErrForeign.
func (e *Event) accept(p Publisher) error {
	switch {
	case e.ID == "":
		e.ID = rand.Text()
	case !visible(e.ID, MaxID), !p.node && strings.Contains(e.ID, nodesOwn):
		return fmt.Errorf("%w: an id has 1 to %d printable ASCII characters without spaces and %s", ErrEvent, MaxID, nodesOwn)
	}
	switch {
	case len(e.Payload) > MaxPayload:
		return fmt.Errorf("%w: a payload of %d bytes, at most %d", ErrEvent, len(e.Payload), MaxPayload)
	case e.Trace.Parent != "" && !isTraceparent(e.Trace.Parent):
		return fmt.Errorf("%w: traceparent is not version-trace-parent-flags in lower-case hexadecimal", ErrEvent)
	case e.Trace.State != "" && (e.Trace.Parent == "" || !printable(e.Trace.State, maxTraceState)):
		return fmt.Errorf("%w: tracestate comes with traceparent and has at most %d printable ASCII characters", ErrEvent, maxTraceState)
	case p.node:
		return nil
	case e.User != "" && e.User != p.Subject:
		return fmt.Errorf("%w: user_id is not the subject of the token; leave it empty", ErrForeign)
	case e.Device != "" && e.Device != p.Device:
		return fmt.Errorf("%w: device_id is not the id of the token; leave it empty", ErrForeign)
	}
	e.User, e.Device = p.Subject, p.Device
	return nil
}

// printable reports whether s is 1 … limit characters of ASCII that print.
func printable(s string, limit int) bool {
	return s != "" && len(s) <= limit && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

func visible(s string, limit int) bool { return printable(s, limit) && !strings.Contains(s, " ") }

// isTraceparent checks the form of https://www.w3.org/TR/trace-context-2,
// version 00: 2, 32, 16 and 2 lower-case hexadecimal digits.
func isTraceparent(s string) bool {
	const form = "00-tttttttttttttttttttttttttttttttt-pppppppppppppppp-ff"
	if len(s) != len(form) || s[:3] != form[:3] {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if dash := form[i] == '-'; dash != (c == '-') || !dash && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return strings.Trim(s[3:35], "0") != "" && strings.Trim(s[36:52], "0") != ""
}

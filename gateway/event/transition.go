package event

import "fmt"

// follows says which state an operation may be in after another one; the first
// index is 0 for an operation that nobody has heard of.
var follows = [numStates][numStates]bool{
	0:          {Requested: true, Completed: true, Failed: true}, // the last two tell of something that nobody requested here
	Requested:  {Processing: true, Failed: true},
	Processing: {Completed: true, Failed: true},
	Completed:  {},
	Failed:     {},
}

// operation is what the bus remembers of an id, for as long as its last event
// is kept.
type operation struct {
	name      Name // with the state that it is in
	sequences [numStates]uint64
	users     [numStates]string // who published each state
	requester string
	worker    *worker // whom it was handed to, nil: nobody
	handled   bool    // see Event
}

// last is the number of its last event.
func (o *operation) last() uint64 { return o.sequences[o.name.State] }

// advance takes an event that was accepted.
func (o *operation) advance(e *Event) {
	if o.name.State == 0 {
		o.requester = e.User
	}
	o.name = e.Name
	o.sequences[e.Name.State] = e.Sequence
	o.users[e.Name.State] = e.User
	o.handled = o.handled || e.handled
}

// step says whether p may publish e as the next event of o, which is nil for an
// id that is new. again is the number of the same event if it is here already.
func (o *operation) step(p Publisher, e *Event) (again uint64, err error) {
	var state State
	if o != nil {
		state = o.name.State
		if o.name.In(e.Name.State) != e.Name {
			return 0, fmt.Errorf("%w: %q is the id of %s", ErrTransition, e.ID, o.name)
		}
		if seq := o.sequences[e.Name.State]; seq > 0 && (p.node || o.users[e.Name.State] == p.Subject) {
			return seq, nil
		}
	}
	if !follows[state][e.Name.State] {
		return 0, fmt.Errorf("%w: %s after %s, of the operation %q", ErrTransition, e.Name, state, e.ID)
	}
	return 0, o.owned(p, e)
}

// owned is nil if the next state of o is p's to publish: ErrForeign.
func (o *operation) owned(p Publisher, e *Event) error {
	switch {
	case p.node:
		return nil
	case isOwn(e.Name) && (!p.Admin || e.Name.State != Requested):
		return fmt.Errorf("%w: %s belongs to the node; only an administrator may request it", ErrForeign, e.Name.Operation())
	case o == nil:
		return nil
	case o.worker != nil:
		if o.worker.is(p) {
			return nil
		}
		return fmt.Errorf("%w: %q was handed to a handler, which alone may end it", ErrForeign, e.ID)
	case o.requester == p.Subject || p.Admin:
		return nil
	}
	return fmt.Errorf("%w: somebody else requested %q", ErrForeign, e.ID)
}

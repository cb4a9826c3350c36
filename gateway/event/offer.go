package event

import (
	"context"
	"fmt"
	"slices"
)

// Limits of an Offer.
const (
	MaxOperations  = 16
	MaxConcurrency = 64
)

// Offer makes a client one of the handlers of some operations. Each requested
// event goes to one offer, which alone may publish what follows on it. Its
// methods are for one goroutine.
type Offer struct {
	b           *Bus
	caller      string
	operations  []string
	routes      []*route
	concurrency int
	w           *worker
	done        bool
}

// Offer begins an offer of p for operations ("service:action"), at most
// concurrency of them at once. The caller closes it. Errors: ErrTooMany,
// ErrClosed, ErrEvent, ErrName; ErrForeign for what the node does itself.
func (b *Bus) Offer(caller string, p Publisher, operations []string, concurrency int) (*Offer, error) {
	if len(operations) == 0 || len(operations) > MaxOperations || concurrency < 1 || concurrency > MaxConcurrency {
		return nil, fmt.Errorf("%w: an offer is for 1 to %d operations, 1 to %d at once", ErrEvent, MaxOperations, MaxConcurrency)
	}
	operations = slices.Compact(slices.Sorted(slices.Values(operations)))
	for _, op := range operations {
		if err := checkOperation(op); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, op := range operations {
		n := nameOf(op)
		if r := b.routes[op]; isOwn(n) || r != nil && r.handler != nil {
			return nil, fmt.Errorf("%w: the node handles %s itself", ErrForeign, op)
		}
	}
	if err := b.enterLocked(caller); err != nil {
		return nil, err
	}
	f := &Offer{b: b, caller: caller, operations: operations, concurrency: concurrency, w: &worker{Publisher: p, underway: map[string]bool{}}}
	for _, op := range operations {
		r := b.routes[op]
		if r == nil {
			r = b.newRouteLocked(op)
			b.routes[op] = r
		}
		r.offers++
		f.routes = append(f.routes, r)
	}
	return f, nil
}

// Next returns the next requested event for this client, and waits for it.
// When ctx is done it is ctx's error, and may be called again; ErrClosed says
// that the node goes down.
func (f *Offer) Next(ctx context.Context) (Event, error) {
	for {
		var seq uint64
		var closed bool
		err := f.b.await(ctx, func() (ok bool) {
			if closed = f.b.closed || f.done; closed {
				return true
			}
			if len(f.w.underway) < f.concurrency {
				_, seq, ok = f.b.takeWaitingLocked(f.routes, f.w)
			}
			return ok
		})
		switch {
		case err != nil:
			return Event{}, err
		case closed:
			return Event{}, ErrClosed
		}
		if e, ok := f.b.event(seq); ok {
			return e, nil
		}
	}
}

// Close ends the offer: what was not begun goes to another one, what was has
// failed.
func (f *Offer) Close() {
	b := f.b
	b.mu.Lock()
	if f.done {
		b.mu.Unlock()
		return
	}
	f.done = true
	b.leaveLocked(f.caller)
	begun := f.returnLocked()
	for i, op := range f.operations {
		if f.routes[i].offers--; f.routes[i].offers == 0 {
			delete(b.routes, op) // what waits is found again by the next offer
		}
	}
	b.broadcastLocked()
	b.mu.Unlock()
	b.giveUp(begun, "its handler went away")
}

// returnLocked gives back what was not begun, and lists what was.
func (f *Offer) returnLocked() (begun []string) {
	for id := range f.w.underway {
		o := f.b.operations[id]
		if o == nil {
			continue
		}
		if o.name.State != Requested {
			begun = append(begun, id)
			continue
		}
		o.worker = nil
		if r := f.b.routes[o.name.Operation()]; r != nil {
			r.waiting = slices.Insert(r.waiting, 0, id)
		}
	}
	clear(f.w.underway)
	return begun
}

// nameOf is the name of an operation that checkOperation has passed.
func nameOf(operation string) Name {
	n, _ := ParseName(operation + ":v1:requested")
	return n
}

package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"
)

// Handler does what events of one "service:action" request.
type Handler struct {
	// Do carries out one operation. What it returns is the payload of completed,
	// of the type that the table says; an error is told as failed. It stops when
	// ctx is done, which has Timeout.
	Do func(ctx context.Context, e Event) (payload any, err error)
	// Concurrency is how many run at once, Timeout how long one may take.
	// Defaults 1 and one minute.
	Concurrency int
	Timeout     time.Duration
}

// route leads the requested events of one "service:action" to its handlers.
type route struct {
	handler *Handler // the node's own; nil: those of clients
	waiting []string // ids of operations that were handed to nobody, oldest first
	offers  int      // of clients
}

// worker is whom operations are handed to: the node, or an offer of a client.
type worker struct {
	Publisher
	underway map[string]bool // ids; not used for the node
}

// is reports whether p is the worker.
func (w *worker) is(p Publisher) bool { return w.Publisher == p }

// leave ends o's time with its worker.
func (o *operation) leave(id string) {
	if o.worker != nil {
		delete(o.worker.underway, id)
	}
	o.worker = nil
}

// Handle registers a handler of the node for "service:action", before Run. What
// was requested and not yet begun is handled, too.
func (b *Bus) Handle(operation string, h Handler) error {
	if err := checkOperation(operation); err != nil {
		return err
	}
	if h.Do == nil || h.Concurrency < 0 || h.Timeout < 0 {
		return errors.New("event: a Handler needs Do, and no negative limits")
	}
	orDefault(&h.Concurrency, 1)
	orDefault(&h.Timeout, time.Minute)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.routes[operation] != nil {
		return fmt.Errorf("event: %s has a handler already", operation)
	}
	b.routes[operation] = b.newRouteLocked(operation)
	b.routes[operation].handler = &h
	return nil
}

// newRouteLocked is a route with what waits for it.
func (b *Bus) newRouteLocked(operation string) *route {
	r := &route{}
	for id, o := range b.operations {
		if o.name.State == Requested && o.name.Operation() == operation {
			r.waiting = append(r.waiting, id)
		}
	}
	slices.SortFunc(r.waiting, func(a, c string) int {
		return int(min(max(int64(b.operations[a].last())-int64(b.operations[c].last()), -1), 1))
	})
	return r
}

// nodeRoutes lists the routes to handlers of the node.
func (b *Bus) nodeRoutes() (list []*route) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.routes {
		if r.handler != nil {
			list = append(list, r)
		}
	}
	return list
}

// routeLocked lets an accepted event have its effect on who handles what.
func (b *Bus) routeLocked(e *Event, o *operation) {
	switch e.Name.State {
	case Requested:
		if r := b.routes[e.Name.Operation()]; r != nil {
			r.waiting = append(r.waiting, e.ID)
		}
	case Completed, Failed:
		o.leave(e.ID)
	}
}

// takeWaitingLocked hands the oldest waiting operation of some routes to w.
func (b *Bus) takeWaitingLocked(routes []*route, w *worker) (id string, seq uint64, ok bool) {
	for _, r := range routes {
		for len(r.waiting) > 0 {
			id := r.waiting[0]
			r.waiting = r.waiting[1:]
			o := b.operations[id]
			if o == nil || o.name.State != Requested || o.worker != nil {
				continue // forgotten, or ended by whoever requested it
			}
			o.worker = w
			if w.underway != nil {
				w.underway[id] = true
			}
			return id, o.last(), true
		}
	}
	return "", 0, false
}

// event reads one event that is kept.
func (b *Bus) event(seq uint64) (Event, bool) {
	b.mu.Lock()
	at, ok := slices.BinarySearchFunc(b.tail, seq, bySequence)
	if ok {
		defer b.mu.Unlock()
		return b.tail[at], true
	}
	if seq < b.journal.kept || len(b.journal.segments) == 0 {
		b.mu.Unlock()
		return Event{}, false
	}
	p := b.journal.find(seq, b.next)
	b.mu.Unlock()
	for !p.done() {
		events, next, err := p.read()
		if err != nil {
			return Event{}, false // it has just been dropped
		}
		if len(events) > 0 {
			return events[0], events[0].Sequence == seq
		}
		p = next
	}
	return Event{}, false
}

// await runs try until it succeeds; in between it waits for something to
// happen. try runs under the lock.
func (b *Bus) await(ctx context.Context, try func() bool) error {
	for {
		b.mu.Lock()
		ok, changed := try(), b.changed
		b.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// work lets the node's handler of a route do one operation after the other,
// until ctx is done.
func (b *Bus) work(ctx context.Context, r *route) error {
	w := &worker{Publisher: Publisher{node: true}}
	for {
		var id string
		var seq uint64
		err := b.await(ctx, func() (ok bool) {
			id, seq, ok = b.takeWaitingLocked([]*route{r}, w)
			return ok
		})
		if err != nil {
			return nil //nolint:nilerr // ctx is done: that is how work ends
		}
		if e, ok := b.event(seq); ok {
			b.do(ctx, r.handler, e)
		} else {
			b.log.Warn("a requested event is no longer kept", "id", id)
		}
	}
}

// do carries out one operation and tells how it went.
func (b *Bus) do(ctx context.Context, h *Handler, e Event) {
	answer := func(s State, payload any) bool {
		n := e.Name.In(s)
		data, err := encodePayload(n, payload)
		if err == nil {
			_, err = b.Publish(Publisher{node: true}, []Event{{ID: e.ID, Name: n, User: e.For, Trace: e.Trace, Payload: data, handled: true}})
		}
		if err != nil {
			b.log.Error("an event of a handler was not published", "name", n.String(), "id", e.ID, "error", err)
		}
		return err == nil
	}
	if !answer(Processing, Progress{Node: true}) {
		return
	}
	payload, err := b.call(ctx, h, e)
	if err == nil && answer(Completed, payload) {
		return
	}
	failure := Failure{Error: "the handler's answer was not accepted; the node's log says more"}
	switch {
	case ctx.Err() != nil:
		failure.Error = "interrupted: the node went down"
	case err != nil:
		failure.Error = err.Error()
	}
	answer(Failed, failure)
}

// errPanicked is what the requester learns of a panic.
var errPanicked = errors.New("the handler panicked; the node's log says more")

// call runs a handler under its timeout. A panic is an error.
func (b *Bus) call(ctx context.Context, h *Handler, e Event) (payload any, err error) {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			b.log.Error("an event handler panicked", "name", e.Name.String(), "id", e.ID, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			payload, err = nil, errPanicked
		}
	}()
	return h.Do(ctx, e)
}

// giveUpLost fails the operations whose handler went with the process before
// this one.
func (b *Bus) giveUpLost() {
	b.mu.Lock()
	var lost []string
	for id, o := range b.operations {
		if o.name.State == Processing && o.handled && o.worker == nil {
			lost = append(lost, id)
		}
	}
	b.mu.Unlock()
	b.giveUp(lost, "interrupted: the node was started anew")
}

// giveUp fails operations that nobody will end.
func (b *Bus) giveUp(ids []string, why string) {
	data, err := json.Marshal(Failure{Error: why})
	if err != nil {
		b.log.Error("events were not published", "error", err)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		o := b.operations[id]
		if o == nil || o.name.State != Processing {
			continue
		}
		e := Event{ID: id, Name: o.name.In(Failed), User: o.requester, Payload: data}
		if _, err := b.publishLocked(Publisher{node: true}, []Event{e}); err != nil {
			b.log.Error("an event was not published", "id", id, "error", err)
		}
	}
}

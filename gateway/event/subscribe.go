package event

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"inos.dev/edge/cas"
)

// Filter is what an event must be. What is zero is not asked.
type Filter struct {
	Service, Action string
	States          []State // one of them
	Own             bool    // the subscriber published it, or requested its operation
	Hash            cas.Hash
}

// MaxFilters is the most filters of a Query.
const MaxFilters = 16

// Query is what a subscriber wants.
type Query struct {
	// Caller names who shares the bound of streams per caller.
	Caller string
	// Subject sees his own private events, an administrator all of them.
	Subject string
	Admin   bool
	// Filters: an event passes if one of them lets it; without any, all pass.
	Filters []Filter
	// From is the first number wanted. 0 is the next event, 1 all that is kept.
	From uint64
}

func (q *Query) validate() error {
	if len(q.Filters) > MaxFilters {
		return fmt.Errorf("%w: %d filters, at most %d", ErrEvent, len(q.Filters), MaxFilters)
	}
	for _, f := range q.Filters {
		switch {
		case f.Service != "" && !isWord(f.Service), f.Action != "" && !isWord(f.Action), len(f.States) >= int(numStates):
			return fmt.Errorf("%w: no event has such a name as the filter asks for", ErrName)
		case f.Own && q.Subject == "":
			return fmt.Errorf("%w: own events are those of a token's subject; send a token", ErrForeign)
		}
	}
	return nil
}

// wants reports whether e is for the subscriber.
func (q *Query) wants(e *Event) bool {
	own := q.Subject != "" && (e.User == q.Subject || e.For == q.Subject)
	if !own && !q.Admin && isPrivate(e.Name) {
		return false
	}
	return len(q.Filters) == 0 || slices.ContainsFunc(q.Filters, func(f Filter) bool { return f.passes(e, own) })
}

func (f *Filter) passes(e *Event, own bool) bool {
	return (f.Service == "" || f.Service == e.Name.Service) &&
		(f.Action == "" || f.Action == e.Name.Action) &&
		(len(f.States) == 0 || slices.Contains(f.States, e.Name.State)) &&
		(!f.Own || own) &&
		// 64 digits do not stand in a text by accident.
		(f.Hash.IsZero() || bytes.Contains(e.Payload, []byte(f.Hash.String())))
}

// Message is what Next returns: an event, or that some are lost.
type Message struct {
	Event Event // if Sequence is not 0
	// From and To are the numbers between which nothing is kept any longer.
	From, To uint64
}

// Subscription reads the bus for one subscriber. It holds no queue: it is a
// place in the journal, so that a slow subscriber costs nobody anything, and
// finds that events are gone when the journal has left it behind. Its methods
// are for one goroutine.
type Subscription struct {
	b     *Bus
	q     Query
	next  uint64  // number of the first event that was not looked at
	batch []Event // looked up and not yet looked at
	at    place   // where the journal is being read; without a segment nowhere
	done  bool
}

// Subscribe begins a subscription, which the caller closes. It may be as slow
// as it likes. Errors: ErrTooMany, ErrClosed, ErrEvent, ErrName, ErrForeign.
func (b *Bus) Subscribe(q Query) (*Subscription, error) {
	if err := q.validate(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.enterLocked(q.Caller); err != nil {
		return nil, err
	}
	s := &Subscription{b: b, q: q, next: q.From}
	switch {
	case q.From == 0 || q.From > b.next:
		s.next = b.next
	case q.From == 1:
		s.next = b.journal.kept
	}
	return s, nil
}

// enterLocked counts a stream of a caller.
func (b *Bus) enterLocked(caller string) error {
	switch {
	case b.closed:
		return ErrClosed
	case b.open >= b.cfg.MaxStreams:
		return fmt.Errorf("%w: the node has %d", ErrTooMany, b.open)
	case b.streams[caller] >= b.cfg.MaxPerCaller:
		return fmt.Errorf("%w: you have %d", ErrTooMany, b.streams[caller])
	}
	b.open++
	b.streams[caller]++
	b.metrics.streams.Set(float64(b.open))
	return nil
}

func (b *Bus) leaveLocked(caller string) {
	b.open--
	if b.streams[caller]--; b.streams[caller] == 0 {
		delete(b.streams, caller)
	}
	b.metrics.streams.Set(float64(b.open))
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if !s.done {
		s.done = true
		s.b.leaveLocked(s.q.Caller)
	}
}

// Seen is the number of the last event that was looked at: whoever comes back
// asks for the one behind it.
func (s *Subscription) Seen() uint64 { return s.next - 1 }

// Next returns the next event that passes, and waits for it if need be. When
// ctx is done it waits no longer: ctx's error, after which it may be called
// again. ErrClosed says that the node goes down.
func (s *Subscription) Next(ctx context.Context) (Message, error) {
	for {
		for len(s.batch) > 0 {
			e := s.batch[0]
			s.batch = s.batch[1:]
			s.next = e.Sequence + 1
			if s.q.wants(&e) {
				return Message{Event: e}, nil
			}
		}
		missed, wait, err := s.look()
		if err != nil || missed.To > 0 {
			return missed, err
		}
		if wait == nil {
			continue
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return Message{}, ctx.Err()
		}
	}
}

// look fills the batch. If there is nothing to look at, wait is closed when
// there may be something.
func (s *Subscription) look() (missed Message, wait <-chan struct{}, err error) {
	b := s.b
	b.mu.Lock()
	switch kept := b.journal.kept; {
	case s.done || b.closed:
		b.mu.Unlock()
		return Message{}, nil, ErrClosed
	case s.next < kept:
		missed = Message{From: s.next, To: kept - 1}
		s.next, s.at = kept, place{}
		b.mu.Unlock()
		b.metrics.missed.Inc()
		return missed, nil, nil
	case s.next >= b.tailFrom:
		s.at = place{}
		at, _ := slices.BinarySearchFunc(b.tail, s.next, bySequence)
		if at == len(b.tail) {
			s.next = b.next
			wait = b.changed
		}
		s.batch = append(s.batch[:0:0], b.tail[at:]...)
		b.mu.Unlock()
		return Message{}, wait, nil
	case s.at.segment == nil:
		s.at = b.journal.find(s.next, b.next)
	}
	b.mu.Unlock()
	return s.load(), nil, nil
}

// load reads the next events from the disk. What cannot be read is missed.
func (s *Subscription) load() (missed Message) {
	var err error
	s.batch, s.at, err = s.at.read()
	switch {
	case errors.Is(err, fs.ErrClosed): // dropped meanwhile: look says what is missing
		s.at = place{}
	case err != nil:
		s.b.log.Error("events cannot be read", "error", err)
		missed = Message{From: s.next, To: s.at.next - 1}
		s.next, s.at = s.at.next, place{}
	case s.at.done() && len(s.batch) == 0: // through with the segment
		s.next, s.at = s.at.next, place{}
	}
	return missed
}

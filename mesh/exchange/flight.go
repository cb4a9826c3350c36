package exchange

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"inos.dev/edge/cas"
)

// key names a flight: callers of different hop counts do not wait for each
// other (see "Loops" in the package description).
type key struct {
	hash cas.Hash
	hops int
}

// flight brings in one chunk. done is closed when it is settled; after that
// chunk, source, err and tried do not change. The other fields are guarded by
// Exchange.mu.
type flight struct {
	key
	start time.Time
	done  chan struct{}

	settled   bool
	forgotten bool // the chunk was put meanwhile: an end without it is not remembered
	chunk     cas.Chunk
	source    string
	err       error
	tried     []Attempt // ended
	asking    []pending // not yet
}

// join returns the flight of k, which it starts if there is none. It never
// blocks: there are at most MaxFlights flights, and the queue holds as many.
func (e *Exchange) join(k key, now time.Time) (f *flight, joined bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for hops := range MaxHops {
		// A settled flight that has not landed holds the chunk: for everybody.
		if f := e.flights[key{k.hash, hops}]; f != nil && (f.settled || hops == k.hops) {
			return f, true, nil
		}
	}
	if miss := e.misses.get(k, now); miss != nil {
		return nil, false, miss
	}
	if e.closed {
		return nil, false, ErrClosed
	}
	if len(e.flights) >= e.cfg.MaxFlights {
		return nil, false, fmt.Errorf("%w: %d chunks are on their way", ErrBusy, len(e.flights))
	}
	f = &flight{key: k, start: now, done: make(chan struct{})}
	e.flights[k] = f
	e.queue <- f
	return f, false, nil
}

// result is what a waiter of a settled flight gets.
func (e *Exchange) result(f *flight, joined bool, start time.Time) (Result, error) {
	if f.err != nil {
		return Result{}, f.err
	}
	return Result{Chunk: f.chunk, Source: f.source, Joined: joined, Took: time.Since(start), Tried: f.tried}, nil
}

// unfinished is the answer to a waiter whose time is over before the flight's.
func (e *Exchange) unfinished(f *flight) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	tried := slices.Clone(f.tried)
	for _, p := range f.asking {
		tried = append(tried, Attempt{Source: p.Name(), Outcome: Asking, Duration: time.Since(p.since)})
	}
	miss := newMiss(f.hash, tried)
	miss.Unanswered, miss.RetryAfter = true, max(miss.RetryAfter, minRetry)
	return miss
}

// fly is the life of a flight; base is the context of Run.
func (e *Exchange) fly(base context.Context, f *flight) {
	ctx, cancel := context.WithTimeout(WithHops(base, f.hops), e.cfg.FillTimeout)
	var asks sync.WaitGroup
	defer asks.Wait()
	defer e.land(f)
	defer cancel()

	if chunk, ok := e.find(ctx, f); ok {
		e.settle(f, chunk, Local, nil)
		return
	}
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-ctx.Done():
		e.settle(f, cas.Chunk{}, "", e.failure(base, f, fmt.Errorf("%w: no turn within %v", ErrBusy, e.cfg.FillTimeout)))
		return
	case <-f.done:
		return
	}
	chunk, source, ok := e.ask(ctx, f, &asks)
	if !ok && ctx.Err() == nil { // it may have been put meanwhile
		chunk, ok = e.find(ctx, f)
		source = Local
	}
	if !ok {
		e.settle(f, cas.Chunk{}, "", e.failure(base, f, nil))
		return
	}
	if e.cfg.Denied(f.hash) { // the list may have grown meanwhile
		e.settle(f, cas.Chunk{}, "", fmt.Errorf("%w: chunk %s", cas.ErrDenied, f.hash))
		return
	}
	e.settle(f, chunk, source, nil)
	if source != Local {
		e.keep(base, chunk)
	}
}

// failure is the error of a flight without a chunk: why, or else what was
// tried, unless Run is over, which explains every failure.
func (e *Exchange) failure(base context.Context, f *flight, why error) error {
	switch {
	case base.Err() != nil:
		return ErrClosed
	case why != nil:
		return why
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return newMiss(f.hash, slices.Clone(f.tried))
}

// find looks into the store for a flight. Only the last look stands among
// what was tried.
func (e *Exchange) find(ctx context.Context, f *flight) (c cas.Chunk, ok bool) {
	c, a := e.look(ctx, f.hash)
	e.mu.Lock()
	defer e.mu.Unlock()
	if !f.settled {
		f.tried = slices.DeleteFunc(f.tried, func(t Attempt) bool { return t.Source == Local })
		f.tried = slices.Insert(f.tried, 0, a)
	}
	return c, a.Outcome == Served
}

// look opens the chunk in the store.
func (e *Exchange) look(ctx context.Context, h cas.Hash) (cas.Chunk, Attempt) {
	start := time.Now()
	c, err := e.load(ctx, h)
	a := Attempt{Source: Local, Outcome: outcomeOf(err), Duration: time.Since(start), Err: err}
	switch a.Outcome {
	case Served:
		a.Bytes = c.Size()
	case SaidNo:
		a.Err = nil
	default:
		e.cfg.Logger.Error("the store does not answer", slog.String("hash", h.String()), slog.Any("error", err))
	}
	return c, a
}

func (e *Exchange) load(ctx context.Context, h cas.Hash) (c cas.Chunk, err error) {
	body, err := e.cfg.Store.Open(ctx, h)
	if err != nil {
		return cas.Chunk{}, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	data, err := cas.Load(body, nil)
	if err != nil {
		return cas.Chunk{}, err
	}
	return cas.Verify(h, data)
}

// settle gives every waiter the outcome, and a chunk also to the flights of
// the same hash with other hop counts.
func (e *Exchange) settle(f *flight, c cas.Chunk, source string, err error) {
	now := time.Now()
	e.mu.Lock()
	done := e.settleLocked(nil, f, c, source, err)
	if err == nil {
		for hops := range MaxHops {
			if g := e.flights[key{f.hash, hops}]; g != nil {
				done = e.settleLocked(done, g, c, source, nil)
			}
		}
	}
	if miss, ok := errors.AsType[*MissError](err); ok && len(done) > 0 && !miss.Unanswered && !f.forgotten {
		e.misses.add(f.key, now, miss)
	}
	e.mu.Unlock()
	for _, g := range done {
		e.cfg.Observer.Settled(now.Sub(g.start), err)
	}
}

// settleLocked settles f, unless it is already, and then adds it to done.
func (e *Exchange) settleLocked(done []*flight, f *flight, c cas.Chunk, source string, err error) []*flight {
	if f.settled {
		return done
	}
	f.settled = true
	f.chunk, f.source, f.err = c, source, err
	if err != nil {
		delete(e.flights, f.key) // the next caller tries again
	}
	close(f.done)
	return append(done, f)
}

// keep puts a chunk that is served already into the store. A store that does
// not take it costs the next caller a fetch, and nobody an answer.
func (e *Exchange) keep(base context.Context, c cas.Chunk) {
	ctx, cancel := context.WithTimeout(base, e.cfg.FillTimeout)
	defer cancel()
	_, err := e.cfg.Store.Put(ctx, c)
	if err == nil {
		return
	}
	e.cfg.Observer.Unstored(err)
	level := slog.LevelWarn
	if errors.Is(err, cas.ErrNoSpace) || base.Err() != nil {
		level = slog.LevelDebug // known already, and told by the store's own metrics
	}
	e.cfg.Logger.Log(ctx, level, "a filled chunk was served but not stored",
		slog.String("hash", c.Hash().String()), slog.Any("error", err))
}

// land takes f out of the table, unless the next flight is there already.
func (e *Exchange) land(f *flight) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.flights[f.key] == f {
		delete(e.flights, f.key)
	}
}

// Package exchange brings a missing chunk into the store: one flight per
// hash, and the flight belongs to the node.
//
// # The algorithm
//
// Fill joins the flight of its hash or starts one. A flight is carried by
// Run, never by a caller: whoever started it may hang up and the others still
// get the chunk; when the last one hangs up it goes on and ends by its own
// deadline, so that the next one finds the chunk in the store. A flight
//
//  1. looks into the store again, since its caller's look was before the
//     flight was there;
//  2. asks the providers in the order of what they cost so far (see source),
//     the next one as soon as one fails or is slower than it uses to be;
//  3. passes what comes through cas.Verify. Wrong bytes are counted against
//     their sender and the next one is asked;
//  4. settles: every waiter gets the verified chunk at the same moment, from
//     memory. Only then it is put into the store. A store without room, or
//     with a broken disk, costs the copy and not the answer;
//  5. lands: leaves the table of flights. Whoever comes between 4 and 5 gets
//     the chunk from the flight, whoever comes after 5 finds it in the store.
//
// The one race, event by event. A asks and misses; the flight of B for the
// same hash puts the chunk and lands; A enters Fill and finds no flight. It
// starts one, whose first step finds the chunk: nothing is fetched twice.
//
// A hash that every asked source denied to have is remembered for seconds. A
// source that did not answer, or lied, leaves nothing behind. Forget drops
// the memory when the chunk is uploaded, and marks a flight that is up, so
// that it looks into the store once more and leaves no memory either.
//
// # Loops
//
// Two nodes may name each other as providers. A request says over how many
// nodes it came (WithHops), flights are joined only by callers of the same
// count, and a provider is asked with one more: what waits for what follows a
// growing number, so no ring of flights waits for itself, and at MaxHops a
// node answers from its store alone. When a chunk is verified, the flights of
// all counts get it.
package exchange

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"inos.dev/edge/cas"
)

// Provider is a source of chunks: another node, a bucket, a mesh session.
type Provider interface {
	// Name says who it is, in answers and metrics. It is unique among the
	// providers of an exchange and holds no secret.
	Name() string
	// Fetch returns the stored form of the chunk as it came, at most
	// cas.MaxChunkSize bytes, not yet verified; the exchange does that. The
	// bytes belong to the caller. Errors: ErrSaidNo, ErrLied for an answer
	// that cannot be the chunk, ErrUnanswered (and everything else) for no
	// answer. It returns soon after ctx is done.
	Fetch(ctx context.Context, h cas.Hash) ([]byte, error)
}

// Observer is told what happens, for metrics. Its methods are called from
// many goroutines and must not block.
type Observer interface {
	// Attempted is called once for each source that a flight asked.
	Attempted(Attempt)
	// Settled is called once per flight: err is nil, a *MissError, ErrBusy,
	// ErrClosed or cas.ErrDenied.
	Settled(took time.Duration, err error)
	// Unstored is called when a verified chunk was served but not kept.
	Unstored(err error)
}

// Config says what an Exchange works on. Store is required; the zero value of
// every other field is its default.
type Config struct {
	Store     cas.Store
	Providers []Provider
	// Denied reports hashes that must not be served. Default: none.
	Denied func(cas.Hash) bool

	// FillTimeout bounds a flight. Default 10 s.
	FillTimeout time.Duration
	// FirstAnswer bounds how long Fill waits for its flight. Default 3 s.
	FirstAnswer time.Duration
	// HedgeDelay is how long a provider of unknown speed may take before the
	// next one is asked as well, and the most that any provider gets.
	// Default 500 ms.
	HedgeDelay time.Duration
	// NegativeTTL is how long "every source said no" is remembered. Default
	// 5 s.
	NegativeTTL time.Duration
	// NegativeMax bounds the number of hashes remembered so. Default 16,384.
	NegativeMax int
	// MaxFlights bounds the hashes that are waited for at the same time;
	// beyond it Fill answers ErrBusy. Default 1,024.
	MaxFlights int
	// MaxFetches bounds the flights that ask providers at the same time; the
	// others wait their turn. With it memory is bounded: a flight holds at
	// most maxParallel chunks. Default 64.
	MaxFetches int

	// Logger gets what an operator should know. Default: discarded.
	Logger *slog.Logger
	// Observer may be nil.
	Observer Observer
}

func (c Config) withDefaults() Config {
	c.FillTimeout = orDefault(c.FillTimeout, 10*time.Second)
	c.FirstAnswer = orDefault(c.FirstAnswer, 3*time.Second)
	c.HedgeDelay = orDefault(c.HedgeDelay, 500*time.Millisecond)
	c.NegativeTTL = orDefault(c.NegativeTTL, 5*time.Second)
	c.NegativeMax = orDefault(c.NegativeMax, 16<<10)
	c.MaxFlights = orDefault(c.MaxFlights, 1<<10)
	c.MaxFetches = orDefault(c.MaxFetches, 64)
	if c.Denied == nil {
		c.Denied = func(cas.Hash) bool { return false }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Observer == nil {
		c.Observer = noObserver{}
	}
	return c
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func (c Config) validate() error {
	if c.Store == nil {
		return errors.New("exchange: a store is needed")
	}
	for _, d := range []time.Duration{c.FillTimeout, c.FirstAnswer, c.HedgeDelay, c.NegativeTTL} {
		if d < 0 {
			return errors.New("exchange: durations must not be negative")
		}
	}
	if c.NegativeMax < 0 || c.MaxFlights < 0 || c.MaxFetches < 0 {
		return errors.New("exchange: limits must not be negative")
	}
	names := make(map[string]bool, len(c.Providers)+1)
	names[Local] = true
	for _, p := range c.Providers {
		if names[p.Name()] {
			return fmt.Errorf("exchange: two sources have the name %q", p.Name())
		}
		names[p.Name()] = true
	}
	return nil
}

type noObserver struct{}

func (noObserver) Attempted(Attempt)            {}
func (noObserver) Settled(time.Duration, error) {}
func (noObserver) Unstored(error)               {}

// Exchange fills chunks; make it with New. All methods may be called at the
// same time.
type Exchange struct {
	cfg     Config
	running atomic.Bool
	queue   chan *flight  // started flights on their way to Run; never blocks, see join
	slots   chan struct{} // one token per flight that asks providers

	mu      sync.Mutex // guards the fields below and the fields of flights
	closed  bool
	flights map[key]*flight
	misses  misses
	sources []*source
}

// New returns an Exchange. It starts nothing: flights take off while Run
// runs.
func New(cfg Config) (*Exchange, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	e := &Exchange{
		cfg:     cfg,
		queue:   make(chan *flight, cfg.MaxFlights),
		slots:   make(chan struct{}, cfg.MaxFetches),
		flights: make(map[key]*flight),
		misses:  newMisses(cfg.NegativeMax, cfg.NegativeTTL),
	}
	for _, p := range cfg.Providers {
		e.sources = append(e.sources, newSource(p, cfg.HedgeDelay))
	}
	return e, nil
}

// Run carries the flights until ctx is done. It then ends those that are up
// with ErrClosed, waits for them, and returns nil. It may be called once.
func (e *Exchange) Run(ctx context.Context) error {
	if !e.running.CompareAndSwap(false, true) {
		return errors.New("exchange: Run may be called once")
	}
	var flights sync.WaitGroup
	for {
		select {
		case f := <-e.queue:
			flights.Go(func() { e.fly(ctx, f) })
		case <-ctx.Done():
			e.close()
			flights.Wait()
			return nil
		}
	}
}

// close refuses new flights and ends those that Run has not taken up.
func (e *Exchange) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	for {
		select {
		case f := <-e.queue:
			e.settle(f, cas.Chunk{}, "", ErrClosed)
			e.land(f)
		default:
			return
		}
	}
}

// Result is a filled chunk.
type Result struct {
	Chunk  cas.Chunk
	Source string        // who had it: a provider's name, or Local
	Joined bool          // an earlier caller had started the flight
	Took   time.Duration // from the call to the chunk
	Tried  []Attempt
}

// Fill returns the chunk h, from wherever it is to be had, and keeps a copy in
// the store. It answers within FirstAnswer, even if the flight goes on: a
// later call joins it or finds its chunk.
//
// Errors: *MissError (cas.ErrNotFound or ErrUnanswered), cas.ErrDenied,
// ErrBusy, ErrClosed, and ctx's own if the caller hung up.
func (e *Exchange) Fill(ctx context.Context, h cas.Hash) (Result, error) {
	return e.fill(ctx, h, e.cfg.FirstAnswer)
}

// FillWhole is Fill for an answer that has begun, where the next chunk may
// take longer than the first byte: it waits for the flight's own end, at most
// FillTimeout.
func (e *Exchange) FillWhole(ctx context.Context, h cas.Hash) (Result, error) {
	// A flight ends by itself after FillTimeout; what comes on top is for an
	// exchange that nobody runs.
	return e.fill(ctx, h, e.cfg.FillTimeout+e.cfg.FirstAnswer)
}

func (e *Exchange) fill(ctx context.Context, h cas.Hash, patience time.Duration) (Result, error) {
	start := time.Now()
	if e.cfg.Denied(h) {
		return Result{}, fmt.Errorf("%w: chunk %s", cas.ErrDenied, h)
	}
	hops := Hops(ctx)
	if len(e.sources) == 0 || hops >= MaxHops {
		return e.fillLocal(ctx, h, start)
	}
	f, joined, err := e.join(key{h, hops}, start)
	if err != nil {
		return Result{}, err
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-f.done:
		return e.result(f, joined, start)
	case <-timer.C:
		return Result{}, e.unfinished(f)
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return Result{}, e.unfinished(f)
		}
		return Result{}, fmt.Errorf("exchange: the caller left: %w", context.Cause(ctx))
	}
}

// fillLocal answers from the store alone.
func (e *Exchange) fillLocal(ctx context.Context, h cas.Hash, start time.Time) (Result, error) {
	c, a := e.look(ctx, h)
	tried := []Attempt{a}
	if a.Outcome != Served {
		return Result{}, newMiss(h, tried)
	}
	return Result{Chunk: c, Source: Local, Took: time.Since(start), Tried: tried}, nil
}

// Forget drops what is remembered about h's absence. Whoever puts a chunk into
// the store calls it afterwards.
func (e *Exchange) Forget(h cas.Hash) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for hops := range MaxHops {
		k := key{h, hops}
		e.misses.drop(k)
		if f := e.flights[k]; f != nil {
			f.forgotten = true
		}
	}
}

// Stats is a moment of an Exchange.
type Stats struct {
	Flights    int // hashes waited for now
	Remembered int // hashes known to be nowhere
	Sources    []SourceStats
}

// Stats returns the present numbers, sources in the order of the Config.
func (e *Exchange) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Stats{Flights: len(e.flights), Remembered: e.misses.len()}
	for _, src := range e.sources {
		s.Sources = append(s.Sources, src.stats())
	}
	return s
}

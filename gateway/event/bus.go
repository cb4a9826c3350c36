package event

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"inos.dev/edge/cas"
)

// Config says how a Bus works. Dir is required.
type Config struct {
	// Dir is for the journal alone.
	Dir string
	// MaxBytes and MaxEvents bound the journal: when there is more, the oldest
	// sixteenth goes. Defaults 16 MiB and 100,000.
	MaxBytes  int64
	MaxEvents int
	// MaxStreams bounds the subscriptions and offers, MaxPerCaller those of one
	// caller. Defaults 1024 and 16.
	MaxStreams   int
	MaxPerCaller int

	Registry prometheus.Registerer // nil: metrics are counted and not shown
	Logger   *slog.Logger          // nil: slog.Default
}

func (c *Config) validate() error {
	if c.Dir == "" {
		return errors.New("event: Config needs Dir")
	}
	if c.MaxBytes < 0 || c.MaxEvents < 0 || c.MaxStreams < 0 || c.MaxPerCaller < 0 {
		return errors.New("event: limits must not be negative; 0 means the default")
	}
	orDefault(&c.MaxBytes, 16<<20)
	orDefault(&c.MaxEvents, 100_000)
	orDefault(&c.MaxStreams, 1024)
	orDefault(&c.MaxPerCaller, 16)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// The tail is what live subscribers read without touching the disk.
const (
	tailEvents = 1024
	tailBytes  = 4 << 20
)

// Bus publishes, keeps, replays and routes events. All methods may be called at
// the same time.
type Bus struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics

	mu         sync.Mutex // guards the fields below
	journal    *journal
	next       uint64                // number of the next event
	operations map[string]*operation // by id
	routes     map[string]*route     // by "service:action"
	tail       []Event               // the latest ones
	tailSize   int64                 // bytes of their payloads
	tailFrom   uint64                // all events from here on are in tail
	streams    map[string]int        // open ones by caller
	open       int                   // all of them
	changed    chan struct{}         // closed and replaced when something happened
	closed     bool
}

// Open reads the journal of a directory. It starts nothing.
func Open(cfg Config) (*Bus, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Registry)
	if err != nil {
		return nil, err
	}
	b := &Bus{
		cfg: cfg, log: cfg.Logger, metrics: m, operations: map[string]*operation{}, routes: map[string]*route{},
		streams: map[string]int{}, changed: make(chan struct{}),
	}
	j, lost, err := openJournal(cfg.Dir, cfg.MaxBytes, cfg.MaxEvents, func(e *Event) {
		b.next = e.Sequence + 1
		b.operationLocked(e).advance(e)
	})
	if err != nil {
		return nil, fmt.Errorf("event journal: %w", err)
	}
	if lost > 0 {
		b.log.Warn("the event journal ended in a torn record, which a crash leaves", "bytes", lost)
	}
	b.journal = j
	// Numbers go on at the microsecond of the clock: what a crash took with it
	// may have been seen by somebody, and its numbers are not given again.
	b.next = max(b.next, uint64(max(time.Now().UnixMicro(), 1)))
	b.tailFrom = b.next
	if len(j.segments) == 0 {
		j.kept = b.next
	}
	return b, nil
}

// Close closes the files, once Run has returned.
func (b *Bus) Close() error {
	b.Drain()
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(b.journal.syncFiles(b.journal.unsynced()), b.journal.close())
}

// Drain ends all subscriptions and offers, and refuses new ones: the node goes
// down. Publish still works.
func (b *Bus) Drain() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.broadcastLocked()
}

// syncEvery is the most time of events that a crash of the machine may take.
const syncEvery = time.Second

// Run handles events and makes the journal durable until ctx is done, and waits
// for the handlers.
func (b *Bus) Run(ctx context.Context) error {
	b.giveUpLost()
	g, ctx := errgroup.WithContext(ctx)
	for _, r := range b.nodeRoutes() {
		for range r.handler.Concurrency {
			g.Go(func() error { return b.work(ctx, r) })
		}
	}
	g.Go(func() error {
		tick := time.NewTicker(syncEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				b.sync()
			}
		}
	})
	err := g.Wait()
	b.sync()
	return err
}

func (b *Bus) sync() {
	b.mu.Lock()
	files := b.journal.unsynced()
	b.mu.Unlock()
	if len(files) == 0 {
		return
	}
	if err := b.journal.syncFiles(files); err != nil {
		b.log.Error("the event journal cannot be made durable", "error", err)
	}
}

// Published is what became of an event.
type Published struct {
	ID       string
	Sequence uint64
	Time     time.Time
	Again    bool // it was here already, and nothing happened
}

// Publish accepts events of p in their order: all of them or none. It sets
// their numbers, time and identity, and a missing id. It never waits for a
// subscriber. Errors: ErrEvent, ErrForeign, ErrTransition.
func (b *Bus) Publish(p Publisher, events []Event) ([]Published, error) {
	switch {
	case len(events) == 0 || len(events) > MaxBatch:
		return nil, fmt.Errorf("%w: %d of them, 1 to %d at once", ErrEvent, len(events), MaxBatch)
	case !p.node && (p.Subject == "" || len(p.Subject) > maxSubject):
		return nil, fmt.Errorf("%w: nobody publishes without a subject", ErrForeign)
	}
	events = slices.Clone(events)
	for i := range events {
		if err := events[i].accept(p); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.publishLocked(p, events)
}

func (b *Bus) publishLocked(p Publisher, events []Event) ([]Published, error) {
	now := time.Now().UTC().Round(0)
	fresh := make(map[string]*operation) // what the events before in this batch change
	published := make([]Published, len(events))
	accepted := make([]Event, 0, len(events))
	var data []byte
	for i := range events {
		e := &events[i]
		o, ok := fresh[e.ID]
		if !ok {
			o = b.operations[e.ID]
		}
		again, err := o.step(p, e)
		if err != nil {
			b.metrics.refused.Inc()
			return nil, err
		}
		if again > 0 {
			published[i] = Published{e.ID, again, b.timeLocked(again, accepted), true}
			continue
		}
		e.Sequence, e.Time = b.next+uint64(len(accepted)), now
		if e.For = e.User; o != nil {
			e.For = o.requester
		}
		changed := operation{}
		if o != nil {
			changed = *o
			e.handled = e.handled || e.Name.State == Processing && o.worker != nil
		}
		changed.advance(e)
		fresh[e.ID] = &changed
		if data, err = appendRecord(data, e); err != nil {
			return nil, fmt.Errorf("event: %w", err)
		}
		accepted = append(accepted, *e)
		published[i] = Published{e.ID, e.Sequence, e.Time, false}
	}
	if len(accepted) == 0 {
		return published, nil
	}
	dropped, err := b.journal.append(data, accepted[0].Sequence, len(accepted))
	if err != nil {
		return nil, err
	}
	b.next += uint64(len(accepted))
	for i := range accepted {
		b.takeLocked(&accepted[i])
	}
	b.forgetLocked(dropped)
	b.broadcastLocked()
	return published, nil
}

// timeLocked is when an event that was published again was accepted, if that
// is still known.
func (b *Bus) timeLocked(seq uint64, batch []Event) time.Time {
	for _, list := range [][]Event{batch, b.tail} {
		if i, ok := slices.BinarySearchFunc(list, seq, bySequence); ok {
			return list[i].Time
		}
	}
	return time.Time{}
}

func bySequence(e Event, seq uint64) int {
	switch {
	case e.Sequence < seq:
		return -1
	case e.Sequence > seq:
		return 1
	}
	return 0
}

// takeLocked lets an event that is in the journal have its effects.
func (b *Bus) takeLocked(e *Event) {
	o := b.operationLocked(e)
	o.advance(e)
	b.routeLocked(e, o)
	b.tail = append(b.tail, *e)
	b.tailSize += int64(len(e.Payload))
	for len(b.tail) > tailEvents || b.tailSize > tailBytes {
		b.tailSize -= int64(len(b.tail[0].Payload))
		b.tailFrom = b.tail[0].Sequence + 1
		b.tail[0] = Event{} // its payload is free at once
		b.tail = b.tail[1:]
	}
	b.metrics.published(e.Name.State)
}

// operationLocked is what is known of e's operation; a new one, if nothing is.
func (b *Bus) operationLocked(e *Event) *operation {
	o := b.operations[e.ID]
	if o == nil {
		o = &operation{}
		b.operations[e.ID] = o
	}
	return o
}

// forgetLocked drops the operations whose last event is no longer kept.
func (b *Bus) forgetLocked(dropped uint64) {
	if dropped == 0 {
		return
	}
	for id, o := range b.operations {
		if o.last() < dropped {
			o.leave(id)
			delete(b.operations, id)
		}
	}
	for _, r := range b.routes {
		r.waiting = slices.DeleteFunc(r.waiting, func(id string) bool { return b.operations[id] == nil })
	}
}

func (b *Bus) broadcastLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// Emit publishes an event of the node itself. name is one of the table, payload
// of the type that the table says, id that of the operation, or "" for a new
// one; subject is whom it concerns, or "". The same event is published once. An
// id may be any text: one that could be a client's, or is none, becomes its hash.
func (b *Bus) Emit(name, id, subject string, payload any) error {
	n, err := ParseName(name)
	if err != nil {
		return err
	}
	data, err := encodePayload(n, payload)
	if err != nil {
		return err
	}
	if id != "" && (!visible(id, MaxID) || !strings.Contains(id, nodesOwn)) {
		id = "node" + nodesOwn + cas.Sum([]byte(id)).String()
	}
	_, err = b.Publish(Publisher{node: true}, []Event{{ID: id, Name: n, User: subject, Payload: data}})
	return err
}

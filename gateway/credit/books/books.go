package books

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"inos.dev/edge/gateway/credit"
)

// errHangs is why the journal counts as failing while it is only slow.
var errHangs = fmt.Errorf("the journal has taken more than %v", patience)

// Books charges the bytes of a node; make it with New. All methods may be
// called at the same time.
type Books struct {
	cfg       Config
	metrics   *metrics
	node      credit.Account // earns
	house     *payer
	operators map[string]bool
	unknown   credit.Amount // what other gateways are taken to have for an account nobody knows
	sharing   *sharing      // nil: alone

	lines  atomic.Int64 // in all shards
	shards [shardCount]shard

	float   pool // of the house's lease, for payers without one; and Unbooked, while failing
	failing atomic.Bool
	closed  atomic.Bool
	wake    chan struct{}
	spends  chan struct{} // one Spend at a time

	payersMu sync.Mutex        // guards payers, and the lines of each; taken after shard.mu
	payers   map[string]*payer // by owner

	activeMu sync.Mutex // guards active; nothing is taken after it
	active   []*payer

	alarmMu sync.Mutex // guards alarm and setting failing
	alarm   chan struct{}

	flushing  sync.Mutex // one flush at a time; guards the book of each payer, and:
	floatSize int64      // of the house's lease
	swept     time.Time  // all payers
	tidied    time.Time  // a shard
	next      int        // the shard to sweep
}

// New returns the books of a node and makes them ready: the leases that a
// crash has left open go back, and the house gets one with the float, in
// the journal. It starts nothing: Run does.
func New(ctx context.Context, cfg Config) (*Books, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	b := &Books{
		cfg: cfg, node: credit.Node(cfg.Key), operators: make(map[string]bool), payers: make(map[string]*payer),
		wake: make(chan struct{}, 1), spends: make(chan struct{}, 1), alarm: make(chan struct{}),
	}
	for _, subject := range cfg.Operators {
		b.operators[subject] = true
	}
	for i := range b.shards {
		b.shards[i].lines = make(map[lineKey]*Line)
	}
	b.house = b.newPayer(credit.House(cfg.Key))
	b.unknown, _ = cfg.Retrieval.For(cfg.MaxLease, 0)
	var err error
	if b.metrics, err = newMetrics(cfg.Registry); err != nil {
		return nil, fmt.Errorf("books: metrics: %w", err)
	}
	if cfg.Share != nil {
		b.sharing = newSharing(b, cfg.Share)
	}
	if err := b.recover(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

// recover returns the leases of those who crashed, and opens that of the house.
func (b *Books) recover(ctx context.Context) error {
	b.flushing.Lock()
	defer b.flushing.Unlock()
	if err := b.refresh(ctx, b.house); err != nil {
		return err
	}
	open, err := b.cfg.Ledger.Leases(ctx)
	if err != nil {
		return fmt.Errorf("books: list open leases: %w", err)
	}
	var entries []credit.Entry
	for _, a := range open {
		if a.Account != b.house.account {
			entries = append(entries, credit.Entry{Kind: credit.KindLease, From: a.Account})
		}
	}
	for some := range slices.Chunk(entries, maxEntries) {
		if _, _, err := b.cfg.Ledger.Append(ctx, "", some); err != nil {
			return fmt.Errorf("books: return leases: %w", err)
		}
	}
	if len(entries) > 0 {
		b.cfg.Logger.Info("books: leases of the last run went back", "accounts", len(entries))
	}
	h := b.house
	seq, _, err := b.cfg.Ledger.Append(ctx, "", []credit.Entry{{Kind: credit.KindLease, From: h.account, Bytes: b.cfg.Lease + b.cfg.Float}})
	if err != nil {
		return fmt.Errorf("books: open the lease of the house: %w", err)
	}
	b.wrote(seq)
	h.lease, b.floatSize = b.cfg.Lease, b.cfg.Float
	h.leased.Store(true)
	h.free.Store(h.lease)
	b.float.Store(b.floatSize)
	b.metrics.leased.Set(float64(h.lease + b.floatSize))
	return nil
}

// Run writes a record in every window in which something was sent, and keeps
// up with the other gateways, until ctx ends. Without it, takers wait when the
// leases are used up.
func (b *Books) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	if b.sharing != nil {
		wg.Go(func() { b.sharing.run(ctx) })
	}
	defer wg.Wait()
	tick := time.NewTicker(b.cfg.Window)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-b.wake:
		}
		// An error was logged where failing began, and the next flush tries again.
		_ = b.flush(ctx, time.Now(), serving)
		// Takers may wake it again at once; a pause lets more of them share it.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(b.cfg.Window / 10):
		}
	}
}

// Close charges what was sent, and returns the leases but for what is taken
// and not settled. It comes after Run, when nothing is served any more; then
// takers get ErrClosed.
func (b *Books) Close(ctx context.Context) error {
	b.closed.Store(true)
	err := b.flush(ctx, time.Now(), closing)
	if err == nil {
		err = b.flush(ctx, time.Now(), closeHouse)
	}
	if b.sharing != nil {
		b.sharing.last(ctx)
	}
	return err
}

// wakeFlusher has the next record written now.
func (b *Books) wakeFlusher() {
	select {
	case b.wake <- struct{}{}:
	default: // it is awake
	}
}

// alarmed is closed when failing begins or ends.
func (b *Books) alarmed() <-chan struct{} {
	b.alarmMu.Lock()
	defer b.alarmMu.Unlock()
	return b.alarm
}

// setFailing notes whether the journal can be written. While it cannot, the
// float has Unbooked more, so that serving goes on; nothing but memory stands
// for that.
func (b *Books) setFailing(err error) {
	b.alarmMu.Lock()
	defer b.alarmMu.Unlock()
	if (err != nil) == b.failing.Load() {
		return
	}
	b.failing.Store(err != nil)
	if err != nil {
		b.float.Add(b.cfg.Unbooked)
		b.metrics.failing.Set(1)
		b.metrics.failures.Inc()
		b.cfg.Logger.Error("books: the journal cannot be written; what is served meanwhile is charged when it can be again, and lost if the node ends before", "limit_bytes", b.cfg.Unbooked, "error", err)
	} else {
		b.float.Add(-b.cfg.Unbooked)
		b.metrics.failing.Set(0)
		b.cfg.Logger.Info("books: the journal can be written again")
	}
	close(b.alarm)
	b.alarm = make(chan struct{})
}

package heat

import (
	"context"
	"sync"
	"time"

	"inos.dev/edge/cas"
)

// Heat counts for one node, and decides with the others. Its methods may be
// called at the same time.
type Heat struct {
	cfg     Config
	metrics *metrics
	own     *Memory // what this node counted itself; nil if Store is for it alone anyway

	// Run alone has these.
	sums   map[cas.Hash]int64
	out    outbox
	ownSeq uint64
	called time.Time // the last call of the store
	pause  time.Time // none before that
	behind bool      // the store has forgotten what it knew
	deaf   bool      // the last announcement failed, and that was logged

	mu    sync.Mutex // guards the fields below
	up    bool       // the store answered, or was never called
	quiet bool       // the last view had nothing to watch
	skew  time.Duration
	view  View // the last one, of the store or of own
	hot   []*observed
	known map[cas.Hash]*observed // the same
	tail  int64

	topMu sync.Mutex // guards the fields below, and lets one call at a time read the list
	top   []Rate
	topAt time.Time
	topN  int
}

// observed is a chunk of the last view. Run replaces it and nobody changes it,
// but for told, which Run alone looks at.
type observed struct {
	Rate

	policy    Policy
	hasPolicy bool
	state     State
	told      uint64 // epoch of the last decision of this node that was announced
}

// New returns a Heat that counts; it decides while Run runs.
func New(cfg Config) (*Heat, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Registry)
	if err != nil {
		return nil, err
	}
	h := &Heat{cfg: cfg, metrics: m, up: true, quiet: true, sums: make(map[cas.Hash]int64)}
	m.up.Set(gauge(true))
	if _, alone := cfg.Store.(*Memory); !alone {
		h.own = &Memory{clock: h.now}
	}
	return h, nil
}

// Count adds n bytes that were read of chunk c. It allocates nothing and
// waits for nobody.
func (h *Heat) Count(c cas.Hash, n int64) { h.cfg.Counter.Count(c, n) }

// Run ends a window after the other until ctx is done. It returns nil. It may
// be called once.
func (h *Heat) Run(ctx context.Context) error {
	start := time.Now()
	h.out = outbox{epoch: uint64(start.UnixMicro()), drained: start}
	tick := time.NewTicker(h.cfg.Window)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			h.tick(ctx)
		}
	}
}

// tick ends a window.
func (h *Heat) tick(ctx context.Context) {
	now := time.Now()
	proposals, alone := h.proposals()
	counted := h.collect(now)
	own := h.applyOwn(ctx, counted, proposals, alone)
	if h.due(now, proposals) {
		if alone {
			proposals = nil // own has them
		}
		v, err := h.apply(ctx, now, proposals)
		if ctx.Err() != nil {
			return
		}
		h.setUp(err)
		if alone = err != nil; !alone {
			own = v
		}
	} else if !alone {
		return // nothing new
	}
	if own != nil {
		h.observe(ctx, *own, alone)
		h.announce(ctx)
	}
}

// collect takes what was counted since the last tick to the outbox, and
// returns it.
func (h *Heat) collect(now time.Time) []Delta {
	clear(h.sums)
	tail := h.cfg.Counter.drain(h.sums)
	counted, rest := top(h.sums, maxDeltas)
	tail += total(rest) + h.out.add(counted, now)
	if tail > 0 {
		h.lose(tail)
	}
	return counted
}

// lose notes bytes that were not told apart.
func (h *Heat) lose(tail int64) {
	h.metrics.tail.Add(float64(tail))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tail += tail
}

// due reports whether the store is to be called now: in every window if there
// is something to tell or to watch, else once in four; in every second one
// while it does not answer.
func (h *Heat) due(now time.Time, proposals []Decision) bool {
	h.mu.Lock()
	up, quiet := h.up, h.quiet
	h.mu.Unlock()
	wait := h.cfg.Window
	switch {
	case !up:
		wait *= 2
	case quiet && len(proposals) == 0 && h.out.idle() && !h.behind:
		wait *= 4
	}
	early := h.cfg.Window / 2 // ticks are not on time to the microsecond
	return now.Sub(h.called) >= wait-early && !now.Before(h.pause.Add(-early))
}

// apply is the one call of a window. It returns no view if the store has
// forgotten what this node still knows: the next window tells it.
func (h *Heat) apply(ctx context.Context, now time.Time, proposals []Decision) (*View, error) {
	w, tail := h.out.window(len(proposals) > 0, now)
	if tail > 0 {
		h.lose(tail)
	}
	h.fill(&w, proposals)
	if h.behind {
		w.Known = h.Decisions()
	}
	first := h.called.IsZero()
	h.called = now
	timed, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
	defer cancel()
	v, err := h.cfg.Store.Apply(timed, w)
	h.metrics.flush.Observe(time.Since(now).Seconds())
	if err != nil {
		h.out.failed(w)
		h.behind = true // until it says what it knows; to be told twice does no harm
		return nil, err
	}
	if h.own != nil && (first || h.behind) {
		// A new connection costs commands of its own, a new server even more.
		h.pause = now.Add(4 * h.cfg.Window)
	}
	behind, newer := h.out.answered(w, v, now)
	h.behind = behind
	if behind {
		return nil, nil
	}
	if newer {
		h.cfg.Logger.Warn("another process counts as this node, or the clock was set back", "node", h.cfg.Node)
	}
	for _, r := range v.Refused {
		h.metrics.held.WithLabelValues(string(r.Reason)).Inc()
	}
	return &v, nil
}

// fill adds to w what does not depend on what was counted.
func (h *Heat) fill(w *Window, proposals []Decision) {
	w.Node, w.Proposals = h.cfg.Node, proposals
	w.Above, w.BytesPerMinute = float64(h.cfg.ReplicaBytes), h.cfg.BytesPerMinute
	h.mu.Lock()
	defer h.mu.Unlock()
	w.Switch = h.view.Switch
}

// aloneShare is the part of the budget that one node may use up by itself.
const aloneShare = 8

// applyOwn ends the window in the store of this node's own. It returns nil if
// there is none.
func (h *Heat) applyOwn(ctx context.Context, counted []Delta, proposals []Decision, alone bool) *View {
	if h.own == nil {
		return nil
	}
	if !alone {
		proposals = nil // they are for the store
	}
	w := Window{Epoch: 1, Base: h.ownSeq, Seq: h.ownSeq + 1, Deltas: counted, Span: h.cfg.Window, Known: h.Decisions()}
	h.fill(&w, proposals)
	w.BytesPerMinute /= aloneShare
	v, err := h.own.Apply(ctx, w)
	if err != nil {
		return nil // ctx is done
	}
	h.ownSeq++
	return &v
}

// setUp notes whether the store answered.
func (h *Heat) setUp(err error) {
	h.mu.Lock()
	was := h.up
	h.up = err == nil
	h.mu.Unlock()
	h.metrics.up.Set(gauge(err == nil))
	switch {
	case was && err != nil:
		h.cfg.Logger.Warn("the store of heat is away: this node decides by what it sees itself", "error", err)
	case !was && err == nil:
		h.cfg.Logger.Info("the store of heat is back")
	}
}

// observe takes in a view.
func (h *Heat) observe(ctx context.Context, v View, alone bool) {
	h.mu.Lock()
	before := h.known
	h.mu.Unlock()
	hot := make([]*observed, 0, len(v.Rates))
	known := make(map[cas.Hash]*observed, len(v.Rates))
	quiet := true
	for _, r := range v.Rates {
		o := &observed{Rate: r}
		o.policy, o.hasPolicy = h.cfg.Policy(ctx, r.Chunk)
		if old := before[r.Chunk]; old != nil {
			o.state, o.told = old.state, old.told
		}
		if o.hasPolicy {
			o.state = o.state.Observe(Observation{Rate: r, Alone: alone}, o.policy, v.Now, h.cfg.Rules)
		}
		hot = append(hot, o)
		known[r.Chunk] = o
		// A decision for the floor is only there until it ends.
		quiet = quiet && r.Fast < float64(h.cfg.ReplicaBytes) && r.Decision.Target <= r.Decision.Policy.RF
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !alone {
		h.skew = time.Until(v.Now)
	}
	v.Switch = h.view.Switch.newer(v.Switch)
	h.view, h.hot, h.known, h.quiet = v, hot, known, quiet
	h.metrics.tracked.Set(float64(v.Tracked))
	h.metrics.frozen.Set(gauge(v.Switch.On))
}

// announce tells the decisions of this node that nobody was told yet.
func (h *Heat) announce(ctx context.Context) {
	h.mu.Lock()
	hot := h.hot
	h.mu.Unlock()
	deaf := false
	for _, o := range hot {
		d := o.Decision
		if d.Node != h.cfg.Node || d.Epoch <= o.told {
			continue
		}
		if err := h.cfg.Decided(ctx, d); err != nil {
			if !h.deaf && !deaf && ctx.Err() == nil {
				h.cfg.Logger.Error("a decision about replicas cannot be announced; it is tried again in every window", "chunk", d.Chunk, "error", err)
			}
			deaf = true
			continue // one that nobody takes holds up no other
		}
		o.told = d.Epoch
		h.metrics.decisions.WithLabelValues(string(d.Reason)).Inc()
		h.metrics.moved.Add(float64(d.Moves))
	}
	h.deaf = deaf
}

// now is the time by the clock of the store.
func (h *Heat) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Now().Add(h.skew)
}

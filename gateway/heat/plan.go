package heat

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// maxName is the most bytes of the name of a node, and of who froze.
const maxName = 128

// Plan returns what would be decided now about each hot chunk and each one with
// a decision, the hottest first: Target is Previous if it stays, and Reason
// says why in any case. Nothing is done.
func (h *Heat) Plan(context.Context) []Decision {
	all, _ := h.plan()
	return all
}

// proposals are the news of the plan, and whether the store is away.
func (h *Heat) proposals() (news []Decision, alone bool) {
	all, changes := h.plan()
	for i, d := range all {
		if changes[i] {
			news = append(news, d)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return news, !h.up
}

// plan decides about all chunks of the last view. It is what both Plan and Run
// do. The hottest chunk has the first claim on the budget.
func (h *Heat) plan() (all []Decision, changes []bool) {
	now := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	budget := h.view.Budget
	for _, o := range h.hot {
		if !o.hasPolicy {
			continue
		}
		seen := Observation{Rate: o.Rate, Budget: budget, Frozen: h.view.Switch.On, Alone: !h.up}
		d, change := Decide(seen, o.policy, o.state, now, h.cfg.Rules)
		d.Node = h.cfg.Node
		if change {
			budget -= d.Moves
		}
		all, changes = append(all, d), append(changes, change)
	}
	return all, changes
}

// Decisions returns the decisions in force that the last view had, of all
// nodes, about the hottest chunk first.
func (h *Heat) Decisions() []Decision {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []Decision
	for _, o := range h.hot {
		if o.Decision.Epoch != 0 {
			list = append(list, o.Decision)
		}
	}
	return list
}

// topFor is how long a list of the hottest chunks may be read again, so that
// many who ask cost the store one call a second.
const topFor = time.Second

// Top returns the hottest chunks over all nodes, at most n of them (1 …
// MaxTop), the hottest first. It may be a second old. While the store is away
// it is the list of this node alone; see Status.
func (h *Heat) Top(ctx context.Context, n int) ([]Hot, error) {
	n = min(max(n, 1), MaxTop)
	rates, err := h.rates(ctx, n)
	if err != nil {
		return nil, err
	}
	now := h.now()
	h.mu.Lock()
	known, frozen, up := h.known, h.view.Switch.On, h.up
	h.mu.Unlock()
	list := make([]Hot, 0, min(n, len(rates)))
	for _, r := range rates[:min(n, len(rates))] {
		line := Hot{Chunk: r.Chunk, Rate: r.Fast, Slow: r.Slow, Epoch: r.Decision.Epoch, Target: r.Decision.Target, Policy: r.Decision.Policy}
		if p, ok := h.cfg.Policy(ctx, r.Chunk); ok {
			var s State
			if o := known[r.Chunk]; o != nil {
				s = o.state
			}
			seen := Observation{Rate: r, Budget: h.cfg.BytesPerMinute, Frozen: frozen, Alone: !up}
			line.Policy = h.cfg.bounds(p)
			line.Target = seen.current(line.Policy, now)
			d, _ := Decide(seen, p, s, now, h.cfg.Rules)
			line.Reason = d.Reason
		}
		list = append(list, line)
	}
	return list, nil
}

// rates reads the list of the store, or the last one again.
func (h *Heat) rates(ctx context.Context, n int) ([]Rate, error) {
	h.topMu.Lock()
	defer h.topMu.Unlock()
	if h.topN >= n && time.Since(h.topAt) < topFor {
		return h.top, nil
	}
	h.mu.Lock()
	up := h.up
	h.mu.Unlock()
	var rates []Rate
	var err error
	if up || h.own == nil {
		timed, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
		defer cancel()
		rates, err = h.cfg.Store.Top(timed, n)
	}
	if h.own != nil && (!up || err != nil) {
		rates, err = h.own.Top(ctx, n)
	}
	if err != nil {
		return nil, fmt.Errorf("heat: the list of the hottest chunks: %w", err)
	}
	h.top, h.topN, h.topAt = rates, n, time.Now()
	return rates, nil
}

// Freeze stops all moves of the cluster, or lets them go on. by says who wants
// it, at most 128 bytes of it are kept. If the store is away, an error says so;
// moves of this node stop nevertheless, and those of the others as soon as the
// store is back.
func (h *Heat) Freeze(ctx context.Context, on bool, by string) error {
	by = strings.ToValidUTF8(by[:min(len(by), maxName)], "")
	timed, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
	defer cancel()
	s, err := h.cfg.Store.Freeze(timed, on, by)
	if err != nil && !on {
		return fmt.Errorf("heat: moves stay as they are; try again when the store is back: %w", err)
	}
	if err != nil {
		s = Switch{On: true, By: by, At: h.now().Truncate(time.Microsecond)}
		err = fmt.Errorf("heat: moves are stopped on this node only; the others follow when the store is back: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.view.Switch = h.view.Switch.newer(s)
	h.metrics.frozen.Set(gauge(h.view.Switch.On))
	return err
}

// Status is how the counting goes.
type Status struct {
	Switch

	Shared       bool // with other nodes
	Up           bool // the store answers; while not, this node is on its own
	Tracked      int  // chunks whose rates are kept
	Decisions    int  // in force
	Budget       int64
	Window       time.Duration
	ReplicaBytes int64
	TailBytes    int64 // read of chunks that this node did not tell apart
}

// Status returns how the counting goes.
func (h *Heat) Status() Status {
	decisions := len(h.Decisions())
	h.mu.Lock()
	defer h.mu.Unlock()
	return Status{
		Switch: h.view.Switch, Shared: h.own != nil, Up: h.up, Tracked: h.view.Tracked, Decisions: decisions, Budget: h.view.Budget,
		Window: h.cfg.Window, ReplicaBytes: h.cfg.ReplicaBytes, TailBytes: h.tail,
	}
}

package heat

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"inos.dev/edge/cas"
)

// Memory is a Store for one process. The zero value is empty and ready.
type Memory struct {
	clock func() time.Time // nil: time.Now

	mu        sync.Mutex // guards the fields below
	now       time.Time  // of the last call
	chunks    map[cas.Hash]averages
	decisions map[cas.Hash]Decision
	nodes     map[string]progress // one, or as many as a test has
	bucket    bucket
	toggle    Switch
}

var _ Store = (*Memory)(nil)

// progress is how far a node has counted.
type progress struct{ epoch, seq uint64 }

// bucket holds the bytes that may be moved now.
type bucket struct {
	bytes float64
	at    time.Time // zero: full
}

// fill adds what has become free since the last time.
func (b *bucket) fill(now time.Time, perMinute int64) {
	if b.at.IsZero() {
		b.bytes = float64(perMinute)
	} else if dt := now.Sub(b.at); dt > 0 {
		b.bytes += dt.Minutes() * float64(perMinute)
	}
	b.bytes, b.at = min(b.bytes, float64(perMinute)), now
}

// take pays for a move, or says that there is not enough. A move that is
// larger than the bucket waits until that is full and leaves a debt.
func (b *bucket) take(moves, perMinute int64) bool {
	if moves > 0 && b.bytes < float64(min(moves, perMinute)) || moves > 0 && perMinute == 0 {
		return false
	}
	b.bytes -= float64(moves)
	return true
}

// Apply implements Store.
func (m *Memory) Apply(ctx context.Context, w Window) (View, error) {
	if err := ctx.Err(); err != nil {
		return View{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.tickLocked()
	last := m.nodes[w.Node]
	if w.Epoch > last.epoch {
		last = progress{epoch: w.Epoch}
	}
	m.learnLocked(w, now)
	m.bucket.fill(now, w.BytesPerMinute)
	var refused []Refusal
	if w.Epoch == last.epoch && w.Base == last.seq && w.Seq > w.Base {
		last.seq = w.Seq
		m.countLocked(w, now)
		refused = m.decideLocked(w, now)
		if m.nodes == nil {
			m.nodes = make(map[string]progress)
		}
		m.nodes[w.Node] = last
	}
	return View{
		Now: now, Epoch: m.nodes[w.Node].epoch, LastSeq: m.nodes[w.Node].seq, Rates: m.viewLocked(w.Above, now), Refused: refused,
		Switch: m.toggle, Budget: int64(m.bucket.bytes), Tracked: len(m.chunks),
	}, nil
}

// Top implements Store.
func (m *Memory) Top(ctx context.Context, n int) ([]Rate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.tickLocked()
	rates := make([]Rate, 0, len(m.chunks))
	for h, a := range m.chunks {
		a = a.decayed(now)
		rates = append(rates, Rate{h, a.fast, a.slow, m.decisions[h]})
	}
	slices.SortFunc(rates, hottest)
	return rates[:min(len(rates), max(n, 1), MaxTop)], nil
}

// Freeze implements Store.
func (m *Memory) Freeze(ctx context.Context, on bool, by string) (Switch, error) {
	if err := ctx.Err(); err != nil {
		return Switch{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.tickLocked()
	if !at.After(m.toggle.At) {
		at = m.toggle.At.Add(time.Microsecond) // this one is the newest
	}
	m.toggle = Switch{On: on, By: by, At: at}
	return m.toggle, nil
}

// tickLocked reads the clock, and drops what is over: decisions that are void,
// and rates that have decayed away.
func (m *Memory) tickLocked() time.Time {
	now := time.Now()
	if m.clock != nil {
		now = m.clock()
	}
	now = now.Truncate(time.Microsecond).UTC() // as in Redis
	if now.Before(m.now.Add(-time.Second)) {
		clear(m.chunks) // the clock was set back: the rates would never decay
	} else if now.Before(m.now) {
		now = m.now
	}
	m.now = now
	maps.DeleteFunc(m.decisions, func(_ cas.Hash, d Decision) bool { return !now.Before(d.Expires) })
	maps.DeleteFunc(m.chunks, func(_ cas.Hash, a averages) bool { return a.decayed(now).slow < 1 })
	return now
}

// learnLocked takes over what the store had forgotten.
func (m *Memory) learnLocked(w Window, now time.Time) {
	m.toggle = m.toggle.newer(w.Switch)
	for _, d := range w.Known {
		old, ok := m.decisions[d.Chunk]
		if d.Epoch > old.Epoch && now.Before(d.Expires) && (ok || len(m.decisions) < MaxDecisions) {
			m.setLocked(d)
		}
	}
}

func (m *Memory) setLocked(d Decision) {
	if m.decisions == nil {
		m.decisions = make(map[cas.Hash]Decision)
	}
	m.decisions[d.Chunk] = d
}

// countLocked adds the deltas of a window, and prunes the coldest chunks.
func (m *Memory) countLocked(w Window, now time.Time) {
	fast, slow := w.shares()
	if m.chunks == nil {
		m.chunks = make(map[cas.Hash]averages)
	}
	for _, d := range w.Deltas {
		if d.Bytes < 1 {
			continue
		}
		a := m.chunks[d.Chunk].decayed(now)
		m.chunks[d.Chunk] = averages{a.fast + float64(d.Bytes)*fast, a.slow + float64(d.Bytes)*slow, now}
	}
	if len(m.chunks) <= MaxTracked {
		return
	}
	type line struct {
		chunk cas.Hash
		slow  float64
	}
	lines := make([]line, 0, len(m.chunks))
	for h, a := range m.chunks {
		lines = append(lines, line{h, a.decayed(now).slow})
	}
	slices.SortFunc(lines, func(a, b line) int { return cmp.Compare(b.slow, a.slow) })
	for _, l := range lines[MaxTracked:] {
		delete(m.chunks, l.chunk)
	}
}

// decideLocked accepts or refuses the proposals of a window, in their order.
func (m *Memory) decideLocked(w Window, now time.Time) (refused []Refusal) {
	for _, d := range w.Proposals {
		last, ok := m.decisions[d.Chunk]
		var why Reason
		switch {
		case last.Epoch != d.Epoch:
			why = Outdated
		case m.toggle.On && d.Target != d.Previous:
			why = Frozen
		case !ok && len(m.decisions) >= MaxDecisions || !m.bucket.take(d.Moves, w.BytesPerMinute):
			why = OverBudget
		}
		if why != "" {
			refused = append(refused, Refusal{d.Chunk, why})
			continue
		}
		d.Epoch, d.Node, d.Time, d.Expires = nextEpoch(last.Epoch, now), w.Node, now, now.Add(d.Expires.Sub(d.Time))
		m.setLocked(d)
	}
	return refused
}

// viewLocked returns the chunks of a View.
func (m *Memory) viewLocked(above float64, now time.Time) []Rate {
	var rates, decided []Rate
	for h, a := range m.chunks {
		a = a.decayed(now)
		if _, ok := m.decisions[h]; !ok && a.fast >= above {
			rates = append(rates, Rate{Chunk: h, Fast: a.fast, Slow: a.slow})
		}
	}
	for h, d := range m.decisions {
		a := m.chunks[h].decayed(now)
		decided = append(decided, Rate{h, a.fast, a.slow, d})
	}
	slices.SortFunc(rates, hottest)
	rates = append(rates[:min(len(rates), MaxView)], decided...)
	slices.SortFunc(rates, hottest)
	return rates
}

// hottest orders rates, the hottest first.
func hottest(a, b Rate) int {
	if a.Fast != b.Fast {
		return cmp.Compare(b.Fast, a.Fast)
	}
	if a.Slow != b.Slow {
		return cmp.Compare(b.Slow, a.Slow)
	}
	return bytes.Compare(a.Chunk[:], b.Chunk[:])
}

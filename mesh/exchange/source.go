package exchange

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"inos.dev/edge/cas"
)

// source is a provider and what it was like so far. A flight asks in the
// order of cost: the time that this source takes, divided by the share of
// questions that it answers with the chunk, is what one chunk from it costs.
// Silence and lies cost their time and their share, so a bad source moves
// back; time forgives, so that it is tried again some day.
//
// The fields are guarded by Exchange.mu.
type source struct {
	Provider
	maxHedge time.Duration

	mean  time.Duration // smoothed time to an answer, as TCP does (RFC 6298)
	dev   time.Duration // its smoothed deviation
	yield float64       // smoothed share of chunks among answers, 0 … 1
	last  time.Time     // end of the last attempt; zero: never asked

	counts [len(outcomeText)]int64
	bytes  int64
}

const (
	gain      = 1.0 / 8     // weight of the newest attempt
	minYield  = 1.0 / 32    // a source is never infinitely bad
	lieFactor = 1.0 / 4     // what a lie leaves of the yield
	forgive   = time.Minute // halves the cost of a source that was not asked
	minHedge  = 20 * time.Millisecond
)

func newSource(p Provider, maxHedge time.Duration) *source {
	return &source{Provider: p, maxHedge: maxHedge, mean: maxHedge / 2, dev: maxHedge / 8, yield: 1}
}

// cost is the expected time to a chunk from this source, in seconds.
func (s *source) cost(now time.Time) float64 {
	c := s.mean.Seconds() / max(s.yield, minYield)
	if !s.last.IsZero() {
		c *= math.Exp2(-now.Sub(s.last).Seconds() / forgive.Seconds())
	}
	return c
}

// hedge is how long this source may take before another one is asked as well.
func (s *source) hedge() time.Duration {
	return min(max(s.mean+4*s.dev, minHedge), s.maxHedge)
}

// record learns from an attempt that ended at now.
func (s *source) record(now time.Time, a Attempt) {
	s.last = now
	s.counts[a.Outcome]++
	s.bytes += a.Bytes
	if a.Outcome == Outrun && a.Duration <= s.mean {
		return // it was interrupted before it was late: nothing is known
	}
	d := a.Duration - s.mean
	s.mean += time.Duration(gain * float64(d))
	s.dev += time.Duration(2 * gain * float64(d.Abs()-s.dev))
	switch a.Outcome {
	case Served:
		s.yield += gain * (1 - s.yield)
	case Lied:
		s.yield *= lieFactor
	case SaidNo, Unanswered:
		s.yield -= gain * s.yield
	}
}

// ranked returns the sources, the cheapest first.
func ranked(sources []*source, now time.Time) []*source {
	order := slices.Clone(sources)
	slices.SortStableFunc(order, func(a, b *source) int { return cmp.Compare(a.cost(now), b.cost(now)) })
	return order
}

// fetch asks the provider and passes its bytes through the gate.
func fetch(ctx context.Context, p Provider, h cas.Hash) (cas.Chunk, error) {
	data, err := p.Fetch(ctx, h)
	if err != nil {
		return cas.Chunk{}, err
	}
	c, err := cas.Verify(h, data)
	if err != nil {
		return cas.Chunk{}, fmt.Errorf("%w: %w", ErrLied, err)
	}
	return c, nil
}

// SourceStats is what a source did since the start.
type SourceStats struct {
	Name     string
	Latency  time.Duration // smoothed time to an answer
	Yield    float64       // smoothed share of questions answered with the chunk
	Bytes    int64         // verified bytes
	Outcomes map[Outcome]int64
}

func (s *source) stats() SourceStats {
	st := SourceStats{Name: s.Name(), Latency: s.mean, Yield: s.yield, Bytes: s.bytes, Outcomes: make(map[Outcome]int64)}
	for o, n := range s.counts {
		if n > 0 {
			st.Outcomes[Outcome(o)] = n
		}
	}
	return st
}

package exchange

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"inos.dev/edge/cas"
)

// maxParallel is the most providers that one flight asks at the same time.
const maxParallel = 4

// pending is a source that was asked and has not answered.
type pending struct {
	*source
	since time.Time
}

// answer is what one ask brought.
type answer struct {
	source *source
	chunk  cas.Chunk
	err    error
}

// ask asks the sources until one has the chunk (ok), all are through, ctx is
// done, or the flight is settled from elsewhere. The goroutines that it starts
// are counted in asks and end with ctx.
func (e *Exchange) ask(ctx context.Context, f *flight, asks *sync.WaitGroup) (c cas.Chunk, source string, ok bool) {
	rest := e.order(f)
	answers := make(chan answer, len(rest))
	hedge := time.NewTimer(0) // fires at once the first time
	defer hedge.Stop()
	for inAir := 0; len(rest) > 0 || inAir > 0; {
		select {
		case <-hedge.C:
		case a := <-answers:
			inAir--
			e.ended(f, a)
			if a.err == nil {
				e.interrupt(f, Outrun, nil)
				return a.chunk, a.source.Name(), true
			}
		case <-f.done:
			e.interrupt(f, Outrun, nil)
			return cas.Chunk{}, "", false
		case <-ctx.Done():
			e.interrupt(f, Unanswered, context.Cause(ctx))
			return cas.Chunk{}, "", false
		}
		if len(rest) > 0 && inAir < maxParallel {
			src := rest[0]
			rest = rest[1:]
			inAir++
			hedge.Reset(e.began(f, src))
			asks.Go(func() {
				c, err := fetch(ctx, src.Provider, f.hash)
				answers <- answer{src, c, err}
			})
		}
	}
	return cas.Chunk{}, "", false
}

// order returns whom to ask, in turn: nobody if the flight is settled.
func (e *Exchange) order(f *flight) []*source {
	e.mu.Lock()
	defer e.mu.Unlock()
	if f.settled {
		return nil
	}
	return ranked(e.sources, time.Now())
}

// began notes that src is asked and returns after what time to ask the next.
func (e *Exchange) began(f *flight, src *source) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	f.asking = append(f.asking, pending{src, time.Now()})
	return src.hedge()
}

// ended notes the answer of a source.
func (e *Exchange) ended(f *flight, a answer) {
	att := Attempt{Source: a.source.Name(), Outcome: outcomeOf(a.err), Bytes: a.chunk.Size(), Err: a.err}
	e.mu.Lock()
	now := time.Now()
	i := slices.IndexFunc(f.asking, func(p pending) bool { return p.source == a.source })
	att.Duration = now.Sub(f.asking[i].since)
	f.asking = slices.Delete(f.asking, i, i+1)
	a.source.record(now, att)
	e.noteLocked(f, att)
	e.mu.Unlock()
	e.cfg.Observer.Attempted(att)
	if att.Outcome == Lied {
		e.cfg.Logger.Warn("a source sent wrong bytes; nothing was stored",
			slog.String("source", att.Source), slog.String("hash", f.hash.String()), slog.Any("error", att.Err))
	}
}

// interrupt notes the same outcome for all sources that have not answered.
func (e *Exchange) interrupt(f *flight, o Outcome, why error) {
	e.mu.Lock()
	now := time.Now()
	cut := make([]Attempt, 0, len(f.asking))
	for _, p := range f.asking {
		att := Attempt{Source: p.Name(), Outcome: o, Duration: now.Sub(p.since), Err: why}
		p.record(now, att)
		e.noteLocked(f, att)
		cut = append(cut, att)
	}
	f.asking = nil
	e.mu.Unlock()
	for _, att := range cut {
		e.cfg.Observer.Attempted(att)
	}
}

// noteLocked adds to what was tried, which stands still once the waiters have
// it.
func (e *Exchange) noteLocked(f *flight, a Attempt) {
	if !f.settled {
		f.tried = append(f.tried, a)
	}
}

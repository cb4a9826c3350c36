package books

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// maxEntries is how many entries a record has at most: with a new account
	// in each, it stays below what a journal takes (4 MiB).
	maxEntries = 1 << 14
	// idleAfter is when a lease that nobody uses goes back.
	idleAfter = 10 * time.Second
	// refusedFor is how long an account that is refused or throttled is
	// remembered after its last visitor.
	refusedFor = 10 * time.Minute
	// answerTime is how long the charges of an account wait for what the other
	// gateways have of it, since that decides who pays. Its lease stands for them.
	answerTime = 2 * time.Second
	// sweepEvery is the time between looks at all payers.
	sweepEvery = time.Second
	// patience is how long the journal may take before it counts as failing.
	patience = 2 * time.Second
	// maxHouseLease only keeps sums small: a pebibyte.
	maxHouseLease = 1 << 50
)

// phase is what a flush is for.
type phase int

const (
	serving    phase = iota
	closing          // leases shrink to what is still used
	closeHouse       // that of the house, with the float, too
)

// job is what one payer brings into a flush.
type job struct {
	p     *payer
	lines []*Line
	bytes []int64 // of each line
	over  bool    // its lease goes back
}

// flush writes what was sent since the last one, and the leases for what comes
// next. The error is the journal's, or the ledger's; then nothing is lost: it
// comes with the next flush.
func (b *Books) flush(ctx context.Context, now time.Time, ph phase) error {
	b.flushing.Lock()
	defer b.flushing.Unlock()
	start := time.Now()
	jobs := b.collect(now, ph)
	defer func() {
		for _, j := range jobs {
			j.p.job = nil
			if j.p.waiting.Load() > 0 {
				j.p.notify()
			}
		}
		b.tidy(now)
	}()
	wrote, err := b.write(ctx, jobs, now, ph)
	if wrote {
		b.metrics.flush.Observe(time.Since(start).Seconds())
	}
	b.setFailing(err)
	return err
}

// write makes the records of all jobs, and appends each when it is full.
func (b *Books) write(ctx context.Context, jobs []*job, now time.Time, ph phase) (wrote bool, err error) {
	rec := b.begin()
	for _, j := range jobs {
		if err == nil {
			err = b.refresh(ctx, j.p)
		}
		if err != nil {
			j.putBack(0)
			continue
		}
		j.p.restand(b)
		if j.p.looked = now; j.p.first.IsZero() {
			j.p.first = now
		}
		if b.sharing != nil && j.p != b.house {
			b.sharing.ask(j.p.account) // it may have got credits at another gateway
		}
		if ph == serving && j.p.awaits(now) {
			j.putBack(0)
			j.lines, j.bytes = nil, nil
		}
		for at, last := 0, false; err == nil && !last; {
			if rec.full() {
				if err = b.commit(ctx, rec); err != nil {
					j.putBack(at)
				}
				wrote, rec = true, b.begin()
				continue
			}
			n := min(maxEntries-len(rec.entries)-1, len(j.lines)-at)
			last = at+n == len(j.lines)
			b.compose(rec, j, at, n, last, now, ph)
			at += n
		}
	}
	if err != nil {
		b.undo(rec)
		return wrote, err
	}
	wrote = wrote || len(rec.entries) > 0
	return wrote, b.commit(ctx, rec)
}

// putBack returns what the lines from one on have brought; the next flush
// looks at them again.
func (j *job) putBack(from int) {
	j.p.mark()
	for i := from; i < len(j.lines); i++ {
		j.lines[i].putBack(j.bytes[i])
	}
}

// collect takes the counters of all lines with traffic, and lists the payers
// that need a look.
func (b *Books) collect(now time.Time, ph phase) []*job {
	var jobs []*job
	of := func(p *payer) *job {
		if p.job == nil {
			p.job = &job{p: p}
			jobs = append(jobs, p.job)
		}
		return p.job
	}
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		dirty := s.dirty
		s.dirty = nil
		s.mu.Unlock()
		for _, l := range dirty {
			if n := l.sent.Swap(0); n > 0 {
				j := of(l.payer)
				j.lines, j.bytes = append(j.lines, l), append(j.bytes, n)
			}
		}
	}
	b.activeMu.Lock()
	active := b.active
	b.active = nil
	b.activeMu.Unlock()
	for _, p := range active {
		p.marked.Store(false)
		of(p)
	}
	if ph == closeHouse {
		of(b.house)
	}
	if ph != serving || now.Sub(b.swept) >= sweepEvery {
		b.swept = now
		b.payersMu.Lock()
		for owner, p := range b.payers {
			switch {
			case p.lease > 0 && (ph != serving || now.Sub(p.used) >= idleAfter):
				of(p).over = true
			case p.lease == 0 && b.forgettableLocked(p, now):
				delete(b.payers, owner)
			}
		}
		b.payersMu.Unlock()
	}
	return jobs
}

// forgettableLocked reports whether nothing is lost with a payer that has no
// lease. Those who are not served are remembered for longer, or their readers
// would be let in each time that they come back.
func (b *Books) forgettableLocked(p *payer, now time.Time) bool {
	keep := idleAfter
	if p.standing.Load() != standingGood && len(b.payers) < b.cfg.MaxLines/2 {
		keep = refusedFor
	}
	return p.lines == 0 && p.job == nil && p.borrowed.Load() == 0 && !p.marked.Load() && now.Sub(p.looked) >= keep
}

// refresh reads what the ledger has of p, if that has changed otherwise than
// by p's own records.
func (b *Books) refresh(ctx context.Context, p *payer) error {
	if p.loaded && !p.stale.Load() {
		return nil
	}
	p.stale.Store(false)
	state, err := b.cfg.Ledger.State(ctx, p.account)
	if err == nil {
		p.terms, err = b.Terms(ctx, p.account)
	}
	if errors.Is(err, errTerms) { // one account does not stop the others
		b.cfg.Logger.Warn("books: an account is treated as if it had no terms", "account", p.account, "error", err)
		err = nil
	}
	if err != nil {
		p.stale.Store(true)
		p.mark()
		return fmt.Errorf("books: read %s: %w", p.account, err)
	}
	p.local, p.rest, p.loaded = state.Balance, state.Rest, true
	return nil
}

// awaits reports whether the other gateways are about to tell what they have
// of p for the first time.
func (p *payer) awaits(now time.Time) bool {
	b := p.books
	return b.sharing != nil && p != b.house && p.others.Load() == nil && now.Sub(p.first) < answerTime && b.sharing.reliable()
}

// restand decides anew how p stands.
func (p *payer) restand(b *Books) {
	if p == b.house {
		return
	}
	standing, onHouse := stand(p.view(), b.unknown)
	p.onHouse = onHouse
	p.housed.Store(onHouse)
	p.standing.Store(standing)
}

func (p *payer) view() view {
	v := view{local: p.local, terms: p.terms, others: p.others.Load()}
	if p.books.sharing == nil {
		v.others = &Others{}
	}
	return v
}

// tidy forgets lines that nobody uses: a part of them at each flush, all if
// there is little room left.
func (b *Books) tidy(now time.Time) {
	if b.lines.Load() > int64(b.cfg.MaxLines)*3/4 {
		for i := range b.shards {
			b.sweep(&b.shards[i], true)
		}
		return
	}
	if now.Sub(b.tidied) >= b.cfg.Window {
		b.tidied = now
		b.sweep(&b.shards[b.next%shardCount], false)
		b.next++
	}
}

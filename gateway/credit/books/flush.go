package books

import (
	"context"
	"fmt"
	"time"

	"inos.dev/edge/gateway/credit"
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

// record is one that is being made.
type record struct {
	entries []credit.Entry
	parts   []part
	rest    uint32 // of the house
}

// part is what changes for a payer when its record is durable.
type part struct {
	p        *payer
	lines    []*Line
	bytes    []int64
	served   int64 // the sum of bytes
	amount   credit.Amount
	onHouse  bool
	rest     uint32
	borrowed int64 // goes back to the float
	lease    int64 // the new one
	held     int64 // taken from free before, since the lease shrinks
	float    int64 // of the house: taken from the float, which shrinks by it
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
		j.p.looked = now
		if b.sharing != nil && j.p != b.house {
			b.sharing.ask(j.p.account) // it may have got credits at another gateway
		}
		for at := 0; err == nil; {
			room := maxEntries - len(rec.entries) - 1 // one for the lease
			n := min(room, len(j.lines)-at)
			last := at+n == len(j.lines)
			b.compose(rec, j, at, n, last, now, ph)
			at += n
			if last {
				break
			}
			if err = b.commit(ctx, rec); err != nil {
				j.putBack(at)
			}
			wrote, rec = true, b.begin()
		}
	}
	if err != nil {
		b.undo(rec)
		return wrote, err
	}
	wrote = wrote || len(rec.entries) > 0
	return wrote, b.commit(ctx, rec)
}

func (b *Books) begin() *record { return &record{rest: b.house.rest} }

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
	if err != nil {
		p.stale.Store(true)
		p.mark()
		return fmt.Errorf("books: read %s: %w", p.account, err)
	}
	p.local, p.rest, p.loaded = state.Balance, state.Rest, true
	return nil
}

// restand decides anew how p stands.
func (p *payer) restand(b *Books) {
	if p == b.house {
		return
	}
	standing, onHouse := stand(p.view(), b.unknown)
	p.onHouse = onHouse
	p.standing.Store(standing)
}

func (p *payer) view() view {
	v := view{local: p.local, terms: p.terms, others: p.others.Load()}
	if p.books.sharing == nil {
		v.others = &Others{}
	}
	return v
}

// compose adds n lines of a job, and with the last of them the payer's lease,
// to the record.
func (b *Books) compose(rec *record, j *job, at, n int, last bool, now time.Time, ph phase) {
	p := j.p
	pt := part{p: p, lines: j.lines[at : at+n], bytes: j.bytes[at : at+n], onHouse: p.onHouse, rest: p.rest, lease: p.lease}
	from, rest := p.account, &pt.rest
	if p == b.house || pt.onHouse {
		from, rest = b.house.account, &rec.rest
	}
	for i, l := range pt.lines {
		e := credit.Entry{Kind: credit.KindServe, From: from, To: b.node, Object: l.object, Bytes: pt.bytes[i]}
		e.Amount, e.Rest = b.cfg.Retrieval.For(e.Bytes, *rest)
		*rest = e.Rest
		rec.entries = append(rec.entries, e)
		pt.served += e.Bytes
		pt.amount += e.Amount
	}
	if last {
		b.resize(&pt, j, now, ph)
		if float := b.floatOf(p); pt.lease != p.lease || pt.float != 0 {
			rec.entries = append(rec.entries, credit.Entry{Kind: credit.KindLease, From: p.account, Bytes: pt.lease + float - pt.float})
		}
	}
	if pt.served > 0 || pt.borrowed > 0 || pt.lease != p.lease || pt.held > 0 || pt.float != 0 {
		rec.parts = append(rec.parts, pt)
	}
}

// floatOf is the part of the lease that the journal has for p that is the
// node's float.
func (b *Books) floatOf(p *payer) int64 {
	if p == b.house {
		return b.floatSize
	}
	return 0
}

// resize decides the new lease of a payer, and takes what it loses from what
// is free.
func (b *Books) resize(pt *part, j *job, now time.Time, ph phase) {
	p := pt.p
	pt.borrowed = p.borrowed.Swap(0)
	want := need{
		lease: p.lease, used: max(p.lease+pt.borrowed-p.free.Load()-pt.served, 0),
		waiting: p.waiting.Load(), limit: b.cfg.MaxLease,
	}
	busy := pt.served > 0 || pt.borrowed > 0 || want.waiting > 0
	want.over = j.over && !busy || ph != serving
	want.window = p.count(pt.served, now, b.cfg.Window)
	if p == b.house {
		want.limit, want.afford = maxHouseLease, maxHouseLease
		want.over = ph == closeHouse
	} else {
		want.afford = afford(p.view(), b.cfg.Retrieval)
	}
	if busy {
		p.used = now
	} else if !want.over && want.lease == 0 && p != b.house {
		return // it is only looked at
	}
	if want.over {
		p.window = 0
	}
	pt.lease = b.cfg.size(want)
	// Takers go on while the record is written. What the payer loses must be
	// taken from them before; what they were quicker to take, stays in the lease.
	if loses := p.lease - pt.lease + pt.borrowed - pt.served; loses > 0 {
		pt.held = p.free.upTo(loses, 0)
		pt.lease += loses - pt.held
	}
	if ph == closeHouse && p == b.house {
		pt.float = b.float.upTo(b.floatSize, 0)
	}
}

// count notes what was charged, and returns how much that is in a window.
func (p *payer) count(n int64, now time.Time, window time.Duration) int64 {
	p.charged += n
	most := max(p.window, p.charged)
	if now.Sub(p.since) >= window {
		p.window, p.charged, p.since = max(p.charged, p.window/2), 0, now
	}
	return most
}

// commit appends a record, and lets its changes hold. One without entries may
// still pay back to the float.
func (b *Books) commit(ctx context.Context, rec *record) error {
	if len(rec.entries) > 0 {
		if err := b.append(ctx, rec.entries); err != nil {
			b.undo(rec)
			return err
		}
		b.touch(b.node)
	}
	for i := range rec.parts {
		b.apply(&rec.parts[i])
	}
	b.house.rest = rec.rest
	return nil
}

func (b *Books) append(ctx context.Context, entries []credit.Entry) error {
	// A disk that hangs is one that fails: readers do not wait for it.
	hangs := time.AfterFunc(patience, func() { b.setFailing(errHangs) })
	// Whether a record was written must be known: a ctx that ends would leave it
	// open.
	seq, _, err := b.cfg.Ledger.Append(context.WithoutCancel(ctx), "", entries)
	hangs.Stop()
	if err != nil {
		return fmt.Errorf("books: charge: %w", err)
	}
	b.wrote(seq)
	return nil
}

// apply lets a part of a durable record hold: see the package's doc.
func (b *Books) apply(pt *part) {
	p := pt.p
	from, onHouse := p, pt.onHouse || p == b.house
	if onHouse {
		from = b.house
	} else {
		p.rest = pt.rest
	}
	from.local = sum(from.local, -pt.amount)
	b.metrics.count(onHouse, pt.served, pt.amount)
	b.metrics.leased.Add(float64(pt.lease - p.lease - pt.float))
	more := pt.served + pt.lease - p.lease - pt.borrowed + pt.held
	p.lease = pt.lease
	p.leased.Store(pt.lease > 0)
	b.floatSize -= pt.float
	b.float.Add(pt.borrowed)
	p.give(more)
	p.restand(b)
	b.touch(p.account)
	if from != p {
		b.touch(from.account)
	}
}

// undo takes back a record that was not written.
func (b *Books) undo(rec *record) {
	for i := range rec.parts {
		pt := &rec.parts[i]
		for k, l := range pt.lines {
			l.putBack(pt.bytes[k])
		}
		pt.p.borrowed.Add(pt.borrowed)
		pt.p.give(pt.held)
		b.float.Add(pt.float)
		pt.p.mark()
	}
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

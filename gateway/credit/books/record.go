package books

import (
	"context"
	"fmt"
	"time"

	"inos.dev/edge/gateway/credit"
)

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

func (b *Books) begin() *record { return &record{rest: b.house.rest} }

// full reports whether there is no room for a line and a lease.
func (r *record) full() bool { return len(r.entries) > maxEntries-2 }

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

package heat

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"inos.dev/edge/cas"
)

// Limits of an outbox. A window tells the chunks with the most bytes: in one of
// a node that sends 2 GB a second, the chunk after them has less than what one
// replica serves.
const (
	maxDeltas  = 256              // chunks of a window
	maxWaiting = MaxTracked       // chunks that wait while a window is unanswered
	maxKept    = 8                // windows that are kept for a store that forgets
	keepFor    = 10 * time.Second // and how long: later their rates are of the past
)

// outbox makes windows of what was counted, and keeps what a store may still
// lack; see "Counting once" in the package's doc. It belongs to one goroutine.
type outbox struct {
	epoch uint64 // of this process
	base  uint64 // the last window that the store has counted, as far as is known
	seq   uint64 // the last window that was made
	doubt bool   // whether it was sent and is unanswered

	kept    []batch            // the oldest first; those behind base are to be sent
	waiting map[cas.Hash]int64 // for the next window
	since   time.Time          // from when on waiting was counted
	drained time.Time          // up to when
}

// batch is what one window tells. It never changes.
type batch struct {
	seq      uint64
	deltas   []Delta
	from, to time.Time
}

// add puts what was counted until now to what waits. It returns the bytes for
// which there is no place.
func (o *outbox) add(counted []Delta, now time.Time) (tail int64) {
	if len(o.waiting) == 0 {
		o.since = o.drained
	}
	o.drained = now
	if o.waiting == nil {
		o.waiting = make(map[cas.Hash]int64)
	}
	for _, d := range counted {
		o.waiting[d.Chunk] += d.Bytes
	}
	if len(o.waiting) <= maxWaiting {
		return 0
	}
	_, rest := top(o.waiting, maxWaiting)
	for _, d := range rest {
		delete(o.waiting, d.Chunk)
	}
	return total(rest)
}

// idle reports whether there is nothing to tell.
func (o *outbox) idle() bool { return len(o.waiting) == 0 && o.seq == o.base }

// window returns what is to be sent now: what is unanswered once more, or a
// window with all that the store lacks and all that waits. It is also made if
// there is something to propose. It returns the bytes that have no place in it.
func (o *outbox) window(propose bool, now time.Time) (w Window, tail int64) {
	if !o.doubt && (propose || len(o.waiting) > 0) {
		deltas, rest := top(o.waiting, maxDeltas)
		tail = total(rest)
		o.seq++
		o.kept = append(o.kept, batch{o.seq, deltas, o.since, o.drained})
		clear(o.waiting)
	}
	w = Window{Epoch: o.epoch, Base: o.base, Seq: o.seq}
	unsent := o.kept[o.firstAfter(o.base):]
	switch len(unsent) {
	case 0:
		return w, tail
	case 1:
		w.Deltas = unsent[0].deltas
	default:
		sums := make(map[cas.Hash]int64)
		for _, b := range unsent {
			for _, d := range b.deltas {
				sums[d.Chunk] += d.Bytes
			}
		}
		w.Deltas, _ = top(sums, len(sums))
	}
	end := unsent[len(unsent)-1].to
	w.Span, w.Age = end.Sub(unsent[0].from), now.Sub(end)
	return w, tail
}

// failed notes that nobody knows whether w was counted.
func (o *outbox) failed(w Window) { o.doubt = w.Seq > w.Base }

// answered takes the answer to w. behind reports that the store has forgotten
// windows, newer that a newer process counts as this node; then it goes on as
// a newer one still, for it may as well be the clock that was set back.
func (o *outbox) answered(w Window, v View, now time.Time) (behind, newer bool) {
	o.doubt = false
	if v.Epoch > o.epoch {
		*o = outbox{epoch: v.Epoch + 1, waiting: o.waiting, since: o.since, drained: o.drained}
		return false, true
	}
	last := v.LastSeq
	if v.Epoch < o.epoch {
		last = 0
	}
	behind = last < w.Base
	o.base = last
	counted := o.firstAfter(o.base)
	drop := max(counted-maxKept, len(o.kept)-2*maxKept, 0) // the latter: a store that answers and counts nothing
	for drop < counted && now.Sub(o.kept[drop].to) > keepFor {
		drop++
	}
	o.kept = slices.Delete(o.kept, 0, drop)
	return behind, false
}

// firstAfter is the index of the first batch that follows window seq.
func (o *outbox) firstAfter(seq uint64) int {
	i, _ := slices.BinarySearchFunc(o.kept, seq+1, func(b batch, seq uint64) int { return cmp.Compare(b.seq, seq) })
	return i
}

// top lists sums, the greatest first: the first n, and the rest of them.
func top(sums map[cas.Hash]int64, n int) (first, rest []Delta) {
	all := make([]Delta, 0, len(sums))
	for h, n := range sums {
		all = append(all, Delta{h, n})
	}
	slices.SortFunc(all, func(a, b Delta) int {
		if a.Bytes != b.Bytes {
			return cmp.Compare(b.Bytes, a.Bytes)
		}
		return bytes.Compare(a.Chunk[:], b.Chunk[:])
	})
	n = min(n, len(all))
	return slices.Clone(all[:n]), all[n:]
}

func total(deltas []Delta) (n int64) {
	for _, d := range deltas {
		n += d.Bytes
	}
	return n
}

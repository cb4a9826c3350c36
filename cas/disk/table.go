package disk

import (
	"encoding/binary"
	"math/bits"
	"sync"

	"inos.dev/edge/cas"
)

// entry is what the index knows of a chunk: 44 bytes without a pointer, so
// that a million of them are 44 MB (and a quarter of free slots) that the
// garbage collector never looks into.
type entry struct {
	hash    cas.Hash
	meta    uint32 // size in the low 24 bits, flags above; 0 is a free slot
	touched uint32 // Unix seconds: last Put or Touch, as far as this process knows
	saved   uint32 // Unix seconds: the file's mtime, as far as this process knows
}

const (
	sizeMask = 1<<24 - 1
	// verified: this process has written the bytes or found them right.
	verified uint32 = 1 << 24
	// exact: touched is of this process, not read from a snapshot or a file.
	exact uint32 = 1 << 25
)

func (e entry) size() int64       { return int64(e.meta & sizeMask) }
func (e entry) has(f uint32) bool { return e.meta&f != 0 }

// table is one of the 256 parts of the index: open addressing with linear
// probing. An entry's home slot follows from its hash times a random odd seed,
// so that nobody can put chunks whose homes collide.
type table struct {
	mu    sync.RWMutex
	slots []entry // guarded by mu
	used  int     // guarded by mu
	bytes int64   // guarded by mu: the sum of the entries' sizes
	seed  uint64  // odd, set once
}

// slotsFor returns the slots that n entries need at the highest load, 4/5.
func slotsFor(n int) int { return max(16, n+n/4+1) }

func (t *table) homeLocked(h *cas.Hash) int {
	hi, _ := bits.Mul64(binary.BigEndian.Uint64(h[1:9])*t.seed, uint64(len(t.slots)))
	return int(hi)
}

// findLocked returns the slot of h, or the free slot where it would go. There
// is always a free slot, unless there is none at all: then it returns -1.
func (t *table) findLocked(h *cas.Hash) (slot int, ok bool) {
	if len(t.slots) == 0 {
		return -1, false
	}
	for i := t.homeLocked(h); ; {
		e := &t.slots[i]
		if e.meta == 0 {
			return i, false
		}
		if e.hash == *h {
			return i, true
		}
		if i++; i == len(t.slots) {
			i = 0
		}
	}
}

// get returns a copy of the entry of h.
func (t *table) get(h cas.Hash) (entry, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	i, ok := t.findLocked(&h)
	if !ok {
		return entry{}, false
	}
	return t.slots[i], true
}

// put adds e, whose meta is not 0, or replaces the entry of the same hash. It
// reports whether it was added.
func (t *table) put(e entry) (added bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, ok := t.findLocked(&e.hash)
	if ok {
		t.bytes += e.size() - t.slots[i].size()
		t.slots[i] = e
		return false
	}
	if (t.used+1)*5 > len(t.slots)*4 {
		t.resizeLocked(slotsFor(t.used + t.used/2))
		i, _ = t.findLocked(&e.hash)
	}
	t.slots[i] = e
	t.used++
	t.bytes += e.size()
	return true
}

// reserve makes an empty table that takes n entries without growing.
func (t *table) reserve(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.resizeLocked(slotsFor(n))
}

func (t *table) resizeLocked(slots int) {
	old := t.slots
	t.slots = make([]entry, slots)
	for _, e := range old {
		if e.meta != 0 {
			i, _ := t.findLocked(&e.hash)
			t.slots[i] = e
		}
	}
}

// update calls change with the entry of h, if there is one. The hash and the
// size must stay.
func (t *table) update(h cas.Hash, change func(*entry)) (ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, ok := t.findLocked(&h)
	if ok {
		change(&t.slots[i])
	}
	return ok
}

// remove takes the entry of h out if may agrees (nil always agrees), and
// returns it.
func (t *table) remove(h cas.Hash, may func(entry) bool) (entry, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, ok := t.findLocked(&h)
	if !ok || (may != nil && !may(t.slots[i])) {
		return entry{}, false
	}
	e := t.slots[i]
	t.used--
	t.bytes -= e.size()
	t.closeGapLocked(i)
	return e, true
}

// closeGapLocked frees slot gap, and moves entries behind it back as long as
// that brings them nearer to their homes, so that no probe meets a hole.
func (t *table) closeGapLocked(gap int) {
	n := len(t.slots)
	for i := gap; ; {
		if i++; i == n {
			i = 0
		}
		e := &t.slots[i]
		if e.meta == 0 {
			break
		}
		fromHome := (i - t.homeLocked(&e.hash) + n) % n
		fromGap := (i - gap + n) % n
		if fromHome >= fromGap {
			t.slots[gap] = *e
			gap = i
		}
	}
	t.slots[gap] = entry{}
}

// appendTo appends all entries to buf.
func (t *table) appendTo(buf []entry) []entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, e := range t.slots {
		if e.meta != 0 {
			buf = append(buf, e)
		}
	}
	return buf
}

// count returns the number of entries and the sum of their sizes.
func (t *table) count() (chunks int, bytes int64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.used, t.bytes
}

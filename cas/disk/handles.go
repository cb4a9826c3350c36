package disk

import (
	"errors"
	"os"
	"sync"

	"inos.dev/edge/cas"
)

// handle is an open chunk file. One Body uses it at a time, so that its file
// offset belongs to that Body; idle ones wait in the pool.
type handle struct {
	file *os.File
	hash cas.Hash
	age  uint64 // the pool part's age when the file was opened

	newer, older *handle // idle: neighbours in the ring
	same         *handle // idle: next handle of the same chunk
}

// handles is the bounded pool of idle handles: opening a hot chunk again costs
// a map lookup instead of a walk through the file system. It has 16 parts, by
// the second byte of the hash (the first one chooses the index table).
type handles struct {
	parts [16]handlePart
}

type handlePart struct {
	mu   sync.Mutex
	idle map[cas.Hash]*handle // guarded by mu: the newest, chained by same
	ring handle               // guarded by mu: sentinel; older is the newest handle
	n    int                  // guarded by mu: idle handles
	max  int                  // guarded by mu: 0 when closed
	// age counts forgotten chunks. A handle that was opened at another age may
	// be of a file that is gone, and is closed instead of kept. Guarded by mu.
	age uint64
}

func newHandles(limit int) *handles {
	p := &handles{}
	for i := range p.parts {
		q := &p.parts[i]
		q.max = max(0, limit) / len(p.parts)
		q.idle = make(map[cas.Hash]*handle)
		q.ring.newer, q.ring.older = &q.ring, &q.ring
	}
	return p
}

func (p *handles) part(h cas.Hash) *handlePart { return &p.parts[h[1]%16] }

// take returns an idle handle of h, or nil and the age to put into a new one.
// The age must be taken before the file is opened.
func (p *handles) take(h cas.Hash) (*handle, uint64) {
	q := p.part(h)
	q.mu.Lock()
	defer q.mu.Unlock()
	x := q.idle[h]
	if x == nil {
		return nil, q.age
	}
	q.unlinkLocked(x)
	return x, q.age
}

// give takes a handle back from its Body; it may close it, or an older one.
func (p *handles) give(x *handle) error {
	q := p.part(x.hash)
	q.mu.Lock()
	if q.max == 0 || x.age != q.age {
		q.mu.Unlock()
		return x.file.Close()
	}
	var old *handle
	if q.n == q.max {
		old = q.ring.newer
		q.unlinkLocked(old)
	}
	x.newer, x.older = &q.ring, q.ring.older
	x.newer.older, x.older.newer = x, x
	x.same = q.idle[x.hash]
	q.idle[x.hash] = x
	q.n++
	q.mu.Unlock()
	if old != nil {
		return old.file.Close()
	}
	return nil
}

// unlinkLocked takes x out of the ring and of its chain.
func (q *handlePart) unlinkLocked(x *handle) {
	x.newer.older, x.older.newer = x.older, x.newer
	x.newer, x.older = nil, nil
	q.n--
	first := q.idle[x.hash]
	if first == x {
		if x.same == nil {
			delete(q.idle, x.hash)
		} else {
			q.idle[x.hash] = x.same
		}
	} else {
		for first.same != x {
			first = first.same
		}
		first.same = x.same
	}
	x.same = nil
}

// forget closes the idle handles of h, and sees to it that those in use are
// closed by their Body. It is called after the file is gone.
func (p *handles) forget(h cas.Hash) error {
	q := p.part(h)
	var gone []*handle
	q.mu.Lock()
	q.age++
	for x := q.idle[h]; x != nil; x = q.idle[h] {
		q.unlinkLocked(x)
		gone = append(gone, x)
	}
	// The other chunks' idle handles are still good.
	for x := q.ring.older; x != &q.ring; x = x.older {
		x.age = q.age
	}
	q.mu.Unlock()
	return closeAll(gone)
}

// close closes all idle handles; handles in use are closed by their Body.
func (p *handles) close() error {
	var gone []*handle
	for i := range p.parts {
		q := &p.parts[i]
		q.mu.Lock()
		q.max = 0
		for x := q.ring.older; x != &q.ring; x = q.ring.older {
			q.unlinkLocked(x)
			gone = append(gone, x)
		}
		q.mu.Unlock()
	}
	return closeAll(gone)
}

// idleCount returns the number of idle handles.
func (p *handles) idleCount() int {
	n := 0
	for i := range p.parts {
		q := &p.parts[i]
		q.mu.Lock()
		n += q.n
		q.mu.Unlock()
	}
	return n
}

func closeAll(gone []*handle) error {
	var errs []error
	for _, x := range gone {
		errs = append(errs, x.file.Close())
	}
	return errors.Join(errs...)
}

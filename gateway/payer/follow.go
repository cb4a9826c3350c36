package payer

import (
	"context"
	"errors"
	"fmt"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/catalog"
)

const (
	// largeObject is how many pieces an object may have to be walked while its
	// commit waits.
	largeObject = 4096
	// linkBatch is how many chunks are linked while readers wait: some 20 µs.
	linkBatch = 256
)

// finding is what a look at the catalog has found about an object.
type finding uint8

const (
	settled finding = iota // nothing is left to do
	known                  // it is linked already, or somebody is about to
	fresh                  // it is to be linked
	gone                   // its chunks are to be taken out
)

// Changed tells the table that the publications of h have changed. It does not
// end with ctx, since the change does not either; what fails is made up for by
// a walk over all objects.
func (t *Table) Changed(ctx context.Context, h cas.Hash) {
	if err := t.follow(context.WithoutCancel(ctx), h, false); err != nil {
		t.cfg.Logger.Warn("who pays for an object is not known yet; all are looked at again", "object", h.String(), "error", err)
		t.again()
	}
}

// again asks Run to walk all objects.
func (t *Table) again() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.againLocked()
}

func (t *Table) againLocked() {
	t.asked++
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// follow notes what the catalog says of h by now, and does what follows from
// it. relink walks an object that is known, too.
func (t *Table) follow(ctx context.Context, h cas.Hash, relink bool) error {
	n, pieces, found, err := t.note(ctx, h)
	switch {
	case err != nil:
		return err
	case found == gone, found == fresh && pieces > largeObject && !relink:
		t.later(job{n, h, found == gone})
		return nil
	case found == fresh, found == known && relink:
		return t.link(ctx, n, h)
	}
	return nil
}

// note looks a record up and notes it.
func (t *Table) note(ctx context.Context, h cas.Hash) (n uint32, pieces int64, found finding, err error) {
	t.following.Lock()
	defer t.following.Unlock()
	r, err := t.cfg.Catalog.Get(ctx, h)
	if err != nil && !errors.Is(err, cas.ErrNotFound) {
		return 0, 0, settled, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		n, found = t.removeLocked(h)
		return n, 0, found, nil
	}
	n, found, err = t.setLocked(&r)
	return n, r.Pieces, found, err
}

func (t *Table) setLocked(r *catalog.Record) (n uint32, found finding, err error) {
	n, ok := t.numberLocked(&r.Hash)
	if ok {
		if younger := r.Created.UnixMicro() > t.objects.at(n).created; younger && t.objects.shared.has(n) {
			t.againLocked() // others may be the oldest now
		}
		t.objects.set(n, r)
		return n, known, nil
	}
	if n, ok = t.objects.number(); !ok {
		return 0, settled, fmt.Errorf("%w: more than %d objects", cas.ErrTooLarge, uint32(maxNumber))
	}
	t.objects.set(n, r)
	t.index.add(prefix(&r.Hash), true, n)
	return n, fresh, nil
}

func (t *Table) removeLocked(h cas.Hash) (n uint32, found finding) {
	n, ok := t.numberLocked(&h)
	if !ok {
		return 0, settled
	}
	shared := t.objects.shared.has(n)
	t.index.remove(prefix(&h), true, n)
	t.objects.kill(n)
	if !shared {
		return n, gone
	}
	t.buryLocked(n)
	return n, settled
}

// buryLocked leaves the number of an object that went to a walk over all.
func (t *Table) buryLocked(n uint32) {
	t.dead = append(t.dead, n)
	t.againLocked()
}

// link makes the object pay for those of its chunks that no older one links.
func (t *Table) link(ctx context.Context, n uint32, h cas.Hash) error {
	return t.walk(ctx, h, func(chunks []cas.Hash) bool {
		if !t.objects.is(n, h) {
			return false
		}
		for _, c := range chunks {
			t.linkLocked(n, prefix(&c))
		}
		return true
	})
}

func (t *Table) linkLocked(n uint32, p uint64) {
	m, ok := t.index.get(p)
	switch {
	case !ok:
		t.index.add(p, false, n)
		return
	case m == n:
		return
	case t.objects.live(m):
		t.objects.shared.set(n)
		t.objects.shared.set(m)
		if t.objects.older(m, n) {
			return
		}
	}
	t.index.set(p, n)
}

// unlink takes out the chunks of an object that went and shared none.
func (t *Table) unlink(ctx context.Context, n uint32, h cas.Hash) error {
	return t.walk(ctx, h, func(chunks []cas.Hash) bool {
		for _, c := range chunks {
			t.index.remove(prefix(&c), false, n)
		}
		return true
	})
}

// errEnough ends a walk that need not go on.
var errEnough = errors.New("enough")

// walk calls apply, under the lock, for the chunks of an object, some at a
// time, until it returns false.
func (t *Table) walk(ctx context.Context, h cas.Hash, apply func(chunks []cas.Hash) bool) error {
	batch := make([]cas.Hash, 0, linkBatch)
	flush := func() error {
		t.mu.Lock()
		defer t.mu.Unlock()
		more := apply(batch)
		batch = batch[:0]
		if !more {
			return errEnough
		}
		return nil
	}
	err := t.cfg.Walk(ctx, h, func(c cas.Hash) error {
		batch = append(batch, c)
		if len(batch) < linkBatch {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

package payer

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/catalog"
)

const (
	// maxJobs bounds the walks that wait; what does not fit is made up for by a
	// walk over all objects.
	maxJobs = 1024
	// patience is how many times longer than the last walk over all objects took
	// the table waits before the next one.
	patience = 10
)

// job is a walk in the background: to link an object's chunks, or to take them
// out if it is gone.
type job struct {
	number uint32
	object cas.Hash
	gone   bool
}

// later leaves a job to Run.
func (t *Table) later(j job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case t.jobs <- j:
		t.pending++
	default:
		t.leaveLocked(j)
	}
}

// leaveLocked leaves a job to the next walk over all objects.
func (t *Table) leaveLocked(j job) {
	if j.gone {
		t.buryLocked(j.number)
		return
	}
	t.againLocked()
}

// Run does what is left to the background until ctx is done, and waits for it.
func (t *Table) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return t.work(ctx) })
	g.Go(func() error { return t.keepUp(ctx) })
	return g.Wait()
}

// work does the jobs one after the other.
func (t *Table) work(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case j := <-t.jobs:
			t.do(ctx, j)
		}
	}
}

func (t *Table) do(ctx context.Context, j job) {
	act := t.link
	if j.gone {
		act = t.unlink
	}
	err := act(ctx, j.number, j.object)
	if err != nil && ctx.Err() == nil {
		t.cfg.Logger.Warn("an object was not walked to its end; all are looked at again", "object", j.object.String(), "error", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending--
	switch {
	case err != nil:
		t.leaveLocked(j)
	case j.gone:
		t.objects.free = append(t.objects.free, j.number)
	}
}

// keepUp walks all objects when somebody asked for it: at once if that was at
// the start, else when the others have had time to ask too.
func (t *Table) keepUp(ctx context.Context) error {
	wait := t.cfg.Settle
	if t.fresh {
		wait = 0
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.wake:
		}
		if !t.Stats().Partial {
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		began := time.Now()
		if err := t.Rebuild(ctx); err != nil && ctx.Err() == nil {
			t.cfg.Logger.Error("who pays is not known for all objects; it is tried again", "error", err)
			t.again()
		}
		wait = max(t.cfg.Settle, patience*time.Since(began))
	}
}

// Rebuild walks all objects of the catalog, so that each chunk belongs to the
// oldest one that links it. Readers and changes go on. An object that cannot be
// walked to its end is logged, and those of its chunks that nobody else links
// are on the house.
func (t *Table) Rebuild(ctx context.Context) error {
	t.rebuilding.Lock()
	defer t.rebuilding.Unlock()
	if err := t.forgetGone(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	asked, dead := t.asked, t.dead
	t.dead = nil
	t.mu.Unlock()
	err := t.linkAll(ctx)
	if err != nil {
		t.mu.Lock()
		t.dead = append(t.dead, dead...)
		t.mu.Unlock()
		return err
	}
	t.sweep(dead)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.objects.free = append(t.objects.free, dead...)
	t.done = asked
	return nil
}

// forgetGone looks at all that the table knows: a change may have been missed.
func (t *Table) forgetGone(ctx context.Context) error {
	for n := uint32(0); ; n++ {
		t.mu.RLock()
		end := n >= t.objects.next
		var h cas.Hash
		if !end && t.objects.live(n) {
			h = t.objects.at(n).hash
		}
		t.mu.RUnlock()
		switch {
		case end:
			return nil
		case h.IsZero():
		default:
			if err := t.follow(ctx, h, false); err != nil {
				return err
			}
		}
	}
}

// linkAll links every object of the catalog, in the order of their hashes.
func (t *Table) linkAll(ctx context.Context) error {
	var after cas.Hash
	for {
		page, err := t.cfg.Catalog.List(ctx, after, catalog.MaxList)
		if err != nil {
			return err
		}
		for _, r := range page {
			err := t.follow(ctx, r.Hash, true)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				t.cfg.Logger.Warn("who pays for some chunks of an object is not known", "object", r.Hash.String(), "error", err)
			}
			after = r.Hash
		}
		if len(page) < catalog.MaxList {
			return nil
		}
	}
}

// sweep takes out the chunks that still have one of these numbers.
func (t *Table) sweep(dead []uint32) {
	var numbers bitmap
	for _, n := range dead {
		numbers.set(n)
	}
	for i := range t.index.shards {
		t.mu.Lock()
		t.index.keep(i, func(n uint32) bool { return !numbers.has(n) })
		t.mu.Unlock()
	}
}

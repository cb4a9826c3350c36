package content

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/gateway/catalog"
)

// Collected is what one collection did.
type Collected struct {
	Objects int   // live objects
	Expired int   // objects taken off the list since the time of all their publications was over
	Live    int   // chunks that they hold
	Chunks  int   // chunks deleted
	Bytes   int64 // their stored bytes
}

// Collect deletes the chunks that no object on the list, and no upload under
// way, can reach, once they have not been touched for the grace time.
//
// No upload in flight loses a piece: a chunk that is put or asked for while
// Collect runs is touched, and the sweep looks at that again under the store's
// lock before it deletes. A manifest that cannot be read ends the collection
// before anything is deleted, since what hangs below it is not known.
func (c *Content) Collect(ctx context.Context) (Collected, error) {
	if c.cfg.Sweep == nil {
		return Collected{}, errors.New("content: this store does not collect")
	}
	if !c.collecting.TryLock() {
		return Collected{}, errors.New("a collection is under way; wait for it")
	}
	defer c.collecting.Unlock()
	var done Collected
	live := &hashSet{}
	before := time.Now().Add(-c.cfg.Grace)
	if err := c.mark(ctx, live, &done); err != nil {
		return Collected{}, err
	}
	if c.cfg.Uploading != nil {
		if err := c.cfg.Uploading(ctx, live.add); err != nil {
			return Collected{}, err
		}
	}
	live.seal()
	done.Live = len(live.prefixes)
	var err error
	done.Chunks, done.Bytes, err = c.cfg.Sweep(ctx, live.has, before)
	return done, err
}

// mark collects what the objects on the list reach.
func (c *Content) mark(ctx context.Context, live *hashSet, done *Collected) error {
	w := walker{
		source:   dag.Manifests{Getter: c.cfg.Store},
		seen:     make(map[cas.Hash]totals),
		manifest: func(h cas.Hash) error { live.add(h); return nil },
		piece:    func(p *cas.Piece) error { live.add(p.Hash); return nil },
		lost: func(h cas.Hash, err error) error {
			return fmt.Errorf("nothing was collected, since manifest %s cannot be read (put it again, or remove its object): %w", h, err)
		},
	}
	return c.eachObject(ctx, func(r catalog.Record) error {
		gone, err := c.expire(ctx, r)
		if err != nil {
			return err
		}
		if gone {
			done.Expired++
			return nil
		}
		done.Objects++
		_, err = w.enter(ctx, r.Hash, 0)
		return err
	})
}

// expire withdraws the publications of an object whose time is over. gone is
// true if none is left.
func (c *Content) expire(ctx context.Context, r catalog.Record) (gone bool, err error) {
	now := time.Now()
	if r.NextOver.IsZero() || r.NextOver.After(now) {
		return false, nil
	}
	left, err := c.withdraw(ctx, r.Hash, func(p catalog.Publication) bool { return p.Policy.Over(now) })
	return left.Owners == 0, err
}

// eachObject calls f for every object on the list, page by page.
func (c *Content) eachObject(ctx context.Context, f func(catalog.Record) error) error {
	var after cas.Hash
	for {
		page, err := c.cfg.Catalog.List(ctx, after, objectPage)
		if err != nil {
			return err
		}
		for _, r := range page {
			if err := f(r); err != nil {
				return err
			}
			after = r.Hash
		}
		if len(page) < objectPage {
			return nil
		}
	}
}

const objectPage = 500

// hashSet keeps the first 8 bytes of each hash, sorted: 8 bytes for a chunk
// instead of the 50 of a map. A chunk that shares them with a live one is kept
// by mistake, which a stranger can bring about only for chunks of his own.
type hashSet struct{ prefixes []uint64 }

func prefix(h cas.Hash) uint64 { return binary.BigEndian.Uint64(h[:8]) }

func (s *hashSet) add(h cas.Hash) { s.prefixes = append(s.prefixes, prefix(h)) }

// seal sorts the set; has works from then on.
func (s *hashSet) seal() {
	slices.Sort(s.prefixes)
	s.prefixes = slices.Compact(s.prefixes)
}

func (s *hashSet) has(h cas.Hash) bool {
	_, ok := slices.BinarySearch(s.prefixes, prefix(h))
	return ok
}

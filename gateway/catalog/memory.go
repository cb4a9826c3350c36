package catalog

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/mesh"
)

// Memory is a Catalog that forgets with its process. The zero value is empty
// and ready.
type Memory struct {
	mu      sync.RWMutex
	entries map[cas.Hash]entry // guarded by mu; their publications are never changed in place
	tombs   []Publication      // guarded by mu: all that was withdrawn, the oldest first
	changes uint64             // guarded by mu
	// maxTombstones is MaxTombstones if it is 0.
	maxTombstones int
}

var _ Catalog = (*Memory)(nil)

// Get implements Catalog.
func (c *Memory) Get(ctx context.Context, h cas.Hash) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	e := c.entries[h]
	if e.record.Owners == 0 {
		return Record{}, notFound(h)
	}
	return e.record, nil
}

// List implements Catalog. It sorts the whole list.
func (c *Memory) List(ctx context.Context, after cas.Hash, limit int) ([]Record, error) {
	limit, err := listLimit(limit)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	compare := func(a, b cas.Hash) int { return bytes.Compare(a[:], b[:]) }
	var list []Record
	for _, h := range slices.SortedFunc(maps.Keys(c.entries), compare) {
		if r := c.entries[h].record; r.Owners > 0 && compare(h, after) > 0 && len(list) < limit {
			list = append(list, r)
		}
	}
	return list, nil
}

// Publications implements Catalog.
func (c *Memory) Publications(ctx context.Context, h cas.Hash) ([]Publication, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.Clone(c.entries[h].publications), nil
}

// Changes counts how often publications have changed.
func (c *Memory) Changes(ctx context.Context) (uint64, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.changes, ctx.Err()
}

// Publish implements Catalog.
func (c *Memory) Publish(ctx context.Context, about Record, changes ...Change) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[about.Hash]
	e.publications = slices.Clone(e.publications)
	if _, err := e.publish(about, changes); err != nil {
		return Record{}, err
	}
	if c.entries == nil {
		c.entries = make(map[cas.Hash]entry)
	}
	e.sort()
	c.entries[about.Hash] = e
	c.changes++
	for _, change := range changes {
		if change.Withdrawn {
			at, _ := slices.BinarySearchFunc(c.tombs, change.Publication, func(a, b Publication) int { return mesh.ByAge(a.Publication, b.Publication) })
			c.tombs = slices.Insert(c.tombs, at, change.Publication)
		}
	}
	c.purgeLocked(time.Now(), len(changes)+purgeStep)
	return e.record, nil
}

// purgeLocked forgets tombstones whose time is over, and those that are too
// many. One that was replaced since is only taken out of the row.
func (c *Memory) purgeLocked(now time.Time, most int) {
	limit := c.maxTombstones
	if limit == 0 {
		limit = MaxTombstones
	}
	for range most {
		if len(c.tombs) == 0 || len(c.tombs) <= limit && !c.tombs[0].Created.Before(now.Add(-TombstoneAge)) {
			return
		}
		gone := c.tombs[0]
		c.tombs = c.tombs[1:]
		e := c.entries[gone.Object]
		e.publications = slices.DeleteFunc(slices.Clone(e.publications), func(p Publication) bool { return p == gone })
		c.entries[gone.Object] = e
		if len(e.publications) == 0 {
			delete(c.entries, gone.Object)
		}
	}
}

// SetChecked implements Catalog.
func (c *Memory) SetChecked(ctx context.Context, h cas.Hash) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[h]
	if e.record.Owners == 0 {
		return notFound(h)
	}
	e.record.DigestChecked = true
	c.entries[h] = e
	return nil
}

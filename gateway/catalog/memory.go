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
	records map[cas.Hash]Record // guarded by mu
}

var _ Catalog = (*Memory)(nil)

// Get implements Catalog.
func (c *Memory) Get(ctx context.Context, h cas.Hash) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	r, ok := c.records[h]
	if !ok {
		return Record{}, notFound(h)
	}
	return r, nil
}

// Put implements Catalog.
func (c *Memory) Put(ctx context.Context, r Record) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.records[r.Hash]; ok {
		r = r.Merge(old)
	}
	if c.records == nil {
		c.records = make(map[cas.Hash]Record)
	}
	c.records[r.Hash] = r.normal()
	return nil
}

// Delete implements Catalog.
func (c *Memory) Delete(ctx context.Context, h cas.Hash) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.records[h]; !ok {
		return notFound(h)
	}
	delete(c.records, h)
	return nil
}

// SetPolicy implements Catalog.
func (c *Memory) SetPolicy(ctx context.Context, h cas.Hash, p mesh.Policy) (Record, error) {
	if err := p.Validate(time.Now()); err != nil {
		return Record{}, err
	}
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.records[h]
	if !ok {
		return Record{}, notFound(h)
	}
	r.Policy = p
	r = r.normal()
	c.records[h] = r
	return r, nil
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
	for _, h := range slices.SortedFunc(maps.Keys(c.records), compare) {
		if compare(h, after) > 0 && len(list) < limit {
			list = append(list, c.records[h])
		}
	}
	return list, nil
}

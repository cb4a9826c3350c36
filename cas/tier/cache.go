// Package tier composes stores: behaviour by composition, not by flags.
package tier

import (
	"context"
	"errors"
	"iter"

	"github.com/maypok86/otter/v2"

	"inos.dev/edge/cas"
)

// CacheConfig configures a Cache; zero values mean the defaults.
type CacheConfig struct {
	// MaxBytes bounds the stored bytes kept in memory. Default 32 MiB.
	MaxBytes int64
	// MaxChunk is the size of the largest chunk that is kept. Larger ones
	// leave faster by sendfile from the file itself. Default 128 KiB.
	MaxChunk int64
}

// Cache is a store with a byte-weighted memory cache of its small chunks in
// front. A chunk that is read is kept if it is asked for more often than what
// it would push out (W-TinyLFU), so that one scan does not empty the cache.
// Writes and listings go to the store behind.
type Cache struct {
	slow   cas.Store
	max    int64
	chunks *otter.Cache[cas.Hash, []byte]
}

var _ cas.Store = (*Cache)(nil)

// NewCache puts a cache in front of slow.
func NewCache(slow cas.Store, cfg CacheConfig) (*Cache, error) {
	if cfg.MaxBytes < 0 || cfg.MaxChunk < 0 {
		return nil, errors.New("tier: sizes must not be negative; 0 means the default")
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 32 << 20
	}
	if cfg.MaxChunk == 0 {
		cfg.MaxChunk = 128 << 10
	}
	chunks, err := otter.New(&otter.Options[cas.Hash, []byte]{
		MaximumWeight: uint64(cfg.MaxBytes),
		Weigher:       func(_ cas.Hash, b []byte) uint32 { return uint32(len(b) + entryOverhead) },
	})
	if err != nil {
		return nil, err
	}
	return &Cache{slow: slow, max: cfg.MaxChunk, chunks: chunks}, nil
}

// entryOverhead is about what the cache itself needs for an entry.
const entryOverhead = 160

// Open implements cas.Store. A Body from memory is cas.InMemory.
func (c *Cache) Open(ctx context.Context, h cas.Hash) (cas.Body, error) {
	if b, ok := c.chunks.GetIfPresent(h); ok {
		return cas.BytesBody(b), nil
	}
	body, err := c.slow.Open(ctx, h)
	if err != nil || body.Size() > c.max {
		return body, err
	}
	if _, ok := body.(cas.InMemory); ok {
		return body, nil
	}
	b, err := cas.Load(body, nil)
	if err := errors.Join(err, body.Close()); err != nil {
		return nil, err
	}
	c.chunks.Set(h, b)
	// A chunk that was deleted meanwhile must not live on in memory: either
	// Stat misses it, or Delete comes to its Invalidate after this Set.
	if _, err := c.slow.Stat(ctx, h); err != nil {
		c.chunks.Invalidate(h)
	}
	return cas.BytesBody(b), nil
}

// Stat implements cas.Store.
func (c *Cache) Stat(ctx context.Context, h cas.Hash) (cas.Info, error) { return c.slow.Stat(ctx, h) }

// Put implements cas.Store.
func (c *Cache) Put(ctx context.Context, chunk cas.Chunk) (added bool, err error) {
	return c.slow.Put(ctx, chunk)
}

// Delete implements cas.Store.
func (c *Cache) Delete(ctx context.Context, h cas.Hash) error {
	err := c.slow.Delete(ctx, h)
	c.chunks.Invalidate(h)
	return err
}

// All implements cas.Store.
func (c *Cache) All(ctx context.Context) iter.Seq2[cas.Info, error] { return c.slow.All(ctx) }

// Forget drops h from memory only: the store behind has swept it, or found it
// wrong. It has to be called after h is gone from there.
func (c *Cache) Forget(h cas.Hash) { c.chunks.Invalidate(h) }

// Bytes is about how much memory the chunks in the cache take.
func (c *Cache) Bytes() int64 { return int64(c.chunks.WeightedSize()) }

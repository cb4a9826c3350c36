package content

import (
	"context"
	"sync"

	"github.com/maypok86/otter/v2"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/brotli"
	"inos.dev/edge/cas/dag"
)

// manifestCache keeps parsed manifests.
type manifestCache struct {
	source dag.Source
	cache  *otter.Cache[cas.Hash, *cas.Manifest]
}

func newManifestCache(limit int64, source dag.Source) (*manifestCache, error) {
	cache, err := otter.New(&otter.Options[cas.Hash, *cas.Manifest]{
		MaximumWeight: uint64(limit),
		Weigher:       func(_ cas.Hash, m *cas.Manifest) uint32 { return uint32(manifestWeight(m)) },
	})
	return &manifestCache{source, cache}, err
}

// manifestWeight is about how much memory a manifest takes.
func manifestWeight(m *cas.Manifest) int {
	n := 400 + 112*len(m.Pieces) + 56*len(m.Nodes)
	for _, e := range m.Entries {
		n += 96 + len(e.Name) + len(e.Target)
	}
	for _, p := range m.Parts {
		n += 72 + len(p.First)
	}
	return n
}

func (c *manifestCache) get(ctx context.Context, h cas.Hash) (*cas.Manifest, error) {
	if m, ok := c.cache.GetIfPresent(h); ok {
		return m, nil
	}
	m, err := c.source.Manifest(ctx, h)
	if err != nil {
		return nil, err
	}
	c.cache.Set(h, m)
	return m, nil
}

// decoded is a piece in memory with its BLAKE3.
type decoded struct {
	raw []byte
	sum cas.Hash
}

// pieceCache keeps decoded pieces that are asked for often, and the BLAKE3 of
// raw-form pieces, which are not decoded but sent from the file.
type pieceCache struct {
	pieces  *otter.Cache[cas.Hash, decoded]
	sums    *otter.Cache[cas.Hash, cas.Hash]
	scratch sync.Pool // of *[]byte: stored bytes and checks that nobody keeps
}

// maxSums bounds the remembered BLAKE3s: about 10 MB.
const maxSums = 1 << 16

func newPieceCache(limit int64) (*pieceCache, error) {
	pieces, err := otter.New(&otter.Options[cas.Hash, decoded]{
		MaximumWeight: uint64(limit),
		Weigher:       func(_ cas.Hash, d decoded) uint32 { return uint32(cap(d.raw) + 200) },
	})
	if err != nil {
		return nil, err
	}
	sums, err := otter.New(&otter.Options[cas.Hash, cas.Hash]{MaximumSize: maxSums})
	if err != nil {
		return nil, err
	}
	c := &pieceCache{pieces: pieces, sums: sums}
	c.scratch.New = func() any {
		b := make([]byte, brotli.DecodeRoom(cas.MaxChunkSize))
		return &b
	}
	return c, nil
}

func (c *pieceCache) buffer() *[]byte   { return c.scratch.Get().(*[]byte) }
func (c *pieceCache) release(b *[]byte) { c.scratch.Put(b) }

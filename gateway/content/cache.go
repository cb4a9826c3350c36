package content

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/maypok86/otter/v2"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/brotli"
)

// manifestCache keeps parsed manifests, and the names of chunks that are none.
type manifestCache struct {
	c       *Content
	cache   *otter.Cache[cas.Hash, *cas.Manifest]
	strange *otter.Cache[cas.Hash, struct{}]
}

// maxStrange bounds the remembered chunks that are no manifests: about 8 MB.
const maxStrange = 1 << 16

func newManifestCache(limit int64, c *Content) (*manifestCache, error) {
	cache, err := otter.New(&otter.Options[cas.Hash, *cas.Manifest]{
		MaximumWeight: uint64(limit),
		Weigher:       func(_ cas.Hash, m *cas.Manifest) uint32 { return uint32(manifestWeight(m)) },
	})
	if err != nil {
		return nil, err
	}
	strange, err := otter.New(&otter.Options[cas.Hash, struct{}]{MaximumSize: maxStrange})
	return &manifestCache{c, cache, strange}, err
}

// get returns a manifest; one that is not in memory is opened, decoded and
// parsed once for all that wait for it.
func (m *manifestCache) get(ctx context.Context, h cas.Hash) (*cas.Manifest, error) {
	if _, no := m.strange.GetIfPresent(h); no {
		return nil, fmt.Errorf("chunk %s: %w", h, cas.ErrNotObject)
	}
	// Others may wait for this one: it does not end with its first caller.
	found, err := m.cache.Get(context.WithoutCancel(ctx), h, otter.LoaderFunc[cas.Hash, *cas.Manifest](m.load))
	if errors.Is(err, cas.ErrNotObject) {
		m.strange.Set(h, struct{}{})
	}
	return found, err
}

// load decodes on one of the cores that clients may use.
func (m *manifestCache) load(ctx context.Context, h cas.Hash) (*cas.Manifest, error) {
	body, _, err := m.c.Open(ctx, h)
	if err != nil {
		return nil, err
	}
	found, err := m.parse(ctx, h, body)
	return found, errors.Join(err, body.Close())
}

func (m *manifestCache) parse(ctx context.Context, h cas.Hash, body cas.Body) (*cas.Manifest, error) {
	if err := m.c.cpu.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer m.c.cpu.Release(1)
	in, out := m.c.pieces.buffer(), m.c.pieces.buffer()
	defer m.c.pieces.release(in)
	defer m.c.pieces.release(out)
	stored, err := cas.Load(body, *in)
	if err != nil {
		return nil, err
	}
	record, err := brotli.Decode((*out)[:0], stored)
	if err != nil {
		return nil, fmt.Errorf("%w: chunk %s: %w", cas.ErrCorrupt, h, err)
	}
	found, err := cas.ParseManifest(record)
	if err != nil {
		return nil, fmt.Errorf("chunk %s: %w", h, err)
	}
	return found, nil
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

package content

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/maypok86/otter/v2"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/brotli"
	"inos.dev/edge/cas/dag"
)

// Piece is a chunk opened for its raw bytes. Raw-form chunks are sent from
// where they are; others are decoded, or were decoded for somebody else.
type Piece struct {
	From From
	// Cached is set if the decoded bytes were in memory.
	Cached  bool
	raw     []byte
	release func()   // of what is reserved for raw
	body    cas.Body // of a raw-form chunk
	size    int64
}

// Size is the number of raw bytes.
func (p *Piece) Size() int64 { return p.size }

// Raw reports whether the piece is sent without decoding.
func (p *Piece) Raw() bool { return p.body != nil }

// WriteSection writes raw bytes [off, off+n) to w; see cas.Body.
func (p *Piece) WriteSection(w io.Writer, off, n int64) (int64, error) {
	if p.body != nil {
		return p.body.WriteSection(w, cas.RawPieceOffset+off, n)
	}
	m, err := w.Write(p.raw[off : off+n])
	return int64(m), err
}

// Close releases the chunk.
func (p *Piece) Close() error {
	if p.body != nil {
		return p.body.Close()
	}
	p.release()
	return nil
}

// Piece opens the raw bytes of a chunk. If link is given they are checked
// against it (stored length, raw length, BLAKE3) before anybody gets one:
// cas.ErrCorrupt. patient is as in OpenNext.
func (c *Content) Piece(ctx context.Context, h cas.Hash, link *cas.Piece, patient bool) (*Piece, error) {
	if err := c.cfg.Deny.Check(h); err != nil {
		return nil, err
	}
	if d, ok := c.pieces.pieces.GetIfPresent(h); ok {
		return c.decodedPiece(ctx, h, d, link, &Piece{Cached: true}, 0)
	}
	body, from, err := c.open(ctx, h, patient)
	if err != nil {
		return nil, err
	}
	stored := body.Size()
	if n, ok, err := rawForm(body); err != nil || ok {
		if err == nil && link != nil {
			err = c.checkRaw(h, body, n, link)
		}
		if err != nil {
			return nil, errors.Join(err, body.Close())
		}
		return &Piece{From: from, body: body, size: n}, nil
	}
	d, err := c.decode(ctx, h, body)
	if err := errors.Join(err, body.Close()); err != nil {
		return nil, err
	}
	return c.decodedPiece(ctx, h, d, link, &Piece{From: from}, stored)
}

// decodedPiece completes p with a decoded piece, once there is room to hold
// it. stored is 0 if it is not known.
func (c *Content) decodedPiece(ctx context.Context, h cas.Hash, d decoded, link *cas.Piece, p *Piece, stored int64) (*Piece, error) {
	p.raw, p.size = d.raw, int64(len(d.raw))
	if err := fits(h, link, stored, p.size, d.sum); err != nil {
		return nil, err
	}
	var err error
	p.release, err = c.holds.reserve(ctx, holdKey{h, true}, p.size)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// fits compares a piece with what its link claims; stored is 0 if it is not
// known.
func fits(h cas.Hash, link *cas.Piece, stored, raw int64, sum cas.Hash) error {
	if link == nil || link.Size == raw && link.Raw == sum && (stored == 0 || stored == link.Encoded) {
		return nil
	}
	return fmt.Errorf("%w: chunk %s is not what the manifest's link says", cas.ErrCorrupt, h)
}

// rawForm looks at the first bytes of a chunk.
func rawForm(body cas.Body) (piece int64, ok bool, err error) {
	var prefix [cas.RawPieceOffset]byte
	if _, err := body.ReadAt(prefix[:], 0); err != nil {
		return 0, false, fmt.Errorf("content: %w", err)
	}
	piece, ok = cas.RawForm(prefix[:], body.Size())
	return piece, ok, nil
}

// checkRaw compares a raw-form piece with its link. Its BLAKE3 is computed
// once and remembered.
func (c *Content) checkRaw(h cas.Hash, body cas.Body, n int64, link *cas.Piece) error {
	sum, known := c.pieces.sums.GetIfPresent(h)
	if !known {
		buf := c.pieces.buffer()
		defer c.pieces.release(buf)
		stored, err := cas.Load(body, *buf)
		if err != nil {
			return err
		}
		sum = cas.Sum(stored[cas.RawPieceOffset : cas.RawPieceOffset+n])
		c.pieces.sums.Set(h, sum)
	}
	return fits(h, link, body.Size(), n, sum)
}

// decode decodes a chunk once for all that wait for it, on one of the cores
// that clients may use.
func (c *Content) decode(ctx context.Context, h cas.Hash, body cas.Body) (decoded, error) {
	load := otter.LoaderFunc[cas.Hash, decoded](func(ctx context.Context, h cas.Hash) (decoded, error) {
		if err := c.cpu.Acquire(ctx, 1); err != nil {
			return decoded{}, err
		}
		defer c.cpu.Release(1)
		buf := c.pieces.buffer()
		defer c.pieces.release(buf)
		stored, err := cas.Load(body, *buf)
		if err != nil {
			return decoded{}, err
		}
		raw, err := brotli.Decode(make([]byte, 0, brotli.DecodeRoom(roomFor(len(stored)))), stored)
		if err != nil {
			return decoded{}, fmt.Errorf("%w: chunk %s: %w", cas.ErrCorrupt, h, err)
		}
		return decoded{raw, cas.Sum(raw)}, nil
	})
	// Others may wait for this decode: it does not end with its first caller.
	return c.pieces.pieces.Get(context.WithoutCancel(ctx), h, load)
}

// roomFor guesses the raw length of a chunk; Decode grows what is too short.
func roomFor(stored int) int { return min(cas.PieceSize, 4*stored) }

// rawAlone decodes a piece from the store past the cache, into a buffer that
// the caller releases.
func (c *Content) rawAlone(ctx context.Context, link *cas.Piece) (*[]byte, error) {
	body, err := c.cfg.Store.Open(ctx, link.Hash)
	if err != nil {
		return nil, err
	}
	if err := c.cpu.Acquire(ctx, 1); err != nil {
		return nil, errors.Join(err, body.Close())
	}
	defer c.cpu.Release(1)
	in, out := c.pieces.buffer(), c.pieces.buffer()
	defer c.pieces.release(in)
	stored, err := cas.Load(body, *in)
	if err == nil {
		var raw []byte
		if raw, err = dag.Decode(*out, link, stored); err == nil {
			*out = raw
		}
	}
	if err := errors.Join(err, body.Close()); err != nil {
		c.pieces.release(out)
		return nil, err
	}
	return out, nil
}

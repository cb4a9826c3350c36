package dag

import (
	"context"
	"crypto/sha256"
	"encoding"
	"fmt"
	"hash"
	"io"
	"iter"

	"inos.dev/edge/cas"
)

// Partial is a file that arrives in several parts, with crashes in between.
// Whoever keeps it records what Append tells it: the links of the durable
// pieces and the state of SHA-256 behind the last of them.
type Partial struct {
	w     *Writer
	links []cas.Piece
	sum   hash.Hash
}

// Resume takes up a file of which links are durable; state is what Append gave
// with the last link, or nil if there is none.
func (w *Writer) Resume(links iter.Seq2[cas.Piece, error], state []byte) (*Partial, error) {
	p := &Partial{w: w, sum: sha256.New()}
	for link, err := range links {
		if err != nil {
			return nil, err
		}
		if link.Size != cas.PieceSize {
			return nil, fmt.Errorf("%w: a recorded piece of %d bytes", cas.ErrCorrupt, link.Size)
		}
		p.links = append(p.links, link)
	}
	if len(p.links) == 0 {
		return p, nil
	}
	u, ok := p.sum.(encoding.BinaryUnmarshaler)
	if !ok {
		return nil, fmt.Errorf("dag: SHA-256 of type %T cannot be restored", p.sum)
	}
	if err := u.UnmarshalBinary(state); err != nil {
		return nil, fmt.Errorf("%w: recorded digest state: %w", cas.ErrCorrupt, err)
	}
	return p, nil
}

// Pieces is the number of durable pieces.
func (p *Partial) Pieces() int64 { return int64(len(p.links)) }

// Append reads r to its end and makes every full piece durable; record is told
// of each in order. If r ends well, tail is the rest, shorter than a piece; if
// it fails, the rest is lost and the pieces before it are kept. After a failure
// the Partial must be made anew with Resume.
func (p *Partial) Append(ctx context.Context, r io.Reader, record func(link cas.Piece, state []byte) error) (tail []byte, err error) {
	u := p.w.begin(ctx)
	u.build.emit = func(cas.Chunk) error { return nil } // nodes are made at the end
	keep := func(b []byte) error {
		tail = append([]byte(nil), b...)
		return nil
	}
	err = u.pieces(r, p.sum, p.Pieces(), keep, func(link cas.Piece, state []byte) error {
		if err := record(link, state); err != nil {
			return err
		}
		p.links = append(p.links, link)
		return nil
	})
	if err != nil {
		return nil, u.fail(err)
	}
	return tail, u.g.Wait()
}

// Finish adds the last piece, if tail is not empty, and writes the manifests.
func (p *Partial) Finish(ctx context.Context, tail []byte, mediaType string) (Object, error) {
	if err := cas.CheckMediaType(mediaType); err != nil {
		return Object{}, err
	}
	u := p.w.begin(ctx)
	for _, link := range p.links {
		if err := u.build.add(link); err != nil {
			return Object{}, u.fail(err)
		}
	}
	if len(tail) > 0 {
		p.sum.Write(tail)
		link, err := p.w.piece(u.ctx, tail, p.Pieces(), func() {}) //nolint:contextcheck // begin has it
		if err != nil {
			return Object{}, u.fail(err)
		}
		if err := u.build.add(link); err != nil {
			return Object{}, u.fail(err)
		}
	}
	return u.finish(mediaType, p.sum)
}

package dag

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/brotli"
)

// Getter is where chunks come from: a cas.Store, or something that fills what
// is missing.
type Getter interface {
	Open(ctx context.Context, h cas.Hash) (cas.Body, error)
}

// Source gives manifests by hash. Manifests reads them from a Getter; whoever
// reads the same ones again and again puts a cache in front.
type Source interface {
	// Manifest returns the record; it is shared and must not be changed.
	// Errors: cas.ErrNotObject for a chunk that is none, cas.ErrCorrupt for
	// one that is wrong, the Getter's.
	Manifest(ctx context.Context, h cas.Hash) (*cas.Manifest, error)
}

// Manifests is the Source over a Getter, without a cache.
type Manifests struct{ Getter Getter }

// Manifest implements Source.
func (s Manifests) Manifest(ctx context.Context, h cas.Hash) (*cas.Manifest, error) {
	body, err := s.Getter.Open(ctx, h)
	if err != nil {
		return nil, err
	}
	stored, err := cas.Load(body, nil)
	if err != nil {
		return nil, errors.Join(err, body.Close())
	}
	record, err := brotli.Decode(nil, stored)
	if cerr := body.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("chunk %s: %w", h, err)
	}
	m, err := cas.ParseManifest(record)
	if err != nil {
		return nil, fmt.Errorf("chunk %s: %w", h, err)
	}
	return m, nil
}

// Root returns the manifest of an object: a file or a directory, but no inner
// node, which is cas.ErrNotObject.
func Root(ctx context.Context, s Source, h cas.Hash) (*cas.Manifest, error) {
	m, err := s.Manifest(ctx, h)
	if err != nil {
		return nil, err
	}
	if m.Kind == cas.KindNode {
		return nil, fmt.Errorf("chunk %s: %w but an inner node", h, cas.ErrNotObject)
	}
	return m, nil
}

// Span is a piece with its place in the object.
type Span struct {
	cas.Piece
	Index  int64
	Offset int64 // of its first raw byte in the object
	Joined int64 // of its BODY's first byte in the joined stream
}

// Place says where in an object to begin; use At or AtJoined.
type Place struct {
	offset int64
	joined bool
}

// At is a raw byte offset.
func At(offset int64) Place { return Place{offset: offset} }

// AtJoined is an offset in the joined stream (HEAD, BODYs, TAIL).
func AtJoined(offset int64) Place { return Place{offset: offset, joined: true} }

// Spans yields the pieces of a file in order, from the one that holds the
// place on. It reads only the nodes on the way: O(depth) before the first
// piece. Every node is compared with what its link claims; a difference is
// cas.ErrCorrupt.
func Spans(ctx context.Context, s Source, root *cas.Manifest, from Place) iter.Seq2[Span, error] {
	return func(yield func(Span, error) bool) {
		w := walk{source: s, from: from, yield: yield}
		w.at.Joined = cas.BodyOffset
		w.record(ctx, root, 0)
	}
}

type walk struct {
	source Source
	from   Place
	yield  func(Span, error) bool
	at     Span // place of the next piece
}

// before reports whether everything up to the given sizes behind w.at lies
// before the place that is looked for; then it steps over it.
func (w *walk) before(size, encoded, count int64) bool {
	joined := encoded - count*cas.FrameOverhead
	end, start := w.at.Offset+size, w.from.offset
	if w.from.joined {
		end = w.at.Joined + joined
	}
	if end > start {
		return false
	}
	w.at.Offset += size
	w.at.Joined += joined
	w.at.Index += count
	return true
}

// record yields all pieces below m and reports whether to go on.
func (w *walk) record(ctx context.Context, m *cas.Manifest, depth int) bool {
	if depth > cas.MaxDepth {
		return w.yield(Span{}, fmt.Errorf("%w: a tree of more than %d levels", cas.ErrCorrupt, cas.MaxDepth))
	}
	for _, p := range m.Pieces {
		if w.before(p.Size, p.Encoded, 1) {
			continue
		}
		w.at.Piece = p
		if !w.yield(w.at, nil) {
			return false
		}
		w.at.Offset += p.Size
		w.at.Joined += p.Encoded - cas.FrameOverhead
		w.at.Index++
	}
	for _, n := range m.Nodes {
		if w.before(n.Size, n.Encoded, n.Count) {
			continue
		}
		child, err := w.source.Manifest(ctx, n.Hash)
		if err == nil && (child.Kind != cas.KindNode || child.Count != n.Count || child.Size != n.Size || child.Encoded != n.Encoded) {
			err = fmt.Errorf("%w: node %s is not what its link says", cas.ErrCorrupt, n.Hash)
		}
		if err != nil {
			w.yield(Span{}, err)
			return false
		}
		if !w.record(ctx, child, depth+1) {
			return false
		}
	}
	return true
}

// Decode returns the raw bytes of a piece, checked against its link: length
// and BLAKE3. dst is used if it is long enough (brotli.DecodeRoom). Errors:
// cas.ErrCorrupt if they differ.
func Decode(dst []byte, link *cas.Piece, stored []byte) ([]byte, error) {
	if int64(len(stored)) != link.Encoded {
		return nil, fmt.Errorf("%w: chunk %s has %d bytes, its link says %d", cas.ErrCorrupt, link.Hash, len(stored), link.Encoded)
	}
	raw, err := brotli.Decode(dst[:0], stored)
	if err != nil {
		return nil, fmt.Errorf("%w: chunk %s: %w", cas.ErrCorrupt, link.Hash, err)
	}
	if int64(len(raw)) != link.Size || cas.Sum(raw) != link.Raw {
		return nil, fmt.Errorf("%w: chunk %s does not decode to what its link says", cas.ErrCorrupt, link.Hash)
	}
	return raw, nil
}

// Copy writes the raw bytes [offset, offset+n) of a file to w, each piece
// verified before its first byte leaves.
func Copy(ctx context.Context, w io.Writer, g Getter, s Source, root *cas.Manifest, offset, n int64) (written int64, err error) {
	var stored []byte
	raw := make([]byte, 0, brotli.DecodeRoom(cas.PieceSize))
	for span, err := range Spans(ctx, s, root, At(offset)) {
		if n <= 0 {
			break
		}
		if err != nil {
			return written, err
		}
		if stored, raw, err = fetch(ctx, g, &span.Piece, stored, raw); err != nil {
			return written, err
		}
		part := raw[max(0, offset-span.Offset):]
		part = part[:min(int64(len(part)), n)]
		m, err := w.Write(part)
		written += int64(m)
		if err != nil {
			return written, err
		}
		n -= int64(m)
	}
	return written, nil
}

// fetch reads and decodes one piece into the given buffers.
func fetch(ctx context.Context, g Getter, link *cas.Piece, stored, raw []byte) ([]byte, []byte, error) {
	body, err := g.Open(ctx, link.Hash)
	if err != nil {
		return stored, raw, fmt.Errorf("chunk %s: %w", link.Hash, err)
	}
	data, err := cas.Load(body, stored)
	if err == nil {
		raw, err = Decode(raw, link, data)
	}
	if _, shared := body.(cas.InMemory); !shared && data != nil {
		stored = data
	}
	return stored, raw, errors.Join(err, body.Close())
}

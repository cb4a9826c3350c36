package gateway

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/gateway/content"
)

// readAhead is how many pieces beyond the one that is sent are being filled.
const readAhead = 4

// firstPiece makes sure that the first piece of an answer can be had, before
// the status line promises it.
func (g *Gateway) firstPiece(r *http.Request, m *cas.Manifest, rep *representation, place func(int64) dag.Place) (content.From, error) {
	if m.Size == 0 {
		return content.From{}, nil
	}
	start := int64(0)
	if spans, err := wantedRanges(r, rep); err == nil && len(spans) > 0 {
		start = spans[0].start
	}
	ctx := r.Context()
	for span, err := range dag.Spans(ctx, g.content, m, place(start)) {
		if err != nil {
			return content.From{}, err
		}
		if _, err := g.content.Stat(ctx, span.Hash); err == nil || !errors.Is(err, cas.ErrNotFound) {
			return content.From{}, err
		}
		body, from, err := g.content.Open(ctx, span.Hash)
		if err != nil {
			return from, err
		}
		return from, body.Close()
	}
	return content.From{}, nil
}

// ahead yields the spans of a file up to the one that behind reports to lie
// behind the end, and prefetches those that follow the one that is sent.
func (g *Gateway) ahead(ctx context.Context, m *cas.Manifest, from dag.Place, behind func(dag.Span) bool) iter.Seq2[dag.Span, error] {
	return func(yield func(dag.Span, error) bool) {
		var queue []dag.Span
		for s, err := range dag.Spans(ctx, g.content, m, from) {
			if err != nil {
				if flush(queue, yield) {
					yield(dag.Span{}, err)
				}
				return
			}
			if behind(s) {
				break
			}
			if len(queue) > 0 { // the first one is read at once
				g.content.Prefetch(ctx, s.Hash)
			}
			queue = append(queue, s)
			if len(queue) <= readAhead {
				continue
			}
			if !yield(queue[0], nil) {
				return
			}
			queue = queue[1:]
		}
		flush(queue, yield)
	}
}

func flush(queue []dag.Span, yield func(dag.Span, error) bool) bool {
	for _, s := range queue {
		if !yield(s, nil) {
			return false
		}
	}
	return true
}

// writeJoined sends bytes of the joined stream: HEAD, the BODY of each chunk
// from where it lies, TAIL.
func (g *Gateway) writeJoined(ctx context.Context, w *recorder, m *cas.Manifest, s span) error {
	at, end := s.start, s.start+s.length
	head := cas.Head()
	if at < int64(len(head)) {
		n, err := w.Write(head[at:min(end, int64(len(head)))])
		if err != nil {
			return err
		}
		at += int64(n)
	}
	if at < end && m.Count > 0 {
		for piece, err := range g.ahead(ctx, m, dag.AtJoined(at), func(s dag.Span) bool { return s.Joined >= end }) {
			if err != nil {
				return err
			}
			if err := g.writeBody(ctx, w, piece, &at, end); err != nil {
				return err
			}
		}
	}
	if at < end {
		if _, err := w.Write([]byte{cas.Tail()}); err != nil {
			return err
		}
		at++
	}
	if at != end {
		return fmt.Errorf("%w: the pieces of the object do not add up", cas.ErrCorrupt)
	}
	return nil
}

// writeBody sends the part of one chunk's BODY that lies in [*at, end) of the
// joined stream.
func (g *Gateway) writeBody(ctx context.Context, w *recorder, piece dag.Span, at *int64, end int64) error {
	body, from, err := g.content.OpenNext(ctx, piece.Hash)
	if err != nil {
		return err
	}
	defer closeBody(g, body)
	if body.Size() != piece.Encoded {
		return fmt.Errorf("%w: chunk %s has %d bytes, its link says %d", cas.ErrCorrupt, piece.Hash, body.Size(), piece.Encoded)
	}
	offset := *at - piece.Joined
	n := min(end-*at, piece.Encoded-cas.FrameOverhead-offset)
	if err := w.pace(ctx, n); err != nil {
		return err
	}
	sent, err := body.WriteSection(w, cas.BodyOffset+offset, n)
	g.metrics.sourceOf(body, from).Add(float64(sent))
	g.heat(piece.Hash, sent)
	*at += sent
	return err
}

// writeRaw sends raw bytes, each piece decoded (or sent from its raw-form
// chunk) and checked against its link first.
func (g *Gateway) writeRaw(ctx context.Context, w *recorder, m *cas.Manifest, s span) error {
	at, end := s.start, s.start+s.length
	if at == end {
		return nil
	}
	for link, err := range g.ahead(ctx, m, dag.At(at), func(s dag.Span) bool { return s.Offset >= end }) {
		if err != nil {
			return err
		}
		if err := g.writePiece(ctx, w, link, &at, end); err != nil {
			return err
		}
	}
	if at != end {
		return fmt.Errorf("%w: the pieces of the object do not add up", cas.ErrCorrupt)
	}
	return nil
}

func (g *Gateway) writePiece(ctx context.Context, w *recorder, link dag.Span, at *int64, end int64) error {
	p, err := g.content.Piece(ctx, link.Hash, &link.Piece, true)
	if err != nil {
		return err
	}
	defer closeBody(g, p)
	offset := *at - link.Offset
	n := min(end-*at, p.Size()-offset)
	if err := w.pace(ctx, n); err != nil {
		return err
	}
	sent, err := p.WriteSection(w, offset, n)
	g.metrics.pieceSource(p).Add(float64(sent))
	g.heat(link.Hash, sent)
	*at += sent
	return err
}

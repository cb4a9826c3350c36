package remote

import (
	"context"
	"iter"
	"sync"

	"golang.org/x/sync/errgroup"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/brotli"
	"inos.dev/edge/cas/dag"
)

// DefaultPieces is how many pieces a Reader holds by default. Each costs up to
// 2 MiB: its stored and its raw bytes.
const DefaultPieces = 16

// Reader reads the pieces of files. Its limit holds for all that it reads at
// the same time.
type Reader struct {
	getter dag.Getter
	source dag.Source
	flight chan struct{} // one place per piece that is fetched or not yet consumed
}

// NewReader returns a Reader that holds at most pieces pieces; 0 means
// DefaultPieces.
func NewReader(g dag.Getter, s dag.Source, pieces int) *Reader {
	if pieces <= 0 {
		pieces = DefaultPieces
	}
	return &Reader{getter: g, source: s, flight: make(chan struct{}, pieces)}
}

// Piece is the verified raw bytes of one piece, valid until the loop goes on.
type Piece struct {
	dag.Span
	Raw []byte
	// Kept is set if keep had the bytes.
	Kept bool
}

// Keep looks for a piece that is there already, such as in a file of which a
// part was fetched before. It appends the raw bytes to dst and returns false
// if it has none; Pieces checks them. It is called by several goroutines.
type Keep func(span *dag.Span, dst []byte) ([]byte, bool)

// Pieces yields the pieces of a file that hold raw bytes [from, to), in order,
// each checked against its link, and fetches ahead of the loop. keep may be
// nil. When the loop ends, nothing is under way any more.
func (r *Reader) Pieces(ctx context.Context, root *cas.Manifest, from, to int64, keep Keep) iter.Seq2[Piece, error] {
	return func(yield func(Piece, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		f := &fetching{r: r, keep: keep, lane: make(chan *slot, cap(r.flight))}
		f.g, ctx = errgroup.WithContext(ctx)
		f.g.Go(func() error {
			defer close(f.lane)
			return f.walk(ctx, root, from, to)
		})
		goesOn := f.consume(ctx, yield)
		if !goesOn {
			cancel()
		}
		if err := f.g.Wait(); err != nil && goesOn {
			yield(Piece{}, err)
		}
		f.drain()
	}
}

// fetching is one loop over Pieces.
type fetching struct {
	r    *Reader
	g    *errgroup.Group
	keep Keep
	lane chan *slot // in the order of the file
	open *slot      // taken from the lane and not released
}

// slot is one piece on its way; done is closed when its buffer holds it.
type slot struct {
	piece Piece
	buf   *[]byte
	done  chan struct{}
}

// walk takes a place of flight for each piece in order, so that the first one
// of the lane always has its own, and starts to fetch it.
func (f *fetching) walk(ctx context.Context, root *cas.Manifest, from, to int64) error {
	for span, err := range dag.Spans(ctx, f.r.source, root, dag.At(from)) {
		if err != nil {
			return err
		}
		if span.Offset >= to {
			return nil
		}
		select {
		case f.r.flight <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		s := &slot{piece: Piece{Span: span}, buf: rawBuffers.Get().(*[]byte), done: make(chan struct{})}
		f.lane <- s // never blocks: the lane is as long as the flight
		f.g.Go(func() error { return f.fetch(ctx, s) })
	}
	return nil
}

func (f *fetching) fetch(ctx context.Context, s *slot) error {
	link := &s.piece.Piece
	if f.keep != nil {
		raw, ok := f.keep(&s.piece.Span, (*s.buf)[:0])
		if ok && int64(len(raw)) == link.Size && cas.Sum(raw) == link.Raw {
			s.piece.Raw, s.piece.Kept = raw, true
			close(s.done)
			return nil
		}
	}
	body, err := f.r.getter.Open(ctx, link.Hash)
	if err != nil {
		return err
	}
	defer body.Close()
	stored, err := cas.Load(body, nil)
	if err != nil {
		return err
	}
	if s.piece.Raw, err = dag.Decode((*s.buf)[:0], link, stored); err != nil {
		return err
	}
	close(s.done)
	return nil
}

// consume hands the pieces on and reports whether the loop went to its end,
// or was still willing to when something failed.
func (f *fetching) consume(ctx context.Context, yield func(Piece, error) bool) bool {
	for s := range f.lane {
		select {
		case <-s.done:
		case <-ctx.Done():
			f.open = s // fetch may still write into its buffer
			return true
		}
		ok := yield(s.piece, nil)
		f.release(s)
		if !ok {
			return false
		}
	}
	return true
}

// drain gives the places of pieces back that nobody took. Nothing is under way
// any more.
func (f *fetching) drain() {
	if f.open != nil {
		f.release(f.open)
	}
	for s := range f.lane {
		f.release(s)
	}
}

func (f *fetching) release(s *slot) {
	rawBuffers.Put(s.buf)
	<-f.r.flight
}

// rawBuffers holds idle buffers for one piece each.
var rawBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, brotli.DecodeRoom(cas.PieceSize))
	return &b
}}

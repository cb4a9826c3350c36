package dag

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/brotli"
)

// Putter is where chunks go: a cas.Store, or a remote one. Put returns when
// the chunk is durable.
type Putter interface {
	Put(ctx context.Context, c cas.Chunk) (added bool, err error)
}

// Writer writes objects into a store. Its limits hold for all uploads
// together; it may be used by many goroutines at once.
type Writer struct {
	store  Putter
	encode *semaphore.Weighted // one per core: encoding is pure CPU
	flight *semaphore.Weighted // bytes read whole and not yet durable
	lane   int64               // the most pieces that one upload has in flight
}

// WriterConfig configures a Writer; zero values mean the defaults.
type WriterConfig struct {
	// Workers is how many pieces are encoded at once; default GOMAXPROCS.
	Workers int
	// InFlight is how many pieces may be read and not yet durable, over all
	// uploads; each costs up to 2 MiB. Beside them every upload under way has
	// the piece that it is reading, 1 MiB: whoever calls bounds how many
	// uploads there are. Default 24.
	InFlight int
}

// NewWriter returns a Writer into store.
func NewWriter(store Putter, cfg WriterConfig) *Writer {
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	if cfg.InFlight <= 0 {
		cfg.InFlight = 24
	}
	return &Writer{
		store:  store,
		encode: semaphore.NewWeighted(int64(cfg.Workers)),
		flight: semaphore.NewWeighted(int64(cfg.InFlight) * cas.PieceSize),
		lane:   int64(max(1, cfg.InFlight/2)),
	}
}

// File writes everything that r has as one file, and returns when all of it is
// durable. mediaType must be valid (MediaType makes one). Errors: r's,
// the store's, cas.ErrCorrupt for a failed self-check.
func (w *Writer) File(ctx context.Context, r io.Reader, mediaType string) (Object, error) {
	if err := cas.CheckMediaType(mediaType); err != nil {
		return Object{}, err
	}
	u := w.begin(ctx)
	sum := sha256.New()
	if err := u.pieces(r, sum, 0, nil, nil); err != nil {
		return Object{}, u.fail(err)
	}
	return u.finish(mediaType, sum)
}

// upload is one object on its way: its builder, and the puts it waits for.
type upload struct {
	w     *Writer
	g     *errgroup.Group
	ctx   context.Context //nolint:containedctx // the group's own: it ends with the group
	build builder
}

func (w *Writer) begin(ctx context.Context) *upload {
	u := &upload{w: w}
	u.g, u.ctx = errgroup.WithContext(ctx)
	u.build.emit = u.put
	return u
}

// put stores a manifest in the background: finish waits for it.
func (u *upload) put(c cas.Chunk) error {
	u.g.Go(func() error {
		_, err := u.w.store.Put(u.ctx, c)
		return err
	})
	return nil
}

// fail ends the upload: it waits for what is under way and returns the error
// that came first.
func (u *upload) fail(err error) error {
	u.g.Go(func() error { return err })
	return u.g.Wait()
}

func (u *upload) finish(mediaType string, sum hash.Hash) (Object, error) {
	o, err := u.build.finish(mediaType, cas.Hash(sum.Sum(nil)))
	if err != nil {
		return Object{}, u.fail(err)
	}
	if err := u.g.Wait(); err != nil {
		return Object{}, err
	}
	return o, nil
}

// ticket is one piece on its way; link is set when done is closed, or the
// group has failed.
type ticket struct {
	link cas.Piece
	sum  []byte // state of SHA-256 behind this piece, if it is recorded
	done chan struct{}
}

// durable is told of each piece in order, when it and all before it are
// durable. state is the SHA-256 state behind it.
type durable func(link cas.Piece, state []byte) error

// pieces reads r to its end, cuts it, and adds every link to the builder in
// order. first is the index of the first piece. If keep is given, the last
// piece goes there instead if it is shorter than cas.PieceSize; pieces
// returns after all are durable.
func (u *upload) pieces(r io.Reader, sum hash.Hash, first int64, keep func([]byte) error, done durable) error {
	lane := make(chan *ticket, u.w.lane)
	collected := make(chan error, 1)
	u.g.Go(func() error { // a failure here ends the reading, too
		err := u.collect(lane, done)
		collected <- err
		return err
	})
	err := u.cut(r, sum, first, lane, keep, done != nil)
	close(lane)
	if cerr := <-collected; err == nil {
		err = cerr
	}
	return err
}

// fill reads until b is full or r fails; io.EOF, and nothing else, is r's
// end. io.ReadFull will not do: of an end in the middle of b it makes
// io.ErrUnexpectedEOF, and that is what a truncated body says of itself.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	if n == len(b) {
		err = nil
	}
	return n, err
}

// cut is the reading end of the lane. A piece takes its place in flight when it
// has been read: a client that is slow, or says nothing, holds a buffer, and
// nothing that other uploads wait for.
func (u *upload) cut(r io.Reader, sum hash.Hash, index int64, lane chan<- *ticket, keep func([]byte) error, states bool) error {
	for {
		buf := pieceBuffers.Get().(*[cas.PieceSize]byte)
		n, err := fill(r, buf[:])
		end := err == io.EOF //nolint:errorlint // whoever wraps it means a failure
		partial := end && n > 0 && keep != nil
		if err != nil && !end || n == 0 || partial {
			if partial {
				err = keep(buf[:n])
			} else if end {
				err = nil
			}
			pieceBuffers.Put(buf)
			return err
		}
		if err := u.w.flight.Acquire(u.ctx, cas.PieceSize); err != nil {
			pieceBuffers.Put(buf)
			return err
		}
		sum.Write(buf[:n])
		t := &ticket{done: make(chan struct{})}
		u.start(t, buf, n, index)
		if states {
			if t.sum, err = sumState(sum); err != nil {
				return err
			}
		}
		index++
		select {
		case lane <- t:
		case <-u.ctx.Done():
			return context.Cause(u.ctx)
		}
		if end {
			return nil
		}
	}
}

// start encodes and stores one piece in a goroutine of the upload's group,
// which owns buf and one place of flight from here on.
func (u *upload) start(t *ticket, buf *[cas.PieceSize]byte, n int, index int64) {
	u.g.Go(func() error {
		defer u.w.flight.Release(cas.PieceSize)
		link, err := u.w.piece(u.ctx, buf[:n], index, func() { pieceBuffers.Put(buf) })
		if err != nil {
			return err
		}
		t.link = link
		close(t.done)
		return nil
	})
}

// piece encodes, hashes and stores one piece. encoded is called when the
// piece's own bytes are no longer needed.
func (w *Writer) piece(ctx context.Context, b []byte, index int64, encoded func()) (cas.Piece, error) {
	c, link, err := w.encodePiece(ctx, b, index)
	encoded()
	if err != nil {
		return cas.Piece{}, err
	}
	if _, err := w.store.Put(ctx, c); err != nil {
		return cas.Piece{}, err
	}
	return link, nil
}

func (w *Writer) encodePiece(ctx context.Context, b []byte, index int64) (cas.Chunk, cas.Piece, error) {
	if err := w.encode.Acquire(ctx, 1); err != nil {
		return cas.Chunk{}, cas.Piece{}, err
	}
	defer w.encode.Release(1)
	return EncodePiece(b, index)
}

// EncodePiece makes the chunk of an object's index-th piece, and its link.
func EncodePiece(b []byte, index int64) (cas.Chunk, cas.Piece, error) {
	c, err := brotli.Encode(b)
	if err != nil {
		return cas.Chunk{}, cas.Piece{}, err
	}
	return c, cas.Piece{Hash: c.Hash(), Size: int64(len(b)), Encoded: c.Size(), Raw: cas.Sum(b), CV: chainingValue(b, index)}, nil
}

// collect takes the tickets in order.
func (u *upload) collect(lane <-chan *ticket, done durable) error {
	for t := range lane {
		select {
		case <-t.done:
		case <-u.ctx.Done():
			select {
			case <-t.done: // this one was still in time
			default:
				return context.Cause(u.ctx)
			}
		}
		if err := u.build.add(t.link); err != nil {
			return err
		}
		if done == nil {
			continue
		}
		if err := done(t.link, t.sum); err != nil {
			return err
		}
	}
	return nil
}

// pieceBuffers holds idle piece buffers.
var pieceBuffers = sync.Pool{New: func() any { return new([cas.PieceSize]byte) }}

func sumState(h hash.Hash) ([]byte, error) {
	m, ok := h.(interface{ AppendBinary([]byte) ([]byte, error) })
	if !ok {
		return nil, fmt.Errorf("dag: SHA-256 of type %T cannot be saved", h)
	}
	return m.AppendBinary(nil)
}

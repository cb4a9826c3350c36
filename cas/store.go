// Package cas has the words of content: a Hash names bytes, a Chunk is bytes
// whose hash is known to fit, a Manifest lists the chunks of an object, and a
// Store keeps chunks. It knows no disk, no peer, no HTTP and no clock, and it
// builds for js/wasm.
//
// Foreign bytes become a Chunk through Verify and nowhere else.
package cas

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
)

// Info is what a store knows of a chunk without reading it.
type Info struct {
	Hash Hash
	Size int64 // stored bytes
}

// Store keeps chunks. All methods may be called at the same time. castest has
// the suite that every implementation passes.
type Store interface {
	// Open returns the chunk's bytes, or ErrNotFound; the caller closes the
	// Body. A store that finds the bytes rotten answers ErrNotFound (and sees
	// to the rot itself): nobody gets wrong bytes from a store.
	Open(ctx context.Context, h Hash) (Body, error)
	// Stat answers from memory, or ErrNotFound.
	Stat(ctx context.Context, h Hash) (Info, error)
	// Put keeps the chunk and returns when it is as durable as the store can
	// make it; added is false if it was there already. ErrNoSpace leaves the
	// store readable.
	Put(ctx context.Context, c Chunk) (added bool, err error)
	// Delete forgets the chunk. A chunk that is not there is no error. Bodies
	// that are open stay readable.
	Delete(ctx context.Context, h Hash) error
	// All lists what is here, each chunk once, in no particular order. Chunks
	// that come or go meanwhile may be listed or not.
	All(ctx context.Context) iter.Seq2[Info, error]
}

// Body is the stored bytes of one chunk, open for reading. ReadAt and
// WriteSection may be called at the same time only if the implementation says
// so; one goroutine uses a Body at a time.
type Body interface {
	io.ReaderAt
	io.Closer
	// Size is the number of stored bytes.
	Size() int64
	// WriteSection writes bytes [off, off+n) to w and returns how many were
	// written. A file-backed Body hands the file itself to w's ReadFrom, so
	// that a TCP connection can use sendfile; a Body in memory writes its
	// slice.
	WriteSection(w io.Writer, off, n int64) (int64, error)
}

// InMemory is a Body whose bytes are at hand without a copy. They must not be
// changed, and stay valid after Close.
type InMemory interface {
	Bytes() []byte
}

// BytesBody is a Body over b, which must not change while it is open.
func BytesBody(b []byte) Body { return bytesBody(b) }

type bytesBody []byte

func (b bytesBody) Bytes() []byte { return b }
func (b bytesBody) Size() int64   { return int64(len(b)) }
func (b bytesBody) Close() error  { return nil }

func (b bytesBody) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(b)) {
		return 0, fmt.Errorf("cas: offset %d outside of a chunk of %d bytes", off, len(b))
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (b bytesBody) WriteSection(w io.Writer, off, n int64) (int64, error) {
	if size := int64(len(b)); off < 0 || off > size || n < 0 || n > size-off {
		return 0, fmt.Errorf("cas: section %d+%d outside of a chunk of %d bytes", off, n, len(b))
	}
	m, err := w.Write(b[off : off+n])
	return int64(m), err
}

// Load returns all bytes of a Body: without a copy if it is InMemory, else
// read into buf if that is long enough. The result must not be changed if the
// body is InMemory.
func Load(b Body, buf []byte) ([]byte, error) {
	if m, ok := b.(InMemory); ok {
		return m.Bytes(), nil
	}
	n := b.Size()
	if n > MaxChunkSize {
		return nil, fmt.Errorf("%w: stored chunk of %d bytes", ErrCorrupt, n)
	}
	if int64(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if m, err := b.ReadAt(buf, 0); int64(m) < n {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("cas: read %d of %d bytes: %w", m, n, err)
	}
	return buf, nil
}

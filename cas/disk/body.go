package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"inos.dev/edge/cas"
)

// Open implements cas.Store. The first Open of a chunk since the start hashes
// its file; later ones cost a look into the index and, while the chunk is hot,
// an idle file handle.
func (s *Store) Open(ctx context.Context, h cas.Hash) (cas.Body, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, ok := s.shard(h).index.get(h)
	if !ok {
		return nil, notFound(h)
	}
	if !e.has(verified) {
		if err := s.check(ctx, h); err != nil {
			return nil, err
		}
	}
	x, err := s.handle(h)
	if err != nil {
		return nil, err
	}
	return &body{store: s, handle: x, size: e.size()}, nil
}

// handle returns an idle handle of h or opens a new one.
func (s *Store) handle(h cas.Hash) (*handle, error) {
	x, age := s.idle.take(h)
	if x != nil {
		return x, nil
	}
	f, err := s.shard(h).root.Open(h.String())
	if errors.Is(err, fs.ErrNotExist) {
		s.lost(h)
		return nil, notFound(h)
	}
	if err != nil {
		return nil, fmt.Errorf("disk: open chunk: %w", err)
	}
	return &handle{file: f, hash: h, age: age}, nil
}

// body is a chunk's open file. One goroutine uses it at a time.
type body struct {
	store   *Store
	handle  *handle // nil after Close
	size    int64
	section io.LimitedReader // what WriteSection hands on
}

func (b *body) Size() int64 { return b.size }

// ReadAt implements io.ReaderAt by pread.
func (b *body) ReadAt(p []byte, off int64) (int, error) {
	if b.handle == nil {
		return 0, errClosed
	}
	if off < 0 || off > b.size {
		return 0, fmt.Errorf("disk: offset %d outside of a chunk of %d bytes", off, b.size)
	}
	n, err := b.handle.file.ReadAt(p, off)
	b.suspect(err)
	return n, err
}

// WriteSection implements cas.Body. A writer with ReadFrom gets the *os.File
// in an *io.LimitedReader: exactly what the net package recognises and hands
// to sendfile.
func (b *body) WriteSection(w io.Writer, off, n int64) (int64, error) {
	if b.handle == nil {
		return 0, errClosed
	}
	if off < 0 || off > b.size || n < 0 || n > b.size-off {
		return 0, fmt.Errorf("disk: section %d+%d outside of a chunk of %d bytes", off, n, b.size)
	}
	if n == 0 {
		return 0, nil
	}
	f := b.handle.file
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return 0, fmt.Errorf("disk: seek in chunk: %w", err)
	}
	b.section = io.LimitedReader{R: f, N: n}
	m, err := copySection(w, &b.section)
	if err == nil && m < n {
		err = fmt.Errorf("disk: chunk %s ends %d bytes early: %w", b.handle.hash, n-m, io.ErrUnexpectedEOF)
	}
	b.suspect(err)
	return m, err
}

// copyBuffers are for writers that cannot take a file.
var copyBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

func copySection(w io.Writer, section *io.LimitedReader) (int64, error) {
	if rf, ok := w.(io.ReaderFrom); ok {
		return rf.ReadFrom(section)
	}
	buf := copyBuffers.Get().(*[64 << 10]byte)
	defer copyBuffers.Put(buf)
	return io.CopyBuffer(w, section, buf[:])
}

// suspect has the chunk checked before it is opened again, if err says that
// its file could not be read.
func (b *body) suspect(err error) {
	if !errors.Is(err, syscall.EIO) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return
	}
	b.store.shard(b.handle.hash).index.update(b.handle.hash, func(e *entry) { e.meta &^= verified })
}

// Close gives the handle back.
func (b *body) Close() error {
	x := b.handle
	if x == nil {
		return errClosed
	}
	b.handle, b.section.R = nil, nil
	return b.store.idle.give(x)
}

// lost forgets a chunk whose file somebody has removed by hand.
func (s *Store) lost(h cas.Hash) {
	sh := s.shard(h)
	sh.names.Lock()
	defer sh.names.Unlock()
	if _, err := sh.root.Lstat(h.String()); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	if s.forgetLocked(sh, h) {
		s.counts.lost.Add(1)
		s.log.Warn("a chunk's file has disappeared; forgot it", "hash", h)
	}
}

// forgetLocked takes h out of the index and drops its handles; the caller
// holds names. It reports whether h was there.
func (s *Store) forgetLocked(sh *shard, h cas.Hash) bool {
	e, ok := sh.index.remove(h, nil)
	if ok {
		s.counts.changes.Add(1)
		s.room.release(e.size())
		s.dropHandles(h)
	}
	return ok
}

func (s *Store) dropHandles(h cas.Hash) {
	if err := s.idle.forget(h); err != nil {
		s.log.Warn("close of a chunk's file failed", "hash", h, "error", err)
	}
}

// Delete implements cas.Store. It is durable when it returns.
func (s *Store) Delete(ctx context.Context, h cas.Hash) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	sh := s.shard(h)
	sh.names.Lock()
	removed, err := s.removeLocked(sh, h, nil)
	sh.names.Unlock()
	if err != nil || !removed {
		return err
	}
	return s.syncShard(sh)
}

// removeLocked removes h from the index and its file from the directory, if
// may agrees. The caller holds names, and fsyncs the directory afterwards.
func (s *Store) removeLocked(sh *shard, h cas.Hash, may func(entry) bool) (removed bool, err error) {
	e, ok := sh.index.remove(h, may)
	if !ok {
		return false, nil
	}
	s.counts.changes.Add(1)
	err = sh.root.Remove(h.String())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		sh.index.put(e) // it is still here
		return false, fmt.Errorf("disk: delete chunk: %w", err)
	}
	s.room.release(e.size())
	s.dropHandles(h)
	return true, nil
}

// readNames lists a directory.
func readNames(root *os.Root) ([]string, error) {
	d, err := root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	names, err := d.Readdirnames(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return nil, fmt.Errorf("disk: list %s: %w", root.Name(), err)
	}
	return names, nil
}

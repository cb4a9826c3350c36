package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"

	"github.com/zeebo/blake3"

	"inos.dev/edge/cas"
)

// checks are the verifications under way: one per chunk, whoever waits.
type checks struct {
	mu      sync.Mutex
	running map[cas.Hash]*checking // guarded by mu
}

type checking struct {
	done chan struct{} // closed when err is set
	err  error
}

// Report re-hashes a chunk now, because a client says that its bytes are
// wrong. It returns nil if they are right; else the chunk is in quarantine and
// the error is both cas.ErrNotFound and cas.ErrCorrupt.
func (s *Store) Report(ctx context.Context, h cas.Hash) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	if !s.shard(h).index.update(h, func(e *entry) { e.meta &^= verified }) {
		return notFound(h)
	}
	return s.check(ctx, h)
}

// check hashes the chunk's file and marks it verified, or moves it to the
// quarantine and answers cas.ErrNotFound. The first caller does the work, and
// does it to the end even if its own context ends, for the others who wait.
func (s *Store) check(ctx context.Context, h cas.Hash) error {
	q := &s.checks
	q.mu.Lock()
	if c := q.running[h]; c != nil {
		q.mu.Unlock()
		select {
		case <-c.done:
			return c.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	// The check that this caller saw a need for may have ended since.
	if e, ok := s.shard(h).index.get(h); !ok || e.has(verified) {
		q.mu.Unlock()
		if !ok {
			return notFound(h)
		}
		return nil
	}
	c := &checking{done: make(chan struct{})}
	if q.running == nil {
		q.running = make(map[cas.Hash]*checking)
	}
	q.running[h] = c
	q.mu.Unlock()

	c.err = s.checkFile(h, false)

	q.mu.Lock()
	delete(q.running, h)
	q.mu.Unlock()
	close(c.done)
	return c.err
}

// checkFile is check for one goroutine. cold makes it read the disk itself
// where the system can, not the page cache.
func (s *Store) checkFile(h cas.Hash, cold bool) (err error) {
	sh := s.shard(h)
	f, err := sh.root.Open(h.String())
	if errors.Is(err, fs.ErrNotExist) {
		s.lost(h)
		return notFound(h)
	}
	if err != nil {
		return fmt.Errorf("disk: check chunk: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if cold {
		dropCache(f)
	}
	wrong := hashFile(f, h)
	if wrong == nil {
		sh.index.update(h, func(e *entry) { e.meta |= verified })
		s.counts.checked.Add(1)
		return nil
	}
	return s.condemn(h, f, wrong)
}

// condemn moves a chunk's rotten file to the quarantine, if it is still f.
func (s *Store) condemn(h cas.Hash, f *os.File, wrong error) error {
	sh := s.shard(h)
	sh.names.Lock()
	defer sh.names.Unlock()
	opened, err := f.Stat()
	if err != nil {
		return fmt.Errorf("disk: check chunk: %w", err)
	}
	now, err := sh.root.Lstat(h.String())
	if err != nil || !os.SameFile(opened, now) {
		return notFound(h) // deleted, and perhaps put again, meanwhile
	}
	s.forgetLocked(sh, h)
	s.quarantine(h.String(), chunkPath(h), wrong)
	return fmt.Errorf("%w: chunk %s: %w", cas.ErrNotFound, h, wrong)
}

// quarantine moves a file out of the chunks. It is out of the index already,
// so nobody reads it even if that fails.
func (s *Store) quarantine(name, file string, why error) {
	s.counts.quarantined.Add(1)
	s.log.Warn("moved a bad file to the quarantine", "file", file, "reason", why)
	if err := s.root.Rename(file, path.Join(quarantineName, name)); err != nil {
		s.log.Error("the quarantine did not take a bad file; remove it by hand", "file", file, "error", err)
	}
}

// hashers have a hash state of 8 KiB and a buffer each.
var hashers = sync.Pool{New: func() any { return &hasher{h: blake3.New()} }}

type hasher struct {
	h   *blake3.Hasher
	buf [128 << 10]byte
	sum cas.Hash
}

// hashFile returns nil if the file's bytes have the hash want, else an error
// that is cas.ErrCorrupt. A file that cannot be read is as bad as a wrong one.
func hashFile(f io.Reader, want cas.Hash) error {
	x := hashers.Get().(*hasher)
	defer hashers.Put(x)
	x.h.Reset()
	size := 0
	for {
		n, err := f.Read(x.buf[:])
		if size += n; size > cas.MaxChunkSize {
			return fmt.Errorf("%w: more than %d bytes", cas.ErrCorrupt, cas.MaxChunkSize)
		}
		if _, err := x.h.Write(x.buf[:n]); err != nil {
			return fmt.Errorf("disk: hash: %w", err)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", cas.ErrCorrupt, err)
		}
	}
	x.h.Sum(x.sum[:0])
	if x.sum != want {
		return fmt.Errorf("%w: its %d bytes have the hash %s", cas.ErrCorrupt, size, x.sum)
	}
	return nil
}

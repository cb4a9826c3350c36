package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"inos.dev/edge/cas"
)

// writer is the state of the group commit.
type writer struct {
	slots chan struct{} // one per Put that writes or waits for the disk
	next  atomic.Uint64 // number of the next temporary file

	mu      sync.Mutex
	pending map[cas.Hash]*write // guarded by mu: from a Put's start to its answer
	queue   []*write            // guarded by mu: in temporary files, to be committed
	commits int                 // guarded by mu: goroutines that commit
	group   sync.WaitGroup      // these goroutines
}

// write is one chunk on its way to the disk. Every Put of the same chunk waits
// for it.
type write struct {
	chunk cas.Chunk
	name  string // of the temporary file
	file  *os.File
	done  chan struct{} // closed when err is set
	err   error
}

func (w *writer) init(slots int) {
	w.slots = make(chan struct{}, slots)
	w.pending = make(map[cas.Hash]*write)
}

// wait waits for the commits. Nobody may start a Put meanwhile.
func (w *writer) wait() { w.group.Wait() }

// Put implements cas.Store: it returns when the chunk is durable. A Put whose
// context ends stops waiting, but the chunk may still become stored. Errors:
// cas.ErrNoSpace, and what the file system says.
func (s *Store) Put(ctx context.Context, c cas.Chunk) (added bool, err error) {
	if c.Hash().IsZero() {
		return false, fmt.Errorf("%w: the zero Chunk", cas.ErrShape)
	}
	if err := s.begin(ctx); err != nil {
		return false, err
	}
	defer s.end()
	if ok, err := s.keepStored(ctx, c.Hash()); ok || err != nil {
		return false, err
	}
	select {
	case s.writes.slots <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	w, first := s.join(c)
	if first {
		s.start(w)
	} else {
		<-s.writes.slots
		if w == nil { // stored since keepStored looked
			return false, nil
		}
	}
	select {
	case <-w.done:
		return first && w.err == nil, w.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// keepStored handles a Put of a chunk that is here: its bytes have to be
// right, since they are acknowledged once more, and its age starts again.
func (s *Store) keepStored(ctx context.Context, h cas.Hash) (ok bool, err error) {
	e, ok := s.shard(h).index.get(h)
	if !ok {
		return false, nil
	}
	if !e.has(verified) {
		if err := s.check(ctx, h); errors.Is(err, cas.ErrNotFound) {
			return false, nil // it was rotten: this Put repairs it
		} else if err != nil {
			return false, err
		}
	}
	return s.touch(h, time.Now())
}

// join returns the write of c that is under way, or starts one and says so. It
// returns nil if c has become stored.
func (s *Store) join(c cas.Chunk) (w *write, first bool) {
	s.writes.mu.Lock()
	defer s.writes.mu.Unlock()
	if w := s.writes.pending[c.Hash()]; w != nil {
		return w, false
	}
	if _, ok := s.shard(c.Hash()).index.get(c.Hash()); ok {
		return nil, false
	}
	w = &write{chunk: c, done: make(chan struct{})}
	s.writes.pending[c.Hash()] = w
	return w, true
}

// start writes the temporary file and queues it for a commit, in the goroutine
// of the Put: many of them write while one commits.
func (s *Store) start(w *write) {
	if err := s.room.reserve(w.chunk.Size()); err != nil {
		s.finish(w, err)
		return
	}
	if err := s.writeTemp(w); err != nil {
		s.room.release(w.chunk.Size())
		s.finish(w, err)
		return
	}
	s.enqueue(w)
}

func (s *Store) writeTemp(w *write) error {
	w.name = strconv.FormatUint(s.writes.next.Add(1), 36)
	f, err := s.temp.OpenFile(w.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return writeError("create", err)
	}
	w.file = f
	if _, err := f.Write(w.chunk.Bytes()); err != nil {
		return errors.Join(writeError("write", err), s.dropTemp(w))
	}
	return nil
}

// dropTemp removes a temporary file. If that fails, the next start does it.
func (s *Store) dropTemp(w *write) error {
	var err error
	if w.file != nil {
		err = w.file.Close()
		w.file = nil
	}
	return errors.Join(err, s.temp.Remove(w.name))
}

// finish ends a write: whoever waits for it gets err.
func (s *Store) finish(w *write, err error) {
	w.err = err
	if err != nil {
		s.counts.putFailures.Add(1)
	}
	s.writes.mu.Lock()
	delete(s.writes.pending, w.chunk.Hash())
	s.writes.mu.Unlock()
	close(w.done)
	<-s.writes.slots
}

// writeError gives a full disk its sentinel.
func writeError(what string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %s of a chunk: %w", cas.ErrNoSpace, what, err)
	}
	return fmt.Errorf("disk: %s of a chunk: %w", what, err)
}

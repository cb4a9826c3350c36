package disk

import (
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// maxBatch is the most chunks that one commit makes durable.
	maxBatch = 512
	// maxCommits is how many commits are under way at once: while the first
	// waits for its directories, the second has its files written.
	maxCommits = 2
)

// enqueue hands a written temporary file to the committers, and starts one if
// there may be another. There is no timer: a lone Put is committed at once,
// and while commits are under way the queue grows into the next batch.
func (s *Store) enqueue(w *write) {
	q := &s.writes
	q.mu.Lock()
	defer q.mu.Unlock()
	q.queue = append(q.queue, w)
	if q.commits < maxCommits {
		q.commits++
		q.group.Go(s.commitQueue)
	}
}

// commitQueue commits until the queue is empty.
func (s *Store) commitQueue() {
	for {
		q := &s.writes
		q.mu.Lock()
		n := min(len(q.queue), maxBatch)
		if n == 0 {
			q.commits--
			q.mu.Unlock()
			return
		}
		batch := append([]*write(nil), q.queue[:n]...)
		q.queue = append(q.queue[:0], q.queue[n:]...)
		q.mu.Unlock()
		s.commit(batch)
	}
}

// commit makes the chunks of a batch durable, in the order that the package
// documentation gives, and answers their Puts.
func (s *Store) commit(batch []*write) {
	s.counts.batches.Add(1)
	// All files first get their blocks, then the fsyncs find one transaction of
	// the file system to wait for instead of many.
	for _, w := range batch {
		startWrite(w.file)
	}
	parallel(s.cfg.Syncs, len(batch), func(i int) { s.syncFile(batch[i]) })
	dirs := map[*shard][]*write{}
	for _, w := range batch {
		if w.err != nil {
			s.room.release(w.chunk.Size())
			s.finish(w, w.err)
			continue
		}
		sh := s.shard(w.chunk.Hash())
		if err := s.rename(sh, w); err != nil {
			s.room.release(w.chunk.Size())
			s.finish(w, errors.Join(writeError("rename", err), s.dropTemp(w)))
			continue
		}
		dirs[sh] = append(dirs[sh], w)
	}
	list := make([]*shard, 0, len(dirs))
	for sh := range dirs {
		list = append(list, sh)
	}
	parallel(s.cfg.Syncs, len(list), func(i int) { s.settle(list[i], dirs[list[i]]) })
}

// syncFile makes a temporary file's bytes durable. A failed fsync is never
// tried again: the kernel may have dropped the pages and call the next one
// fine. So the file goes, and its Puts fail.
func (s *Store) syncFile(w *write) {
	err := s.cfg.fsync(w.file)
	s.counts.fileSyncs.Add(1)
	if err == nil {
		err = w.file.Close()
		w.file = nil
	}
	if err != nil {
		s.counts.syncFailures.Add(1)
		w.err = errors.Join(writeError("fsync", err), s.dropTemp(w))
	}
}

func (s *Store) rename(sh *shard, w *write) error {
	sh.names.Lock()
	defer sh.names.Unlock()
	if err := unix.Renameat(int(s.tempAt.Fd()), w.name, int(sh.dir.Fd()), w.chunk.Hash().String()); err != nil {
		return err
	}
	sh.moving++
	return nil
}

// settle makes the names of the chunks in one directory durable, puts them
// into the index, and answers.
func (s *Store) settle(sh *shard, list []*write) {
	err := s.syncShard(sh)
	now := unixNow()
	sh.names.Lock()
	for _, w := range list {
		sh.moving--
		h := w.chunk.Hash()
		if err != nil {
			w.err = errors.Join(err, sh.root.Remove(h.String()))
			continue
		}
		if !sh.index.put(entry{hash: h, meta: uint32(w.chunk.Size()) | verified | exact, touched: now, saved: now}) {
			s.room.release(w.chunk.Size()) // a Delete that failed has put it back
		}
		s.counts.changes.Add(1)
	}
	sh.names.Unlock()
	for _, w := range list {
		if w.err != nil {
			s.room.release(w.chunk.Size())
		}
		s.finish(w, w.err)
	}
}

// syncShard makes the names in a chunk directory durable.
func (s *Store) syncShard(sh *shard) error {
	s.counts.dirSyncs.Add(1)
	if err := s.cfg.fsync(sh.dir); err != nil {
		s.counts.syncFailures.Add(1)
		return writeError("fsync of the directory", err)
	}
	return nil
}

// parallel calls do(0) … do(n-1), at most width at once, and waits.
func parallel(width, n int, do func(i int)) {
	if n == 1 || width == 1 {
		for i := range n {
			do(i)
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(width, n) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	wg.Wait()
}

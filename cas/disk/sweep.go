package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"inos.dev/edge/cas"
)

// touchSave is how far the mtime of a chunk's file may lag behind its last
// touch: a chunk that is put again every minute costs one mtime per hour. The
// mtime is as durable as the file system's next transaction: no later than
// whatever is acknowledged afterwards.
const touchSave = time.Hour

// Touch says that somebody counts on the chunk being here: a sweep spares it
// for as long as one that was put now. An upload that skips a chunk because
// the node has it, touches it. Errors: cas.ErrNotFound.
func (s *Store) Touch(ctx context.Context, h cas.Hash) (cas.Info, error) {
	if err := s.begin(ctx); err != nil {
		return cas.Info{}, err
	}
	defer s.end()
	ok, err := s.touch(h, time.Now())
	if err != nil {
		return cas.Info{}, err
	}
	if !ok {
		return cas.Info{}, notFound(h)
	}
	return s.Stat(ctx, h)
}

// touch starts the chunk's age again, and saves that in the file's mtime if
// the one there is old. It reports whether the chunk is here.
func (s *Store) touch(h cas.Hash, now time.Time) (ok bool, err error) {
	save := false
	sh := s.shard(h)
	ok = sh.index.update(h, func(e *entry) {
		e.touched = uint32(now.Unix())
		e.meta |= exact
		if save = now.Sub(time.Unix(int64(e.saved), 0)) > touchSave; save {
			e.saved = e.touched
		}
	})
	if !ok || !save {
		return ok, nil
	}
	s.counts.changes.Add(1)
	if err := sh.root.Chtimes(h.String(), now, now); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("disk: touch chunk: %w", err)
	}
	return true, nil
}

// SweepStats says what a Sweep has done.
type SweepStats struct {
	Chunks int   // looked at
	Live   int   // kept because they are live
	Young  int   // kept because they were touched lately
	Swept  int   // deleted
	Bytes  int64 // of the deleted ones
}

// Sweep deletes the chunks that are not live and that nobody has put or
// touched since before. live is called without a lock held; a chunk that
// becomes live afterwards is safe as long as whoever makes it so has put or
// touched it. A chunk whose last touch was in an earlier process may stay an
// hour longer. gone is told of every chunk that was deleted, once it cannot be
// opened any more, so that memory in front of the store can drop it, too.
// Deletions are durable when Sweep returns; it stops at the first error.
func (s *Store) Sweep(ctx context.Context, live func(cas.Hash) bool, before time.Time, gone func(cas.Hash)) (SweepStats, error) {
	var st SweepStats
	if err := s.begin(ctx); err != nil {
		return st, err
	}
	defer s.end()
	var buf []entry
	for i := range s.shards {
		sh := &s.shards[i]
		buf = sh.index.appendTo(buf[:0])
		swept := st.Swept
		err := s.sweepShard(ctx, sh, buf, live, before, gone, &st)
		if st.Swept > swept {
			err = errors.Join(err, s.syncShard(sh))
		}
		if err != nil {
			return st, err
		}
	}
	return st, nil
}

func (s *Store) sweepShard(ctx context.Context, sh *shard, list []entry, live func(cas.Hash) bool, before time.Time, gone func(cas.Hash), st *SweepStats) error {
	for _, e := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		st.Chunks++
		if live(e.hash) {
			st.Live++
			continue
		}
		removed, err := s.sweepOne(sh, e.hash, before)
		if err != nil {
			return err
		}
		if !removed {
			st.Young++
			continue
		}
		gone(e.hash)
		st.Swept++
		st.Bytes += e.size()
	}
	return nil
}

// sweepOne deletes a chunk unless it has been touched since before. It looks
// at the touch again under the lock that touch takes, so a Put or a Touch
// comes either first, and saves the chunk, or later, and finds it gone.
func (s *Store) sweepOne(sh *shard, h cas.Hash, before time.Time) (removed bool, err error) {
	sh.names.Lock()
	defer sh.names.Unlock()
	e, ok := sh.index.get(h)
	if !ok {
		return false, nil
	}
	var saved time.Time
	if !e.has(exact) {
		// An earlier process may have touched it after its last snapshot: then
		// that is in the mtime, within touchSave.
		info, err := sh.root.Lstat(h.String())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("disk: sweep: %w", err)
		}
		if err == nil {
			saved = info.ModTime().Add(touchSave)
		}
	}
	return s.removeLocked(sh, h, func(e entry) bool {
		// A touch counts to the end of its second.
		last := time.Unix(int64(e.touched)+1, 0)
		return !last.After(before) && !saved.After(before)
	})
}

package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"inos.dev/edge/cas"
)

// loading is what filling the index needs and counts.
type loading struct {
	store   *Store
	index   *indexFile // nil: there is no snapshot, or it is damaged
	listed  atomic.Int64
	stated  atomic.Int64
	foreign atomic.Int64
}

// load fills the index. A directory that has not changed since the snapshot is
// taken from there; any other is listed, and the files that the snapshot does
// not know are looked at. So the directory is the truth, and the snapshot only
// saves time.
func (s *Store) load() error {
	started := time.Now()
	l := &loading{store: s}
	x, file, err := openIndex(s.root)
	if err != nil {
		s.log.Warn("building the index anew from the directories", "reason", err)
	}
	if file != nil {
		l.index = x
		defer func() { _ = file.Close() }() // only read
	}
	var g errgroup.Group
	g.SetLimit(4 * runtime.GOMAXPROCS(0)) // most of it is waiting for the disk
	for i := range s.shards {
		g.Go(func() error { return l.shard(i) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if n := l.foreign.Load(); n > 0 {
		s.log.Warn("the chunk directories have files that are no chunks; ignored", "files", n)
	}
	s.counts.foreign.Store(l.foreign.Load())
	if l.stated.Load() > 0 {
		// The listing has left garbage that is more than the index itself.
		debug.FreeOSMemory()
	}
	chunks, bytes := s.count()
	s.log.Info("store opened", "chunks", chunks, "bytes", bytes, "dirs_listed", l.listed.Load(),
		"files_examined", l.stated.Load(), "took", time.Since(started).Round(time.Millisecond))
	return nil
}

// shard fills one part of the index.
func (l *loading) shard(i int) error {
	sh := &l.store.shards[i]
	dir, err := sh.root.Stat(".")
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	known := &table{seed: sh.index.seed}
	if l.index != nil {
		switch err := l.index.shard(i, known); {
		case err != nil:
			l.store.log.Warn("listing a directory instead of using the index", "reason", err)
			known = &table{seed: sh.index.seed}
		case l.index.trusts(i, dir.ModTime().UnixNano()):
			sh.index.slots, sh.index.used, sh.index.bytes = known.slots, known.used, known.bytes
			return nil
		}
	}
	return l.list(i, known)
}

// list fills one part of the index from its directory; known saves looking at
// files. The names are made durable before they count: whoever renamed them may
// have been killed before its fsync, and from here on a Put of such a chunk is
// answered without one.
func (l *loading) list(i int, known *table) error {
	s, sh := l.store, &l.store.shards[i]
	names, err := readNames(sh.root)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		if err := s.syncShard(sh); err != nil {
			return err
		}
	}
	l.listed.Add(1)
	s.counts.changes.Add(1)
	sh.index.reserve(len(names))
	for _, name := range names {
		h, err := cas.ParseHash(name)
		if err != nil || int(h[0]) != i {
			l.foreign.Add(1)
			continue
		}
		e, ok := known.get(h)
		if !ok {
			if e, ok, err = l.look(sh.dir, h, name); err != nil {
				return err
			}
		}
		if ok {
			sh.index.put(e)
		}
	}
	return nil
}

// look makes an entry from a file's size and mtime. A file of a size that no
// chunk has goes to the quarantine; what is no file is foreign.
func (l *loading) look(d *os.File, h cas.Hash, name string) (e entry, ok bool, err error) {
	l.stated.Add(1)
	var st unix.Stat_t
	err = unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		return e, false, nil
	}
	if err != nil {
		return e, false, fmt.Errorf("disk: look at %s: %w", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		l.foreign.Add(1)
		return e, false, nil
	}
	if !goodSize(st.Size) {
		l.store.quarantine(name, chunkPath(h), fmt.Errorf("%w: no chunk has %d bytes", cas.ErrCorrupt, st.Size))
		return e, false, nil
	}
	sec := uint32(st.Mtim.Sec)
	return entry{hash: h, meta: uint32(st.Size), touched: sec, saved: sec}, true, nil
}

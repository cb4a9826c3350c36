package disk

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"inos.dev/edge/cas"
)

// Store is a durable cas.Store in a data directory; see the package
// documentation. Open makes it, Close ends it.
type Store struct {
	cfg    Config
	log    *slog.Logger
	root   *os.Root // the data directory
	temp   *os.Root // DATA/tmp
	tempAt *os.File // the same directory, to rename out of it
	lock   *os.File // LOCK
	shards [shardCount]shard
	idle   *handles
	room   room
	writes writer
	checks checks
	counts counters

	// life is held shared by every operation that changes the directory, and
	// whole by Close.
	life   sync.RWMutex
	closed bool // guarded by life
}

// shard is one directory of chunks with its part of the index.
type shard struct {
	index table
	root  *os.Root // DATA/chunks/ab
	dir   *os.File // the same directory, to fsync it

	// names is held by whoever changes which names are in the directory and in
	// the index, so that a file is never removed that a new Put has just
	// renamed into place. It is taken before index.mu.
	names  sync.Mutex
	moving int // guarded by names: files renamed into place and not yet indexed
}

var _ cas.Store = (*Store)(nil)

// errClosed is the answer after Close.
var errClosed = fmt.Errorf("disk: store: %w", fs.ErrClosed)

// Open makes or opens the data directory cfg.Dir: it takes its LOCK, checks
// its FORMAT, removes what writes that never ended have left, and fills the
// index from the snapshot and the directories. It starts no goroutine that
// outlives it. Errors: ErrLocked, ErrFormat, and what the file system says.
func Open(cfg Config) (*Store, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	root, err := openDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, log: cfg.Logger.With("store", cfg.Dir), root: root, idle: newHandles(cfg.Handles)}
	s.writes.init(cfg.Writers)
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.closeFiles())
	}
	return s, nil
}

// openDir makes the data directory if it is missing, durably.
func openDir(dir string) (*os.Root, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a web server may serve the chunks from it
			return nil, fmt.Errorf("disk: %w", err)
		}
		parent, err := os.OpenRoot(filepath.Dir(filepath.Clean(dir)))
		if err != nil {
			return nil, fmt.Errorf("disk: %w", err)
		}
		if err := errors.Join(syncDir(parent), parent.Close()); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	return root, nil
}

func (s *Store) open() (err error) {
	if s.lock, err = lockDir(s.root); err != nil {
		return err
	}
	if err = claim(s.lock); err != nil {
		return err
	}
	if err = ensureFormat(s.root, format, migrations); err != nil {
		return err
	}
	if err = makeDirs(s.root); err != nil {
		return err
	}
	if s.temp, s.tempAt, err = openSub(s.root, tempName); err != nil {
		return err
	}
	var random [8]byte
	rand.Read(random[:])
	seed := binary.LittleEndian.Uint64(random[:]) | 1
	for i := range s.shards {
		sh := &s.shards[i]
		sh.index.seed = seed
		if sh.root, sh.dir, err = openSub(s.root, filepath.Join(chunksName, shardName(i))); err != nil {
			return err
		}
	}
	if err = s.cleanTemp(); err != nil {
		return err
	}
	if err = s.load(); err != nil {
		return err
	}
	s.room = room{dir: s.lock, statfs: s.cfg.statfs, log: s.log, maxBytes: s.cfg.MaxBytes, asked: s.cfg.Headroom}
	_, bytes := s.count()
	s.room.add(bytes)
	_, err = s.room.stats()
	return err
}

// openSub opens a directory in root as a root of its own and as a file.
func openSub(root *os.Root, name string) (*os.Root, *os.File, error) {
	sub, err := root.OpenRoot(name)
	if err != nil {
		return nil, nil, fmt.Errorf("disk: %w", err)
	}
	dir, err := sub.Open(".")
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("disk: %w", err), sub.Close())
	}
	return sub, dir, nil
}

// cleanTemp removes what writes have left that a crash or a kill has cut off.
// Nobody was told that they are here.
func (s *Store) cleanTemp() error {
	names, err := readNames(s.temp)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.temp.Remove(name); err != nil {
			return fmt.Errorf("disk: %w", err)
		}
	}
	if len(names) > 0 {
		s.log.Info("removed files of unfinished writes", "files", len(names))
	}
	return nil
}

// Close waits for the writes that are under way, takes a snapshot of the index
// and frees the data directory. Run must have returned. Bodies that are open
// stay readable. Operations after Close answer an error.
func (s *Store) Close() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return errClosed
	}
	s.closed = true
	s.writes.wait()
	return errors.Join(s.saveIndex(), s.closeFiles())
}

// closeFiles closes whatever open has opened; LOCK goes last.
func (s *Store) closeFiles() error {
	errs := []error{s.idle.close()}
	for i := range s.shards {
		if sh := &s.shards[i]; sh.root != nil {
			errs = append(errs, sh.root.Close(), sh.dir.Close())
		}
	}
	if s.temp != nil {
		errs = append(errs, s.temp.Close(), s.tempAt.Close())
	}
	errs = append(errs, s.root.Close())
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// begin holds the store open until end; it fails after Close and for a context
// that is done.
func (s *Store) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.life.RLock()
	if s.closed {
		s.life.RUnlock()
		return errClosed
	}
	return nil
}

func (s *Store) end() { s.life.RUnlock() }

func (s *Store) shard(h cas.Hash) *shard { return &s.shards[h[0]] }

func notFound(h cas.Hash) error { return fmt.Errorf("%w: chunk %s", cas.ErrNotFound, h) }

// Stat implements cas.Store: it answers from the index.
func (s *Store) Stat(ctx context.Context, h cas.Hash) (cas.Info, error) {
	if err := ctx.Err(); err != nil {
		return cas.Info{}, err
	}
	e, ok := s.shard(h).index.get(h)
	if !ok {
		return cas.Info{}, notFound(h)
	}
	return cas.Info{Hash: h, Size: e.size()}, nil
}

// All implements cas.Store. It copies one of the 256 parts of the index at a
// time.
func (s *Store) All(ctx context.Context) iter.Seq2[cas.Info, error] {
	return func(yield func(cas.Info, error) bool) {
		for e, err := range s.entries(ctx) {
			if !yield(cas.Info{Hash: e.hash, Size: e.size()}, err) {
				return
			}
		}
	}
}

// entries yields a copy of every entry; a context that ends ends it with an
// error.
func (s *Store) entries(ctx context.Context) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		var buf []entry
		for i := range s.shards {
			buf = s.shards[i].index.appendTo(buf[:0])
			for _, e := range buf {
				if err := ctx.Err(); err != nil {
					yield(entry{}, err)
					return
				}
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// count returns the number of chunks and the sum of their sizes.
func (s *Store) count() (chunks int, bytes int64) {
	for i := range s.shards {
		n, b := s.shards[i].index.count()
		chunks += n
		bytes += b
	}
	return chunks, bytes
}

func unixNow() uint32 { return uint32(time.Now().Unix()) }

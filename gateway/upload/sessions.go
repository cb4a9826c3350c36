// Package upload keeps uploads that arrive in parts, with crashes of either
// side in between.
//
// # Durability
//
// A session is three files in one directory:
//
//	ID.json  what the client said at the start; at the end, the object
//	ID.log   a record per durable piece: its link and the state of SHA-256
//	ID.tail  bytes behind the last full piece, if a part ended well there
//
// A piece is durable in the chunk store before its record is appended. The log
// is synced before an offset is told to anybody, and the directory before the
// first record counts; what an earlier process has left is synced again before
// it is believed. A crash in between costs the client the pieces since the last
// sync, which the store still has: sending them again writes nothing new. A
// torn record at the end fails its checksum and is cut off. ID.json and ID.tail
// are written beside, synced and renamed; a tail says behind how many pieces it
// belongs, so that one that is older than the log is not used.
//
// A log is read whole when a part begins, and at the first question for the
// offset since the start; later questions cost no more for a long upload.
package upload

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
)

var (
	// ErrOffset: the part does not begin where the upload stands.
	ErrOffset = errors.New("the upload stands at another offset; ask for it with HEAD")
	// ErrLocked: another part of the same upload is on its way.
	ErrLocked = errors.New("another part of this upload is on its way")
	// ErrTooMany: no room for another session.
	ErrTooMany = errors.New("too many unfinished uploads")
)

// Config says where sessions live and what bounds them.
type Config struct {
	Dir    string
	Writer *dag.Writer
	// MaxSessions bounds the sessions that are kept. Default 1,024.
	MaxSessions int
	// TTL is how long a session lives after its last part. Default 24 h; not
	// longer than the collector's grace time.
	TTL    time.Duration
	Logger *slog.Logger // nil: slog.Default

	fsync func(*os.File) error // stands in for the disk in tests
}

// Session is one upload.
type Session struct {
	ID        string
	Length    int64 // raw bytes of the whole
	Owner     string
	Name      string
	MediaType string
	Expires   time.Time
	Object    *dag.Object `json:",omitempty"` // set when it is complete
}

// Sessions is made by Open. Its methods may be called at the same time.
type Sessions struct {
	cfg  Config
	root *os.Root

	mu     sync.Mutex
	count  int              // guarded by mu
	held   map[string]*hold // guarded by mu: sessions with a part on its way
	pieces map[string]int64 // guarded by mu: records in the logs that this process has read or synced
}

// hold is a part on its way. A later part of the same session interrupts it:
// its client has lost the connection, and the node has not noticed yet.
type hold struct {
	interrupt func()
	released  chan struct{}
}

// Open takes up the sessions of a directory, and makes it if need be.
func Open(cfg Config) (*Sessions, error) {
	if cfg.Dir == "" || cfg.Writer == nil || cfg.MaxSessions < 0 || cfg.TTL < 0 {
		return nil, errors.New("upload: Dir and Writer are required, limits must not be negative")
	}
	if cfg.MaxSessions == 0 {
		cfg.MaxSessions = 1024
	}
	if cfg.TTL == 0 {
		cfg.TTL = 24 * time.Hour
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.fsync == nil {
		cfg.fsync = (*os.File).Sync
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Sessions{cfg: cfg, root: root, held: map[string]*hold{}, pieces: map[string]int64{}}
	ids, err := s.ids()
	s.count = len(ids)
	return s, err
}

// Close releases the directory.
func (s *Sessions) Close() error { return s.root.Close() }

// Create begins a session. Errors: ErrTooMany, cas.ErrTooLarge.
func (s *Sessions) Create(in Session) (Session, error) {
	s.mu.Lock()
	if s.count >= s.cfg.MaxSessions {
		s.mu.Unlock()
		return Session{}, fmt.Errorf("%w: at most %d; finish or delete some", ErrTooMany, s.cfg.MaxSessions)
	}
	s.count++
	s.mu.Unlock()
	var random [16]byte
	rand.Read(random[:]) // never fails: it would end the process
	in.ID = hex.EncodeToString(random[:])
	in.Expires = time.Now().Add(s.cfg.TTL)
	in.Object = nil
	err := s.save(in)
	if err != nil {
		s.mu.Lock()
		s.count--
		s.mu.Unlock()
	}
	return in, err
}

// Get returns a session and its offset: bytes that are durable. A part on its
// way is interrupted first, so that the offset holds. Errors: cas.ErrNotFound,
// ErrLocked.
func (s *Sessions) Get(ctx context.Context, id string) (Session, int64, error) {
	release, err := s.hold(ctx, id, func() {})
	if err != nil {
		return Session{}, 0, err
	}
	defer release()
	in, err := s.load(id)
	if err != nil {
		return Session{}, 0, err
	}
	if in.Object != nil {
		return in, in.Length, nil
	}
	pieces, err := s.countPieces(id)
	if err != nil {
		return Session{}, 0, err
	}
	tail, err := s.tailSize(id, pieces)
	return in, pieces*cas.PieceSize + tail, err
}

// countPieces returns how many durable pieces the log records. The caller holds
// the session.
func (s *Sessions) countPieces(id string) (int64, error) {
	s.mu.Lock()
	n, ok := s.pieces[id]
	s.mu.Unlock()
	if ok {
		return n, nil
	}
	l, err := s.readLog(id)
	if err == nil {
		err = s.syncLog(id)
	}
	if err != nil {
		return 0, err
	}
	s.counted(id, int64(len(l.links)))
	return int64(len(l.links)), nil
}

// counted remembers the number of records in a log. The caller holds the
// session.
func (s *Sessions) counted(id string, pieces int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pieces[id] = pieces
}

// uncounted forgets it.
func (s *Sessions) uncounted(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pieces, id)
}

// Append adds a part that begins at offset, and ends the upload when it is
// complete. It returns the session and its new offset, also when it fails:
// then all full pieces up to there are durable. interrupt makes r's Read fail.
// Errors: cas.ErrNotFound, ErrOffset, ErrLocked, cas.ErrTooLarge for more than
// the announced length, r's, the store's.
func (s *Sessions) Append(ctx context.Context, id string, offset int64, r io.Reader, interrupt func()) (Session, int64, error) {
	release, err := s.hold(ctx, id, interrupt)
	if err != nil {
		return Session{}, 0, err
	}
	defer release()
	p, err := s.resume(id)
	if err != nil {
		return Session{}, 0, err
	}
	if offset != p.offset() || p.session.Object != nil {
		return p.session, p.offset(), fmt.Errorf("%w (%d, not %d)", ErrOffset, p.offset(), offset)
	}
	s.uncounted(id) // until the log is known to be durable again
	err = p.append(ctx, r)
	if err == nil {
		s.counted(id, p.file.Pieces())
	}
	if err == nil && p.offset() == p.session.Length {
		err = p.finish(ctx)
	} else if err == nil {
		p.session.Expires = time.Now().Add(s.cfg.TTL)
		err = s.save(p.session)
	}
	return p.session, p.offset(), err
}

// Delete ends a session. What it stored goes with the collector.
func (s *Sessions) Delete(ctx context.Context, id string) error {
	release, err := s.hold(ctx, id, func() {})
	if err != nil {
		return err
	}
	defer release()
	if _, err := s.load(id); err != nil {
		return err
	}
	return s.remove(id)
}

func (s *Sessions) remove(id string) error {
	var errs []error
	for _, name := range []string{id + ".tail.new", id + ".json.new", id + ".tail", id + ".log", id + ".json"} {
		if err := s.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	s.mu.Lock()
	s.count--
	delete(s.pieces, id)
	s.mu.Unlock()
	return errors.Join(errs...)
}

// Run deletes sessions whose time is over, until ctx is done.
func (s *Sessions) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		if err := s.expire(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("expired uploads cannot be deleted", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Sessions) expire(ctx context.Context) error {
	ids, err := s.ids()
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		in, err := s.load(id)
		switch {
		case err == nil && (time.Now().Before(in.Expires) || s.busy(id)):
			continue
		case err == nil:
			err = s.Delete(ctx, id)
		}
		if err != nil && !errors.Is(err, ErrLocked) && !errors.Is(err, cas.ErrNotFound) {
			errs = append(errs, fmt.Errorf("upload %s: %w", id, err)) // the others go all the same
		}
	}
	return errors.Join(errs...)
}

// busy reports whether a part of the session is on its way.
func (s *Sessions) busy(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[id] != nil
}

// Keep calls keep for every chunk of an unfinished session.
func (s *Sessions) Keep(ctx context.Context, keep func(cas.Hash)) error {
	ids, err := s.ids()
	for _, id := range ids {
		if err != nil || ctx.Err() != nil {
			break
		}
		var l sessionLog
		if l, err = s.readLog(id); err != nil {
			continue
		}
		for _, link := range l.links {
			keep(link.Hash)
		}
	}
	return errors.Join(err, ctx.Err())
}

// Count is the number of sessions.
func (s *Sessions) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// takeover is how long a new part waits for the one that it interrupted.
const takeover = 5 * time.Second

// hold makes the caller the only one that works on a session.
func (s *Sessions) hold(ctx context.Context, id string, interrupt func()) (release func(), err error) {
	if !validID(id) {
		return nil, fmt.Errorf("%w: no upload %q", cas.ErrNotFound, id)
	}
	timer := time.NewTimer(takeover)
	defer timer.Stop()
	mine := &hold{interrupt: interrupt, released: make(chan struct{})}
	for {
		s.mu.Lock()
		other := s.held[id]
		if other == nil {
			s.held[id] = mine
			s.mu.Unlock()
			return func() { s.release(id, mine) }, nil
		}
		// Under the lock: a part that is through must not be interrupted, its
		// connection may be at the next request already.
		other.interrupt()
		s.mu.Unlock()
		select {
		case <-other.released:
		case <-timer.C:
			return nil, ErrLocked
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (s *Sessions) release(id string, h *hold) {
	s.mu.Lock()
	delete(s.held, id)
	s.mu.Unlock()
	close(h.released)
}

func validID(id string) bool {
	b, err := hex.DecodeString(id)
	return err == nil && len(b) == 16 && strings.ToLower(id) == id
}

// ids lists the sessions on disk.
func (s *Sessions) ids() ([]string, error) {
	dir, err := s.root.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	if err := errors.Join(err, dir.Close()); err != nil {
		return nil, err
	}
	var ids []string
	for _, name := range names {
		if id, ok := strings.CutSuffix(name, ".json"); ok && validID(id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (s *Sessions) load(id string) (in Session, err error) {
	b, err := s.root.ReadFile(id + ".json")
	if errors.Is(err, fs.ErrNotExist) {
		return in, fmt.Errorf("%w: no upload %s; it may have expired", cas.ErrNotFound, id)
	}
	if err == nil {
		err = json.Unmarshal(b, &in)
	}
	return in, err
}

func (s *Sessions) save(in Session) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return s.replace(in.ID+".json", b)
}

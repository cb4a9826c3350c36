package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/journal"
)

const (
	// File is the name of the checkpoints in a data directory.
	File = "ledger.db"
	// JournalDir is the name of the journal's directory in a data directory.
	JournalDir = "journal"
)

// ErrInUse says: another process uses the data directory.
var ErrInUse = errors.New("the books are in use by another process")

// Config says where a ledger lives and what it may use. All fields but Dir may
// be zero.
type Config struct {
	// Dir is the data directory; it is made if it is missing.
	Dir string
	// CheckpointEvery is the time between checkpoints while Run runs and there
	// is something new. 0 means 30 seconds.
	CheckpointEvery time.Duration
	// CheckpointBytes is how much of the journal a restart reads: before it gets
	// more, a checkpoint is made, and only what is appended while that is being
	// written comes on top. 0 means 32 MiB.
	CheckpointBytes int64
	// MaxDirty is how many accounts, documents and ids may have changed since
	// the last checkpoint; up to three times as many are in memory. 0 means
	// 65,536.
	MaxDirty int
	// KeepIDs is how long the id of a record is known. 0 means 8 days.
	KeepIDs time.Duration
	// MaxIDs is how many ids are known at most: beyond it the oldest are
	// forgotten before their time. 0 means 4,000,000, some 500 MB of disk.
	MaxIDs int
	// SegmentBytes and Disk are those of the journal.
	SegmentBytes int64
	Disk         journal.Disk
	// Logger takes what an operator wants to know. nil means slog.Default.
	Logger *slog.Logger
}

func (c Config) validate() error {
	switch {
	case c.Dir == "":
		return errors.New("ledger: Dir is empty; name the data directory")
	case c.CheckpointEvery < 0 || c.CheckpointBytes < 0 || c.MaxDirty < 0 || c.KeepIDs < 0 || c.MaxIDs < 0 || c.SegmentBytes < 0:
		return errors.New("ledger: a negative number in its configuration; 0 means the default")
	}
	return nil
}

func (c Config) withDefaults() Config {
	def(&c.CheckpointEvery, 30*time.Second)
	def(&c.CheckpointBytes, 32<<20)
	def(&c.MaxDirty, 1<<16)
	def(&c.KeepIDs, 8*24*time.Hour)
	def(&c.MaxIDs, 4_000_000)
	def(&c.Logger, slog.Default())
	return c
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Ledger is the books in a data directory; make it with Open.
type Ledger struct {
	cfg    Config
	db     *bbolt.DB
	secret []byte        // signs cursors
	nudge  chan struct{} // tells Run that a checkpoint is due

	saving sync.Mutex // one checkpoint at a time; taken before mu

	mu      sync.Mutex // guards all below; held while a record is made, never during a write
	*memory            // replaced when the journal is opened again
	tried   time.Time  // when that was tried last
	closed  bool
}

// memory is the journal, and what is derived from it and not yet in the file.
type memory struct {
	db      *bbolt.DB
	journal *journal.Journal
	tip     journal.Mark // behind the last record that is in dirty
	saved   journal.Mark // behind the last one that is in the file
	next    uint32       // the number of the next account
	docSeq  uint64       // of the last record with a document
	dirty   *changes     // since the last checkpoint
	frozen  *changes     // that a checkpoint is writing, or nil
	clean   *changes     // that the last one has written: what is likely to be asked for
}

var _ credit.Ledger = (*Ledger)(nil)

// Open opens the books of a data directory, which it makes if there are none,
// and replays what is behind the last checkpoint. The caller closes them. It
// starts no goroutine that outlives a commit.
func Open(cfg Config) (*Ledger, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	db, err := openStore(filepath.Join(cfg.Dir, File), false)
	if err != nil {
		return nil, err
	}
	l := &Ledger{cfg: cfg, db: db, nudge: make(chan struct{}, 1)}
	if l.secret, err = loadSecret(db); err == nil {
		l.memory, err = l.load(context.Background())
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return l, nil
}

// load takes up the last checkpoint and replays what is behind it.
func (l *Ledger) load(ctx context.Context) (*memory, error) {
	var saved meta
	err := l.db.View(func(tx *bbolt.Tx) (err error) {
		saved, err = loadMeta(tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: %s: %w", l.db.Path(), err)
	}
	m := &memory{
		db: l.db, tip: saved.mark, saved: saved.mark, next: saved.next, dirty: newChanges(), clean: newChanges(),
	}
	m.journal, err = journal.Open(ctx, journal.Config{
		Dir: filepath.Join(l.cfg.Dir, JournalDir), SegmentBytes: l.cfg.SegmentBytes, Disk: l.cfg.Disk, Logger: l.cfg.Logger,
	}, saved.mark, func(r *journal.Record) error { return l.replay(m, r) })
	if err != nil {
		return nil, err
	}
	return m, nil
}

// replay takes one record into the state, at a start.
func (l *Ledger) replay(m *memory, r *journal.Record) error {
	// Much is behind the checkpoint if that was lost, or is very old. What is in
	// front of the record's batch is durable, and may be written.
	if m.dirty.weight >= l.cfg.MaxDirty && r.Batch >= m.tip.Pos {
		if err := l.store(m.dirty, m.tip, m.next); err != nil {
			return err
		}
		m.saved, m.clean, m.dirty = m.tip, m.dirty, newChanges()
	}
	d := m.draft()
	defer d.close()
	if err := d.replay(r); err != nil {
		return fmt.Errorf("ledger: record %d: %w", r.Seq, err)
	}
	d.keep(r.Mark(), r.ID)
	return nil
}

// reviveEvery is how often a journal that has failed is opened again, when
// somebody needs it.
const reviveEvery = time.Second

// revive opens the journal again after the disk has failed, and forgets what
// did not become durable: those who wrote it have been told.
func (l *Ledger) revive(ctx context.Context) error {
	l.saving.Lock()
	defer l.saving.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	failed := l.journal.Failed()
	switch now := time.Now(); {
	case l.closed:
		return errClosed()
	case failed == nil:
		return nil
	case now.Sub(l.tried) < reviveEvery || !l.journal.Clean():
		return failed
	default:
		l.tried = now
	}
	if err := l.journal.Close(); err != nil {
		l.cfg.Logger.Warn("ledger: close the journal that has failed", "error", err)
	}
	m, err := l.load(ctx)
	if err != nil {
		return fmt.Errorf("%w; it cannot be opened again: %w", failed, err)
	}
	l.memory = m
	l.cfg.Logger.Info("ledger: the journal is open again", "record", m.tip.Seq, "after", failed)
	return nil
}

// Seq is the number of the last record that is durable.
func (l *Ledger) Seq() uint64 { return l.durable().Seq }

// Head is the chain hash of the last record that is durable: whoever knows it
// can tell whether any of the past was changed.
func (l *Ledger) Head() cas.Hash { return l.durable().Hash }

// Origin is random and another one for each journal: a data directory that was
// made anew has another one.
func (l *Ledger) Origin() cas.Hash {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.journal.Origin()
}

func (l *Ledger) durable() journal.Mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.journal.Durable()
}

// Run makes checkpoints until ctx ends. Without it they are made by those who
// append, when they have to be.
func (l *Ledger) Run(ctx context.Context) error {
	tick := time.NewTicker(l.cfg.CheckpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-l.nudge:
		}
		if err := l.Checkpoint(ctx); err != nil && ctx.Err() == nil {
			l.cfg.Logger.Error("ledger: no checkpoint; the next one is tried in a while", "error", err)
		}
	}
}

// Close makes a checkpoint and closes the files. It is for when nobody uses
// the ledger any more; whoever does gets os.ErrClosed.
func (l *Ledger) Close() error {
	err := l.Checkpoint(context.Background())
	l.saving.Lock()
	defer l.saving.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed()
	}
	l.closed = true
	return errors.Join(err, l.journal.Close(), l.db.Close())
}

func errClosed() error { return fmt.Errorf("ledger: %w", os.ErrClosed) }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Package payer answers, for every request, who pays for the bytes of a hash:
// the owner of the oldest live publication of the object, or, if somebody reads
// a chunk, of the oldest one whose object links that chunk. Nobody else pays
// than the house of the node.
//
// # The table
//
// All of it is in memory: per chunk 12 bytes (8 of its hash, 4 for the number
// of an object) in hash tables that are 64 to 80 % full, and 60 bytes per
// object. Eight bytes of a hash do for chunks, since a stranger cannot make two
// chunks that share them but for chunks of his own; an object is known by its
// whole hash. Reading takes a lock for reading and allocates nothing.
//
// # How it follows the catalog
//
// Whoever has changed the publications of an object calls Changed. The table
// then looks at the record, one object at a time, so that of two changes the
// later one is seen last, whoever comes first. A new object is walked, and each
// of its chunks is linked, unless an older object links it already: so it does
// not matter in which order objects are walked. Large ones are walked in the
// background, behind the commit.
//
// An object that goes leaves its number in its chunks. If it shared none of
// them, it is walked again and they are taken out. If it did, all objects are
// walked again in the background, some time later, once for all that went by
// then; until that is done the house pays for what they had alone or were the
// oldest of.
//
// At the start the table comes from a snapshot next to the catalog, which Close
// has written. If there is none, or the catalog has changed since (its count of
// changes tells), Run walks all objects. Until then those that it has not seen
// are on the house; nothing waits for it.
//
// # The race
//
// A walk runs while its object is withdrawn: each batch of chunks is linked
// under the lock, and only while the number still belongs to a live object of
// that hash. Numbers of objects that went are given away again only when no
// chunk has them any longer.
package payer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/mesh"
)

// Ref is who pays, and for what.
type Ref struct {
	Object cas.Hash    // what is charged
	Owner  string      // of its oldest live publication; may be empty: nobody
	Policy mesh.Policy // the maximum over its publications
}

// Source is the list of objects as the table reads it; *catalog.Bolt is one.
type Source interface {
	Get(ctx context.Context, h cas.Hash) (catalog.Record, error)
	List(ctx context.Context, after cas.Hash, limit int) ([]catalog.Record, error)
	Changes(ctx context.Context) (uint64, error)
}

// Config says what a Table follows. Catalog and Walk are required.
type Config struct {
	Catalog Source
	// Walk calls visit for every chunk of an object, the root among them, some
	// more than once.
	Walk func(ctx context.Context, root cas.Hash, visit func(h cas.Hash) error) error
	// Dir is where the snapshot is kept. Empty: there is none.
	Dir string
	// Settle is how long the table waits for more objects to go before it walks
	// the rest again; after a long walk it waits longer. Default 1 min.
	Settle time.Duration
	Logger *slog.Logger // nil: slog.Default
}

func (c *Config) validate() error {
	if c.Catalog == nil || c.Walk == nil {
		return errors.New("payer: Catalog and Walk are required")
	}
	if c.Settle < 0 {
		return errors.New("payer: Settle is negative")
	}
	if c.Settle == 0 {
		c.Settle = time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

// Table is made by New. All methods may be called at the same time.
type Table struct {
	cfg   Config
	fresh bool          // there was no snapshot
	jobs  chan job      // walks behind a change, see Run
	wake  chan struct{} // has one if the objects are to be walked again

	// following is held from reading a record to noting it.
	following sync.Mutex
	// rebuilding is held by the one walk over all objects.
	rebuilding sync.Mutex

	mu      sync.RWMutex
	index   index    // guarded by mu
	objects objects  // guarded by mu
	dead    []uint32 // guarded by mu: numbers of objects that went and stand in chunks of others, perhaps
	pending int      // guarded by mu: jobs that are not done
	asked   uint64   // guarded by mu: how often somebody asked for a walk over all objects
	done    uint64   // guarded by mu: which of them the last one has answered
}

// New returns a Table with what the snapshot of Config.Dir says, if it fits the
// catalog. It starts nothing.
func New(ctx context.Context, cfg Config) (*Table, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	t := &Table{cfg: cfg, jobs: make(chan job, maxJobs), wake: make(chan struct{}, 1)}
	fits, err := t.load(ctx)
	if err != nil {
		return nil, err
	}
	if t.fresh = !fits; t.fresh {
		t.again()
	}
	return t, nil
}

// Object returns who pays for reading the object h; if h is none that somebody
// has published, who pays for the chunk.
func (t *Table) Object(h cas.Hash) (r Ref, ok bool) {
	t.mu.RLock()
	n, ok := t.numberLocked(&h)
	if !ok {
		n, ok = t.index.get(prefix(&h))
	}
	if ok {
		ok = t.objects.read(n, &r)
	}
	t.mu.RUnlock()
	return r, ok
}

// Chunk returns who pays for reading the chunk h: the oldest of those whose
// objects link it. false: the house.
func (t *Table) Chunk(h cas.Hash) (r Ref, ok bool) {
	t.mu.RLock()
	n, ok := t.index.get(prefix(&h))
	if ok {
		ok = t.objects.read(n, &r)
	}
	t.mu.RUnlock()
	return r, ok
}

// numberLocked returns the number of a live object.
func (t *Table) numberLocked(h *cas.Hash) (uint32, bool) {
	return t.index.find(prefix(h), true, func(n uint32) bool { return t.objects.at(n).hash == *h })
}

// Stats is what a Table holds.
type Stats struct {
	Chunks  int   // chunks with a payer
	Objects int   // objects
	Bytes   int64 // of memory
	Partial bool  // whether a walk over all objects is to come, or under way
}

// Stats returns what the table holds. The chunks of objects that went count
// until they are taken out.
func (t *Table) Stats() Stats {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return Stats{
		Chunks: t.index.chunks, Objects: t.objects.count,
		Bytes: t.index.bytes() + t.objects.bytes(), Partial: t.asked != t.done,
	}
}

// Package content is what the front door works on: the chunks and objects of
// this node behind one set of rules, without HTTP. A chunk is looked for in
// the store, and if it is not there, filled; what the deny list names is never
// handed out; a foreign chunk is stored only if br1 would have made it; an
// object is on the list only if all of it is here, and as long as somebody has
// it published: see publish.go.
//
// Work that strangers can ask for (decoding for clients without Brotli,
// checking uploads) passes a semaphore as wide as the machine, and decoded
// pieces that are asked for often stay in memory.
package content

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/brotli"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/mesh"
	"inos.dev/edge/mesh/exchange"
)

// Filler brings missing chunks in; *exchange.Exchange is one.
type Filler interface {
	Fill(ctx context.Context, h cas.Hash) (exchange.Result, error)
	FillWhole(ctx context.Context, h cas.Hash) (exchange.Result, error)
	Forget(h cas.Hash)
}

// Keeper is what a durable store can do beyond cas.Store.
type Keeper interface {
	// Touch is Stat, and keeps the chunk from the collector for another grace
	// period.
	Touch(ctx context.Context, h cas.Hash) (cas.Info, error)
	// Report hashes the stored bytes again, since a client called them wrong:
	// cas.ErrCorrupt if they were, and they are gone then.
	Report(ctx context.Context, h cas.Hash) error
}

// Sweep deletes chunks that are not live and were last touched before the
// given time; it says how many, and their stored bytes.
type Sweep func(ctx context.Context, live func(cas.Hash) bool, before time.Time) (chunks int, bytes int64, err error)

// Payers is told of every object whose publications have changed;
// *payer.Table is one.
type Payers interface {
	Changed(ctx context.Context, h cas.Hash)
}

// Config says what a Content works on. Store, Catalog, Keeper and Key are
// required.
type Config struct {
	Store   cas.Store
	Keeper  Keeper
	Catalog catalog.Catalog
	Key     mesh.Secret // the node's: it signs for owners who have shown their token
	Filler  Filler      // nil: what is not here is not to be had
	Deny    *Deny       // nil: nothing is denied
	Sweep   Sweep       // nil: Collect is an error
	Payers  Payers      // nil: nobody needs to know
	// Announce is told of every publication that this node has signed, once it
	// is durable. It must not block. nil: nobody needs to know.
	Announce func(p mesh.Publication)

	// Decoders is how many chunks are decoded or checked at once for clients.
	// Default GOMAXPROCS.
	Decoders int
	// DecodedBytes bounds the decoded pieces in memory. Default 64 MiB.
	DecodedBytes int64
	// HeldBytes bounds the decoded and filled bytes that answers under way hold
	// on top of the caches. Default 128 MiB.
	HeldBytes int64
	// ManifestBytes bounds the parsed manifests in memory. Default 32 MiB.
	ManifestBytes int64
	// Grace is how long a chunk that no object names lives. Default 24 h.
	Grace time.Duration
	// Uploading yields the chunks of uploads under way, which are live. nil:
	// there are none.
	Uploading func(ctx context.Context, keep func(cas.Hash)) error
	Logger    *slog.Logger // nil: slog.Default
}

func (c *Config) validate() error {
	if c.Store == nil || c.Catalog == nil || c.Keeper == nil || c.Key == (mesh.Secret{}) {
		return errors.New("content: Store, Keeper, Catalog and Key are required")
	}
	if c.Decoders < 0 || c.DecodedBytes < 0 || c.HeldBytes < 0 || c.ManifestBytes < 0 || c.Grace < 0 {
		return errors.New("content: limits must not be negative; 0 means the default")
	}
	if c.Decoders == 0 {
		c.Decoders = runtime.GOMAXPROCS(0)
	}
	if c.DecodedBytes == 0 {
		c.DecodedBytes = 64 << 20
	}
	if c.HeldBytes == 0 {
		c.HeldBytes = 128 << 20
	}
	if c.ManifestBytes == 0 {
		c.ManifestBytes = 32 << 20
	}
	if c.Grace == 0 {
		c.Grace = 24 * time.Hour
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

// Content is made by New. All methods may be called at the same time.
type Content struct {
	cfg       Config
	cpu       *semaphore.Weighted
	pieces    *pieceCache
	manifests *manifestCache
	checks    chan cas.Hash // objects whose digests are to be checked, see Run
	holds     *holds        // bytes in memory that answers hold
	// collecting is held by the one collection that runs.
	collecting sync.Mutex
}

// New returns a Content. It starts nothing.
func New(cfg Config) (*Content, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Content{cfg: cfg, cpu: semaphore.NewWeighted(int64(cfg.Decoders)), holds: newHolds(cfg.HeldBytes), checks: make(chan cas.Hash, maxChecks)}
	var err error
	if c.pieces, err = newPieceCache(cfg.DecodedBytes); err != nil {
		return nil, err
	}
	if c.manifests, err = newManifestCache(cfg.ManifestBytes, c); err != nil {
		return nil, err
	}
	return c, nil
}

// From says where a body came from.
type From struct {
	Filled   bool          // it was not here before
	FillTime time.Duration // how long the fill took
}

// Open returns a chunk's stored bytes, filled if they are not here. Errors:
// cas.ErrDenied, and those of the Filler.
func (c *Content) Open(ctx context.Context, h cas.Hash) (cas.Body, From, error) {
	return c.open(ctx, h, false)
}

// OpenNext is Open in the middle of an answer, where the next chunk may take
// longer than a first byte may.
func (c *Content) OpenNext(ctx context.Context, h cas.Hash) (cas.Body, From, error) {
	return c.open(ctx, h, true)
}

func (c *Content) open(ctx context.Context, h cas.Hash, patient bool) (cas.Body, From, error) {
	if err := c.cfg.Deny.Check(h); err != nil {
		return nil, From{}, err
	}
	body, err := c.cfg.Store.Open(ctx, h)
	if err == nil || !errors.Is(err, cas.ErrNotFound) {
		return body, From{}, err
	}
	if c.cfg.Filler == nil {
		return nil, From{}, localMiss(h)
	}
	fill := c.cfg.Filler.Fill
	if patient {
		fill = c.cfg.Filler.FillWhole
	}
	r, err := fill(ctx, h)
	if err != nil {
		return nil, From{}, err
	}
	body, err = c.hold(ctx, r.Chunk)
	return body, From{Filled: r.Source != exchange.Local, FillTime: r.Took}, err
}

// localMiss is the answer of a node that asks nobody.
func localMiss(h cas.Hash) error {
	return &exchange.MissError{Hash: h, Tried: []exchange.Attempt{{Source: exchange.Local, Outcome: exchange.SaidNo}}}
}

// Prefetch starts to fill a chunk that is not here, and does not wait.
func (c *Content) Prefetch(ctx context.Context, h cas.Hash) {
	if c.cfg.Filler == nil || c.cfg.Deny.Check(h) != nil {
		return
	}
	if _, err := c.cfg.Store.Stat(ctx, h); errors.Is(err, cas.ErrNotFound) {
		// The flight goes on without its first caller.
		gone, cancel := context.WithCancel(ctx)
		cancel()
		_, _ = c.cfg.Filler.FillWhole(gone, h) // whoever reads the chunk meets the error
	}
}

// Stat answers from the index: cas.ErrDenied, cas.ErrNotFound.
func (c *Content) Stat(ctx context.Context, h cas.Hash) (cas.Info, error) {
	if err := c.cfg.Deny.Check(h); err != nil {
		return cas.Info{}, err
	}
	return c.cfg.Store.Stat(ctx, h)
}

// Denied is cas.ErrDenied if the deny list names h.
func (c *Content) Denied(h cas.Hash) error { return c.cfg.Deny.Check(h) }

// Touch implements rpc.Chunks.
func (c *Content) Touch(ctx context.Context, hashes []cas.Hash) (missing []int, err error) {
	for i, h := range hashes {
		err := c.cfg.Deny.Check(h)
		if err == nil {
			_, err = c.cfg.Keeper.Touch(ctx, h)
		}
		switch {
		case errors.Is(err, cas.ErrNotFound), errors.Is(err, cas.ErrDenied):
			missing = append(missing, i)
		case err != nil:
			return nil, err
		}
	}
	return missing, nil
}

// PutForeign stores bytes that claim to be the chunk h. They have to be what
// br1 makes of their piece. data is kept and must not be changed. Errors:
// cas.ErrDenied, cas.ErrHashMismatch, cas.ErrShape, cas.ErrTooLarge,
// cas.ErrNotCanonical, cas.ErrNoSpace.
func (c *Content) PutForeign(ctx context.Context, h cas.Hash, data []byte) (added bool, err error) {
	if err := c.cfg.Deny.Check(h); err != nil {
		return false, err
	}
	chunk, err := cas.Verify(h, data)
	if err != nil {
		return false, err
	}
	// What is on the list of chunks was canonical when it came. It goes to the
	// store all the same, which repairs what has rotted since.
	if _, err := c.cfg.Keeper.Touch(ctx, h); err != nil {
		if err := c.checkCanonical(ctx, chunk); err != nil {
			return false, err
		}
	}
	added, err = c.cfg.Store.Put(ctx, chunk)
	if err == nil && c.cfg.Filler != nil {
		c.cfg.Filler.Forget(h)
	}
	return added, err
}

func (c *Content) checkCanonical(ctx context.Context, chunk cas.Chunk) error {
	if err := c.cpu.Acquire(ctx, 1); err != nil {
		return err
	}
	defer c.cpu.Release(1)
	buf := c.pieces.buffer()
	defer c.pieces.release(buf)
	_, err := brotli.Check((*buf)[:0], chunk)
	return err
}

// Put implements dag.Putter: chunks that this node encoded itself.
func (c *Content) Put(ctx context.Context, chunk cas.Chunk) (added bool, err error) {
	if err := c.cfg.Deny.Check(chunk.Hash()); err != nil {
		return false, err
	}
	added, err = c.cfg.Store.Put(ctx, chunk)
	if err == nil && c.cfg.Filler != nil {
		c.cfg.Filler.Forget(chunk.Hash())
	}
	return added, err
}

// Report looks into a client's claim that a chunk's bytes are wrong. It is nil
// if they are right or not here.
func (c *Content) Report(ctx context.Context, h cas.Hash) error {
	err := c.cfg.Keeper.Report(ctx, h)
	if errors.Is(err, cas.ErrNotFound) && !errors.Is(err, cas.ErrCorrupt) {
		return nil
	}
	return err
}

// Manifest implements dag.Source: cached, filled, deny list applied.
func (c *Content) Manifest(ctx context.Context, h cas.Hash) (*cas.Manifest, error) {
	if err := c.cfg.Deny.Check(h); err != nil {
		return nil, err
	}
	return c.manifests.get(ctx, h)
}

// Upload is foreign bytes that claim to be a chunk.
type Upload struct {
	Hash cas.Hash
	Data []byte
}

// batchWidth is how many chunks of one batch wait for the disk at once: enough
// that they share its fsyncs.
const batchWidth = 256

// PutBatch is PutForeign for many chunks at once. result is called once for
// each, one call at a time, with what became of it. err is a failure of the
// node, which leaves the rest of the batch undone.
func (c *Content) PutBatch(ctx context.Context, batch []Upload, result func(i int, added bool, err error)) error {
	var mu sync.Mutex // guards result
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(batchWidth)
	for i, u := range batch {
		g.Go(func() error {
			added, err := c.PutForeign(ctx, u.Hash, u.Data)
			if err != nil && !refused(err) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			result(i, added, err)
			return nil
		})
	}
	return g.Wait()
}

// refused reports whether err is about the bytes, and not about the node.
func refused(err error) bool {
	for _, is := range []error{cas.ErrDenied, cas.ErrHashMismatch, cas.ErrShape, cas.ErrTooLarge, cas.ErrNotCanonical} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

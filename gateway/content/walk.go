package content

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
)

// walker visits every chunk below a root: manifests as well as pieces. It
// reads manifests from the store only, through no cache, so that a walk over
// millions of files does not push out what readers need. A manifest that was
// seen is not entered again, but its pieces count wherever it stands.
type walker struct {
	source dag.Source
	seen   map[cas.Hash]totals
	// manifest and piece are told of each chunk; an error ends the walk.
	manifest func(h cas.Hash) error
	piece    func(p *cas.Piece) error
	// lost is told of a manifest that cannot be read; nil ends the walk.
	lost func(h cas.Hash, err error) error
}

// totals is what a walk adds up: every piece as often as it stands somewhere.
type totals struct {
	encoded, pieces int64
}

// maxTotal keeps sums from running over, whatever a manifest says a million
// times.
const maxTotal = 1 << 62

func (t *totals) add(more totals) {
	t.encoded = min(t.encoded+more.encoded, maxTotal)
	t.pieces = min(t.pieces+more.pieces, maxTotal)
}

// enter walks below the chunk h; depth counts directories inside each other.
func (w *walker) enter(ctx context.Context, h cas.Hash, depth int) (sum totals, err error) {
	if known, again := w.seen[h]; again {
		return known, nil
	}
	if depth > dag.MaxTreeDepth+cas.MaxDepth {
		return sum, fmt.Errorf("%w: more than %d records inside each other", cas.ErrTooLarge, depth)
	}
	if err := w.manifest(h); err != nil {
		return sum, err
	}
	m, err := w.source.Manifest(ctx, h)
	if err != nil {
		w.seen[h] = sum
		return sum, w.lost(h, err)
	}
	for i := range m.Pieces {
		if err := w.piece(&m.Pieces[i]); err != nil {
			return sum, err
		}
		sum.add(totals{m.Pieces[i].Encoded, 1})
	}
	for _, below := range children(m) {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		more, err := w.enter(ctx, below, depth+1)
		if err != nil {
			return sum, err
		}
		sum.add(more)
	}
	w.seen[h] = sum
	return sum, nil
}

// children are the manifests that a record links to.
func children(m *cas.Manifest) []cas.Hash {
	list := make([]cas.Hash, 0, len(m.Nodes)+len(m.Parts)+len(m.Entries))
	for _, n := range m.Nodes {
		list = append(list, n.Hash)
	}
	for _, p := range m.Parts {
		list = append(list, p.Hash)
	}
	for _, e := range m.Entries {
		if e.Mode != cas.ModeSymlink {
			list = append(list, e.Hash)
		}
	}
	return list
}

// Walk calls visit for every chunk of an object that is here, manifests as
// well as pieces, some of them more than once. A manifest that cannot be read
// is an error: what hangs below it is not known.
func (c *Content) Walk(ctx context.Context, root cas.Hash, visit func(h cas.Hash) error) error {
	w := walker{
		source:   dag.Manifests{Getter: c.cfg.Store},
		seen:     make(map[cas.Hash]totals),
		manifest: visit,
		piece:    func(p *cas.Piece) error { return visit(p.Hash) },
		lost:     func(h cas.Hash, err error) error { return fmt.Errorf("manifest %s of object %s: %w", h, root, err) },
	}
	_, err := w.enter(ctx, root, 0)
	return err
}

// MissingError says which chunks of an object are not here.
type MissingError struct {
	Object cas.Hash
	Some   []cas.Hash // the first of them
	More   bool
}

// maxMissing bounds MissingError.Some.
const maxMissing = 1000

func (e *MissingError) Error() string {
	n := strconv.Itoa(len(e.Some))
	if e.More {
		n = "more than " + n
	}
	return fmt.Sprintf("%s of the chunks of object %s are not here: put them, then commit again", n, e.Object)
}

// MissingChunks returns some of the hashes, and whether there are more.
func (e *MissingError) MissingChunks() (some []cas.Hash, more bool) { return e.Some, e.More }

func (e *MissingError) add(h cas.Hash) {
	if len(e.Some) == maxMissing {
		e.More = true
		return
	}
	e.Some = append(e.Some, h)
}

// complete walks an object and makes sure that all of it is here and is what
// its links say; every chunk gets another grace period.
func (c *Content) complete(ctx context.Context, root cas.Hash) (totals, error) {
	missing := &MissingError{Object: root}
	stat := func(h cas.Hash) (cas.Info, bool, error) {
		if err := c.cfg.Deny.Check(h); err != nil {
			return cas.Info{}, false, err
		}
		info, err := c.cfg.Keeper.Touch(ctx, h)
		if errors.Is(err, cas.ErrNotFound) {
			missing.add(h)
			return info, false, nil
		}
		return info, err == nil, err
	}
	w := walker{
		source: dag.Manifests{Getter: c.cfg.Store},
		seen:   make(map[cas.Hash]totals),
		manifest: func(h cas.Hash) error {
			_, _, err := stat(h)
			return err
		},
		piece: func(p *cas.Piece) error {
			info, here, err := stat(p.Hash)
			if here && info.Size != p.Encoded {
				return fmt.Errorf("%w: chunk %s has %d bytes, the manifest says %d", cas.ErrCorrupt, p.Hash, info.Size, p.Encoded)
			}
			return err
		},
		lost: func(h cas.Hash, err error) error {
			if errors.Is(err, cas.ErrNotFound) {
				return nil // counted by manifest
			}
			return fmt.Errorf("object %s: %w", h, err)
		},
	}
	sum, err := w.enter(ctx, root, 0)
	if err != nil {
		return totals{}, err
	}
	if len(missing.Some) > 0 {
		return totals{}, missing
	}
	return sum, nil
}

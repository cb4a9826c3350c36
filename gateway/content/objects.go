package content

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/mesh"
)

// Commit publishes an object.
type Commit struct {
	Hash   cas.Hash
	Owner  string       // subject of the token
	Name   string       // what the owner calls it; a hint. Empty keeps the one that is set
	Policy *mesh.Policy // nil keeps what this owner has set, or means the defaults
	// Written is set if this node has just cut and hashed the object itself:
	// nothing has to be checked then.
	Written *dag.Object
	// Began is when that writing began. What took longer than half of the grace
	// time is checked like any other, since the collector may have been there.
	Began time.Time
}

// Commit checks that all of an object is here (unless this node wrote it) and
// publishes it for its owner. created is true if it was not on the list. What
// this owner has published just so is left as it is. Errors: *MissingError,
// cas.ErrNotFound for the root itself, cas.ErrNotObject, cas.ErrCorrupt,
// cas.ErrDenied, mesh.ErrPolicy, catalog.ErrOwners.
func (c *Content) Commit(ctx context.Context, req Commit) (r catalog.Record, created bool, err error) {
	if req.Policy != nil {
		if err := req.Policy.Validate(time.Now()); err != nil {
			return catalog.Record{}, false, err
		}
	}
	o, checked, err := c.describe(ctx, req)
	if err != nil {
		return catalog.Record{}, false, err
	}
	r, created, err = c.publish(ctx, catalog.Record{Hash: o.Hash, Kind: o.Kind, Size: o.Size, Encoded: o.Encoded, Pieces: o.Pieces,
		MediaType: o.MediaType, DigestChecked: checked}, req)
	if err != nil {
		return catalog.Record{}, false, err
	}
	switch {
	case r.DigestChecked:
	case checked:
		r.DigestChecked, err = true, ignoreNotFound(c.cfg.Catalog.SetChecked(ctx, r.Hash))
	default:
		c.checkLater(r.Hash)
	}
	return r, created, err
}

// clip makes a hint at a name fit a record: what is too long or no text is
// left out.
func clip(name string) string {
	if len(name) > catalog.MaxName || !utf8.ValidString(name) {
		return ""
	}
	return name
}

// describe returns the object of a commit and whether its digests are known
// to be right.
func (c *Content) describe(ctx context.Context, req Commit) (dag.Object, bool, error) {
	if req.Written != nil {
		if !req.Began.IsZero() && time.Since(req.Began) > c.cfg.Grace/2 {
			if _, err := c.complete(ctx, req.Written.Hash); err != nil {
				return dag.Object{}, false, err
			}
		}
		return *req.Written, true, nil
	}
	if err := c.cfg.Deny.Check(req.Hash); err != nil {
		return dag.Object{}, false, err
	}
	local := dag.Manifests{Getter: c.cfg.Store}
	root, err := dag.Root(ctx, local, req.Hash)
	if errors.Is(err, cas.ErrNotFound) {
		missing := &MissingError{Object: req.Hash}
		missing.add(req.Hash)
		return dag.Object{}, false, missing
	}
	if err != nil {
		return dag.Object{}, false, err
	}
	sum, err := c.complete(ctx, req.Hash)
	if err != nil {
		return dag.Object{}, false, err
	}
	o := dag.ObjectOf(req.Hash, root)
	o.Encoded, o.Pieces = sum.encoded, sum.pieces
	return o, root.Kind == cas.KindDirectory, nil
}

// Object returns an object on the list: cas.ErrNotFound, cas.ErrDenied.
func (c *Content) Object(ctx context.Context, h cas.Hash) (catalog.Record, error) {
	if err := c.cfg.Deny.Check(h); err != nil {
		return catalog.Record{}, err
	}
	return c.cfg.Catalog.Get(ctx, h)
}

// Objects lists up to limit objects behind after, by hash.
func (c *Content) Objects(ctx context.Context, after cas.Hash, limit int) ([]catalog.Record, error) {
	return c.cfg.Catalog.List(ctx, after, limit)
}

// DigestChecked reports whether this node computed or checked the digests of
// the whole object.
func (c *Content) DigestChecked(ctx context.Context, h cas.Hash) bool {
	r, err := c.cfg.Catalog.Get(ctx, h)
	return err == nil && r.DigestChecked
}

// maxChecks bounds the objects that wait for their digests to be checked;
// what does not fit is found at the next start.
const maxChecks = 4096

func (c *Content) checkLater(h cas.Hash) {
	select {
	case c.checks <- h:
	default:
	}
}

// Run checks, one after the other, the digests of objects that others cut:
// their manifests are claims until somebody has decoded every piece. What
// cannot be checked is logged and stays a claim. It returns nil when ctx is
// done.
func (c *Content) Run(ctx context.Context) error {
	err := c.eachObject(ctx, func(r catalog.Record) error {
		if !r.DigestChecked {
			c.checkDigests(ctx, r.Hash)
		}
		return ctx.Err()
	})
	if err != nil && ctx.Err() == nil {
		c.cfg.Logger.Error("the list of objects cannot be read to its end", "error", err)
	}
	for {
		select {
		case h := <-c.checks:
			c.checkDigests(ctx, h)
		case <-ctx.Done():
			return nil
		}
	}
}

// checkDigests decodes a whole file. If its digests are wrong, the object is
// taken off the list: its publisher lied. Other failures leave it unchecked.
func (c *Content) checkDigests(ctx context.Context, h cas.Hash) {
	err := c.digestsFit(ctx, h)
	switch {
	case err == nil:
		err = ignoreNotFound(c.cfg.Catalog.SetChecked(ctx, h))
	case errors.Is(err, cas.ErrCorrupt):
		c.cfg.Logger.Error("an object is not what its manifest says: taken off the list", "object", h.String(), "error", err)
		err = ignoreNotFound(c.RemoveAll(ctx, h))
	}
	if err != nil && ctx.Err() == nil {
		c.cfg.Logger.Warn("the digests of an object could not be checked", "object", h.String(), "error", err)
	}
}

func ignoreNotFound(err error) error {
	if errors.Is(err, cas.ErrNotFound) {
		return nil
	}
	return err
}

func (c *Content) digestsFit(ctx context.Context, h cas.Hash) error {
	local := dag.Manifests{Getter: c.cfg.Store}
	root, err := dag.Root(ctx, local, h)
	if err != nil || root.Kind == cas.KindDirectory {
		return err
	}
	sum, tree := sha256.New(), dag.RawSum{}
	for span, err := range dag.Spans(ctx, local, root, dag.At(0)) {
		if err != nil {
			return err
		}
		raw, err := c.rawAlone(ctx, &span.Piece)
		if err != nil {
			return err
		}
		sum.Write(*raw)
		tree.Add(*raw)
		c.pieces.release(raw)
	}
	if cas.Hash(sum.Sum(nil)) != root.SHA256 || tree.Sum() != root.Raw {
		return fmt.Errorf("%w: the digests of the whole are wrong", cas.ErrCorrupt)
	}
	return nil
}

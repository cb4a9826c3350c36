package content

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/mesh"
)

// ErrNotOwner says: somebody has no publication of an object that others have
// published.
var ErrNotOwner = errors.New("others have published this object, you have not")

// publish makes what req says its owner's publication, unless it is already.
// about describes the object, which also heals a record that cannot be read.
func (c *Content) publish(ctx context.Context, about catalog.Record, req Commit) (r catalog.Record, created bool, err error) {
	for {
		r, created, err = c.publishOnce(ctx, about, req)
		switch {
		case errors.Is(err, cas.ErrCorrupt):
			r, err = c.cfg.Catalog.Publish(ctx, about)
			return r, false, err
		case !errors.Is(err, cas.ErrNotFound): // it was there just so, and was withdrawn a moment later
			return r, created, err
		}
	}
}

func (c *Content) publishOnce(ctx context.Context, about catalog.Record, req Commit) (r catalog.Record, created bool, err error) {
	r, err = c.change(ctx, about, func(known []catalog.Publication) ([]catalog.Publication, error) {
		at := slices.IndexFunc(known, ownedBy(req.Owner))
		created = len(known) == 0 || known[0].Withdrawn // those that are live come first
		next := catalog.Publication{Name: clip(req.Name), Publication: mesh.Publication{Owner: req.Owner, Created: time.Now()}}
		live := at >= 0 && !known[at].Withdrawn
		if live {
			next.Created, next.Policy = known[at].Created, known[at].Policy
		}
		if live && next.Name == "" {
			next.Name = known[at].Name
		}
		if req.Policy != nil {
			next.Policy = req.Policy.Canonical()
		}
		if live && next.Policy == known[at].Policy && next.Name == known[at].Name {
			return nil, nil
		}
		return []catalog.Publication{next}, nil
	})
	return r, created, err
}

// Remove withdraws an owner's publication of an object. With the last one the
// object is off the list; its chunks go with the next collection after the
// grace time, unless others hold them. Errors: cas.ErrNotFound, ErrNotOwner.
func (c *Content) Remove(ctx context.Context, h cas.Hash, owner string) error {
	_, err := c.change(ctx, catalog.Record{Hash: h}, func(known []catalog.Publication) ([]catalog.Publication, error) {
		if _, err := own(h, known, owner); err != nil {
			return nil, err
		}
		return []catalog.Publication{tombstone(owner)}, nil
	})
	return err
}

// RemoveAll withdraws all publications of an object: cas.ErrNotFound.
func (c *Content) RemoveAll(ctx context.Context, h cas.Hash) error {
	if _, err := c.cfg.Catalog.Get(ctx, h); errors.Is(err, cas.ErrNotFound) {
		return err // a record that cannot be read goes, too
	}
	_, err := c.withdraw(ctx, h, func(catalog.Publication) bool { return true })
	return err
}

// withdraw takes back those publications that are chosen, and returns the
// record of the object if others are left.
func (c *Content) withdraw(ctx context.Context, h cas.Hash, chosen func(catalog.Publication) bool) (catalog.Record, error) {
	r, err := c.change(ctx, catalog.Record{Hash: h}, func(known []catalog.Publication) (next []catalog.Publication, err error) {
		for _, p := range known {
			if !p.Withdrawn && chosen(p) {
				next = append(next, tombstone(p.Owner))
			}
		}
		return next, nil
	})
	return r, ignoreNotFound(err)
}

// SetPolicy replaces the policy of an owner's publication and returns the
// record of the object. Errors: cas.ErrNotFound, ErrNotOwner, mesh.ErrPolicy.
func (c *Content) SetPolicy(ctx context.Context, h cas.Hash, owner string, p mesh.Policy) (catalog.Record, error) {
	if err := p.Validate(time.Now()); err != nil {
		return catalog.Record{}, err
	}
	return c.change(ctx, catalog.Record{Hash: h}, func(known []catalog.Publication) ([]catalog.Publication, error) {
		next, err := own(h, known, owner)
		if err != nil || next.Policy == p.Canonical() {
			return nil, err
		}
		next.Policy = p
		return []catalog.Publication{next}, nil
	})
}

// Publications returns who has an object published, and how, the oldest first:
// cas.ErrNotFound, cas.ErrDenied.
func (c *Content) Publications(ctx context.Context, h cas.Hash) ([]catalog.Publication, error) {
	if _, err := c.Object(ctx, h); err != nil {
		return nil, err
	}
	known, err := c.cfg.Catalog.Publications(ctx, h)
	return slices.DeleteFunc(known, func(p catalog.Publication) bool { return p.Withdrawn }), err
}

// change signs and writes what decide makes of the publications that are
// known, tombstones among them; next says no more than owner, name, created,
// policy and whether it is withdrawn. If nothing is to be changed, the record
// is the one on the list. It begins again as often as somebody else was
// faster; decide must be able to.
func (c *Content) change(ctx context.Context, about catalog.Record, decide func(known []catalog.Publication) (next []catalog.Publication, err error)) (catalog.Record, error) {
	for {
		known, err := c.cfg.Catalog.Publications(ctx, about.Hash)
		if err != nil {
			return catalog.Record{}, err
		}
		next, err := decide(known)
		if err != nil {
			return catalog.Record{}, err
		}
		if len(next) == 0 {
			return c.cfg.Catalog.Get(ctx, about.Hash)
		}
		changes, err := c.sign(about.Hash, known, next)
		if err != nil {
			return catalog.Record{}, err
		}
		r, err := c.cfg.Catalog.Publish(ctx, about, changes...)
		if errors.Is(err, catalog.ErrChanged) {
			continue // somebody's word was written, so that all together get on
		}
		if err == nil {
			c.tell(ctx, about.Hash, changes)
		}
		return r, err
	}
}

// tell passes on what was written.
func (c *Content) tell(ctx context.Context, h cas.Hash, changes []catalog.Change) {
	if c.cfg.Payers != nil {
		c.cfg.Payers.Changed(ctx, h)
	}
	if c.cfg.Announce == nil {
		return
	}
	for _, change := range changes {
		c.cfg.Announce(change.Publication.Publication)
	}
}

// sign makes each publication the next of its owner.
func (c *Content) sign(h cas.Hash, known, next []catalog.Publication) ([]catalog.Change, error) {
	changes := make([]catalog.Change, len(next))
	for i, p := range next {
		var previous uint64
		if at := slices.IndexFunc(known, ownedBy(p.Owner)); at >= 0 {
			previous = known[at].Sequence
		}
		p.Object, p.Sequence = h, previous+1
		signed, err := p.Sign(c.cfg.Key)
		if err != nil {
			return nil, err
		}
		changes[i] = catalog.Change{Publication: catalog.Publication{Publication: signed, Name: p.Name}, Previous: previous}
	}
	return changes, nil
}

func ownedBy(owner string) func(catalog.Publication) bool {
	return func(p catalog.Publication) bool { return p.Owner == owner }
}

// own returns the live publication of an owner: cas.ErrNotFound, ErrNotOwner.
func own(h cas.Hash, known []catalog.Publication, owner string) (catalog.Publication, error) {
	at := slices.IndexFunc(known, ownedBy(owner))
	switch {
	case at >= 0 && !known[at].Withdrawn:
		return known[at], nil
	case len(known) == 0 || known[0].Withdrawn: // those that are live come first
		return catalog.Publication{}, fmt.Errorf("%w: object %s is not on the list", cas.ErrNotFound, h)
	}
	return catalog.Publication{}, fmt.Errorf("%w: object %s", ErrNotOwner, h)
}

// tombstone is what an owner says who takes it back.
func tombstone(owner string) catalog.Publication {
	return catalog.Publication{Publication: mesh.Publication{Owner: owner, Withdrawn: true, Created: time.Now()}}
}

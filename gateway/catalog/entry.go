package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"inos.dev/edge/cas"
	"inos.dev/edge/mesh"
)

// entry is all that is known of one object. It is pure: both implementations
// change it in memory and then write what it has become.
type entry struct {
	record       Record // zero if the object is not on the list
	damaged      error  // what is stored cannot be read: a description from outside heals it
	publications []Publication
}

// publish is Catalog.Publish. It returns the publications that were replaced,
// beside the changes one by one, zero where there was none.
func (e *entry) publish(about Record, changes []Change) (old []Publication, err error) {
	for _, c := range changes {
		before, err := e.take(about.Hash, c)
		if err != nil {
			return nil, err
		}
		old = append(old, before)
	}
	return old, e.derive(about)
}

// take puts one publication where the owner's last one was.
func (e *entry) take(h cas.Hash, c Change) (old Publication, err error) {
	switch err := c.Validate(); {
	case err != nil:
		return old, err
	case c.Object != h:
		return old, fmt.Errorf("%w: a publication of another object", ErrRecord)
	case len(c.Name) > MaxName || !utf8.ValidString(c.Name):
		return old, fmt.Errorf("%w: a name is at most %d bytes of UTF-8", ErrRecord, MaxName)
	}
	at := slices.IndexFunc(e.publications, func(p Publication) bool { return p.Owner == c.Owner })
	if at < 0 {
		if c.Previous != 0 {
			return old, fmt.Errorf("%w: there is none by %q", ErrChanged, c.Owner)
		}
		if len(e.publications) >= MaxOwners {
			return old, fmt.Errorf("%w: %d have object %s published, or had it in the last %d days; try again later", ErrOwners, MaxOwners, h, int(TombstoneAge.Hours()/24))
		}
		e.publications = append(e.publications, c.Publication)
		return old, nil
	}
	old = e.publications[at]
	if old.Sequence != c.Previous || !mesh.Replaces(c.Publication.Publication, old.Publication) {
		return old, fmt.Errorf("%w: %q has said number %d, and number %d is to replace number %d", ErrChanged, c.Owner, old.Sequence, c.Sequence, c.Previous)
	}
	e.publications[at] = c.Publication
	return old, nil
}

// derive makes the record what the publications say.
func (e *entry) derive(about Record) error {
	live := e.live()
	if len(live) == 0 {
		e.record, e.damaged = Record{}, nil
		return nil
	}
	r := e.record
	if about.Kind != 0 {
		r = about
		r.DigestChecked = about.DigestChecked || e.record.DigestChecked
		e.damaged = nil
	}
	if e.damaged != nil {
		return e.damaged
	}
	first := live[0]
	r.Name, r.Owner, r.Created, r.Owners = first.Name, first.Owner, first.Created, len(live)
	r.Policy, r.NextOver = first.Policy, time.Time{}
	for _, p := range live {
		r.Policy = r.Policy.Max(p.Policy)
		if end := p.Policy.Expires; !end.IsZero() && (r.NextOver.IsZero() || end.Before(r.NextOver)) {
			r.NextOver = end
		}
	}
	e.record = r.normal()
	return e.record.Validate()
}

// sort puts the publications into the order of Catalog.Publications.
func (e *entry) sort() {
	slices.SortFunc(e.publications, func(a, b Publication) int {
		if a.Withdrawn != b.Withdrawn {
			return cmp.Compare(tombs(a), tombs(b))
		}
		return mesh.ByAge(a.Publication, b.Publication)
	})
}

// tombs counts p as a tombstone: 0 or 1.
func tombs(p Publication) int {
	if p.Withdrawn {
		return 1
	}
	return 0
}

// live returns those that have the object published, the oldest first.
func (e *entry) live() []Publication {
	e.sort()
	n := slices.IndexFunc(e.publications, func(p Publication) bool { return p.Withdrawn })
	if n < 0 {
		n = len(e.publications)
	}
	return e.publications[:n]
}

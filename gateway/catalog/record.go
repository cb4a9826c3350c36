package catalog

import (
	"fmt"
	"time"
	"unicode/utf8"

	"inos.dev/edge/cas"
	"inos.dev/edge/mesh"
)

// Limits of a Record.
const (
	MaxName  = 255 // bytes
	MaxOwner = mesh.MaxOwner
)

// Record is one object on the list.
type Record struct {
	// What the object is. Whoever publishes it describes it so.
	Hash      cas.Hash // of the root manifest
	Kind      cas.Kind // file or directory
	Size      int64    // raw bytes
	Encoded   int64    // stored bytes of its pieces
	Pieces    int64
	MediaType string // of a file
	// DigestChecked is set if this node computed or checked the digests of the
	// whole object: until then they are its publisher's claim. Once set it
	// stays.
	DigestChecked bool

	// What follows from its publications.
	Name     string      // what the oldest owner calls it; a hint, perhaps empty
	Owner    string      // the oldest one
	Created  time.Time   // since when that one has it published
	Policy   mesh.Policy // what keeps the promises to all owners
	Owners   int         // how many have it published
	NextOver time.Time   // when the first of their policies is over; zero: never
}

// Publication is what one owner says about an object, and what that owner
// calls it.
type Publication struct {
	mesh.Publication
	Name string // at most MaxName bytes; a hint, which is not signed
}

// Validate checks the limits of r, except that its policy may be over.
func (r Record) Validate() error {
	if err := r.validateObject(); err != nil {
		return err
	}
	switch {
	case len(r.Name) > MaxName || !utf8.ValidString(r.Name):
		return fmt.Errorf("%w: a name is at most %d bytes of UTF-8", ErrRecord, MaxName)
	case len(r.Owner) > MaxOwner || !utf8.ValidString(r.Owner):
		return fmt.Errorf("%w: an owner is at most %d bytes of UTF-8", ErrRecord, MaxOwner)
	case r.Created.IsZero() || !storable(r.Created) || !storable(r.NextOver):
		return fmt.Errorf("%w: the time of its creation is missing, or one is absurd", ErrRecord)
	case r.Owners < 0 || r.Owners > MaxOwners:
		return fmt.Errorf("%w: %d owners", ErrRecord, r.Owners)
	}
	return r.Policy.Check()
}

// validateObject checks what the object is.
func (r Record) validateObject() error {
	switch {
	case r.Hash.IsZero():
		return fmt.Errorf("%w: no hash", ErrRecord)
	case r.Kind != cas.KindFile && r.Kind != cas.KindDirectory:
		return fmt.Errorf("%w: an object is a file or a directory, not a %v", ErrRecord, r.Kind)
	case r.Size < 0 || r.Encoded < 0 || r.Pieces < 0:
		return fmt.Errorf("%w: negative sizes", ErrRecord)
	case len(r.MediaType) > cas.MaxMediaType || !utf8.ValidString(r.MediaType):
		return fmt.Errorf("%w: its media type is malformed", ErrRecord)
	}
	return nil
}

// normal is r with times in UTC, to the microsecond, without a monotonic
// clock, so that records compare.
func (r Record) normal() Record {
	r.Created = normalTime(r.Created)
	r.Policy.Expires = normalTime(r.Policy.Expires)
	r.NextOver = normalTime(r.NextOver)
	return r
}

func normalTime(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// storable reports a time that a record's text can hold, or none.
func storable(t time.Time) bool {
	y := t.UTC().Year()
	return t.IsZero() || 1970 <= y && y <= 9999
}

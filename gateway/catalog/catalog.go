// Package catalog is the list of objects that a node has accepted: what its
// owners want kept, and how. A chunk that no object on the list names may be
// collected, so a record is durable when Put returns.
//
// # Durability
//
// Open keeps the list in one bbolt file: copy-on-write pages, then fdatasync,
// then one of two meta pages, then fdatasync. A crash before the second sync
// leaves the list as it was, one after it as it became; nothing has to be
// repaired. Writers that come within commitDelay share one transaction, and so
// its two syncs (db.Batch). The file itself is locked against a second
// process. Records carry a version; a file or a record of a newer one is
// refused and not guessed at.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"inos.dev/edge/cas"
	"inos.dev/edge/mesh"
)

// Catalog keeps a Record per object. All methods may be called at the same
// time. contract_test.go has the suite that every implementation passes.
type Catalog interface {
	// Get returns the record of an object, or cas.ErrNotFound.
	Get(ctx context.Context, h cas.Hash) (Record, error)
	// Put keeps r, durably when it returns. If the object is on the list, the
	// two are merged as Record.Merge says. Errors: ErrRecord,
	// mesh.ErrPolicy.
	Put(ctx context.Context, r Record) error
	// Delete takes an object off the list, or answers cas.ErrNotFound.
	Delete(ctx context.Context, h cas.Hash) error
	// List returns the records behind after, by hash, the first limit of
	// them: 1 … MaxList, more is taken as MaxList. Fewer than that is the
	// end. The zero Hash starts the list.
	List(ctx context.Context, after cas.Hash, limit int) ([]Record, error)
	// SetPolicy replaces the policy of an object and returns its new record.
	// Errors: cas.ErrNotFound, mesh.ErrPolicy.
	SetPolicy(ctx context.Context, h cas.Hash, p mesh.Policy) (Record, error)
}

// MaxList is the most records that List returns at once.
const MaxList = 1000

// listLimit is the limit that List works with.
func listLimit(n int) (int, error) {
	if n < 1 {
		return 0, fmt.Errorf("catalog: a page of %d records", n)
	}
	return min(n, MaxList), nil
}

// Limits of a Record.
const (
	MaxName  = 255 // bytes
	MaxOwner = 128 // bytes
)

// ErrRecord says: a record is outside of its limits.
var ErrRecord = errors.New("not a possible record")

// Record is one object on the list.
type Record struct {
	Hash      cas.Hash // of the root manifest
	Kind      cas.Kind // file or directory
	Size      int64    // raw bytes
	Encoded   int64    // stored bytes of its pieces
	Pieces    int64
	MediaType string // of a file
	Name      string // what its owner calls it; a hint, perhaps empty
	Owner     string // subject of the token it came with
	Created   time.Time
	Policy    mesh.Policy
	// DigestChecked is set if this node computed or checked the digests of the
	// whole object: until then they are its publisher's claim.
	DigestChecked bool
}

// Validate checks the limits of r, except that its policy may be over.
func (r Record) Validate() error {
	switch {
	case r.Hash.IsZero():
		return fmt.Errorf("%w: no hash", ErrRecord)
	case r.Kind != cas.KindFile && r.Kind != cas.KindDirectory:
		return fmt.Errorf("%w: an object is a file or a directory, not a %v", ErrRecord, r.Kind)
	case r.Size < 0 || r.Encoded < 0 || r.Pieces < 0:
		return fmt.Errorf("%w: negative sizes", ErrRecord)
	case len(r.MediaType) > cas.MaxMediaType || !utf8.ValidString(r.MediaType):
		return fmt.Errorf("%w: its media type is malformed", ErrRecord)
	case len(r.Name) > MaxName || !utf8.ValidString(r.Name):
		return fmt.Errorf("%w: a name is at most %d bytes of UTF-8", ErrRecord, MaxName)
	case len(r.Owner) > MaxOwner || !utf8.ValidString(r.Owner):
		return fmt.Errorf("%w: an owner is at most %d bytes of UTF-8", ErrRecord, MaxOwner)
	case r.Created.IsZero() || !storable(r.Created):
		return fmt.Errorf("%w: the time of its creation is missing or absurd", ErrRecord)
	}
	return r.Policy.Check()
}

// Merge returns what stands on the list after r is put where old was. The
// object stays its first owner's and keeps its older time; a digest once
// checked stays checked; a name or a policy that r does not give stays.
func (r Record) Merge(old Record) Record {
	r.Owner = old.Owner
	if old.Created.Before(r.Created) {
		r.Created = old.Created
	}
	if r.Name == "" {
		r.Name = old.Name
	}
	if r.Policy == (mesh.Policy{}) {
		r.Policy = old.Policy
	}
	r.DigestChecked = r.DigestChecked || old.DigestChecked
	return r
}

// normal is r as every implementation returns it: times in UTC, to the
// microsecond, without a monotonic clock, so that records compare.
func (r Record) normal() Record {
	r.Created = normalTime(r.Created)
	r.Policy.Expires = normalTime(r.Policy.Expires)
	return r
}

func normalTime(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// storable reports a time that a record's text can hold.
func storable(t time.Time) bool {
	y := t.UTC().Year()
	return 1970 <= y && y <= 9999
}

// Package catalog is the list of objects that a node has accepted: what its
// owners want kept, and how. A chunk that no object on the list names may be
// collected, so what is written is durable when a call returns.
//
// # Publications
//
// An object is on the list while at least one owner has it published. What an
// owner says is a signed mesh.Publication; there is one per object and owner,
// and a later one replaces it. The record of an object is derived from those
// that are not withdrawn, in the same transaction: the oldest gives owner, name
// and time, all of them together the policy (see mesh.Policy.Max). A withdrawn
// publication stays for TombstoneAge, so that an older word about the same
// does not come back.
//
// A publication whose policy is over counts until somebody withdraws it: the
// list has no clock.
//
// Whoever publishes says which publication he replaces. If there is another
// one by then, nothing happens, and he looks again (ErrChanged): no word is
// lost between two that are spoken at the same time.
//
// # Durability
//
// Open keeps the list in one bbolt file: copy-on-write pages, then fdatasync,
// then one of two meta pages, then fdatasync. A crash before the second sync
// leaves the list as it was, one after it as it became; nothing has to be
// repaired. Writers that come within commitDelay share one transaction, and so
// its two syncs (db.Batch). The file itself is locked against a second
// process. Records carry a version; a file or a record of a newer one is
// refused and not guessed at. A file of the previous format is converted when
// it is opened, in steps, each of them a transaction: see migrate.go.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"inos.dev/edge/cas"
)

var (
	// ErrChanged says: an owner's publication is not the one that was to be
	// replaced. Look again.
	ErrChanged = errors.New("the publication has changed meanwhile")
	// ErrOwners says: too many owners have an object published, or had it of
	// late.
	ErrOwners = errors.New("too many owners have published this object")
	// ErrRecord says: a record is outside of its limits.
	ErrRecord = errors.New("not a possible record")
)

// Limits of a Catalog.
const (
	// MaxList is the most records that List returns at once.
	MaxList = 1000
	// MaxOwners is the most owners of one object, with those who have withdrawn
	// it of late.
	MaxOwners = 1000
	// TombstoneAge is how long a withdrawn publication is remembered.
	TombstoneAge = 30 * 24 * time.Hour
	// MaxTombstones is the most of them; more, and the oldest are forgotten
	// before their time.
	MaxTombstones = 1 << 20
	// purgeStep is how many more tombstones a change takes along than it makes.
	purgeStep = 4
)

// Catalog keeps a Record and its publications per object. All methods may be
// called at the same time. contract_test.go has the suite that every
// implementation passes.
type Catalog interface {
	// Get returns the record of an object, or cas.ErrNotFound.
	Get(ctx context.Context, h cas.Hash) (Record, error)
	// List returns the records behind after, by hash, the first limit of
	// them: 1 … MaxList, more is taken as MaxList. Fewer than that is the
	// end. The zero Hash starts the list.
	List(ctx context.Context, after cas.Hash, limit int) ([]Record, error)
	// Publications returns what owners say about an object: first those that
	// have it published, the oldest first, then those that have withdrawn it.
	Publications(ctx context.Context, h cas.Hash) ([]Publication, error)
	// Publish takes in what owners say about one object, all of it or nothing,
	// and returns the object's record, durably when it returns. The zero Record
	// is one that is off the list. about describes the object as Record says;
	// withdrawals do not need more of it than the hash. Without changes it only
	// describes the object anew. The caller has verified the publications. Errors: ErrChanged, ErrOwners, ErrRecord,
	// mesh.ErrPublication, mesh.ErrPolicy.
	Publish(ctx context.Context, about Record, changes ...Change) (Record, error)
	// SetChecked notes that the digests of an object are right:
	// cas.ErrNotFound.
	SetChecked(ctx context.Context, h cas.Hash) error
}

// Change is a publication on its way in.
type Change struct {
	Publication
	// Previous is the sequence of the one that it replaces; 0: there is none.
	Previous uint64
}

// listLimit is the limit that List works with.
func listLimit(n int) (int, error) {
	if n < 1 {
		return 0, fmt.Errorf("catalog: a page of %d records", n)
	}
	return min(n, MaxList), nil
}

func notFound(h cas.Hash) error {
	return fmt.Errorf("%w: object %s is not on the list", cas.ErrNotFound, h)
}

package rpc

import (
	"context"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/mesh"
)

// Limits of one request. GetNode tells them to clients.
const (
	// MaxStat is the most hashes in one Stat.
	MaxStat = 1000
	// MaxHas is the most hashes in one Has.
	MaxHas = 10_000
	// MaxPut is the most chunks in one PutChunks, and MaxPutBytes the most
	// bytes of them all.
	MaxPut      = 4096
	MaxPutBytes = 4 << 20
	// MaxObjects is the most objects on one page of ListObjects, and
	// DefaultObjects how many there are if the request does not say.
	MaxObjects     = catalog.MaxList
	DefaultObjects = 100
	// MaxLinks is the most links on one page of GetManifest: all of any
	// record.
	MaxLinks = cas.Fanout
)

// Chunks is the store as the services see it. All methods may be called at
// the same time.
type Chunks interface {
	// Stat answers from the index: ErrNotFound, or ErrDenied.
	Stat(ctx context.Context, h cas.Hash) (cas.Info, error)
	// Touch gives the chunks that are here another grace period before the
	// collector may take them, and returns the positions in hashes, ascending,
	// of those that are not here. A denied chunk counts as missing.
	Touch(ctx context.Context, hashes []cas.Hash) (missing []int, err error)
	// Put checks each upload (hash, shape, canonical encoding, deny list) and
	// stores those that pass; results has one entry per upload. It returns
	// when all that it reports as stored is durable. err is a failure of the
	// node, not of the bytes: ErrNoSpace, for one.
	Put(ctx context.Context, uploads []Upload) (results []PutResult, err error)
	// Manifest reads and decodes one record: ErrNotFound, ErrNotObject,
	// ErrDenied, ErrCorrupt. The result must not be changed.
	Manifest(ctx context.Context, h cas.Hash) (*cas.Manifest, error)
}

// Upload is foreign bytes that claim to be a chunk. Data may be kept, and
// must not be changed.
type Upload struct {
	Hash cas.Hash
	Data []byte
}

// PutResult is what became of one Upload.
type PutResult struct {
	Added bool  // false if it was here already
	Err   error // why it was refused: ErrHashMismatch, ErrShape, ErrNotCanonical, ErrTooLarge or ErrDenied
}

// Objects is the node's list of objects. All methods may be called at the
// same time. Who calls is in ctx, and those that change something change what
// that one has published.
type Objects interface {
	// Commit publishes an object for the caller, once all its chunks are here;
	// those that are not are an error with the method MissingChunks (see
	// errors.go). A nil policy, and an empty name, keep what the caller has set.
	// created is false if it was on the list before, by whomever. Errors:
	// mesh.ErrPolicy, catalog.ErrOwners.
	Commit(ctx context.Context, h cas.Hash, name string, policy *mesh.Policy) (r catalog.Record, created bool, err error)
	// Object returns one object, or cas.ErrNotFound, or cas.ErrDenied.
	Object(ctx context.Context, h cas.Hash) (catalog.Record, error)
	// Objects returns up to limit objects whose hashes are greater than after,
	// ascending; fewer are the end. The zero hash is before all others.
	Objects(ctx context.Context, after cas.Hash, limit int) ([]catalog.Record, error)
	// Remove withdraws the caller's publication of an object, and with the last
	// one the object is off the list. An administrator who has none withdraws
	// all. Errors: cas.ErrNotFound, auth.ErrForbidden if only others have it
	// published.
	Remove(ctx context.Context, h cas.Hash) error
	// SetPolicy replaces the policy of the caller's publication, or the oldest
	// one's if an administrator asks who has none; the object's is the maximum
	// over all. Errors: cas.ErrNotFound, mesh.ErrPolicy, auth.ErrForbidden.
	SetPolicy(ctx context.Context, h cas.Hash, p mesh.Policy) (catalog.Record, error)
}

// NodeInfo is what a node says of itself.
type NodeInfo struct {
	Version     string
	Uptime      time.Duration
	Chunks      int64 // chunks stored
	Bytes       int64 // stored bytes
	Free        int64 // bytes that can still be stored
	Objects     int64 // objects on the list
	ObjectBytes int64 // most raw bytes of one object; 0 means no limit
	Features    []string
	Formats     []string
}

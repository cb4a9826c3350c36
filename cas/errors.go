package cas

import "errors"

// Sentinel errors. Every package of the project wraps these with %w; the
// gateway has one table that gives each of them a Connect code and an HTTP
// status.
var (
	// ErrBadHash: a text is not 64 lower-case hexadecimal digits.
	ErrBadHash = errors.New("malformed hash")
	// ErrNotFound: the chunk, object or path is not here.
	ErrNotFound = errors.New("not found")
	// ErrHashMismatch: bytes do not have the hash that was asked for.
	ErrHashMismatch = errors.New("bytes do not have this hash")
	// ErrShape: bytes are not a br1 chunk.
	ErrShape = errors.New("not a br1 chunk")
	// ErrNotCanonical: bytes decode, but br1 would have encoded the piece
	// differently.
	ErrNotCanonical = errors.New("not the canonical br1 encoding")
	// ErrTooLarge: more than a chunk, a record or a limit allows.
	ErrTooLarge = errors.New("too large")
	// ErrNotObject: the chunk is there, but it is no manifest.
	ErrNotObject = errors.New("chunk is not a manifest")
	// ErrCorrupt: stored bytes, or a manifest's claims, turned out wrong.
	ErrCorrupt = errors.New("corrupt")
	// ErrNoSpace: the store has no room left for writes; reads go on.
	ErrNoSpace = errors.New("no room in the store")
	// ErrDenied: the deny list names the hash.
	ErrDenied = errors.New("denied")
)

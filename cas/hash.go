package cas

import (
	"encoding/hex"
	"fmt"

	"github.com/zeebo/blake3"
)

// HashSize is the length of a Hash in bytes.
const HashSize = 32

// Hash names a chunk: the BLAKE3-256 of its stored bytes. It is comparable;
// the zero value names nothing and is never the hash of a stored chunk.
type Hash [HashSize]byte

// Sum returns the BLAKE3-256 of b.
func Sum(b []byte) Hash { return blake3.Sum256(b) }

// ParseHash reads exactly 64 lower-case hexadecimal digits. Any other text,
// upper case included, is ErrBadHash: one chunk has one name.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != 2*HashSize {
		return Hash{}, fmt.Errorf("%w: want 64 hexadecimal digits, have %d characters", ErrBadHash, len(s))
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return Hash{}, fmt.Errorf("%w: character %d is not a lower-case hexadecimal digit", ErrBadHash, i+1)
		}
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, fmt.Errorf("%w: %w", ErrBadHash, err)
	}
	return h, nil
}

// String returns the 64 lower-case hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether h names nothing.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; see ParseHash.
func (h *Hash) UnmarshalText(b []byte) error {
	v, err := ParseHash(string(b))
	if err != nil {
		return err
	}
	*h = v
	return nil
}

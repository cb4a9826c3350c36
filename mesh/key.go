package mesh

import (
	"crypto/ed25519"
	"encoding/base32"
	"errors"
	"fmt"
)

// KeySize is the length of a Key in bytes.
const KeySize = ed25519.PublicKeySize

// SignatureSize is the length of a Signature in bytes.
const SignatureSize = ed25519.SignatureSize

// ErrKey says: a text or some bytes are no key.
var ErrKey = errors.New("not a key")

// ErrSignature says: a signature does not fit what it should have signed.
var ErrSignature = errors.New("the signature does not fit")

// Key is an Ed25519 public key (RFC 8032): who a node or a client is. It is
// comparable; the zero value is nobody and checks no signature.
type Key [KeySize]byte

// Signature is an Ed25519 signature.
type Signature [SignatureSize]byte

// keyText writes keys with 52 lower-case letters and digits, so that nobody
// takes one for a hash.
var keyText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ParseKey reads what String writes, and nothing else: one key has one text.
func ParseKey(s string) (Key, error) {
	if len(s) != keyText.EncodedLen(KeySize) {
		return Key{}, fmt.Errorf("%w: it has %d characters instead of %d", ErrKey, len(s), keyText.EncodedLen(KeySize))
	}
	b, err := keyText.DecodeString(s)
	if err != nil {
		return Key{}, fmt.Errorf("%w: %w", ErrKey, err)
	}
	k := Key(b)
	if k.IsZero() || k.String() != s { // the last digit has bits to spare
		return Key{}, fmt.Errorf("%w: it is not in the form that is written", ErrKey)
	}
	return k, nil
}

// String returns the 52 characters of base32 (RFC 4648) in lower case.
func (k Key) String() string { return keyText.EncodeToString(k[:]) }

// IsZero reports whether k is nobody.
func (k Key) IsZero() bool { return k == Key{} }

// MarshalText implements encoding.TextMarshaler.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; see ParseKey.
func (k *Key) UnmarshalText(b []byte) error {
	v, err := ParseKey(string(b))
	if err != nil {
		return err
	}
	*k = v
	return nil
}

// Verify is nil if k signed message for this kind of record, else
// ErrSignature.
func (k Key) Verify(kind string, message []byte, sig Signature) error {
	if k.IsZero() || !ed25519.Verify(k[:], signed(kind, message), sig[:]) {
		return fmt.Errorf("%w: %s by %s", ErrSignature, kind, k)
	}
	return nil
}

// Secret is the private half of a Key. It does not print.
type Secret struct{ key *ed25519.PrivateKey }

// NewSecret makes a random key.
func NewSecret() (Secret, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return Secret{}, fmt.Errorf("mesh: make a key: %w", err)
	}
	return Secret{&key}, nil
}

// SecretFromSeed returns the key of 32 secret bytes.
func SecretFromSeed(seed []byte) (Secret, error) {
	if len(seed) != ed25519.SeedSize {
		return Secret{}, fmt.Errorf("%w: a seed has %d bytes, this one has %d", ErrKey, ed25519.SeedSize, len(seed))
	}
	key := ed25519.NewKeyFromSeed(seed)
	return Secret{&key}, nil
}

// Seed returns the 32 bytes that SecretFromSeed reads. They are the secret.
func (s Secret) Seed() []byte { return s.key.Seed() }

// Public is the key that checks what s signs.
func (s Secret) Public() Key { return Key((*s.key)[ed25519.SeedSize:]) }

// Sign signs message as one kind of record, such as "receipt 1".
func (s Secret) Sign(kind string, message []byte) Signature {
	return Signature(ed25519.Sign(*s.key, signed(kind, message)))
}

// Format implements fmt.Formatter: no verb shows the key.
func (s Secret) Format(f fmt.State, _ rune) {
	_, _ = f.Write([]byte("(secret key)")) // a fmt.State has nowhere to report to
}

// MarshalText implements encoding.TextMarshaler: it does not marshal either.
func (s Secret) MarshalText() ([]byte, error) { return []byte("(secret key)"), nil }

// signed is what is signed for a record: "inos ", its kind, a zero byte, and
// its bytes. No kind has a zero byte, so that no two kinds meet.
func signed(kind string, message []byte) []byte {
	b := make([]byte, 0, len("inos ")+len(kind)+1+len(message))
	b = append(b, "inos "...)
	b = append(b, kind...)
	b = append(b, 0)
	return append(b, message...)
}

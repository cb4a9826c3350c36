package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"aidanwoods.dev/go-paseto"
)

// The text of keys is PASERK's: k4.secret. or k4.public. and base64url.
const (
	secretPrefix = "k4.secret."
	publicPrefix = "k4.public."
)

var keyText = base64.RawURLEncoding.Strict()

// PublicKey checks tokens. The zero value checks none.
type PublicKey struct {
	key paseto.V4AsymmetricPublicKey
}

// ParsePublicKey reads "k4.public." and 43 characters.
func ParsePublicKey(s string) (PublicKey, error) {
	text, ok := strings.CutPrefix(s, publicPrefix)
	if !ok {
		return PublicKey{}, fmt.Errorf("auth: an issuer's public key starts with %s", publicPrefix)
	}
	b, err := keyText.DecodeString(text)
	if err != nil {
		return PublicKey{}, fmt.Errorf("auth: malformed public key: %w", err)
	}
	k, err := paseto.NewV4AsymmetricPublicKeyFromBytes(b)
	if err != nil {
		return PublicKey{}, fmt.Errorf("auth: malformed public key: %w", err)
	}
	return PublicKey{k}, nil
}

// String is what ParsePublicKey reads.
func (k PublicKey) String() string { return publicPrefix + keyText.EncodeToString(k.key.ExportBytes()) }

// IsZero reports whether k is no key.
func (k PublicKey) IsZero() bool { return len(k.key.ExportBytes()) == 0 }

// SecretKey signs tokens; make it with NewSecretKey or OpenIssuer. It does not
// print, not even as an unexported field of something that is printed: there
// package fmt calls no methods, but it does not follow pointers either.
type SecretKey struct {
	key *paseto.V4AsymmetricSecretKey
}

// NewSecretKey makes a random key.
func NewSecretKey() SecretKey {
	key := paseto.NewV4AsymmetricSecretKey()
	return SecretKey{&key}
}

// Public is the key that checks what k signs.
func (k SecretKey) Public() PublicKey { return PublicKey{k.key.Public()} }

// Format implements fmt.Formatter: no verb shows the key.
func (k SecretKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("(secret key)")) }

// MarshalText implements encoding.TextMarshaler: it does not marshal either.
func (k SecretKey) MarshalText() ([]byte, error) { return []byte("(secret key)"), nil }

// reveal is what parseSecretKey reads.
func (k SecretKey) reveal() string { return secretPrefix + keyText.EncodeToString(k.key.ExportBytes()) }

// parseSecretKey reads the content of a key file. No error repeats it.
func parseSecretKey(s string) (SecretKey, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(s), secretPrefix)
	if !ok {
		return SecretKey{}, fmt.Errorf("it does not start with %s", secretPrefix)
	}
	b, err := keyText.DecodeString(text)
	if err != nil {
		return SecretKey{}, errors.New("it is malformed")
	}
	k, err := paseto.NewV4AsymmetricSecretKeyFromBytes(b)
	if err != nil {
		return SecretKey{}, errors.New("its length or its two halves do not fit")
	}
	return SecretKey{&k}, nil
}

package rpc

import (
	"encoding/base64"
	"encoding/binary"
	"errors"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/pledge"
)

// Page tokens are a letter for the list they belong to and a position in it,
// in base64url. They are no secret and carry no right; clients must not look
// inside, so that a later node may put something else there.
const (
	objectToken  = 'o' // then the last hash of the page before
	linkToken    = 'l' // then the number of links on all pages before, 2 bytes
	accountToken = 'a' // then the last account of the page before
	pledgeToken  = 'p' // then the name of the last pledge of the page before
)

var errToken = errors.New("is not a token that this list gave out")

func encodeToken(kind byte, position []byte) string {
	return base64.RawURLEncoding.EncodeToString(append([]byte{kind}, position...))
}

// decodeToken returns the position, which must have size bytes, or nil for
// the empty token: the first page.
func decodeToken(s string, kind byte, size int) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	if len(s) != base64.RawURLEncoding.EncodedLen(1+size) {
		return nil, errToken
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != 1+size || b[0] != kind {
		return nil, errToken
	}
	return b[1:], nil
}

func encodeObjectToken(last cas.Hash) string { return encodeToken(objectToken, last[:]) }

func decodeObjectToken(s string) (after cas.Hash, err error) {
	b, err := decodeToken(s, objectToken, cas.HashSize)
	if b != nil {
		after = cas.Hash(b)
	}
	return after, err
}

func encodeLinkToken(next int) string {
	return encodeToken(linkToken, binary.BigEndian.AppendUint16(nil, uint16(next)))
}

func decodeLinkToken(s string) (from int, err error) {
	b, err := decodeToken(s, linkToken, 2)
	if b != nil {
		from = int(binary.BigEndian.Uint16(b))
	}
	return from, err
}

// decodeName returns a position that is a text of 1 to limit bytes, or "" for
// the empty token.
func decodeName(s string, kind byte, limit int) (string, error) {
	if s == "" {
		return "", nil
	}
	size := base64.RawURLEncoding.DecodedLen(len(s)) - 1
	if size < 1 || size > limit {
		return "", errToken
	}
	b, err := decodeToken(s, kind, size)
	return string(b), err
}

func encodeAccountToken(last credit.Account) string { return encodeToken(accountToken, []byte(last)) }

func decodeAccountToken(s string) (after credit.Account, err error) {
	name, err := decodeName(s, accountToken, maxAccount)
	if after = credit.Account(name); name != "" && after.Validate() != nil {
		return "", errToken
	}
	return after, err
}

func encodePledgeToken(last string) string { return encodeToken(pledgeToken, []byte(last)) }

func decodePledgeToken(s string) (after string, err error) {
	after, err = decodeName(s, pledgeToken, pledge.MaxID)
	if after != "" && !plainName(after, 1) {
		return "", errToken
	}
	return after, err
}

// maxAccount is more bytes than an account's name has.
const maxAccount = 256

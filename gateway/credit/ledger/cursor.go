package ledger

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/journal"
)

// ErrCursor says: a text is no cursor of this account's statement.
var ErrCursor = errors.New("not a cursor of this statement: begin with its first page")

// Cursor is a place in an account's statement, as text. It stays good while
// entries are added. The empty one is before the newest line, and behind the
// oldest. It is signed: nobody can make one that points elsewhere.
type Cursor string

// place is what a cursor says.
type place struct {
	next    journal.Position // the entry of the next line
	balance credit.Amount    // after that entry
	seq     uint64           // the record of the line before
	shown   credit.Amount    // the balance after that record
}

const (
	placeSize = 4 * 8
	macSize   = 16
)

func (p place) cursor(secret []byte, a credit.Account) Cursor {
	b := make([]byte, 0, placeSize+macSize)
	for _, n := range []uint64{uint64(p.next), uint64(p.balance), p.seq, uint64(p.shown)} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return Cursor(base64.RawURLEncoding.EncodeToString(append(b, sign(secret, a, b)...)))
}

// place reads a cursor: ErrCursor.
func (c Cursor) place(secret []byte, a credit.Account) (place, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(string(c))
	if err != nil || len(b) != placeSize+macSize || !hmac.Equal(b[placeSize:], sign(secret, a, b[:placeSize])) {
		return place{}, ErrCursor
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	return place{next: journal.Position(n(0)), balance: credit.Amount(n(1)), seq: n(2), shown: credit.Amount(n(3))}, nil
}

func sign(secret []byte, a credit.Account, b []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(a)) // a hash never fails
	mac.Write([]byte{0})
	mac.Write(b)
	return mac.Sum(nil)[:macSize]
}

// newSecret makes the secret that cursors are signed with.
func newSecret() ([]byte, error) {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	return b, nil
}

func loadSecret(db *bbolt.DB) (secret []byte, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		secret = append(secret, tx.Bucket(metaBucket).Get(cursorKey)...)
		if len(secret) == 0 {
			return fmt.Errorf("ledger: %s: %w: it has no secret", db.Path(), errStored)
		}
		return nil
	})
	return secret, err
}

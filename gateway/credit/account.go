package credit

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"inos.dev/edge/mesh"
)

// Account names whose credits they are: a kind, a colon and a name; the
// treasury has no name. The zero value is none.
type Account string

// Treasury issues credits: its balance is minus what was issued.
const Treasury Account = "treasury"

// The kinds of accounts in front of their colon.
const (
	userPrefix   = "user:"   // the subject of a token, or a client's key
	nodePrefix   = "node:"   // a node's key: what it earns
	housePrefix  = "house:"  // a node's key: what nobody else pays
	escrowPrefix = "escrow:" // a pledge
)

// maxName is the most bytes of an account's name: those of a token's subject.
const maxName = 128

// User is the account of a token's subject.
func User(subject string) Account { return Account(userPrefix + subject) }

// Node is the account that a node earns on.
func Node(k mesh.Key) Account { return Account(nodePrefix + k.String()) }

// House is the account that pays on a node when nobody else does.
func House(k mesh.Key) Account { return Account(housePrefix + k.String()) }

// Escrow holds what a pledge has locked.
func Escrow(pledge string) Account { return Account(escrowPrefix + pledge) }

// IsHouse reports whether a may go below zero without bound since it is some
// node's house.
func (a Account) IsHouse() bool { return strings.HasPrefix(string(a), housePrefix) }

// IsEscrow reports whether a holds what a pledge has locked.
func (a Account) IsEscrow() bool { return strings.HasPrefix(string(a), escrowPrefix) }

// IsUser reports whether a belongs to the subject of a token.
func (a Account) IsUser() bool { return strings.HasPrefix(string(a), userPrefix) }

// Subject is the subject of the token that a belongs to, or "".
func (a Account) Subject() string {
	s, _ := strings.CutPrefix(string(a), userPrefix)
	if !a.IsUser() {
		return ""
	}
	return s
}

// prefixes are the kinds of accounts with a name.
func prefixes() []string { return []string{userPrefix, nodePrefix, housePrefix, escrowPrefix} }

// ParseAccount reads an account as a person types it: with its kind, or the
// subject of a token alone. The name of a node or a house has to be a key, so
// that nothing goes to an account that nobody can have. ErrAccount.
func ParseAccount(s string) (Account, error) {
	a := Account(s)
	kind := func(prefix string) bool { return strings.HasPrefix(s, prefix) }
	if a != Treasury && !slices.ContainsFunc(prefixes(), kind) {
		a = User(s)
	}
	for _, prefix := range []string{nodePrefix, housePrefix} {
		if name, ok := strings.CutPrefix(s, prefix); ok {
			if _, err := mesh.ParseKey(name); err != nil {
				return "", fmt.Errorf("%w: %.80q does not name a node: %w", ErrAccount, s, err)
			}
		}
	}
	return a, a.Validate()
}

// Validate checks the form of a: ErrAccount.
func (a Account) Validate() error {
	if a == Treasury {
		return nil
	}
	for _, prefix := range prefixes() {
		name, ok := strings.CutPrefix(string(a), prefix)
		if !ok {
			continue
		}
		if name == "" || len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return fmt.Errorf("%w: a name is 1 to %d bytes of printable text", ErrAccount, maxName)
		}
		return nil
	}
	return fmt.Errorf("%w: %.40q is neither treasury nor user:, node:, house: or escrow: and a name", ErrAccount, string(a))
}

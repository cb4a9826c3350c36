// Package credit has the words of the books: accounts, amounts, prices, and
// the entry, which is a transfer from one account to another. It is pure: the
// packages below it keep (journal, ledger), lease and charge (books), lock up
// (pledge) and attest (delivery).
//
// # The books
//
// The truth is a journal: append-only, hash-chained, synced before an
// operation is acknowledged. Balances are derived from it. Every entry moves
// an amount from one account to another, so that the sum over all accounts is
// always zero; the treasury, which issues, and the house, which pays when
// nobody else does, may be below zero.
//
// Amounts are integers in micro-credits. A price is micro-credits for 2³⁰
// bytes (and for 2³⁰ bytes kept for an hour); what is left over of a division
// is carried along, so that many small charges cost what one large one does.
package credit

import (
	"errors"
	"fmt"
	"math/bits"
	"time"
	"unicode/utf8"

	"inos.dev/edge/cas"
)

var (
	// ErrOutOfCredit says: the payer's account is empty, and its terms say that
	// nobody is served on it then.
	ErrOutOfCredit = errors.New("the publisher is out of credit")
	// ErrUnderfunded says: an account has less than an operation needs.
	ErrUnderfunded = errors.New("not enough credit")
	// ErrAccount says: a text is no account.
	ErrAccount = errors.New("not an account")
	// ErrEntry says: an entry is outside of its limits.
	ErrEntry = errors.New("not a possible entry")
	// ErrPrice says: a price is outside of its limits.
	ErrPrice = errors.New("not a possible price")
)

// Amount is micro-credits: 1,000,000 of them are one credit.
type Amount int64

// Credit is one credit.
const Credit Amount = 1_000_000

// MaxAmount bounds one entry. Balances are sums of them and checked where they
// are added.
const MaxAmount Amount = 1 << 53

// String writes an amount in credits, with six decimals.
func (a Amount) String() string {
	sign, n := "", uint64(a)
	if a < 0 {
		sign, n = "-", -n
	}
	return fmt.Sprintf("%s%d.%06d", sign, n/uint64(Credit), n%uint64(Credit))
}

// Price is micro-credits for 2³⁰ bytes, 0 … MaxPrice: for reading them, or for
// keeping them for an hour.
type Price int64

// MaxPrice is a million credits.
const MaxPrice Price = 1_000_000_000_000

// Validate checks the limits of p: ErrPrice.
func (p Price) Validate() error {
	if p < 0 || p > MaxPrice {
		return fmt.Errorf("%w: it is %d, it must be 0 to %d micro-credits for a GiB", ErrPrice, p, MaxPrice)
	}
	return nil
}

// gib is the number of bytes that a price is for, as a power of two.
const gib = 30

// For is what n bytes cost: rest + n × p, whole micro-credits of it, and the
// new rest, which counts 2⁻³⁰ micro-credits, 0 … 2³⁰−1. n and p are not
// negative. So that charges for parts add up to the charge for all of them,
// the rest of one goes into the next.
func (p Price) For(n int64, rest uint32) (charge Amount, left uint32) {
	hi, lo := bits.Mul64(uint64(n), uint64(p))
	lo, carry := bits.Add64(lo, uint64(rest), 0)
	hi += carry
	left = uint32(lo & (1<<gib - 1))
	if hi >= 1<<(gib-1) { // more than an Amount holds
		return MaxAmount, left
	}
	return min(Amount(hi<<(64-gib)|lo>>gib), MaxAmount), left
}

// Kind is what an entry is about.
type Kind uint8

// The kinds. Their numbers are in journals: never change one.
const (
	KindGrant   Kind = 1 // the treasury issues
	KindServe   Kind = 2 // bytes that left: payer to node
	KindLease   Kind = 3 // bytes that a node may serve before it charges them: the absolute number; no amount
	KindEscrow  Kind = 4 // a pledge locks credits
	KindRetain  Kind = 5 // a holder is paid for an epoch
	KindRelease Kind = 6 // what a pledge did not need goes back
	KindAttest  Kind = 7 // bytes already charged that a client's receipt confirms; no amount
	KindDoc     Kind = 8 // a document is set, or with no Doc deleted; no amount
)

// Entry moves Amount from one account to another. The zero Hash is no object.
type Entry struct {
	Kind   Kind
	From   Account // pays; of a lease, whose account it is reserved from; of a document, whom it concerns
	To     Account // earns; of an attestation, who has earned; else empty where Amount is 0 by kind
	Amount Amount  // 0 … MaxAmount
	Object cas.Hash
	Bytes  int64  // served, leased, retained or attested
	Rest   uint32 // of KindServe: what is carried to the next charge on From, see Price.For
	Ref    string // pledge, delivery, name of the document, or why: at most MaxRef bytes of printable text
	Doc    []byte // of KindDoc, at most MaxDoc bytes
}

// Limits of an Entry.
const (
	MaxRef = 128
	MaxDoc = 2 << 10
)

// moves reports whether entries of this kind move an amount.
func (k Kind) moves() bool {
	return k == KindGrant || k == KindServe || k == KindEscrow || k == KindRetain || k == KindRelease
}

// earns reports whether entries of this kind have somebody who earns: of an
// attestation, whoever did in the entry that it is about.
func (k Kind) earns() bool { return k.moves() || k == KindAttest }

// Validate checks the limits of e: ErrEntry, ErrAccount.
func (e *Entry) Validate() error {
	if err := e.checkNumbers(); err != nil {
		return err
	}
	switch {
	case len(e.Ref) > MaxRef || !utf8.ValidString(e.Ref):
		return fmt.Errorf("%w: its reference is longer than %d bytes, or no text", ErrEntry, MaxRef)
	case len(e.Doc) > MaxDoc || e.Kind != KindDoc && len(e.Doc) > 0 || e.Kind == KindDoc && e.Ref == "":
		return fmt.Errorf("%w: a document has a name and at most %d bytes", ErrEntry, MaxDoc)
	case e.Kind.earns() == (e.To == "") || e.From == e.To:
		return fmt.Errorf("%w: from %q to %q", ErrEntry, e.From, e.To)
	}
	if err := e.From.Validate(); err != nil {
		return err
	}
	if e.Kind.earns() {
		return e.To.Validate()
	}
	return nil
}

func (e *Entry) checkNumbers() error {
	switch {
	case e.Kind < KindGrant || e.Kind > KindDoc:
		return fmt.Errorf("%w: kind %d", ErrEntry, e.Kind)
	case e.Amount < 0 || e.Amount > MaxAmount || !e.Kind.moves() && e.Amount != 0:
		return fmt.Errorf("%w: an amount of %d", ErrEntry, e.Amount)
	case e.Bytes < 0 || e.Rest >= 1<<gib || e.Kind != KindServe && e.Rest != 0:
		return fmt.Errorf("%w: %d bytes, rest %d", ErrEntry, e.Bytes, e.Rest)
	}
	return nil
}

// Line is an entry as one account's statement shows it.
type Line struct {
	Seq     uint64 // of the record in the journal
	Time    time.Time
	Entry   Entry
	Balance Amount // of the account after the record
}

// State is what the books know of an account.
type State struct {
	Balance  Amount // by this node's journal
	Leased   int64  // bytes of its open lease on this node
	Rest     uint32 // see Entry.Rest
	Served   int64  // bytes charged to it
	Attested int64  // of those, confirmed by receipts
	Earned   int64  // bytes that it was paid for serving
	Proven   int64  // of those, confirmed by receipts
	Entries  int64  // lines of its statement
}

// Empty says what happens to reads on an account that has run dry.
type Empty string

// What happens. The zero value is Serve.
const (
	Serve    Empty = "serve"    // on debt, and beyond the account's limit on the house
	Throttle Empty = "throttle" // slowly, on debt
	Refuse   Empty = "refuse"   // not at all
)

// Terms are what an account has agreed upon.
type Terms struct {
	WhenEmpty Empty  // the owner's choice
	Debt      Amount // how far below zero it may go: the operator's
}

// Validate checks terms: ErrEntry.
func (t Terms) Validate() error {
	switch t.WhenEmpty {
	case "", Serve, Throttle, Refuse:
	default:
		return fmt.Errorf("%w: when empty, an account may serve, throttle or refuse, not %.20q", ErrEntry, string(t.WhenEmpty))
	}
	if t.Debt < 0 || t.Debt > MaxAmount {
		return fmt.Errorf("%w: a debt of %d", ErrEntry, t.Debt)
	}
	return nil
}

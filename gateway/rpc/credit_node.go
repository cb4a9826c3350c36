package rpc

import (
	"context"
	"time"

	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/books"
	"inos.dev/edge/gateway/credit/delivery"
	"inos.dev/edge/gateway/credit/ledger"
	"inos.dev/edge/gateway/credit/pledge"
	"inos.dev/edge/mesh"
)

// Limits of one request to CreditService.
const (
	// MaxLines is the most accounts, statement lines or pledges on one page,
	// and DefaultLines how many there are if the request does not say.
	MaxLines     = 1000
	DefaultLines = 100
	// MaxNote is the most bytes of a grant's note.
	MaxNote = credit.MaxRef
	// MinKey and MaxKey bound the length of an idempotency key; a name of a
	// pledge may be shorter.
	MinKey, MaxKey = 8, pledge.MaxID
)

// Caller is who sends a request.
type Caller struct {
	auth.Identity
	// Quota is what the caller shares limits with: the token, or the client's
	// network.
	Quota auth.Key
}

// Credits is what CreditService works with. Books, Ledger, Pledges and
// Deliveries have to be set.
type Credits struct {
	Books      Books
	Ledger     Ledger
	Pledges    Pledges
	Deliveries Deliveries
	// Serve and Retain are what 2^30 bytes cost: served, and kept for an hour,
	// where a pledge has no price cap.
	Serve, Retain credit.Price
	// Epoch is how often the holders of a pledge are paid.
	Epoch time.Duration
	// Shared says that several gateways share their books.
	Shared bool
}

func (c *Credits) complete() bool {
	return c.Books != nil && c.Ledger != nil && c.Pledges != nil && c.Deliveries != nil
}

// Books is the accounts as all gateways together know them; *books.Books are
// such. All methods may be called at the same time. Who may call is decided
// before.
type Books interface {
	// Balance returns what is known of an account, 0 of one that never appeared.
	Balance(ctx context.Context, a credit.Account) (books.Balance, error)
	// Terms returns what an account has agreed upon.
	Terms(ctx context.Context, a credit.Account) (credit.Terms, error)
	// SetTerms changes what is not nil.
	SetTerms(ctx context.Context, a credit.Account, whenEmpty *credit.Empty, debt *credit.Amount) error
	// Grant issues credits, durably when it returns. One with an id that was
	// there before issues nothing: again is true.
	Grant(ctx context.Context, id string, to credit.Account, amount credit.Amount, note string) (seq uint64, again bool, err error)
}

// Ledger is the books by this node's journal; *ledger.Ledger is one. All
// methods may be called at the same time.
type Ledger interface {
	// Accounts returns up to limit accounts whose names come behind after, by
	// name; fewer are the end. The empty name is before all others.
	Accounts(ctx context.Context, after credit.Account, limit int) ([]ledger.AccountState, error)
	// Statement returns up to limit lines of an account in front of a cursor,
	// the newest first, and the cursor of the next page, "" if there is none:
	// ledger.ErrCursor.
	Statement(ctx context.Context, a credit.Account, before ledger.Cursor, limit int) ([]credit.Line, ledger.Cursor, error)
	// Audit checks the books. An error says that it could not; what it found is
	// in the report.
	Audit(ctx context.Context) (ledger.Report, error)
}

// Pledges hold objects; *pledge.Pledges are such. All methods may be called at
// the same time.
type Pledges interface {
	// Create locks credits of owner, durably when it returns. The same request
	// with the same id is answered with the pledge that there is. Errors:
	// credit.ErrUnderfunded, those of package pledge.
	Create(ctx context.Context, owner credit.Account, id string, r pledge.Request) (pledge.Pledge, error)
	// Get returns one pledge, or pledge.ErrUnknown.
	Get(ctx context.Context, id string) (pledge.Pledge, error)
	// List returns up to limit pledges of owner ("": of all) behind after, by
	// id; fewer are the end.
	List(ctx context.Context, owner credit.Account, after string, limit int) ([]pledge.Pledge, error)
	// TopUp locks more credits of its owner. The second payment with one key
	// locks nothing.
	TopUp(ctx context.Context, owner credit.Account, id, key string, amount credit.Amount) (pledge.Pledge, error)
	// Release ends a pledge of owner; one that is over stays as it is.
	Release(ctx context.Context, owner credit.Account, id string) (pledge.Pledge, error)
}

// Deliveries confirm what clients received; delivery.Sessions are such.
type Deliveries interface {
	// Open begins a delivery: delivery.ErrTooMany, mesh.ErrReceipt.
	Open(ctx context.Context, who delivery.Who) (delivery.Delivery, error)
	// Submit takes a receipt from a client with this subject ("": none), and
	// returns the one that counts now.
	Submit(ctx context.Context, subject string, r mesh.Receipt) (mesh.Countersigned, error)
}

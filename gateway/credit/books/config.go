package books

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/ledger"
	"inos.dev/edge/mesh"
)

// Ledger is what Books writes into. An error of Append, when its context has
// not ended, says that the record is not in the books and never will be; else
// a charge could be written twice.
type Ledger interface {
	credit.Ledger
	// Leases returns the accounts with an open lease.
	Leases(ctx context.Context) ([]ledger.AccountState, error)
	// Accounts returns the accounts whose names are behind after, by name, at
	// most limit of them (1 … 1000); fewer are the end.
	Accounts(ctx context.Context, after credit.Account, limit int) ([]ledger.AccountState, error)
}

// Config says who charges whom, and how much may be in doubt after a crash.
type Config struct {
	// Ledger keeps what is charged. Required.
	Ledger Ledger
	// Key of the node: it earns on credit.Node of it, and credit.House of it
	// pays when nobody else does. Required.
	Key mesh.Key
	// Retrieval is what 2³⁰ bytes cost. Default: one credit. Free says that 0
	// is meant: bytes are counted and cost nothing.
	Retrieval credit.Price
	Free      bool
	// Share connects the books of several gateways. Default: nil, the books of
	// this node are all there are.
	Share Share
	// Operators are the subjects whose publications the house pays for.
	Operators []string

	// Window is the time between two records. Default 250 ms.
	Window time.Duration
	// Lease is how many bytes a payer's lease has room for at least, MaxLease
	// what it has at most: it grows to four windows of what is read. Defaults
	// 64 MiB, 4 GiB. MaxLease also bounds one Take; the house, which may go
	// below zero without bound, has no MaxLease.
	Lease, MaxLease int64
	// Float is the lease on the house that carries first reads on accounts that
	// have no lease yet. Default 64 MiB.
	Float int64
	// Unbooked is how many bytes are served beyond all leases while the journal
	// fails: what a crash could lose then. Default 64 GiB.
	Unbooked int64
	// ThrottleRate is the bytes per second of an account that is throttled.
	// Default 1 MiB.
	ThrottleRate int64
	// MaxLines bounds the lines in memory, and the payers. Objects beyond it are
	// charged to their owners under no object, owners beyond it to the house.
	// Default 65,536: about 20 MB.
	MaxLines int

	// Registry gets the metrics. Default: none does.
	Registry prometheus.Registerer
	// Logger takes what an operator wants to know. Default: slog.Default.
	Logger *slog.Logger
}

func (c Config) validate() error {
	if c.Ledger == nil || c.Key.IsZero() {
		return errors.New("books: Ledger and Key are required")
	}
	if c.Window < 0 || c.Lease < 0 || c.MaxLease < 0 || c.Float < 0 || c.Unbooked < 0 || c.ThrottleRate < 0 || c.MaxLines < 0 {
		return errors.New("books: a limit must not be negative; 0 means the default")
	}
	if c.Lease > maxHouseLease || c.MaxLease > maxHouseLease || c.Float > maxHouseLease || c.Unbooked > maxHouseLease {
		return fmt.Errorf("books: a limit of more than %d bytes", int64(maxHouseLease))
	}
	if c.Free && c.Retrieval != 0 {
		return errors.New("books: Retrieval has a price and is Free")
	}
	if err := c.Retrieval.Validate(); err != nil {
		return fmt.Errorf("books: Retrieval: %w", err)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if !c.Free {
		fill(&c.Retrieval, credit.Price(credit.Credit))
	}
	fill(&c.Window, 250*time.Millisecond)
	fill(&c.Lease, 64<<20)
	fill(&c.MaxLease, max(4<<30, c.Lease))
	c.MaxLease = max(c.MaxLease, c.Lease)
	fill(&c.Float, 64<<20)
	fill(&c.Unbooked, 64<<30)
	fill(&c.ThrottleRate, 1<<20)
	fill(&c.MaxLines, 1<<16)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

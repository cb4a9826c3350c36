package ledger

import (
	"context"
	"fmt"
	"math"

	"go.etcd.io/bbolt"

	"inos.dev/edge/gateway/credit"
)

// AccountState is an account with what is known of it.
type AccountState struct {
	Account credit.Account
	State   credit.State
}

// Accounts returns the accounts behind after, by name, at most limit of them,
// 1 … 1000. Fewer than that is the end.
func (l *Ledger) Accounts(ctx context.Context, after credit.Account, limit int) ([]AccountState, error) {
	if limit < 1 || limit > maxPage {
		return nil, fmt.Errorf("%w: a page of %d accounts, it may have 1 to %d", credit.ErrEntry, limit, maxPage)
	}
	return l.list(ctx, accountBucket, after, limit, func(credit.State) bool { return true })
}

// Leases returns the accounts with an open lease, by name.
func (l *Ledger) Leases(ctx context.Context) ([]AccountState, error) {
	return l.list(ctx, leaseBucket, "", math.MaxInt, func(s credit.State) bool { return s.Leased > 0 })
}

// list merges the accounts that a bucket names with those that have changed
// since, and returns those that are wanted, at most limit.
func (l *Ledger) list(ctx context.Context, bucket []byte, after credit.Account, limit int, want func(credit.State) bool) ([]AccountState, error) {
	if err := l.begin(ctx); err != nil {
		return nil, err
	}
	list, err := l.listLocked(bucket, after, limit, want)
	if syncErr := l.unlockAndSync(ctx, l.tip.Seq); err == nil {
		err = syncErr
	}
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (l *Ledger) listLocked(bucket []byte, after credit.Account, limit int, want func(credit.State) bool) (list []AccountState, err error) {
	changed := newer(l.layers(), func(c *changes) map[credit.Account]*account { return c.accounts }, func(name credit.Account) bool { return name > after })
	viewErr := l.db.View(func(tx *bbolt.Tx) error {
		merge(tx.Bucket(bucket), "", string(after), changed, func(name credit.Account, _ []byte, a *account, isNew bool) bool {
			if !isNew {
				if a, err = loadAccount(tx, name); err == nil && a == nil {
					err = fmt.Errorf("%w: %s has no state", errStored, name)
				}
				if err != nil {
					return false
				}
			}
			if want(a.state) {
				list = append(list, AccountState{name, a.state})
			}
			return len(list) < limit
		})
		return err
	})
	return list, viewErr
}

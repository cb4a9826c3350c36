package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"os"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/journal"
)

// compare adds the journal up to the checkpoint that tx sees, and holds the
// derived state against it.
func (a *auditor) compare(ctx context.Context, tx *bbolt.Tx) error {
	m, err := loadMeta(tx)
	if err != nil {
		return err
	}
	if m.mark.Seq > 0 {
		if err := a.until(ctx, m.mark); err != nil {
			return err
		}
	}
	if a.at.Hash != m.mark.Hash && m.mark.Seq > 0 {
		a.problem("the checkpoint is of record %d with hash %s, the journal has %s", m.mark.Seq, m.mark.Hash, a.at.Hash)
	}
	if int64(m.next) != int64(a.report.Accounts)+1 {
		a.problem("the next account has number %d, it must be %d", m.next, a.report.Accounts+1)
	}
	if err := readAhead(tx.DB().Path()); err != nil {
		return err
	}
	if err := a.compareAccounts(ctx, tx); err != nil {
		return err
	}
	return a.compareDocs(ctx, tx)
}

// readAhead asks the kernel to read a file that is about to be needed, in the
// order of its bytes: bbolt maps it, and would read it page by page in the
// order of the keys.
func readAhead(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_WILLNEED), f.Close())
}

func (a *auditor) compareAccounts(ctx context.Context, tx *bbolt.Tx) error {
	names, leases := tx.Bucket(nameBucket), tx.Bucket(leaseBucket)
	n, open := 0, 0
	var sum int128
	err := tx.Bucket(accountBucket).ForEach(func(k, v []byte) error {
		if n++; n%blockSize == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		acc, err := parseAccount(v)
		if err != nil {
			a.problem("%s: %v", k, err)
			return nil
		}
		sum.add(int64(acc.state.Balance))
		if acc.state.Leased > 0 {
			open++
		}
		s := a.slot(acc.number)
		switch {
		case s == nil || s.name != nameHash(credit.Account(k)) || string(names.Get(numberKey(acc.number))) != string(k):
			a.problem("%s is not account %d", k, acc.number)
		case s.totals != acc.totals:
			a.problem("%s: derived %+v, by the journal %+v", k, acc.totals, s.totals)
		case acc.state.Leased > 0 && leases.Get(k) == nil:
			a.problem("%s has an open lease that is not on the list", k)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if n != a.report.Accounts {
		a.problem("%d accounts are derived, the journal has %d", n, a.report.Accounts)
	}
	if listed := leases.Stats().KeyN; listed != open {
		a.problem("%d open leases are on the list, there are %d", listed, open)
	}
	if sum != (int128{}) {
		a.problem("the derived balances add up to %d, not to 0", sum.clamped())
	}
	return nil
}

func (a *auditor) compareDocs(ctx context.Context, tx *bbolt.Tx) error {
	n := 0
	err := tx.Bucket(docBucket).ForEach(func(k, v []byte) error {
		n++
		if a.docs[keyOf(k)] != keyOf(v) {
			a.problem("the document %q is not as the journal has it", k)
		}
		return ctx.Err()
	})
	if err == nil && n != len(a.docs) {
		a.problem("%d documents are derived, the journal has %d", n, len(a.docs))
	}
	return err
}

// end completes the report. What is wrong in the books is no error here.
func (a *auditor) end(err error) (Report, error) {
	switch {
	case errors.Is(err, journal.ErrDamaged) || errors.Is(err, errStored):
		a.problem("%v", err)
	case err != nil:
		return Report{}, fmt.Errorf("ledger: audit: %w", err)
	}
	var sum, leased int128
	for i := range a.report.Accounts {
		s := a.slot(uint32(i + 1)).state
		sum.add(int64(s.Balance))
		leased.add(s.Leased)
	}
	a.report.Sum, a.report.Leased = credit.Amount(sum.clamped()), leased.clamped()
	if sum != (int128{}) {
		a.problem("the balances add up to %d, not to 0", sum.clamped())
	}
	if a.more > 0 {
		a.report.Problems = append(a.report.Problems, fmt.Sprintf("and %d more", a.more))
	}
	a.report.Head, a.report.Documents = a.at.Hash, len(a.docs)
	a.report.OK = len(a.report.Problems) == 0
	return a.report, nil
}

// int128 is a sum that a million balances do not overflow.
type int128 struct {
	hi int64
	lo uint64
}

func (n *int128) add(v int64) {
	var carry uint64
	n.lo, carry = bits.Add64(n.lo, uint64(v), 0)
	n.hi += v>>63 + int64(carry)
}

// clamped is the nearest int64.
func (n *int128) clamped() int64 {
	switch {
	case n.hi == int64(n.lo)>>63:
		return int64(n.lo)
	case n.hi < 0:
		return math.MinInt64
	}
	return math.MaxInt64
}

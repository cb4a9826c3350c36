package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"go.etcd.io/bbolt"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/journal"
)

// Report is what an audit has found.
type Report struct {
	OK        bool // no problems
	Records   uint64
	Entries   uint64
	Accounts  int
	Documents int
	Sum       credit.Amount // over the balances of all accounts: always 0
	Leased    int64         // bytes of all open leases
	Head      cas.Hash      // the chain hash of the last record
	Torn      int64         // bytes behind it that a crash has left; they are no problem
	Problems  []string      // at most maxProblems, and then one that says that there are more
}

const maxProblems = 100

// errFound ends a scan at the record that was wanted.
var errFound = errors.New("found")

// Audit reads the journal from its first byte to its end, checks the chain of
// hashes, the numbers of accounts and the links of every statement, adds all
// entries up, and compares each account and document with the derived state.
// It takes some 100 bytes of memory for an account and a document; appends and
// reads go on. What is wrong in the books is told in the report; the error is
// for an audit that could not be made.
func (l *Ledger) Audit(ctx context.Context) (Report, error) {
	a := newAuditor(filepath.Join(l.cfg.Dir, JournalDir))
	// Most of the journal is read before the derived state is taken, so that
	// the transaction that holds it is short.
	if err := a.until(ctx, l.durable()); err != nil {
		return a.end(err)
	}
	if err := l.Checkpoint(ctx); err != nil {
		return Report{}, err
	}
	return a.end(l.db.View(func(tx *bbolt.Tx) error { return a.compare(ctx, tx) }))
}

// AuditDir is Audit for a data directory that no process uses; it changes
// nothing. It compares the derived state as of the last checkpoint, and goes
// on to the last whole record. each is called for every account with its state
// there; it may be nil. Errors: ErrInUse; fs.ErrNotExist, there are no books.
func AuditDir(ctx context.Context, dir string, each func(credit.Account, credit.State) error) (Report, error) {
	a := newAuditor(filepath.Join(dir, JournalDir))
	a.keepNames = each != nil
	db, err := openStore(filepath.Join(dir, File), true)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNew): // it is made anew at the next start
	case err != nil:
		return Report{}, err
	default:
		err = errors.Join(db.View(func(tx *bbolt.Tx) error { return a.compare(ctx, tx) }), db.Close())
		if err != nil {
			return a.end(err)
		}
	}
	if err := a.until(ctx, journal.Mark{}); err != nil || each == nil {
		return a.end(err)
	}
	for i, name := range a.names {
		if err := each(name, a.slot(uint32(i+1)).state); err != nil {
			return Report{}, err
		}
	}
	return a.end(nil)
}

// auditor adds up a journal.
type auditor struct {
	dir       string
	at        journal.Mark
	report    Report
	slots     [][]slot // blocks of blockSize: slot n−1 is account n
	names     []credit.Account
	keepNames bool
	docs      map[key]key // hash of the name → hash of the document
	more      int         // problems that are not in the report
}

// slot is an account in an audit.
type slot struct {
	totals
	name uint64 // the first bytes of the name's hash
}

const blockSize = 1 << 12

type key [16]byte

func keyOf[T ~string | ~[]byte](b T) key {
	h := cas.Sum([]byte(b))
	return key(h[:16])
}

func newAuditor(dir string) *auditor { return &auditor{dir: dir, docs: make(map[key]key)} }

func (a *auditor) slot(number uint32) *slot {
	i := int(number) - 1
	if i < 0 || i >= a.report.Accounts {
		return nil
	}
	return &a.slots[i/blockSize][i%blockSize]
}

func (a *auditor) problem(format string, args ...any) {
	if len(a.report.Problems) < maxProblems {
		a.report.Problems = append(a.report.Problems, fmt.Sprintf(format, args...))
		return
	}
	a.more++
}

// until adds up the records up to a mark; the zero one is the end of the
// journal.
func (a *auditor) until(ctx context.Context, mark journal.Mark) error {
	if mark.Seq != 0 && mark.Seq <= a.at.Seq {
		return nil
	}
	end, torn, err := journal.Scan(ctx, a.dir, a.at, func(r *journal.Record) error {
		if err := a.record(r); err != nil {
			return fmt.Errorf("%w: record %d: %w", journal.ErrDamaged, r.Seq, err)
		}
		a.at = r.Mark()
		if r.Seq == mark.Seq {
			return errFound
		}
		return nil
	})
	switch {
	case errors.Is(err, errFound):
		return nil
	case err != nil:
		return err
	case mark.Seq != 0:
		return fmt.Errorf("%w: it ends with record %d, and record %d was durable", journal.ErrDamaged, end.Seq, mark.Seq)
	}
	a.at.Hash, a.report.Torn = end.Hash, torn
	return nil
}

func (a *auditor) record(r *journal.Record) error {
	a.report.Records++
	a.report.Entries += uint64(len(r.Entries))
	if len(r.Accounts) > 0 && int(r.First) != a.report.Accounts+1 {
		return fmt.Errorf("it numbers accounts from %d, the next one is %d", r.First, a.report.Accounts+1)
	}
	for _, name := range r.Accounts {
		if a.report.Accounts%blockSize == 0 {
			a.slots = append(a.slots, make([]slot, blockSize))
		}
		a.report.Accounts++
		a.slot(uint32(a.report.Accounts)).name = nameHash(name)
		if a.keepNames {
			a.names = append(a.names, name)
		}
	}
	for i := range r.Entries {
		if err := a.entry(&r.Entries[i]); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return nil
}

func (a *auditor) entry(e *journal.Entry) error {
	from, to := a.slot(e.From), a.slot(e.To)
	if from == nil || to == nil && e.To != 0 || from == to {
		return fmt.Errorf("it is from account %d to %d of %d", e.From, e.To, a.report.Accounts)
	}
	if from.last != e.PrevFrom || to != nil && to.last != e.PrevTo {
		return errors.New("it does not follow the entry that its account had before")
	}
	if e.Kind == credit.KindDoc {
		if len(e.Doc) > 0 {
			a.docs[keyOf(e.Ref)] = keyOf(e.Doc)
		} else {
			delete(a.docs, keyOf(e.Ref))
		}
	}
	if to == nil {
		return apply(e, &from.totals, nil)
	}
	return apply(e, &from.totals, &to.totals)
}

func nameHash(name credit.Account) uint64 {
	k := keyOf(name)
	return binary.BigEndian.Uint64(k[:])
}

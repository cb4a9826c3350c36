package ledger

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/journal"
)

// Statement returns the lines of an account in front of a cursor, the newest
// first: at most limit of them, 1 … 1000. The cursor that it returns is for
// the next page; the empty one says that there is none. An account that never
// appeared has no lines. Errors: ErrCursor, journal.ErrDamaged.
func (l *Ledger) Statement(ctx context.Context, a credit.Account, before Cursor, limit int) ([]credit.Line, Cursor, error) {
	if limit < 1 || limit > maxPage {
		return nil, "", fmt.Errorf("%w: a page of %d lines, it may have 1 to %d", credit.ErrEntry, limit, maxPage)
	}
	acc, err := l.account(ctx, a)
	if err != nil {
		return nil, "", err
	}
	if acc == nil {
		if before != "" {
			return nil, "", ErrCursor
		}
		return nil, "", nil
	}
	at := place{next: acc.last, balance: acc.state.Balance}
	if before != "" {
		if at, err = before.place(l.secret, a); err != nil {
			return nil, "", err
		}
	}
	entries, lines, at, err := l.walk(ctx, acc.number, at, limit)
	if err != nil {
		return nil, "", err
	}
	if err := l.nameLines(lines, entries); err != nil {
		return nil, "", err
	}
	if at.next == 0 {
		return lines, "", nil
	}
	return lines, at.cursor(l.secret, a), nil
}

// walk follows the links of an account's entries into the past. The lines have
// no names yet.
func (l *Ledger) walk(ctx context.Context, number uint32, at place, limit int) (entries []journal.Entry, lines []credit.Line, end place, err error) {
	l.mu.Lock()
	r := l.journal.Reader()
	l.mu.Unlock()
	defer func() { err = errors.Join(err, r.Close()) }()
	for at.next != 0 && len(lines) < limit {
		if err := ctx.Err(); err != nil {
			return nil, nil, at, err
		}
		e, seq, when, err := r.Entry(at.next)
		if err != nil {
			return nil, nil, at, err
		}
		if e.From != number && e.To != number {
			return nil, nil, at, fmt.Errorf("%w: the entry at %d is not of this account", journal.ErrDamaged, at.next)
		}
		if seq != at.seq {
			at.seq, at.shown = seq, at.balance
		}
		entries = append(entries, e)
		lines = append(lines, credit.Line{Seq: seq, Time: when, Balance: at.shown, Entry: credit.Entry{
			Kind: e.Kind, Amount: e.Amount, Object: e.Object, Bytes: e.Bytes, Rest: e.Rest, Ref: e.Ref, Doc: e.Doc,
		}})
		if e.From == number {
			at.balance, at.next = at.balance+e.Amount, e.PrevFrom
		} else {
			at.balance, at.next = at.balance-e.Amount, e.PrevTo
		}
	}
	return entries, lines, at, nil
}

// nameLines fills the accounts in.
func (l *Ledger) nameLines(lines []credit.Line, entries []journal.Entry) error {
	names := make(map[uint32]credit.Account)
	l.mu.Lock()
	for _, e := range entries {
		for _, number := range []uint32{e.From, e.To} {
			for _, c := range l.layers() {
				if name, ok := c.names[number]; ok {
					names[number] = name
				}
			}
		}
	}
	l.mu.Unlock()
	// What is not in memory now is in the file, and never changes.
	return l.db.View(func(tx *bbolt.Tx) error {
		name := func(number uint32) (credit.Account, error) {
			a, ok := names[number]
			if ok || number == 0 {
				return a, nil
			}
			a, err := loadName(tx, number)
			names[number] = a
			return a, err
		}
		for i, e := range entries {
			from, err := name(e.From)
			if err != nil {
				return err
			}
			to, err := name(e.To)
			if err != nil {
				return err
			}
			lines[i].Entry.From, lines[i].Entry.To = from, to
		}
		return nil
	})
}

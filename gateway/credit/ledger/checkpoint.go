package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/bbolt"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/journal"
)

// Checkpoint writes the changes since the last one into the file, in one
// transaction with the number of the last record that is in them. Nothing is
// written that is not durable in the journal. Appends and reads go on.
func (l *Ledger) Checkpoint(ctx context.Context) error {
	l.saving.Lock()
	defer l.saving.Unlock()
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return errClosed()
	}
	mark, next, j := l.tip, l.next, l.journal
	if mark == l.saved {
		l.mu.Unlock()
		return nil
	}
	frozen := l.dirty
	l.frozen, l.dirty = frozen, newChanges()
	l.mu.Unlock()

	err := j.Sync(ctx, mark.Seq)
	if err == nil {
		err = l.store(frozen, mark, next)
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = nil
	if err != nil {
		l.dirty.add(frozen)
		return err
	}
	l.saved, l.clean = mark, frozen
	return nil
}

// store writes changes and their meta in one transaction, in the order of the
// keys, which is the order of the file.
func (l *Ledger) store(c *changes, mark journal.Mark, next uint32) error {
	err := l.db.Update(func(tx *bbolt.Tx) error {
		m, err := loadMeta(tx)
		if err != nil {
			return err
		}
		m.mark, m.next = mark, next
		if err := storeAccounts(tx, c); err != nil {
			return err
		}
		if err := storeDocs(tx, c); err != nil {
			return err
		}
		if err := l.storeIDs(tx, c, &m); err != nil {
			return err
		}
		return tx.Bucket(metaBucket).Put(stateKey, m.bytes())
	})
	if err != nil {
		return fmt.Errorf("ledger: checkpoint: %w", err)
	}
	return nil
}

func storeAccounts(tx *bbolt.Tx, c *changes) error {
	accounts, leases, names := tx.Bucket(accountBucket), tx.Bucket(leaseBucket), tx.Bucket(nameBucket)
	for _, name := range slices.Sorted(maps.Keys(c.accounts)) {
		a := c.accounts[name]
		if err := accounts.Put([]byte(name), a.bytes()); err != nil {
			return err
		}
		if err := storeLease(leases, name, a.state.Leased > 0); err != nil {
			return err
		}
	}
	for _, number := range slices.Sorted(slices.Values(c.fresh)) {
		if err := names.Put(numberKey(number), []byte(c.names[number])); err != nil {
			return err
		}
	}
	return nil
}

func storeLease(leases *bbolt.Bucket, name credit.Account, open bool) error {
	switch was := leases.Get([]byte(name)) != nil; {
	case open && !was:
		return leases.Put([]byte(name), []byte{1})
	case !open && was:
		return leases.Delete([]byte(name))
	}
	return nil
}

func storeDocs(tx *bbolt.Tx, c *changes) error {
	docs := tx.Bucket(docBucket)
	for _, name := range slices.Sorted(maps.Keys(c.docs)) {
		var err error
		if d := c.docs[name]; len(d.data) > 0 {
			err = docs.Put([]byte(name), d.data)
		} else {
			err = docs.Delete([]byte(name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// storeIDs adds ids and forgets those that are too old, or too many.
func (l *Ledger) storeIDs(tx *bbolt.Tx, c *changes, m *meta) error {
	ids, order := tx.Bucket(idBucket), tx.Bucket(orderBucket)
	for _, id := range slices.SortedFunc(maps.Keys(c.ids), func(a, b cas.Hash) int { return bytes.Compare(a[:], b[:]) }) {
		s := c.ids[id]
		if err := ids.Put(id[:], seqKey(s.seq)); err != nil {
			return err
		}
		if err := order.Put(seqKey(s.seq), append(seqKey(uint64(s.time)), id[:]...)); err != nil {
			return err
		}
		m.ids++
	}
	oldest := uint64(m.mark.Time - int64(l.cfg.KeepIDs))
	cursor := order.Cursor()
	for k, v := cursor.First(); k != nil; k, v = cursor.First() {
		if len(v) != 8+cas.HashSize {
			return fmt.Errorf("%w: an id of %d bytes", errStored, len(v))
		}
		old := binary.BigEndian.Uint64(v) < oldest
		if !old && m.ids <= uint64(l.cfg.MaxIDs) {
			return nil
		}
		if err := errors.Join(ids.Delete(v[8:]), cursor.Delete()); err != nil {
			return err
		}
		m.ids--
	}
	return nil
}

func loadID(tx *bbolt.Tx, id cas.Hash) (uint64, error) {
	switch b := tx.Bucket(idBucket).Get(id[:]); len(b) {
	case 0:
		return 0, nil
	case 8:
		return binary.BigEndian.Uint64(b), nil
	}
	return 0, fmt.Errorf("%w: the seq of an id", errStored)
}

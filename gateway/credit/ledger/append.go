package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/journal"
)

// Append implements credit.Ledger. No entries are no record. Another error
// than ErrEntry and ErrAccount says that the record is not in the books, but
// for one that comes from ctx: then it may be, and the same id tells.
func (l *Ledger) Append(ctx context.Context, id string, entries []credit.Entry) (seq uint64, again bool, err error) {
	return l.Decide(ctx, id, func(credit.View) ([]credit.Entry, error) { return entries, nil })
}

// Decide implements credit.Ledger. f must ask the View that it gets, and never
// the ledger.
func (l *Ledger) Decide(ctx context.Context, id string, f func(credit.View) ([]credit.Entry, error)) (seq uint64, again bool, err error) {
	if len(id) > journal.MaxID {
		return 0, false, fmt.Errorf("%w: an id of %d bytes, more than %d", credit.ErrEntry, len(id), journal.MaxID)
	}
	if err := l.lock(ctx); err != nil {
		return 0, false, err
	}
	seq, again, err = l.decideLocked(id, f)
	// What f has seen, and what an id stands for, is waited for as well: nobody
	// acts on what a crash may take away.
	seen := seq
	if seq == 0 {
		seen = l.tip.Seq
	}
	if err := errors.Join(err, l.unlockAndSync(ctx, seen)); err != nil {
		return 0, false, err
	}
	return seq, again, nil
}

// lock locks mu when there is room for a record: in memory, and in front of
// the disk.
func (l *Ledger) lock(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return errClosed()
		}
		full := l.dueLocked(1)
		if l.dueLocked(2) {
			select {
			case l.nudge <- struct{}{}:
			default: // Run knows, or there is none
			}
		}
		j := l.journal
		if !full && j.HasRoom() {
			return nil
		}
		l.mu.Unlock()
		if full {
			if err := l.Checkpoint(ctx); err != nil {
				return err
			}
		}
		if err := j.Room(ctx); err != nil {
			return err
		}
	}
}

// dueLocked reports whether the changes are a part of what they may be.
func (l *Ledger) dueLocked(part int) bool {
	return l.dirty.weight >= l.cfg.MaxDirty/part || int64(l.tip.Pos-l.saved.Pos) >= l.cfg.CheckpointBytes/int64(part) && l.frozen == nil
}

func (l *Ledger) decideLocked(id string, f func(credit.View) ([]credit.Entry, error)) (uint64, bool, error) {
	d := l.draft()
	defer d.close()
	if id != "" {
		seq, err := d.known(cas.Sum([]byte(id)))
		if err != nil || seq > 0 {
			return seq, err == nil, err
		}
	}
	entries, err := f(d)
	if err != nil || len(entries) == 0 {
		return 0, false, err
	}
	for i := range entries {
		if err := entries[i].Validate(); err != nil {
			return 0, false, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	seq, err := d.write(id, entries)
	return seq, false, err
}

// draft is a record that is being made: what it changes, in front of the
// changes that are. It is made and used under mu.
type draft struct {
	l     *Ledger
	tx    *bbolt.Tx // opened when it is needed
	now   map[credit.Account]*account
	fresh []credit.Account
	docs  []journal.Entry // those with a document
}

func (l *Ledger) draft() *draft {
	return &draft{l: l, now: make(map[credit.Account]*account)}
}

func (d *draft) close() {
	if d.tx != nil {
		_ = d.tx.Rollback() // it has only read
	}
}

// view is a transaction that reads.
func (d *draft) view() (*bbolt.Tx, error) {
	if d.tx != nil {
		return d.tx, nil
	}
	tx, err := d.l.db.Begin(false)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	d.tx = tx
	return tx, nil
}

// find returns an account as it is before this record, or nil.
func (d *draft) find(name credit.Account) (*account, error) {
	for _, c := range d.l.layersLocked() {
		if a, ok := c.accounts[name]; ok {
			return a, nil
		}
	}
	tx, err := d.view()
	if err != nil {
		return nil, err
	}
	return loadAccount(tx, name)
}

// account returns an account to change; a new one gets a number.
func (d *draft) account(name credit.Account) (*account, error) {
	if a, ok := d.now[name]; ok {
		return a, nil
	}
	old, err := d.find(name)
	if err != nil {
		return nil, err
	}
	a := new(account)
	if old != nil {
		*a = *old
	} else {
		a.number = d.l.next + uint32(len(d.fresh))
		if a.number < d.l.next {
			return nil, fmt.Errorf("%w: there are no more numbers for accounts", credit.ErrEntry)
		}
		d.fresh = append(d.fresh, name)
	}
	d.now[name] = a
	return a, nil
}

// write stages the record of some entries.
func (d *draft) write(id string, entries []credit.Entry) (uint64, error) {
	for i := range entries {
		_, err := d.account(entries[i].From)
		if err == nil && entries[i].To != "" {
			_, err = d.account(entries[i].To)
		}
		if err != nil {
			return 0, err
		}
	}
	j := d.l.journal
	r, err := j.Draft(time.Now(), id, d.l.next, d.fresh, len(entries))
	if err != nil {
		return 0, err
	}
	for i := range entries {
		e := &entries[i]
		line := journal.Entry{
			Pos: r.Next(), Kind: e.Kind, Amount: e.Amount, Object: e.Object, Bytes: e.Bytes, Rest: e.Rest, Ref: e.Ref, Doc: e.Doc,
		}
		from, to := d.now[e.From], (*account)(nil)
		line.From, line.PrevFrom = from.number, from.last
		if e.To != "" {
			to = d.now[e.To]
			line.To, line.PrevTo = to.number, to.last
		}
		if err := apply(&line, from, to); err != nil {
			return 0, fmt.Errorf("entry %d: %w", i, err)
		}
		r.Add(&line)
		if e.Kind == credit.KindDoc {
			d.docs = append(d.docs, line)
		}
	}
	end, err := j.Stage(r)
	if err != nil {
		return 0, err
	}
	d.keep(end, id)
	return end.Seq, nil
}

// keep makes the draft's changes those of the ledger.
func (d *draft) keep(end journal.Mark, id string) {
	c := d.l.dirty
	for name, a := range d.now {
		a.seq = end.Seq
		c.setAccount(name, a)
	}
	for i, name := range d.fresh {
		c.names[d.l.next+uint32(i)] = name
	}
	d.l.next += uint32(len(d.fresh))
	for _, e := range d.docs {
		c.setDoc(e.Ref, doc{data: append([]byte(nil), e.Doc...), seq: end.Seq})
		d.l.docSeq = end.Seq
	}
	if id != "" {
		c.setID(cas.Sum([]byte(id)), idSeq{seq: end.Seq, time: end.Time})
	}
	d.l.tip = end
}

// replay makes the draft of a record that is in the journal.
func (d *draft) replay(r *journal.Record) error {
	if len(r.Accounts) > 0 && r.First != d.l.next {
		return fmt.Errorf("%w: it numbers accounts from %d, the next one is %d", journal.ErrDamaged, r.First, d.l.next)
	}
	for _, name := range r.Accounts {
		if _, err := d.account(name); err != nil {
			return err
		}
	}
	if len(d.fresh) != len(r.Accounts) {
		return fmt.Errorf("%w: it numbers an account again", journal.ErrDamaged)
	}
	for i := range r.Entries {
		e := &r.Entries[i]
		from, err := d.linked(e.From, e.PrevFrom)
		if err != nil {
			return err
		}
		var to *account
		if e.To != 0 {
			if to, err = d.linked(e.To, e.PrevTo); err != nil {
				return err
			}
		}
		if err := apply(e, from, to); err != nil {
			return err
		}
		if e.Kind == credit.KindDoc {
			d.docs = append(d.docs, *e)
		}
	}
	return nil
}

// linked returns the account with a number, whose newest entry must be at
// last.
func (d *draft) linked(number uint32, last journal.Position) (*account, error) {
	name, err := d.name(number)
	if err != nil {
		return nil, err
	}
	a, err := d.account(name)
	if err == nil && a.last != last {
		err = fmt.Errorf("%w: an entry of %s follows one at %d, its last one is at %d", journal.ErrDamaged, name, last, a.last)
	}
	return a, err
}

// name returns the name of the account with a number.
func (d *draft) name(number uint32) (credit.Account, error) {
	if i := int64(number) - int64(d.l.next); i >= 0 && i < int64(len(d.fresh)) {
		return d.fresh[i], nil
	}
	for _, c := range d.l.layersLocked() {
		if name, ok := c.names[number]; ok {
			return name, nil
		}
	}
	tx, err := d.view()
	if err != nil {
		return "", err
	}
	return loadName(tx, number)
}

func loadName(tx *bbolt.Tx, number uint32) (credit.Account, error) {
	name := tx.Bucket(nameBucket).Get(numberKey(number))
	if name == nil {
		return "", fmt.Errorf("%w: no account has number %d", journal.ErrDamaged, number)
	}
	return credit.Account(name), nil
}

// known returns the seq of the record with an id, or 0.
func (d *draft) known(id cas.Hash) (uint64, error) {
	for _, c := range d.l.layersLocked() {
		if s, ok := c.ids[id]; ok {
			return s.seq, nil
		}
	}
	tx, err := d.view()
	if err != nil {
		return 0, err
	}
	return loadID(tx, id)
}

package ledger

import (
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/journal"
)

// draft is a record that is being made: what it changes, in front of the
// changes that are. It is made and used under mu.
type draft struct {
	m     *memory
	tx    *bbolt.Tx // opened when it is needed
	now   map[credit.Account]*account
	fresh []credit.Account
	docs  []journal.Entry // those with a document
}

func (m *memory) draft() *draft {
	return &draft{m: m, now: make(map[credit.Account]*account)}
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
	tx, err := d.m.db.Begin(false)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	d.tx = tx
	return tx, nil
}

// find returns an account as it is before this record, or nil.
func (d *draft) find(name credit.Account) (*account, error) {
	for _, c := range d.m.layers() {
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
		a.number = d.m.next + uint32(len(d.fresh))
		if a.number < d.m.next || a.number == 0 {
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
	j := d.m.journal
	r, err := j.Draft(time.Now(), id, d.m.next, d.fresh, len(entries))
	if err != nil {
		return 0, err
	}
	for i := range entries {
		e := &entries[i]
		line := journal.Entry{
			Pos: r.Next(), Kind: e.Kind, Amount: e.Amount, Object: e.Object, Bytes: e.Bytes, Rest: e.Rest, Ref: e.Ref, Doc: e.Doc,
		}
		from, to := d.now[e.From], (*totals)(nil)
		line.From, line.PrevFrom = from.number, from.last
		if e.To != "" {
			a := d.now[e.To]
			line.To, line.PrevTo, to = a.number, a.last, &a.totals
		}
		if err := apply(&line, &from.totals, to); err != nil {
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
	c := d.m.dirty
	for name, a := range d.now {
		a.seq = end.Seq
		c.setAccount(name, a)
	}
	for i := range d.fresh {
		c.fresh = append(c.fresh, d.m.next+uint32(i))
	}
	d.m.next += uint32(len(d.fresh))
	for _, e := range d.docs {
		c.setDoc(e.Ref, doc{data: append([]byte(nil), e.Doc...), seq: end.Seq})
		d.m.docSeq = end.Seq
	}
	if id != "" {
		c.setID(cas.Sum([]byte(id)), idSeq{seq: end.Seq, time: end.Time})
	}
	d.m.tip = end
}

// replay makes the draft of a record that is in the journal.
func (d *draft) replay(r *journal.Record) error {
	if len(r.Accounts) > 0 && r.First != d.m.next {
		return fmt.Errorf("%w: it numbers accounts from %d, the next one is %d", journal.ErrDamaged, r.First, d.m.next)
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
		var to *totals
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
func (d *draft) linked(number uint32, last journal.Position) (*totals, error) {
	name, err := d.name(number)
	if err != nil {
		return nil, err
	}
	a, err := d.account(name)
	if err != nil {
		return nil, err
	}
	if a.last != last {
		return nil, fmt.Errorf("%w: an entry of %s follows one at %d, its last one is at %d", journal.ErrDamaged, name, last, a.last)
	}
	return &a.totals, nil
}

// name returns the name of the account with a number.
func (d *draft) name(number uint32) (credit.Account, error) {
	if i := int64(number) - int64(d.m.next); i >= 0 && i < int64(len(d.fresh)) {
		return d.fresh[i], nil
	}
	for _, c := range d.m.layers() {
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
	for _, c := range d.m.layers() {
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

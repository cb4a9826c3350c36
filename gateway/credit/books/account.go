package books

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// answerTimeout is how long other gateways have to answer a question for a
// balance.
const answerTimeout = 3 * time.Second

// Balance is what is known of an account.
type Balance struct {
	Local  credit.State  // by this node's journal
	Shared credit.Amount // the sum over all gateways
	Known  bool          // that sum is of now; else it is the last one that was known, or Local's
}

// Balance returns what is known of an account. Where books are shared, it asks
// the others, together with the next exchange (within a window), and waits for
// them some seconds at most.
func (b *Books) Balance(ctx context.Context, a credit.Account) (Balance, error) {
	local, err := b.cfg.Ledger.State(ctx, a)
	if err != nil {
		return Balance{}, err
	}
	if b.sharing == nil {
		return Balance{Local: local, Shared: local.Balance, Known: true}, nil
	}
	answer, err := b.sharing.question(ctx, a, 0)
	if err != nil && ctx.Err() != nil {
		return Balance{}, context.Cause(ctx)
	}
	if err != nil { // it is in the log and the metrics; what is known here is an answer
		v := Balance{Local: local, Shared: local.Balance}
		if p := b.known(a); p != nil {
			if others := p.others.Load(); others != nil {
				v.Shared = sum(v.Shared, others.Sum)
			}
		}
		return v, nil
	}
	return Balance{Local: local, Shared: sum(local.Balance, answer.Sum), Known: true}, nil
}

// Grant issues an amount to an account, durably when it returns. An id that was
// there before issues nothing: again is true. Errors: credit.ErrEntry,
// credit.ErrAccount.
func (b *Books) Grant(ctx context.Context, id string, to credit.Account, amount credit.Amount, note string) (seq uint64, again bool, err error) {
	return b.Ledger().Append(ctx, id, []credit.Entry{{Kind: credit.KindGrant, From: credit.Treasury, To: to, Amount: amount, Ref: note}})
}

// Spend writes entries that take amount from an account, as one record with an
// id, if the account has as much, over all gateways and without debt: else
// credit.ErrUnderfunded. A record whose id was written before is not written
// again, and no error. While shared balances are not known: ErrShare.
func (b *Books) Spend(ctx context.Context, id string, from credit.Account, amount credit.Amount, entries []credit.Entry) error {
	if amount < 0 || len(entries) == 0 {
		return fmt.Errorf("%w: spend %d with %d entries", credit.ErrEntry, amount, len(entries))
	}
	enough := func(balance credit.Amount) error {
		if balance < amount {
			return fmt.Errorf("%w: %s has %s, and needs %s", credit.ErrUnderfunded, from, balance, amount)
		}
		return nil
	}
	if b.sharing == nil {
		_, _, err := b.Ledger().Decide(ctx, id, func(v credit.View) ([]credit.Entry, error) {
			state, err := v.State(ctx, from)
			if err == nil {
				err = enough(state.Balance)
			}
			return entries, err
		})
		return err
	}
	return b.spendShared(ctx, id, from, amount, entries, enough)
}

// spendShared first shows the amount to the other gateways as spent, and then
// looks whether it is there: of two who do so at the same time, at least one
// sees both. When nothing is left between them, both may be refused.
func (b *Books) spendShared(ctx context.Context, id string, from credit.Account, amount credit.Amount, entries []credit.Entry, enough func(credit.Amount) error) error {
	select {
	case b.spends <- struct{}{}:
		defer func() { <-b.spends }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if _, again, err := b.Ledger().Decide(ctx, id, func(credit.View) ([]credit.Entry, error) { return nil, nil }); err != nil || again {
		return err
	}
	answer, err := b.sharing.question(ctx, from, amount)
	defer b.sharing.release(from, amount)
	if err != nil {
		return err
	}
	if err := enough(sum(answer.own, answer.Sum)); err != nil {
		return err
	}
	_, _, err = b.Ledger().Append(ctx, id, entries)
	return err
}

// termsJSON is the document that has an account's terms.
type termsJSON struct {
	WhenEmpty credit.Empty  `json:"when_empty,omitempty"`
	Debt      credit.Amount `json:"debt,omitempty"`
}

// errTerms says: a document has no terms.
var errTerms = errors.New("books: not the terms")

// termsPrefix is in front of the account in a document's name.
const termsPrefix = "terms/"

// termsDoc names the document of an account. A name that would be too long
// has the account's hash instead, which is no account.
func termsDoc(a credit.Account) string {
	name := termsPrefix + string(a)
	if len(name) > credit.MaxRef {
		name = termsPrefix + cas.Sum([]byte(a)).String()
	}
	return name
}

// Terms returns what an account has agreed upon with this node; the zero Terms
// if nothing.
func (b *Books) Terms(ctx context.Context, a credit.Account) (credit.Terms, error) {
	doc, err := b.cfg.Ledger.Doc(ctx, termsDoc(a))
	if err != nil || len(doc) == 0 {
		return credit.Terms{}, err
	}
	var t termsJSON
	err = json.Unmarshal(doc, &t)
	if err == nil {
		err = credit.Terms(t).Validate()
	}
	if err != nil {
		return credit.Terms{}, fmt.Errorf("%w of %s, set them again: %w", errTerms, a, err)
	}
	return credit.Terms(t), nil
}

// SetTerms changes what an account has agreed upon: what is not nil. It holds
// durably when it returns, from the next window on. Errors: credit.ErrEntry,
// credit.ErrAccount.
func (b *Books) SetTerms(ctx context.Context, a credit.Account, whenEmpty *credit.Empty, debt *credit.Amount) error {
	_, _, err := b.Ledger().Decide(ctx, "", func(v credit.View) ([]credit.Entry, error) {
		var t termsJSON
		old, err := v.Doc(ctx, termsDoc(a))
		if err != nil {
			return nil, err
		}
		if len(old) > 0 && json.Unmarshal(old, &t) != nil {
			t = termsJSON{} // they are set again
		}
		if whenEmpty != nil {
			t.WhenEmpty = *whenEmpty
		}
		if debt != nil {
			t.Debt = *debt
		}
		if err := credit.Terms(t).Validate(); err != nil {
			return nil, err
		}
		doc, err := json.Marshal(t)
		if err != nil {
			return nil, err
		}
		return []credit.Entry{{Kind: credit.KindDoc, From: a, Ref: termsDoc(a), Doc: doc}}, nil
	})
	return err
}

// Ledger is the ledger for all others who write into it: what they write is
// noticed, so that standings and shared balances follow.
func (b *Books) Ledger() credit.Ledger { return watched{b.cfg.Ledger, b} }

type watched struct {
	credit.Ledger
	b *Books
}

// Append implements credit.Ledger.
func (w watched) Append(ctx context.Context, id string, entries []credit.Entry) (uint64, bool, error) {
	seq, again, err := w.Ledger.Append(ctx, id, entries)
	w.noticed(seq, entries, err)
	return seq, again, err
}

// Decide implements credit.Ledger.
func (w watched) Decide(ctx context.Context, id string, f func(credit.View) ([]credit.Entry, error)) (uint64, bool, error) {
	var entries []credit.Entry
	seq, again, err := w.Ledger.Decide(ctx, id, func(v credit.View) (_ []credit.Entry, err error) {
		entries, err = f(v)
		return entries, err
	})
	w.noticed(seq, entries, err)
	return seq, again, err
}

// noticed has the accounts of a record looked at again. After an error too: a
// context that ended says nothing about the record.
func (w watched) noticed(seq uint64, entries []credit.Entry, err error) {
	if err == nil {
		w.b.wrote(seq)
	}
	for i := range entries {
		for _, a := range [...]credit.Account{entries[i].From, entries[i].To} {
			if a == "" {
				continue
			}
			if p := w.b.known(a); p != nil {
				p.stale.Store(true)
				p.mark()
			}
			w.b.touch(a)
		}
	}
}

// touch has an account's sum given to the other gateways.
func (b *Books) touch(a credit.Account) {
	if b.sharing != nil {
		b.sharing.touch(a)
	}
}

// wrote notes the number of a record.
func (b *Books) wrote(seq uint64) {
	if b.sharing != nil {
		b.sharing.wrote(seq)
	}
}

// learn notes what the other gateways have of an account.
func (b *Books) learn(a credit.Account, others Others) {
	p := b.known(a)
	if p == nil || p == b.house {
		return
	}
	if old := p.others.Load(); old != nil && *old == others {
		return
	}
	p.others.Store(&others)
	p.mark()
}

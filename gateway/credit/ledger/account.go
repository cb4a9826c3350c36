package ledger

import (
	"fmt"
	"math"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/journal"
)

// account is what the ledger keeps of an account.
type account struct {
	number uint32
	seq    uint64 // of the record of its newest entry; known while it is in memory
	totals
}

// totals are what an account's entries add up to.
type totals struct {
	last  journal.Position // of the newest of them
	state credit.State
}

// apply changes the states of an entry's accounts as the entry says; to is nil
// if there is none. The entry's place in their statements must be right
// already. credit.ErrEntry if a number would get too large; then the states
// are worth nothing.
func apply(e *journal.Entry, from, to *totals) error {
	ok := true
	add := func(n *int64, by int64) { ok = addTo(n, by) && ok }
	touch := func(a *totals) {
		a.last = e.Pos
		add(&a.state.Entries, 1)
	}
	touch(from)
	if to != nil {
		touch(to)
		balance(&from.state, -e.Amount, &ok)
		balance(&to.state, e.Amount, &ok)
	}
	switch e.Kind {
	case credit.KindServe:
		add(&from.state.Served, e.Bytes)
		from.state.Rest = e.Rest
		if to != nil {
			add(&to.state.Earned, e.Bytes)
		}
	case credit.KindLease:
		from.state.Leased = e.Bytes
	case credit.KindAttest:
		add(&from.state.Attested, e.Bytes)
		if to != nil {
			add(&to.state.Proven, e.Bytes)
		}
	}
	if !ok {
		return fmt.Errorf("%w: an account would count beyond 2⁶³", credit.ErrEntry)
	}
	return nil
}

func balance(s *credit.State, by credit.Amount, ok *bool) {
	n := int64(s.Balance)
	*ok = addTo(&n, int64(by)) && *ok
	s.Balance = credit.Amount(n)
}

// addTo adds, unless the sum does not fit.
func addTo(n *int64, by int64) bool {
	if by > 0 && *n > math.MaxInt64-by || by < 0 && *n < math.MinInt64-by {
		return false
	}
	*n += by
	return true
}

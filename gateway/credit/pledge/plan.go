package pledge

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// Epoch is a stretch of time that holders are paid for at once. Epochs are
// aligned to the clock, so that they are the same on every node.
type Epoch struct {
	Number     int64 // since 1970
	Start, End time.Time
}

// epochAt is the epoch that t is in.
func epochAt(t time.Time, length time.Duration) Epoch {
	n := t.Unix() / int64(length/time.Second)
	start := time.Unix(n*int64(length/time.Second), 0).UTC()
	return Epoch{n, start, start.Add(length)}
}

// Holding says that somebody held an object for an epoch.
type Holding struct {
	Account credit.Account // who is paid
	Bytes   int64          // stored bytes that it held
	Ask     credit.Price   // for 2³⁰ of them and an hour
}

// Holders knows who holds what. Until retention is proven, whose promise stood
// for the whole epoch.
type Holders interface {
	// Holders returns who held object in a complete epoch, in any order. An error
	// leaves the epoch unpaid until it is asked for again.
	Holders(ctx context.Context, object cas.Hash, e Epoch) ([]Holding, error)
}

// payment is what a holder gets for an epoch.
type payment struct {
	Holding
	amount credit.Amount
}

// settled is p after an epoch, or after the part of it in which p stood, and
// who is paid for it. length is what epochs have, notice how many of them are
// the last ones.
func (p Pledge) settled(e Epoch, holdings []Holding, length time.Duration, notice int) (Pledge, []payment) {
	until := e.End
	if !p.Ends.IsZero() && p.Ends.Before(until) {
		until = p.Ends
	}
	span := until.Sub(p.Settled)
	chosen := choose(p.Request, holdings)
	paid := make([]payment, 0, len(chosen))
	for i := range chosen {
		h := chosen[(int64(i)+e.Number)%int64(len(chosen))] // each is the first to draw on the rest in turn
		var amount credit.Amount
		amount, p.Rest = charge(h.Bytes, h.Ask, span, p.Rest)
		amount = min(amount, p.Escrow()) // it never is more, unless the length of epochs was changed
		p.Paid += amount
		paid = append(paid, payment{h, amount})
	}
	p.Settled = until
	p.Epochs++
	return p.outlook(e.End, length, notice), paid
}

// outlook is p with the state that follows from what is left of it. now is when
// it ends, if it does.
func (p Pledge) outlook(now time.Time, length time.Duration, notice int) Pledge {
	switch {
	case !p.Ends.IsZero() && !p.Settled.Before(p.Ends):
		if p.State != Released {
			p.State = Done
		}
		return p.closed(now)
	case p.Ends.IsZero() && p.most(length) > p.Escrow():
		p.State = Dry
		return p.closed(now)
	case p.State == Released:
	case p.Until().Sub(p.Settled) < time.Duration(notice)*length:
		p.State = Low
	default:
		p.State = Active
	}
	return p
}

// closed is p with nothing in escrow.
func (p Pledge) closed(now time.Time) Pledge {
	p.Returned += p.Escrow()
	p.Over = now
	return p
}

// most is what p can cost for the next d.
func (p Pledge) most(d time.Duration) credit.Amount {
	amount, _ := charge(p.Request.Bytes*int64(p.Request.RF), p.Request.PriceCap, d, p.Rest)
	return amount
}

// released is p after its owner ended it at now: all that the time until then
// cannot cost goes back.
func (p Pledge) released(now time.Time) Pledge {
	p.State, p.Ends = Released, now
	if !p.Settled.Before(now) {
		return p.closed(now)
	}
	p.Returned += p.Escrow() - min(p.Escrow(), p.most(now.Sub(p.Settled)))
	return p
}

// choose returns the holders that a pledge pays: those within its cap, the
// cheapest first, at most as many as it has replicas, each account once, and
// none for more bytes than the object has. Among those that ask for the same,
// the object decides, so that no holder is behind the others everywhere.
func choose(r Request, holdings []Holding) []Holding {
	type candidate struct {
		Holding
		rank cas.Hash
	}
	var all []candidate
	for _, h := range holdings {
		if h.Ask < 0 || h.Ask > r.PriceCap || h.Bytes < 1 || h.Account.IsEscrow() || h.Account == credit.Treasury || h.Account.Validate() != nil {
			continue
		}
		h.Bytes = min(h.Bytes, r.Bytes)
		all = append(all, candidate{h, cas.Sum(append(r.Object[:], h.Account...))})
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.Ask, b.Ask), cmp.Compare(b.Bytes, a.Bytes), bytes.Compare(a.rank[:], b.rank[:]))
	})
	seen := make(map[credit.Account]bool)
	var chosen []Holding
	for _, c := range all {
		if len(chosen) < r.RF && !seen[c.Account] {
			seen[c.Account] = true
			chosen = append(chosen, c.Holding)
		}
	}
	return chosen
}

package books

import (
	"math"
	"math/bits"

	"inos.dev/edge/gateway/credit"
)

// Standings of an account, as Take and Admit look at them. The order matters.
const (
	standingGood      int32 = iota // it pays, or the house pays for it
	standingThrottled              // slowly
	standingRefused                // not at all; what was admitted before is throttled
)

// view is what a decision about an account is made of.
type view struct {
	local  credit.Amount // balance by this node's journal
	others *Others       // nil: not known
	terms  credit.Terms
}

// stand decides how an account stands: pure. unknown is what the other
// gateways are taken to have for it while nobody knows. onHouse says that the
// account is at its limit, so that the house pays what is still sent on it.
func stand(v view, unknown credit.Amount) (standing int32, onHouse bool) {
	balance := sum(v.local, unknown)
	if v.others != nil {
		balance = sum(v.local, v.others.Sum)
	}
	if balance > 0 {
		return standingGood, false
	}
	onHouse = balance <= -v.terms.Debt
	switch {
	case v.others == nil: // nobody is refused because Redis is away
		return standingGood, onHouse
	case v.terms.WhenEmpty == credit.Refuse:
		return standingRefused, onHouse
	case v.terms.WhenEmpty == credit.Throttle:
		return standingThrottled, onHouse
	}
	return standingGood, onHouse
}

// afford is how many bytes the account can still pay for, when the open leases
// of other gateways are used up.
func afford(v view, price credit.Price) int64 {
	left := sum(v.local, v.terms.Debt)
	if v.others == nil || price == 0 {
		return math.MaxInt64
	}
	reserved, _ := price.For(v.others.Leased, 0)
	left = sum(sum(left, v.others.Sum), -reserved)
	if left <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(left), 1<<30)
	if hi >= uint64(price) {
		return math.MaxInt64
	}
	n, _ := bits.Div64(hi, lo, uint64(price))
	return int64(min(n, math.MaxInt64))
}

// sum adds, and stays at the end of the numbers.
func sum(a, b credit.Amount) credit.Amount {
	switch {
	case b > 0 && a > math.MaxInt64-b:
		return math.MaxInt64
	case b < 0 && a < math.MinInt64-b:
		return math.MinInt64
	}
	return a + b
}

// need is what the size of a lease is decided from. All are bytes.
type need struct {
	lease   int64 // that the journal has now
	used    int64 // reserved, or sent and in no record, after the one that is being made
	waiting int64 // that takers wait for
	window  int64 // charged in a window lately
	afford  int64
	limit   int64 // the most that a lease may have
	over    bool  // idle or closing: nothing is wanted any more
}

// size decides how large a lease should be: pure. It is never less than what
// is used, and changes only if it must, since every change is an entry.
func (c *Config) size(n need) int64 {
	if n.over {
		return n.used
	}
	room := max(c.Lease, min(4*n.window, n.afford, c.MaxLease))
	want := max(n.used, min(n.used+n.waiting+room, n.limit))
	free := n.lease - n.used
	if n.waiting == 0 && free >= room/2 && n.lease <= 2*want {
		return n.lease
	}
	return want
}

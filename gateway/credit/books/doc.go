// Package books charges the bytes that leave a node to those who pay for them.
//
// A line is one owner and one object. Who serves opens the line, takes bytes
// from it before they are sent, and settles what was sent afterwards; all of
// that is a few atomic operations in memory. Once in a window (250 ms) the
// flusher writes one record: what each line was charged, and the leases.
//
// # Leases
//
// A lease is a number of bytes that the journal says a node may send on an
// account before it charges them. It is absolute: the last entry holds. At
// every instant, for each payer,
//
//	bytes reserved, or sent and in no record  ≤  the lease in the journal
//
// so that after a crash, whatever clients have received is either charged or
// within an open lease: Σ charged + leases ≥ Σ sent. New writes the leases of
// the last run back to zero: what was in doubt goes back to the payer.
//
// The node keeps, for each payer, free = lease − (reserved, or sent and in no
// record). Take lowers free, and fails if it would fall below zero. Settle
// raises it by what was not sent. Sent bytes stay out of free until they are in
// a durable record. A lease grows to four windows of what is read on it, is
// raised before it is used up, and goes back when nobody has read for ten
// seconds.
//
// A payer without a lease borrows from the float, a lease on the node's house
// that is open from the start: reserved bytes of his are below the house's
// lease until the next record gives him one, which pays the float back.
//
// # The one race: bytes that are taken while the record is synced
//
// A payer has a lease of 100 and free 40; 60 were sent.
//
//	flusher                                   a reader
//	swaps the line's counter: 60 to charge
//	decides the new lease: 130                Take(30): free 10
//	Append: charged 60, lease 130             Settle(30, 30): the counter is 30
//	 … the disk syncs                         Take(10): free 0
//	 … crash here: lease 100 stands for       Take(20) waits
//	   60 + 30 + 10; or, if the record was
//	   whole, 60 are charged and 130 stand
//	   for 30 + 10
//	Append returns: the record is durable
//	free += 60 + (130 − 100)                  Take(20): free 70
//
// What the reader does before the record is durable fits the old lease, since
// free was not raised; once it is durable, the charge has left the lease and the
// growth has come. The flusher must not lower a lease under a reader's feet: so
// when one shrinks, it first takes the difference from free, as if it were a
// reader, and only what it got leaves the lease. The same holds for what goes
// back to the float.
//
// # When the journal cannot be written
//
// Serving goes on: the float gets Unbooked more bytes (64 GiB) that no lease
// stands for, and everybody may borrow from it. Counters keep what was sent,
// for as long as it takes, and the first record that succeeds charges it
// exactly; only if the node ends before, is it lost. That it happens is logged,
// and inos_credit_journal_failing is 1. Beyond Unbooked, Take is ErrUnbooked.
// A journal that takes longer than two seconds counts as failing.
//
// # Who pays
//
// At each flush an account's standing follows from its balance and terms (see
// stand). Above zero it pays. At or below zero it is served on debt, throttled,
// or refused, as its owner chose; and from its debt limit on the house pays
// what is still sent. So debt never exceeds its limit by more than what one
// window charges, which the lease bounds. Standing of an account that comes
// into memory is known a window later; until then it is good.
//
// # Several gateways
//
// A Share keeps for each account the sum of each gateway's own journal. They
// are said anew, never added to, so that a repeated, late or reordered message
// does no harm (Share). The balance of an account is then its sum here, which
// is always exact, and those of the others, as they were told last. At most
// once in a window, all that has changed is told and all that is wanted is
// asked, in one request. Nothing on the way of a byte waits for that.
//
// When the others cannot be reached, serving goes on by the last known sums,
// leases are extended, charges go to the journal. When the shared memory was
// lost, it has another generation: every gateway that notices pushes all of its
// sums again, page by page, and the last known sums of the others hold until
// all gateways that took part before have done so, or for two minutes.
//
// The charges of an account that has just come into memory wait, under its
// lease, until the others have told what they have of it: that decides who pays.
// If they cannot be reached, they are taken to have as much as one lease costs,
// and nobody is refused: that bounds what an outage at the start can cost.
package books

package gateway

import (
	"context"
	"net/http"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/books"
	"inos.dev/edge/mesh"
)

// Accounts is who pays for what answers send, and what counts it. The zero
// value charges nobody and counts nothing.
type Accounts struct {
	// Books charge the bytes of all answers; nil: nobody pays.
	Books *books.Books
	// Payer says on whose account a chunk is read, or a whole object: its owner,
	// and the object that it is charged under. Neither waits nor allocates. nil:
	// the house pays for everything.
	Payer func(h cas.Hash, whole bool) (owner string, object cas.Hash)
	// Heat counts the bytes of chunks; nil: nothing is hot.
	Heat Heat
	// Deliveries count for clients that sign receipts; nil: there are none.
	Deliveries Deliveries
}

// Heat counts what is read; *heat.Counter is one. Count neither waits nor
// allocates.
type Heat interface {
	Count(chunk cas.Hash, n int64)
}

// Deliveries count what is sent under a nonce; *delivery.Sessions is one.
type Deliveries interface {
	Count(nonce mesh.Nonce, payer credit.Account, object cas.Hash, n int64) bool
}

// deliveryHeader names the delivery that an answer is to be counted for.
const deliveryHeader = "Inos-Delivery"

// bill is what an answer owes. Bytes are reserved before they are sent, and
// charged as far as the connection took them.
type bill struct {
	line     *books.Line // nil: what is sent goes to the house
	reserved int64       // and not settled yet
	settled  int64       // of recorder.bytes

	delivery mesh.Nonce // zero: none
}

// openBill finds out who pays for an answer out of h, a chunk or an object,
// and whether anybody may read on that account.
func (g *Gateway) openBill(w *recorder, r *http.Request, h cas.Hash, whole bool) error {
	a := &g.cfg.Accounts
	if a.Books == nil || w.bill.line != nil {
		return nil
	}
	var owner string
	var object cas.Hash
	if a.Payer != nil {
		owner, object = a.Payer(h, whole)
	}
	line := a.Books.Open(owner, object)
	if line.Refused() { // the owner gets another answer: only now it matters who reads
		if err := line.Admit(g.reader(w, r)); err != nil {
			line.Close()
			return err
		}
	}
	w.bill.line = line
	if a.Deliveries != nil && r.Header[deliveryHeader] != nil {
		if nonce, err := mesh.ParseNonce(r.Header.Get(deliveryHeader)); err == nil {
			w.bill.delivery = nonce
		}
	}
	return nil
}

// reader is the subject that reads, "" for anybody.
func (g *Gateway) reader(w *recorder, r *http.Request) string {
	id, err := g.cfg.Auth.FromRequest(r, w.conn(r))
	if err != nil {
		id = auth.Identity{} // reads are open: he is nobody
	}
	return id.Subject
}

// reserve makes sure that n more bytes may be sent, and charges those that
// were.
func (w *recorder) reserve(ctx context.Context, n int64) error {
	if w.bill.line == nil {
		return nil
	}
	w.settleBill()
	throttled := w.bill.line.Throttled()
	if throttled { // nothing is written meanwhile, and HTTP/2 would end the stream
		_ = w.control().SetWriteDeadline(time.Time{}) // as in extend
	}
	if err := w.bill.line.Take(ctx, n); err != nil {
		return err
	}
	if throttled {
		w.extend(n)
	}
	w.bill.reserved = n
	return nil
}

// settleBill charges what was sent since the last time.
func (w *recorder) settleBill() {
	b := &w.bill
	sent := w.bytes - b.settled
	b.line.Settle(b.reserved, sent)
	b.reserved, b.settled = 0, w.bytes
	if sent > 0 && !b.delivery.IsZero() {
		// A delivery that is over confirms nothing; the answer goes on.
		_ = w.g.cfg.Accounts.Deliveries.Count(b.delivery, b.line.Account(), b.line.Object(), sent)
	}
}

// endBill charges what was sent. What comes then is no content (an error, a
// listing), and the house's.
func (w *recorder) endBill() {
	if w.bill.line == nil {
		return
	}
	w.settleBill()
	w.bill.line.Close()
	w.bill = bill{settled: w.bytes}
}

// closeBill charges the rest. What had no payer is the house's: errors,
// listings, answers of the API.
func (w *recorder) closeBill() {
	w.endBill()
	accounts := &w.g.cfg.Accounts
	if n := w.bytes - w.bill.settled; n > 0 && accounts.Books != nil {
		line := accounts.Books.Open("", cas.Hash{})
		line.Settle(0, n)
		line.Close()
	}
}

// heat counts bytes of a chunk that were sent, decoded or not.
func (g *Gateway) heat(chunk cas.Hash, n int64) {
	if g.cfg.Accounts.Heat != nil && n > 0 {
		g.cfg.Accounts.Heat.Count(chunk, n)
	}
}

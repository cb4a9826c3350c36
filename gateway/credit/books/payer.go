package books

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"inos.dev/edge/gateway/credit"
)

var (
	// ErrUnbooked says: the journal fails, and as much as may be served without
	// it was served.
	ErrUnbooked = errors.New("the journal of the node cannot be written, and what may be served without it was served")
	// ErrClosed says: Close was called.
	ErrClosed = errors.New("the books are closed")
)

// retryAfter is when a reader who was refused may come again: an owner needs
// about so long to get credits.
const retryAfter = time.Minute

// OutOfCreditError is credit.ErrOutOfCredit and says whose account is empty.
type OutOfCreditError struct {
	Account    credit.Account
	Own        bool // the reader is the owner
	RetryAfter time.Duration
}

func (e *OutOfCreditError) Error() string {
	return fmt.Sprintf("%v: %s; try again in %v", credit.ErrOutOfCredit, e.Account, e.RetryAfter)
}

// Unwrap implements errors.Is.
func (e *OutOfCreditError) Unwrap() error { return credit.ErrOutOfCredit }

// pool is a number of bytes that are reserved by taking from it. It may be
// below zero, and then nobody takes.
type pool struct{ atomic.Int64 }

// take takes n bytes, if they are there.
func (p *pool) take(n int64) bool { return p.upTo(n, n) == n }

// upTo takes up to n bytes, at least least; or none.
func (p *pool) upTo(n, least int64) int64 {
	for {
		have := p.Load()
		got := min(n, have)
		if got < least || got <= 0 {
			return 0
		}
		if p.CompareAndSwap(have, have-got) {
			return got
		}
	}
}

// payer is an account with lines.
type payer struct {
	books   *Books
	account credit.Account
	limiter *rate.Limiter // of those who are throttled

	free     pool         // of the lease and of what is borrowed: neither reserved nor sent
	standing atomic.Int32 // see standing
	housed   atomic.Bool  // as book.onHouse
	leased   atomic.Bool  // there is a lease
	borrowed atomic.Int64 // from the float, and not repaid
	waiting  atomic.Int64 // bytes that takers wait for
	marked   atomic.Bool  // in Books.active
	stale    atomic.Bool  // the ledger says something else than the fields below
	others   atomic.Pointer[Others]

	mu      sync.Mutex    // guards changed
	changed chan struct{} // closed when there may be more in free; nil: nobody waits

	lines int // guarded by Books.payersMu

	book // guarded by Books.flushing
}

// book is what only the flusher knows of a payer.
type book struct {
	loaded  bool
	local   credit.Amount // balance by this node's journal
	rest    uint32        // see credit.Entry.Rest
	terms   credit.Terms
	onHouse bool // beyond its limit: the house pays

	lease   int64     // the open lease that the journal has
	window  int64     // bytes charged in a window lately
	charged int64     // bytes charged since
	since   time.Time // that
	used    time.Time // when bytes were last taken
	first   time.Time // when a flush first looked
	looked  time.Time // when one last did
	job     *job      // what the record that is being made has of it
}

func (b *Books) newPayer(account credit.Account) *payer {
	limit := b.cfg.ThrottleRate
	return &payer{books: b, account: account, limiter: rate.NewLimiter(rate.Limit(limit), int(limit))}
}

// payerOf counts one more line of an owner's payer, which it makes if need be.
func (b *Books) payerOf(owner string) *payer {
	if owner == "" || b.operators[owner] {
		return b.house
	}
	b.payersMu.Lock()
	defer b.payersMu.Unlock()
	p := b.payers[owner]
	if p == nil {
		account := credit.User(owner)
		if account.Validate() != nil || len(b.payers) >= b.cfg.MaxLines {
			return b.house
		}
		p = b.newPayer(account)
		b.payers[strings.Clone(owner)] = p
		p.mark()
	}
	p.lines++
	return p
}

// leave counts one line less.
func (b *Books) leave(p *payer) {
	if p == b.house {
		return
	}
	b.payersMu.Lock()
	defer b.payersMu.Unlock()
	p.lines--
}

// known returns the payer of an account, if it is in memory.
func (b *Books) known(a credit.Account) *payer {
	if a == b.house.account {
		return b.house
	}
	if !a.IsUser() {
		return nil
	}
	b.payersMu.Lock()
	defer b.payersMu.Unlock()
	return b.payers[a.Subject()]
}

// mark has the next flush look at p.
func (p *payer) mark() {
	if p.marked.Load() || p.marked.Swap(true) {
		return
	}
	b := p.books
	b.activeMu.Lock()
	defer b.activeMu.Unlock()
	b.active = append(b.active, p)
}

func (p *payer) refuse(reader string) error {
	p.mark() // it may have got credits
	p.books.metrics.refused.Inc()
	return &OutOfCreditError{Account: p.account, Own: reader != "" && p.account == credit.User(reader), RetryAfter: retryAfter}
}

// give makes n bytes free: of a reservation that was not used, or by a record.
func (p *payer) give(n int64) {
	p.free.Add(n)
	if p.waiting.Load() > 0 {
		p.notify()
	}
}

// take is Take where one look is not enough.
func (p *payer) take(ctx context.Context, n int64) error {
	if n <= 0 {
		return nil
	}
	if n > p.books.cfg.MaxLease {
		return fmt.Errorf("books: %d bytes at once; a lease has at most %d: take less", n, p.books.cfg.MaxLease)
	}
	if p.standing.Load() >= standingThrottled {
		if err := p.throttle(ctx, n); err != nil {
			return err
		}
	}
	if p.free.take(n) || p.borrow(n) {
		return nil
	}
	return p.wait(ctx, n)
}

// throttle waits until n bytes fit the rate of those who are throttled.
func (p *payer) throttle(ctx context.Context, n int64) error {
	p.books.metrics.throttled.Inc()
	for n > 0 {
		part := min(n, int64(p.limiter.Burst()))
		if err := p.limiter.WaitN(ctx, int(part)); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("books: %s is throttled: %w", p.account, err) // the deadline would come first
		}
		n -= part
	}
	return nil
}

// borrow takes n bytes from the node's float: for a payer that has no lease
// yet, and for all while the journal fails.
func (p *payer) borrow(n int64) bool {
	b := p.books
	if p.leased.Load() && !b.failing.Load() || !b.float.take(n) {
		return false
	}
	p.borrowed.Add(n)
	p.mark()
	if b.float.Load() < b.cfg.Float/2 {
		b.wakeFlusher()
	}
	return true
}

// wait waits for the next record.
func (p *payer) wait(ctx context.Context, n int64) error {
	b := p.books
	b.metrics.waits.Inc()
	p.waiting.Add(n)
	defer p.waiting.Add(-n)
	for {
		changed, alarm := p.change(), b.alarmed()
		switch {
		case p.free.take(n) || p.borrow(n):
			return nil
		case b.closed.Load():
			return ErrClosed
		case b.failing.Load():
			return ErrUnbooked
		}
		p.mark()
		b.wakeFlusher()
		select {
		case <-changed:
		case <-alarm:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// change is closed by the next notify.
func (p *payer) change() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}

// notify has all who wait look again.
func (p *payer) notify() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

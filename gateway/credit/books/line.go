package books

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// shardCount is in how many parts the lines are: a power of two.
const shardCount = 64

// shard has the lines of the objects whose hashes begin alike.
type shard struct {
	mu    sync.Mutex // guards the fields below
	lines map[lineKey]*Line
	dirty []*Line // with bytes that no record has

	_ [64]byte // the next shard's lock is in another cache line
}

type lineKey struct {
	owner  string
	object cas.Hash
}

// Line is what one owner is charged for one object; get it with Books.Open.
// Its methods may be called at the same time, until Close.
type Line struct {
	payer  *payer
	object cas.Hash
	shard  *shard
	refs   atomic.Int32
	idle   bool         // nobody has opened it since the last sweep; guarded by shard.mu
	sent   atomic.Int64 // bytes that no record has
}

// Open returns the line of an object's owner, the subject of a token. The line
// of "", of an operator, and of a subject that is no account, is the house's.
// The caller closes it.
func (b *Books) Open(owner string, object cas.Hash) *Line {
	s := &b.shards[object[0]&(shardCount-1)]
	s.mu.Lock()
	l := s.lines[lineKey{owner, object}]
	if l != nil {
		l.refs.Add(1)
		if l.idle {
			l.idle = false
		}
		s.mu.Unlock()
		return l
	}
	if !object.IsZero() && b.lines.Load() >= int64(b.cfg.MaxLines) {
		s.mu.Unlock()
		return b.Open(owner, cas.Hash{}) // there is one of these for each payer
	}
	p := b.payerOf(owner)
	if p == b.house && object.IsZero() {
		owner = ""
		if l = s.lines[lineKey{owner, object}]; l != nil {
			l.refs.Add(1)
			s.mu.Unlock()
			return l
		}
	}
	l = &Line{payer: p, object: object, shard: s}
	l.refs.Store(1)
	s.lines[lineKey{strings.Clone(owner), object}] = l
	b.lines.Add(1)
	s.mu.Unlock()
	return l
}

// Close ends the use of l. Everything taken must have been settled.
func (l *Line) Close() { l.refs.Add(-1) }

// Account is who is charged for what is sent now: the owner, or the house for
// one who is beyond his limit. The next record may see it otherwise.
func (l *Line) Account() credit.Account {
	if l.payer.housed.Load() {
		return l.payer.books.house.account
	}
	return l.payer.account
}

// Object is the object that the line is for; the zero Hash is none.
func (l *Line) Object() cas.Hash { return l.object }

// Refused reports whether Admit has an error for everybody.
func (l *Line) Refused() bool { return l.payer.standing.Load() >= standingRefused }

// Throttled reports whether Take may wait for long.
func (l *Line) Throttled() bool { return l.payer.standing.Load() >= standingThrottled }

// Admit says whether a reader, the subject of a token or "", may be served on
// the line's account: nil, or *OutOfCreditError. It looks into memory alone.
func (l *Line) Admit(reader string) error {
	if !l.Refused() {
		return nil
	}
	return l.payer.refuse(reader)
}

// Take reserves n bytes before they are sent. It waits only if the account is
// throttled, or if its lease is used up: then for the next record. It fails if
// ctx ends first, with its cause; ErrClosed; ErrUnbooked; or if n is more than
// a lease may have.
func (l *Line) Take(ctx context.Context, n int64) error {
	p := l.payer
	if !l.Throttled() {
		if p.free.Add(-n) >= 0 {
			return nil
		}
		p.free.Add(n)
	}
	return p.take(ctx, n)
}

// Settle ends what Take began: of the bytes taken, so many were sent. What was
// sent is charged with the next record, the others are free again. Bytes that
// were sent and not taken (small ones, such as an overhead known too late) are
// charged all the same; only until the next record no lease stands for them.
func (l *Line) Settle(taken, sent int64) {
	if sent > 0 && l.sent.Add(sent) == sent {
		l.shard.mu.Lock()
		l.shard.dirty = append(l.shard.dirty, l)
		l.shard.mu.Unlock()
	}
	if back := taken - sent; back != 0 {
		l.payer.give(back)
	}
}

// putBack returns bytes that could not be charged.
func (l *Line) putBack(n int64) { l.Settle(n, n) }

// sweep forgets the lines of a shard that nobody uses: those that were not
// opened since the last time, or all of them.
func (b *Books) sweep(s *shard, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, l := range s.lines {
		switch {
		case l.refs.Load() > 0 || l.sent.Load() > 0:
		case l.idle || all:
			delete(s.lines, k)
			b.lines.Add(-1)
			b.leave(l.payer)
		default:
			l.idle = true
		}
	}
}

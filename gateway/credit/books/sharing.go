package books

import (
	"context"
	"fmt"
	"sync"
	"time"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/mesh"
)

const (
	// leastExchange is the least time between exchanges: four in a second.
	leastExchange = 250 * time.Millisecond
	// heartbeat is the time between exchanges that have nothing to say: so a
	// loss is noticed by those who are idle, too, and their sums come back.
	heartbeat = time.Second
	// exchangeTimeout is how long one may take.
	exchangeTimeout = time.Second
	// peerGrace is how long a new generation waits for the sums of gateways that
	// were part of the one before.
	peerGrace = 2 * time.Minute
	// maxTouched bounds the accounts to push that are kept by name; beyond it
	// everything is pushed again.
	maxTouched = 1 << 17
	// seqShift is for how many exchanges there is room after each record, so
	// that the first one after a restart is above all of those before.
	seqShift = 20
)

// Status says how the books are shared.
type Status struct {
	Shared     bool   // with other gateways, if there are any
	Up         bool   // the last exchange succeeded
	Generation string // of the shared memory; empty: not known yet
	Behind     bool   // sums are still being pushed, by this gateway or by another: balances are the last known ones
}

// Status returns how the books are shared.
func (b *Books) Status() Status {
	if b.sharing == nil {
		return Status{}
	}
	return b.sharing.status()
}

// sharing keeps the sums of this gateway in a Share, and learns those of the
// others. One exchange is made at a time.
type sharing struct {
	books *Books
	share Share
	key   mesh.Key

	rounds sync.Mutex // one round at a time; taken before mu

	mu      sync.Mutex // guards the fields below
	record  uint64     // the number of the last record
	touched map[credit.Account]struct{}
	asked   map[credit.Account]struct{}
	holds   map[credit.Account]credit.Amount   // shown as spent, and not in the journal yet
	waiting map[credit.Account][]chan<- answer // of Balance and Spend; the channels have room for one

	up, told   bool   // the last exchange succeeded; how it went was logged
	seq, acked uint64 // of the last request; of the last one that was answered
	generation string
	began      time.Time         // when that was first seen
	pushes     int               // how often that began
	pushing    bool              // all accounts, those behind after
	after      credit.Account    // by name
	whole      bool              // all who take part have said everything
	peers      map[mesh.Key]bool // those of the last generation that was whole
}

// answer is for those who asked for an account.
type answer struct {
	Others
	own credit.Amount // by this gateway's journal, before what is held
	err error
}

func newSharing(b *Books, share Share) *sharing {
	b.metrics.shareUp.Set(0)
	return &sharing{
		books: b, share: share, key: b.cfg.Key,
		touched: make(map[credit.Account]struct{}), asked: make(map[credit.Account]struct{}),
		holds: make(map[credit.Account]credit.Amount), waiting: make(map[credit.Account][]chan<- answer),
	}
}

func (s *sharing) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{Shared: true, Up: s.up, Generation: s.generation, Behind: !s.whole}
}

// reliable reports whether questions are being answered.
func (s *sharing) reliable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up && s.whole
}

// touch has an account's sum pushed.
func (s *sharing) touch(a credit.Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touchLocked(a)
}

func (s *sharing) touchLocked(a credit.Account) {
	if len(s.touched) >= maxTouched {
		clear(s.touched)
		s.pushAllLocked()
	}
	s.touched[a] = struct{}{}
}

// pushAllLocked begins to push the sums of all accounts.
func (s *sharing) pushAllLocked() {
	s.pushes++
	s.pushing, s.after = true, ""
}

// ask has the others asked for an account; learn gets the answer.
func (s *sharing) ask(a credit.Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) < maxTouched { // who has traffic asks again in the next window
		s.asked[a] = struct{}{}
	}
}

// askAgainLocked keeps what a round asked for without getting an answer that
// counts.
func (s *sharing) askAgainLocked(r *round) {
	for _, a := range r.Ask {
		if len(s.asked) < maxTouched {
			s.asked[a] = struct{}{}
		}
	}
}

func (s *sharing) wrote(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.record = max(s.record, seq)
}

// question asks the others for an account, and shows them hold as spent until
// release. Errors: ErrShare, or the cause of ctx.
func (s *sharing) question(ctx context.Context, a credit.Account, hold credit.Amount) (answer, error) {
	ch := make(chan answer, 1)
	s.mu.Lock()
	if hold > 0 {
		s.holds[a] += hold
		s.touchLocked(a)
	}
	s.waiting[a] = append(s.waiting[a], ch)
	s.mu.Unlock()
	timeout := time.NewTimer(answerTimeout)
	defer timeout.Stop()
	select {
	case got := <-ch:
		return got, got.err
	case <-timeout.C:
		return answer{}, fmt.Errorf("%w: no answer within %v", ErrShare, answerTimeout)
	case <-ctx.Done():
		return answer{}, context.Cause(ctx)
	}
}

// release ends what question held.
func (s *sharing) release(a credit.Account, hold credit.Amount) {
	if hold == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holds[a] -= hold; s.holds[a] == 0 {
		delete(s.holds, a)
	}
	s.touchLocked(a)
}

// run exchanges until ctx ends.
func (s *sharing) run(ctx context.Context) {
	tick := time.NewTicker(max(s.books.cfg.Window, leastExchange))
	defer tick.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if now.Sub(last) >= heartbeat || s.due() {
				s.exchange(ctx)
				last = time.Now()
			}
		}
	}
}

// due reports whether there is something to say, and somebody listens.
func (s *sharing) due() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up && (!s.whole || s.pushing || len(s.touched)+len(s.asked)+len(s.waiting) > 0)
}

// last pushes what has changed, once: at the end. If it fails, the next start
// does it.
func (s *sharing) last(ctx context.Context) {
	s.mu.Lock()
	some := len(s.touched) > 0
	s.mu.Unlock()
	if some {
		s.exchange(ctx)
	}
}

package books

import (
	"context"
	"fmt"
	"maps"
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

// round is what one exchange says and asks.
type round struct {
	Request
	own     map[credit.Account]credit.Amount
	touched map[credit.Account]struct{}
	waiting map[credit.Account][]chan<- answer
	after   credit.Account // the last one of the page that is pushed
	end     bool           // it is the last page
	page    bool           // there is one
	pushes  int            // of which push it is
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

// exchange makes one round.
func (s *sharing) exchange(ctx context.Context) {
	s.rounds.Lock()
	defer s.rounds.Unlock()
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	r := s.begin()
	err := s.fill(ctx, r)
	var reply Reply
	if err == nil {
		reply, err = s.share.Sync(ctx, r.Request)
	}
	if err == nil && len(reply.Others) != len(r.Ask) {
		err = fmt.Errorf("%d answers to %d questions", len(reply.Others), len(r.Ask))
	}
	if err != nil {
		s.failed(r, err)
		return
	}
	s.answered(r, &reply)
}

// begin takes what is to be said and asked, as much as one request holds.
func (s *sharing) begin() *round {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq = max(s.seq+1, s.record<<seqShift)
	r := &round{own: make(map[credit.Account]credit.Amount), touched: make(map[credit.Account]struct{}), waiting: s.waiting}
	r.Request = Request{Gateway: s.key, Seq: s.seq, Generation: s.generation}
	r.page, r.after, r.pushes = s.pushing, s.after, s.pushes
	s.waiting = make(map[credit.Account][]chan<- answer)
	for a := range r.waiting {
		// One that is held is touched: it must be in this round.
		if _, ok := s.touched[a]; ok {
			r.touched[a] = struct{}{}
			delete(s.touched, a)
		}
		delete(s.asked, a)
		r.Ask = append(r.Ask, a)
		r.own[a] = 0
	}
	for a := range s.touched {
		if len(r.touched) == MaxPage {
			break
		}
		r.touched[a] = struct{}{}
		delete(s.touched, a)
	}
	for a := range s.asked {
		if len(r.Ask) == MaxPage {
			break
		}
		r.Ask = append(r.Ask, a)
		delete(s.asked, a)
	}
	return r
}

// fill reads the sums of a round. What is held is looked up before the ledger
// is: an amount that is spent meanwhile counts twice, never not at all.
func (s *sharing) fill(ctx context.Context, r *round) error {
	s.mu.Lock()
	holds := maps.Clone(s.holds)
	s.mu.Unlock()
	add := func(a credit.Account, state credit.State) {
		r.Sums = append(r.Sums, Sum{Account: a, Balance: sum(state.Balance, -holds[a]), Leased: state.Leased})
	}
	ledger := s.books.cfg.Ledger
	for a := range r.touched {
		state, err := ledger.State(ctx, a)
		if err != nil {
			return err
		}
		add(a, state)
	}
	for a := range r.own {
		state, err := ledger.State(ctx, a)
		if err != nil {
			return err
		}
		r.own[a] = state.Balance
	}
	for r.page && !r.end && len(r.Sums) < MaxPage {
		n := min(MaxPage-len(r.Sums), 1000)
		list, err := ledger.Accounts(ctx, r.after, n)
		if err != nil {
			return err
		}
		for _, l := range list {
			r.after = l.Account
			if _, ok := r.touched[l.Account]; !ok && l.Account != credit.Treasury {
				add(l.Account, l.State)
			}
		}
		r.end = len(list) < n
	}
	r.Whole = r.Generation != "" && (!r.page || r.end)
	return nil
}

// failed keeps what a round wanted for the next one.
func (s *sharing) failed(r *round, err error) {
	s.books.metrics.shareFailures.Inc()
	s.books.metrics.shareUp.Set(0)
	s.mu.Lock()
	if s.up || !s.told {
		s.books.cfg.Logger.Warn("books: the other gateways cannot be reached; balances are the last known ones, and serving goes on", "error", err)
	}
	s.up, s.told = false, true
	for a := range r.touched {
		s.touchLocked(a)
	}
	s.askAgainLocked(r)
	s.mu.Unlock()
	tell(r.waiting, func(credit.Account) answer { return answer{err: fmt.Errorf("%w: %w", ErrShare, err)} })
}

// tell answers those who wait.
func tell(waiting map[credit.Account][]chan<- answer, what func(credit.Account) answer) {
	for a, list := range waiting {
		got := what(a)
		for _, ch := range list {
			ch <- got
		}
	}
}

// answered takes up a reply.
func (s *sharing) answered(r *round, reply *Reply) {
	s.books.metrics.shareSyncs.Inc()
	s.books.metrics.shareUp.Set(1)
	s.mu.Lock()
	if !s.up {
		s.books.cfg.Logger.Info("books: balances are shared with other gateways", "generation", reply.Generation, "gateways", len(reply.Peers)+1)
	}
	s.up, s.told = true, true
	now := time.Now()
	switch applied := reply.LastSeq < r.Seq; {
	case !applied, reply.Generation != s.generation, reply.LastSeq < s.acked:
		// The memory is another one, or an older copy of it; or this gateway's
		// numbers are behind (its data directory is an older copy).
		s.generation, s.began = reply.Generation, now
		s.whole = false
		s.pushAllLocked()
		s.seq = max(s.seq, reply.LastSeq)
		s.acked = 0
		if applied {
			s.acked = r.Seq
		}
	default:
		s.acked = r.Seq
		if r.page && r.pushes == s.pushes {
			s.after, s.pushing = r.after, !r.end
		}
	}
	s.wholeLocked(reply.Peers, now)
	whole := s.whole
	if !whole {
		s.askAgainLocked(r)
	}
	s.mu.Unlock()
	s.books.metrics.behind.Set(map[bool]float64{false: 1, true: 0}[whole])
	others := make(map[credit.Account]Others, len(r.Ask))
	for i, a := range r.Ask {
		others[a] = reply.Others[i]
		if whole {
			s.books.learn(a, reply.Others[i])
		}
	}
	tell(r.waiting, func(a credit.Account) answer {
		if !whole {
			return answer{err: fmt.Errorf("%w: they are being collected anew", ErrShare)}
		}
		return answer{Others: others[a], own: r.own[a]}
	})
}

// wholeLocked decides whether shared balances can be relied upon: this gateway
// has said everything, and so have those who were part of the last generation
// and of this one, or they had time enough.
func (s *sharing) wholeLocked(peers map[mesh.Key]bool, now time.Time) {
	if s.whole || s.pushing {
		return
	}
	s.whole = true
	if now.Sub(s.began) < peerGrace {
		for _, some := range []map[mesh.Key]bool{s.peers, peers} {
			for key := range some {
				s.whole = s.whole && peers[key]
			}
		}
	}
	if s.whole {
		s.peers = maps.Clone(peers)
	}
}

package books

import (
	"context"
	"fmt"
	"maps"
	"time"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/mesh"
)

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
			if _, ok := r.touched[l.Account]; !ok {
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

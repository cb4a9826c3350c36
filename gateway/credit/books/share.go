package books

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/mesh"
)

// ErrShare says: the shared balances are not known now.
var ErrShare = errors.New("the balances of the other gateways are not known")

// MaxPage is the most accounts of a Request, pushed and asked for.
const MaxPage = 10_000

// Share keeps, for each account and gateway, the sum of that gateway's own
// journal: the shared balance of an account is the sum over the gateways. A
// gateway never adds to its sum, it says it anew. So it does no harm if a
// request arrives twice, late or in another order, and when all is lost,
// everybody says everything again.
//
// All methods may be called at the same time.
type Share interface {
	// Sync takes the sums of a gateway and answers what the others have, as one
	// step that nobody else comes between. A request whose Seq is not above that
	// of all before it from its gateway changes nothing, and is answered all the
	// same. It takes a second at most; after an error it may have been done, or
	// may be done later.
	Sync(ctx context.Context, r Request) (Reply, error)
}

// Request is what a gateway says and asks.
type Request struct {
	Gateway mesh.Key
	Seq     uint64 // grows with each request of the gateway
	// Sums are what this gateway's journal has.
	Sums []Sum
	// Ask are the accounts that others are wanted of; after Sums took effect.
	Ask []credit.Account
	// Whole says that with this request the gateway has said all of its sums
	// since the generation began that it takes for the present one.
	Whole      bool
	Generation string
}

// Sum is what one gateway's journal has of an account.
type Sum struct {
	Account credit.Account
	Balance credit.Amount
	Leased  int64 // bytes of the open lease
}

// Reply answers a Request.
type Reply struct {
	// Generation names the memory that answers: after it was lost, another one
	// does.
	Generation string
	// LastSeq is the highest Seq from the gateway before this request.
	LastSeq uint64
	// Others has one for each account of Ask, in its order.
	Others []Others
	// Peers are all gateways that ever said something in this generation, but
	// not the one that asks; the value is whether they have said all.
	Peers map[mesh.Key]bool
}

// Others is what the other gateways have of an account, together.
type Others struct {
	Sum    credit.Amount
	Leased int64
}

// MemoryShare is a Share for gateways within one process.
type MemoryShare struct {
	mu         sync.Mutex // guards the fields below
	generation string
	gateways   map[mesh.Key]said
	sums       map[credit.Account]map[mesh.Key]Sum
}

// said is how far a gateway is.
type said struct {
	seq   uint64
	whole bool
}

var _ Share = (*MemoryShare)(nil)

// NewMemoryShare returns a MemoryShare that knows nothing.
func NewMemoryShare() *MemoryShare {
	s := &MemoryShare{}
	s.forget()
	return s
}

// forget loses everything.
func (s *MemoryShare) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation = rand.Text()
	s.gateways, s.sums = make(map[mesh.Key]said), make(map[credit.Account]map[mesh.Key]Sum)
}

// Sync implements Share.
func (s *MemoryShare) Sync(ctx context.Context, r Request) (Reply, error) {
	if err := r.check(); err != nil {
		return Reply{}, err
	}
	if err := ctx.Err(); err != nil {
		return Reply{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.gateways[r.Gateway]
	if r.Seq > last.seq {
		s.gateways[r.Gateway] = said{r.Seq, r.Whole && r.Generation == s.generation}
		for _, sum := range r.Sums {
			if s.sums[sum.Account] == nil {
				s.sums[sum.Account] = make(map[mesh.Key]Sum)
			}
			s.sums[sum.Account][r.Gateway] = sum
		}
	}
	reply := Reply{Generation: s.generation, LastSeq: last.seq, Peers: make(map[mesh.Key]bool)}
	for key, said := range s.gateways {
		if key != r.Gateway {
			reply.Peers[key] = said.whole
		}
	}
	for _, a := range r.Ask {
		var others Others
		for key, sum := range s.sums[a] {
			if key != r.Gateway {
				others.add(sum.Balance, sum.Leased)
			}
		}
		reply.Others = append(reply.Others, others)
	}
	return reply, nil
}

func (o *Others) add(balance credit.Amount, leased int64) {
	o.Sum = sum(o.Sum, balance)
	o.Leased = int64(sum(credit.Amount(o.Leased), credit.Amount(leased)))
}

// check bounds a request.
func (r *Request) check() error {
	if len(r.Sums) > MaxPage || len(r.Ask) > MaxPage {
		return fmt.Errorf("books: a request with %d sums and %d questions, it may have %d of each", len(r.Sums), len(r.Ask), MaxPage)
	}
	return nil
}

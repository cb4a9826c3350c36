package remote

import (
	"context"
	"fmt"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	creditv1 "inos.dev/edge/proto/gen/inos/credit/v1"
)

// Wish is what a pledge is asked to do: hold Object at RF replicas, For a time
// or as long as Amount lasts. One of the two is 0. PriceCap is most
// micro-credits for a GiB kept for an hour; 0 means the node's price.
type Wish struct {
	Object   cas.Hash
	RF       int
	For      time.Duration
	Amount   credit.Amount
	PriceCap credit.Price
}

// Quote is what holding an object costs.
type Quote struct {
	Object   cas.Hash
	RF       int
	Size     int64 // stored bytes that each replica keeps
	Duration time.Duration
	Amount   credit.Amount
	Price    credit.Price
	Epoch    time.Duration // between two payments of the holders
}

// Pledge is credits that are locked to hold an object at more replicas.
type Pledge struct {
	ID                             string
	Object                         cas.Hash
	Account                        credit.Account
	RF                             int
	State                          string // active, low, dry, done or released
	Locked, Paid, Escrow, Returned credit.Amount
	Size                           int64
	PriceCap                       credit.Price
	Created                        time.Time
	Ends                           time.Time // at the price cap, if UntilDry
	UntilDry                       bool
	Over                           time.Time // zero: it still holds credits
	Epochs                         int64
}

// Quote asks what a wish costs.
func (n *Node) Quote(ctx context.Context, w Wish) (Quote, error) {
	resp, err := call(ctx, n, n.credits.Quote, &creditv1.QuoteRequest{
		Object: w.Object.String(), Rf: uint32(w.RF), Duration: encodeDuration(w.For), Amount: int64(w.Amount), PriceCap: int64(w.PriceCap),
	})
	if err != nil {
		return Quote{}, fmt.Errorf("quote for %s: %w", w.Object, err)
	}
	q := resp.GetQuote()
	return Quote{
		Object: w.Object, RF: int(q.GetRf()), Size: q.GetSize(), Duration: q.GetDuration().AsDuration(),
		Amount: credit.Amount(q.GetAmount()), Price: credit.Price(q.GetPrice()), Epoch: q.GetEpoch().AsDuration(),
	}, nil
}

// CreatePledge locks credits of the token's account, under a name of 1 to 64
// letters, digits, - and _. The same wish with the same name is answered with
// the pledge that there is. Errors: credit.ErrUnderfunded.
func (n *Node) CreatePledge(ctx context.Context, w Wish, name string) (Pledge, error) {
	resp, err := call(ctx, n, n.credits.CreatePledge, &creditv1.CreatePledgeRequest{
		Object: w.Object.String(), Rf: uint32(w.RF), Duration: encodeDuration(w.For), Amount: int64(w.Amount), PriceCap: int64(w.PriceCap),
		Pledge: name,
	})
	if err != nil {
		return Pledge{}, fmt.Errorf("pledge for %s: %w", w.Object, err)
	}
	return decodePledge(resp.GetPledge())
}

// Pledges lists the pledges of an account in the order of their names, or those
// of all; "" is the account of the token.
func (n *Node) Pledges(ctx context.Context, a credit.Account, all bool) iter.Seq2[Pledge, error] {
	return func(yield func(Pledge, error) bool) {
		for token := ""; ; {
			resp, err := call(ctx, n, n.credits.ListPledges, &creditv1.ListPledgesRequest{Account: string(a), All: all, PageSize: pageSize, PageToken: token})
			if err != nil {
				yield(Pledge{}, fmt.Errorf("pledges: %w", err))
				return
			}
			for _, m := range resp.GetPledges() {
				p, err := decodePledge(m)
				if !yield(p, err) || err != nil {
					return
				}
			}
			if token, err = nextPage(token, resp.GetNextPageToken()); err != nil {
				yield(Pledge{}, err)
				return
			}
			if token == "" {
				return
			}
		}
	}
}

// Pledge returns one pledge, or cas.ErrNotFound.
func (n *Node) Pledge(ctx context.Context, id string) (Pledge, error) {
	resp, err := call(ctx, n, n.credits.GetPledge, &creditv1.GetPledgeRequest{Pledge: id})
	if err != nil {
		return Pledge{}, fmt.Errorf("pledge %s: %w", id, err)
	}
	return decodePledge(resp.GetPledge())
}

// TopUpPledge locks more credits in a pledge. A second payment with the same
// key locks nothing.
func (n *Node) TopUpPledge(ctx context.Context, id string, amount credit.Amount, key string) (Pledge, error) {
	resp, err := call(ctx, n, n.credits.TopUpPledge, &creditv1.TopUpPledgeRequest{Pledge: id, Amount: int64(amount), IdempotencyKey: key})
	if err != nil {
		return Pledge{}, fmt.Errorf("pledge %s: %w", id, err)
	}
	return decodePledge(resp.GetPledge())
}

// ReleasePledge ends a pledge now, or answers cas.ErrNotFound.
func (n *Node) ReleasePledge(ctx context.Context, id string) (Pledge, error) {
	resp, err := call(ctx, n, n.credits.ReleasePledge, &creditv1.ReleasePledgeRequest{Pledge: id})
	if err != nil {
		return Pledge{}, fmt.Errorf("pledge %s: %w", id, err)
	}
	return decodePledge(resp.GetPledge())
}

// encodeDuration leaves 0 out.
func encodeDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

func decodePledge(m *creditv1.Pledge) (Pledge, error) {
	h, err := cas.ParseHash(m.GetObject())
	if err != nil {
		return Pledge{}, fmt.Errorf("%w: its pledge: %w", ErrRefused, err)
	}
	return Pledge{
		ID: printable(m.GetPledge()), Object: h, Account: decodeName(m.GetAccount()), RF: int(m.GetRf()),
		State:  enumText("PLEDGE_STATE_", m.GetState()),
		Locked: credit.Amount(m.GetLocked()), Paid: credit.Amount(m.GetPaid()), Escrow: credit.Amount(m.GetEscrow()), Returned: credit.Amount(m.GetReturned()),
		Size: m.GetSize(), PriceCap: credit.Price(m.GetPriceCap()), Created: decodeTime(m.GetCreateTime()), Ends: decodeTime(m.GetEndTime()),
		UntilDry: m.GetUntilDry(), Over: decodeTime(m.GetOverTime()), Epochs: m.GetEpochs(),
	}, nil
}

package rpc

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/pledge"
	"inos.dev/edge/mesh"
	creditv1 "inos.dev/edge/proto/gen/inos/credit/v1"
)

func (s *creditService) Quote(ctx context.Context, req *creditv1.QuoteRequest) (*creditv1.QuoteResponse, error) {
	want, err := decodeWish(req)
	if err != nil {
		return nil, err
	}
	if want, err = s.measure(ctx, want); err != nil {
		return nil, about(want.Object, err)
	}
	if want.PriceCap == 0 {
		want.PriceCap = s.Retain
	}
	lasts, amount := want.For, want.Credits
	if lasts == 0 {
		lasts = pledge.Lasts(want.Bytes, want.RF, amount, want.PriceCap)
	} else if amount, err = pledge.Quote(want.Bytes, want.RF, lasts, want.PriceCap); err != nil {
		return nil, about(want.Object, err)
	}
	return &creditv1.QuoteResponse{Quote: &creditv1.Quote{
		Object: text(want.Object), Rf: uint32(want.RF), Size: want.Bytes, Duration: durationpb.New(lasts),
		Amount: int64(amount), Price: int64(want.PriceCap), Epoch: durationpb.New(s.Epoch),
	}}, nil
}

// measure fills in what one replica of the object keeps.
func (s *creditService) measure(ctx context.Context, want pledge.Request) (pledge.Request, error) {
	o, err := s.objects.Object(ctx, want.Object)
	want.Bytes = max(1, o.Encoded)
	return want, err
}

func (s *creditService) CreatePledge(ctx context.Context, req *creditv1.CreatePledgeRequest) (*creditv1.CreatePledgeResponse, error) {
	want, err := decodeCreatePledge(req)
	if err != nil {
		return nil, err
	}
	owner, err := s.own(ctx)
	if err != nil {
		return nil, err
	}
	if want, err = s.measure(ctx, want); err != nil {
		return nil, about(want.Object, err)
	}
	p, err := s.Pledges.Create(ctx, owner, req.GetPledge(), want)
	if err != nil {
		return nil, err
	}
	return &creditv1.CreatePledgeResponse{Pledge: encodePledge(p)}, nil
}

func (s *creditService) ListPledges(ctx context.Context, req *creditv1.ListPledgesRequest) (*creditv1.ListPledgesResponse, error) {
	named, after, n, err := decodePledges(req)
	if err != nil {
		return nil, err
	}
	var owner credit.Account // all
	if req.GetAll() {
		err = s.admin(ctx, "")
	} else {
		owner, err = s.choose(ctx, named)
	}
	if err != nil {
		return nil, err
	}
	list, err := s.Pledges.List(ctx, owner, after, n)
	if err != nil {
		return nil, err
	}
	resp := &creditv1.ListPledgesResponse{}
	if len(list) == n {
		resp.NextPageToken = encodePledgeToken(list[n-1].ID)
	}
	for _, p := range list {
		resp.Pledges = append(resp.Pledges, encodePledge(p))
	}
	return resp, nil
}

func (s *creditService) GetPledge(ctx context.Context, req *creditv1.GetPledgeRequest) (*creditv1.GetPledgeResponse, error) {
	p, err := s.pledge(ctx, req.GetPledge())
	if err != nil {
		return nil, err
	}
	return &creditv1.GetPledgeResponse{Pledge: encodePledge(p)}, nil
}

// pledge returns a pledge that the caller may see: his own, or any for an
// administrator. To everybody else it is not there.
func (s *creditService) pledge(ctx context.Context, id string) (pledge.Pledge, error) {
	var v violations
	v.name("pledge", id)
	if err := v.err(); err != nil {
		return pledge.Pledge{}, err
	}
	own, err := s.own(ctx)
	if err != nil {
		return pledge.Pledge{}, err
	}
	p, err := s.Pledges.Get(ctx, id)
	if err != nil || p.Owner == own {
		return p, err
	}
	return p, s.admin(ctx, p.Owner)
}

func (s *creditService) TopUpPledge(ctx context.Context, req *creditv1.TopUpPledgeRequest) (*creditv1.TopUpPledgeResponse, error) {
	amount, err := decodeTopUp(req)
	if err != nil {
		return nil, err
	}
	own, err := s.own(ctx)
	if err != nil {
		return nil, err
	}
	p, err := s.Pledges.TopUp(ctx, own, req.GetPledge(), req.GetIdempotencyKey(), amount)
	if err != nil {
		return nil, err
	}
	return &creditv1.TopUpPledgeResponse{Pledge: encodePledge(p)}, nil
}

func (s *creditService) ReleasePledge(ctx context.Context, req *creditv1.ReleasePledgeRequest) (*creditv1.ReleasePledgeResponse, error) {
	p, err := s.pledge(ctx, req.GetPledge())
	if err != nil {
		return nil, err
	}
	if p, err = s.Pledges.Release(ctx, p.Owner, p.ID); err != nil {
		return nil, err
	}
	return &creditv1.ReleasePledgeResponse{Pledge: encodePledge(p)}, nil
}

// wish is what quotes and pledges are asked for with.
type wish interface {
	GetObject() string
	GetRf() uint32
	GetDuration() *durationpb.Duration
	GetAmount() int64
	GetPriceCap() int64
}

func decodeWish(req wish) (pledge.Request, error) {
	var v violations
	r := v.wish(req)
	return r, v.err()
}

// wish checks each field for itself, and that one of duration and amount is
// given.
func (v *violations) wish(req wish) pledge.Request {
	r := pledge.Request{Object: v.hash("object", req.GetObject()), PriceCap: credit.Price(req.GetPriceCap())}
	if rf := req.GetRf(); rf < 1 || rf > mesh.MaxRF {
		v.add("rf", "is %d; 1 to %d are possible", rf, mesh.MaxRF)
	} else {
		r.RF = int(rf)
	}
	if err := r.PriceCap.Validate(); err != nil {
		v.add("price_cap", "%v", err)
	}
	switch d := req.GetDuration(); {
	case (d == nil) == (req.GetAmount() == 0):
		v.add("duration", "has to be given, or amount, and not both")
	case d == nil:
		r.Credits = v.amount("amount", req.GetAmount(), 1)
	default:
		r.For = d.AsDuration()
		if !d.IsValid() || r.For < pledge.MinTerm || r.For > pledge.MaxTerm || r.For%time.Second != 0 {
			v.add("duration", "is %v; %v to %v in whole seconds are possible", r.For, pledge.MinTerm, pledge.MaxTerm)
		}
	}
	return r
}

// name accepts what a pledge can be called.
func (v *violations) name(field, s string) {
	if !plainName(s, 1) {
		v.add(field, "is no name of a pledge: 1 to %d letters, digits, - and _", pledge.MaxID)
	}
}

func decodeCreatePledge(req *creditv1.CreatePledgeRequest) (pledge.Request, error) {
	var v violations
	r := v.wish(req)
	v.name("pledge", req.GetPledge())
	return r, v.err()
}

func decodePledges(req *creditv1.ListPledgesRequest) (named credit.Account, after string, n int, err error) {
	var v violations
	named = v.account(req.GetAccount())
	if named != "" && req.GetAll() {
		v.add("account", "is given, and all as well")
	}
	n = v.pageSize(req.GetPageSize(), DefaultLines, MaxLines)
	after, err = decodePledgeToken(req.GetPageToken())
	if err != nil {
		v.add("page_token", "%v", err)
	}
	return named, after, n, v.err()
}

func decodeTopUp(req *creditv1.TopUpPledgeRequest) (credit.Amount, error) {
	var v violations
	v.name("pledge", req.GetPledge())
	v.key(req.GetIdempotencyKey())
	amount := v.amount("amount", req.GetAmount(), 1)
	return amount, v.err()
}

func encodePledgeState(s pledge.State) creditv1.PledgeState {
	switch s {
	case pledge.Active:
		return creditv1.PledgeState_PLEDGE_STATE_ACTIVE
	case pledge.Low:
		return creditv1.PledgeState_PLEDGE_STATE_LOW
	case pledge.Dry:
		return creditv1.PledgeState_PLEDGE_STATE_DRY
	case pledge.Done:
		return creditv1.PledgeState_PLEDGE_STATE_DONE
	case pledge.Released:
		return creditv1.PledgeState_PLEDGE_STATE_RELEASED
	}
	return creditv1.PledgeState_PLEDGE_STATE_UNSPECIFIED
}

func encodePledge(p pledge.Pledge) *creditv1.Pledge {
	return &creditv1.Pledge{
		Pledge:     p.ID,
		Object:     text(p.Request.Object),
		Account:    string(p.Owner),
		Rf:         uint32(p.Request.RF),
		State:      encodePledgeState(p.State),
		Locked:     int64(p.Locked),
		Paid:       int64(p.Paid),
		Escrow:     int64(p.Escrow()),
		Returned:   int64(p.Returned),
		Size:       p.Request.Bytes,
		PriceCap:   int64(p.Request.PriceCap),
		CreateTime: encodeTime(p.Opened),
		EndTime:    encodeTime(p.Until()),
		UntilDry:   p.Ends.IsZero(),
		OverTime:   encodeTime(p.Over),
		Epochs:     p.Epochs,
	}
}

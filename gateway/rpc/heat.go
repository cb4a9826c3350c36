package rpc

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"

	"inos.dev/edge/gateway/heat"
	heatv1 "inos.dev/edge/proto/gen/inos/heat/v1"
)

// Limits of one request to HeatService.
const (
	// MaxHot is the most chunks or decisions in one answer, and DefaultHot how
	// many there are if the request does not say.
	MaxHot     = heat.MaxTop
	DefaultHot = 20
)

// Heat is what HeatService asks; *heat.Heat is one. All methods may be called
// at the same time.
type Heat interface {
	// Top returns the hottest chunks, at most n (1 … MaxHot), the hottest first.
	Top(ctx context.Context, n int) ([]heat.Hot, error)
	// Plan returns what would be decided now, about the hottest chunk first.
	Plan(ctx context.Context) []heat.Decision
	// Freeze stops all moves, or lets them go on, in the name of a subject.
	Freeze(ctx context.Context, on bool, by string) error
	// Status says how the counting goes.
	Status() heat.Status
}

// errApart says: what nodes share their heat through is out of reach.
var errApart = errors.New("the nodes cannot be reached that share their heat")

// heatService is inos.heat.v1.HeatService.
type heatService struct {
	heat   Heat
	caller func(context.Context) (Caller, error)
}

func (s *heatService) ListHot(ctx context.Context, req *heatv1.ListHotRequest) (*heatv1.ListHotResponse, error) {
	n, err := decodeLimit(req.GetLimit())
	if err != nil {
		return nil, err
	}
	list, err := s.heat.Top(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errApart, err)
	}
	resp := &heatv1.ListHotResponse{Chunks: make([]*heatv1.HotChunk, len(list))}
	for i, h := range list {
		resp.Chunks[i] = encodeHot(h)
	}
	return resp, nil
}

func (s *heatService) Plan(ctx context.Context, req *heatv1.PlanRequest) (*heatv1.PlanResponse, error) {
	n, err := decodeLimit(req.GetLimit())
	if err != nil {
		return nil, err
	}
	plan := s.heat.Plan(ctx)
	resp := &heatv1.PlanResponse{Frozen: s.heat.Status().On}
	for i := range plan {
		resp.Moves += plan[i].Moves
		if i < n {
			resp.Decisions = append(resp.Decisions, encodeDecision(&plan[i]))
		}
	}
	return resp, nil
}

func (s *heatService) SetFrozen(ctx context.Context, req *heatv1.SetFrozenRequest) (*heatv1.SetFrozenResponse, error) {
	who, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.heat.Freeze(ctx, req.GetFrozen(), who.Subject); err != nil {
		return nil, fmt.Errorf("%w: %w", errApart, err)
	}
	return &heatv1.SetFrozenResponse{Frozen: req.GetFrozen()}, nil
}

func (s *heatService) GetStatus(context.Context, *heatv1.GetStatusRequest) (*heatv1.GetStatusResponse, error) {
	st := s.heat.Status()
	return &heatv1.GetStatusResponse{
		Frozen: st.On, FrozenBy: st.By, FreezeTime: encodeTime(st.At), Shared: st.Shared, Connected: st.Up,
		Tracked: int64(st.Tracked), Decisions: int64(st.Decisions), Budget: st.Budget,
		Window: durationpb.New(st.Window), ReplicaRate: st.ReplicaBytes, TailBytes: st.TailBytes,
	}, nil
}

// decodeLimit accepts 0, which means DefaultHot, to MaxHot.
func decodeLimit(n uint32) (int, error) {
	var v violations
	if n > MaxHot {
		v.add("limit", "is %d; at most %d", n, MaxHot)
	}
	if n == 0 {
		n = DefaultHot
	}
	return int(n), v.err()
}

func encodeReason(r heat.Reason) heatv1.Reason {
	switch r {
	case heat.Hotter:
		return heatv1.Reason_REASON_HOTTER
	case heat.Cooler:
		return heatv1.Reason_REASON_COOLER
	case heat.CoolDown:
		return heatv1.Reason_REASON_COOL_DOWN
	case heat.Settling:
		return heatv1.Reason_REASON_SETTLING
	case heat.Ceiling:
		return heatv1.Reason_REASON_CEILING
	case heat.Floor:
		return heatv1.Reason_REASON_FLOOR
	case heat.Steady:
		return heatv1.Reason_REASON_STEADY
	case heat.OverBudget:
		return heatv1.Reason_REASON_OVER_BUDGET
	case heat.Frozen:
		return heatv1.Reason_REASON_FROZEN
	}
	return heatv1.Reason_REASON_UNSPECIFIED
}

func encodeBounds(p heat.Policy) *heatv1.Bounds {
	return &heatv1.Bounds{Rf: uint32(p.RF), MaxRf: uint32(p.MaxRF), Size: p.Size}
}

func encodeHot(h heat.Hot) *heatv1.HotChunk {
	return &heatv1.HotChunk{
		Hash: text(h.Chunk), Rate: h.Rate, SlowRate: h.Slow, Target: uint32(h.Target), Bounds: encodeBounds(h.Policy),
		Epoch: h.Epoch, Reason: encodeReason(h.Reason),
	}
}

func encodeDecision(d *heat.Decision) *heatv1.Decision {
	return &heatv1.Decision{
		Hash: text(d.Chunk), Epoch: d.Epoch, Target: uint32(d.Target), Previous: uint32(d.Previous), Bounds: encodeBounds(d.Policy),
		Reason: encodeReason(d.Reason), Rate: d.Rate, Moves: d.Moves, DecideTime: encodeTime(d.Time), ExpireTime: encodeTime(d.Expires),
		Node: d.Node,
	}
}

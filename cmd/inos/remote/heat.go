package remote

import (
	"context"
	"fmt"
	"math"
	"time"

	"inos.dev/edge/cas"
	heatv1 "inos.dev/edge/proto/gen/inos/heat/v1"
)

// Hot is a chunk with its demand. Rates are bytes per second.
type Hot struct {
	Hash       cas.Hash
	Rate, Slow float64 // averages over a second and over a minute
	Target     int     // replicas wanted now
	RF, MaxRF  int
	Size       int64
	Epoch      uint64 // of the last decision; 0: none
	Reason     string // such as hotter, cool-down, over-budget; "" if nothing was decided
}

// Decision is how many replicas a chunk should have.
type Decision struct {
	Hash             cas.Hash
	Target, Previous int
	RF, MaxRF        int
	Size             int64
	Epoch            uint64
	Reason           string
	Rate             float64
	Moves            int64 // bytes
	Decided, Expires time.Time
	Node             string
}

// Plan is what would be decided now.
type Plan struct {
	Decisions []Decision
	Moves     int64 // bytes of all of them
	Frozen    bool
}

// HeatStatus is how the counting goes.
type HeatStatus struct {
	Frozen            bool
	FrozenBy          string // who set that, or its contrary
	FrozenAt          time.Time
	Shared, Connected bool
	Tracked           int64 // chunks whose rates are kept
	Decisions         int64 // in force
	Budget            int64 // bytes that may be moved now
	Window            time.Duration
	ReplicaRate       int64 // bytes per second that one replica is taken to serve
	Tail              int64 // bytes of chunks that the node did not tell apart
}

// Hot returns the hottest chunks, at most limit of them, the hottest first.
func (n *Node) Hot(ctx context.Context, limit int) ([]Hot, error) {
	resp, err := call(ctx, n, n.heat.ListHot, &heatv1.ListHotRequest{Limit: uint32(limit)})
	if err != nil {
		return nil, fmt.Errorf("heat: %w", err)
	}
	list := make([]Hot, 0, len(resp.GetChunks()))
	for _, m := range resp.GetChunks() {
		h, err := cas.ParseHash(m.GetHash())
		if err != nil {
			return nil, fmt.Errorf("%w: its list of hot chunks: %w", ErrRefused, err)
		}
		b := m.GetBounds()
		list = append(list, Hot{
			Hash: h, Rate: finite(m.GetRate()), Slow: finite(m.GetSlowRate()), Target: int(m.GetTarget()),
			RF: int(b.GetRf()), MaxRF: int(b.GetMaxRf()), Size: b.GetSize(), Epoch: m.GetEpoch(), Reason: decodeReason(m.GetReason()),
		})
	}
	return list, nil
}

// Plan returns what the node would decide now, at most limit decisions.
func (n *Node) Plan(ctx context.Context, limit int) (Plan, error) {
	resp, err := call(ctx, n, n.heat.Plan, &heatv1.PlanRequest{Limit: uint32(limit)})
	if err != nil {
		return Plan{}, fmt.Errorf("plan: %w", err)
	}
	p := Plan{Moves: resp.GetMoves(), Frozen: resp.GetFrozen()}
	for _, m := range resp.GetDecisions() {
		h, err := cas.ParseHash(m.GetHash())
		if err != nil {
			return Plan{}, fmt.Errorf("%w: its plan: %w", ErrRefused, err)
		}
		b := m.GetBounds()
		p.Decisions = append(p.Decisions, Decision{
			Hash: h, Target: int(m.GetTarget()), Previous: int(m.GetPrevious()), RF: int(b.GetRf()), MaxRF: int(b.GetMaxRf()), Size: b.GetSize(),
			Epoch: m.GetEpoch(), Reason: decodeReason(m.GetReason()), Rate: finite(m.GetRate()), Moves: m.GetMoves(),
			Decided: decodeTime(m.GetDecideTime()), Expires: decodeTime(m.GetExpireTime()), Node: printable(m.GetNode()),
		})
	}
	return p, nil
}

// SetFrozen stops all moves of replicas, or lets them go on.
func (n *Node) SetFrozen(ctx context.Context, frozen bool) (bool, error) {
	resp, err := call(ctx, n, n.heat.SetFrozen, &heatv1.SetFrozenRequest{Frozen: frozen})
	if err != nil {
		return false, fmt.Errorf("freeze: %w", err)
	}
	return resp.GetFrozen(), nil
}

// HeatStatus asks how the counting goes.
func (n *Node) HeatStatus(ctx context.Context) (HeatStatus, error) {
	r, err := call(ctx, n, n.heat.GetStatus, &heatv1.GetStatusRequest{})
	if err != nil {
		return HeatStatus{}, fmt.Errorf("heat: %w", err)
	}
	return HeatStatus{
		Frozen: r.GetFrozen(), FrozenBy: printable(r.GetFrozenBy()), FrozenAt: decodeTime(r.GetFreezeTime()),
		Shared: r.GetShared(), Connected: r.GetConnected(), Tracked: r.GetTracked(), Decisions: r.GetDecisions(), Budget: r.GetBudget(),
		Window: r.GetWindow().AsDuration(), ReplicaRate: r.GetReplicaRate(), Tail: r.GetTailBytes(),
	}, nil
}

// finite keeps what JSON cannot write out of a rate.
func finite(rate float64) float64 {
	if math.IsNaN(rate) || math.IsInf(rate, 0) || rate < 0 {
		return 0
	}
	return rate
}

func decodeReason(r heatv1.Reason) string {
	if r == heatv1.Reason_REASON_UNSPECIFIED {
		return ""
	}
	return enumText("REASON_", r)
}

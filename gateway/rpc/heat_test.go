package rpc

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/heat"
	heatv1 "inos.dev/edge/proto/gen/inos/heat/v1"
	"inos.dev/edge/proto/gen/inos/heat/v1/heatv1connect"
)

// fakeHeat is a Heat that says what it was told to.
type fakeHeat struct {
	hot  []heat.Hot
	plan []heat.Decision
	by   string // who froze last
	on   bool
	fail error
}

func (f *fakeHeat) Top(_ context.Context, n int) ([]heat.Hot, error) {
	return f.hot[:min(n, len(f.hot))], f.fail
}

func (f *fakeHeat) Plan(context.Context) []heat.Decision { return f.plan }

func (f *fakeHeat) Freeze(_ context.Context, on bool, by string) error {
	f.on, f.by = on, by
	return f.fail
}

func (f *fakeHeat) Status() heat.Status {
	return heat.Status{Switch: heat.Switch{On: f.on, By: f.by, At: time.Unix(9, 0)}, Shared: true, Up: f.fail == nil, Tracked: 5, Budget: -6, Window: 250 * time.Millisecond, ReplicaBytes: 8 << 20}
}

func heatClient(t *testing.T, f *fakeHeat) heatv1connect.HeatServiceClient {
	t.Helper()
	cfg := newFakeNode(t).config()
	cfg.Caller, cfg.Heat = callerOf, f
	srv := serveConfig(t, cfg)
	return heatv1connect.NewHeatServiceClient(srv.Client(), srv.URL, connect.WithInterceptors(headers{"admin"}))
}

func TestHeat(t *testing.T) {
	ctx := t.Context()
	bounds := heat.Policy{RF: 3, MaxRF: 9, Size: 1 << 20}
	f := &fakeHeat{
		hot: slices.Repeat([]heat.Hot{{Chunk: cas.Hash{7}, Rate: 1.5e6, Slow: 2e5, Target: 4, Policy: bounds, Epoch: 2, Reason: heat.Settling}}, 30),
		plan: []heat.Decision{
			{Chunk: cas.Hash{7}, Epoch: 2, Target: 5, Previous: 4, Policy: bounds, Reason: heat.Hotter, Rate: 1.5e6, Moves: 1 << 20, Time: time.Unix(5, 0), Expires: time.Unix(6, 0), Node: "n"},
			{Chunk: cas.Hash{8}, Target: 3, Previous: 3, Reason: heat.OverBudget, Moves: 5},
		},
	}
	c := heatClient(t, f)
	hot, err := c.ListHot(ctx, &heatv1.ListHotRequest{})
	h := hot.GetChunks()[0]
	check(t, "ListHot", err, words(len(hot.GetChunks()), h.GetHash() == cas.Hash{7}.String(), h.GetRate(), h.GetSlowRate(), h.GetTarget(), h.GetBounds().GetRf(), h.GetBounds().GetMaxRf(), h.GetBounds().GetSize(), h.GetEpoch(), h.GetReason()),
		"20 true 1.5e+06 200000 4 3 9 1048576 2 REASON_SETTLING")
	hot, err = c.ListHot(ctx, &heatv1.ListHotRequest{Limit: 29})
	check(t, "ListHot with a limit", err, words(len(hot.GetChunks())), "29")
	_, err = c.ListHot(ctx, &heatv1.ListHotRequest{Limit: MaxHot + 1})
	check(t, "ListHot of too many", nil, connect.CodeOf(err).String(), "invalid_argument")

	frozen, err := c.SetFrozen(ctx, &heatv1.SetFrozenRequest{Frozen: true})
	check(t, "SetFrozen", err, words(frozen.GetFrozen(), f.on, f.by), "true true admin")
	plan, err := c.Plan(ctx, &heatv1.PlanRequest{Limit: 1})
	d := plan.GetDecisions()[0]
	check(t, "Plan", err, words(len(plan.GetDecisions()), plan.GetMoves(), plan.GetFrozen(), d.GetTarget(), d.GetPrevious(), d.GetReason(), d.GetMoves(), d.GetDecideTime().GetSeconds(), d.GetExpireTime().GetSeconds(), d.GetNode()),
		"1 1048581 true 5 4 REASON_HOTTER 1048576 5 6 n")
	st, err := c.GetStatus(ctx, &heatv1.GetStatusRequest{})
	check(t, "GetStatus", err, words(st.GetFrozen(), st.GetFrozenBy(), st.GetFreezeTime().GetSeconds(), st.GetShared(), st.GetConnected(), st.GetTracked(), st.GetBudget(), st.GetWindow().AsDuration(), st.GetReplicaRate()),
		"true admin 9 true true 5 -6 250ms 8388608")

	f.fail = errors.New("no answer")
	_, err = c.SetFrozen(ctx, &heatv1.SetFrozenRequest{})
	check(t, "SetFrozen apart", nil, connect.CodeOf(err).String()+" "+reason(err), "unavailable HEAT_APART")
	_, err = c.ListHot(ctx, &heatv1.ListHotRequest{})
	check(t, "ListHot apart", nil, connect.CodeOf(err).String()+" "+reason(err), "unavailable HEAT_APART")
}

// TestReasons: every reason has its own value in the schema.
func TestReasons(t *testing.T) {
	seen := map[heatv1.Reason]bool{heatv1.Reason_REASON_UNSPECIFIED: true}
	for _, r := range []heat.Reason{heat.Hotter, heat.Cooler, heat.CoolDown, heat.Settling, heat.Ceiling, heat.Floor, heat.Steady, heat.OverBudget, heat.Frozen} {
		if v := encodeReason(r); seen[v] {
			t.Errorf("%s is %v", r, v)
		} else {
			seen[v] = true
		}
	}
	if len(seen) != len(heatv1.Reason_name) {
		t.Errorf("%d of %d values are used", len(seen), len(heatv1.Reason_name))
	}
}

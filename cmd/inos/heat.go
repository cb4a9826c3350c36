package main

import (
	"context"
	"fmt"
	"time"

	"inos.dev/edge/cmd/inos/remote"
)

type heatCmd struct {
	Top    heatTopCmd    `cmd:"" help:"List the hottest chunks."`
	Plan   heatPlanCmd   `cmd:"" help:"Tell which targets would change now, and why."`
	Freeze heatFreezeCmd `cmd:"" help:"Stop all moves of replicas, or let them go on."`
	Status heatStatusCmd `cmd:"" help:"Tell how the counting goes."`
}

type heatTopCmd struct {
	clientFlags
	Limit int  `short:"n" help:"List no more than so many chunks, 1 to 1000." default:"20" env:"-" placeholder:"N"`
	JSON  bool `help:"Print one line of JSON per chunk; rates in bytes per second." env:"-"`
}

func (heatTopCmd) Help() string {
	return "The rate is over a second, the slow one over a minute, both over all nodes that share their heat.\n\n" + examples(
		"inos heat top",
		"inos heat top -n 5 --json | jq -r '[.rate, .hash] | @tsv'",
	)
}

// hotLine is one line of --json. Rates are bytes per second.
type hotLine struct {
	Hash   string  `json:"hash"`
	Rate   float64 `json:"rate"`
	Slow   float64 `json:"slow_rate"`
	Target int     `json:"target"`
	RF     int     `json:"rf"`
	MaxRF  int     `json:"max_rf"`
	Size   int64   `json:"size"`
	Epoch  uint64  `json:"epoch"`
	Reason string  `json:"reason,omitempty"`
}

// maxHot is the most chunks that one call gives.
const maxHot = 1000

func checkLimit(n int) error {
	if n < 1 || n > maxHot {
		return fmt.Errorf("%w: --limit is 1 to %d", errUsage, maxHot)
	}
	return nil
}

func (k *heatTopCmd) Run(ctx context.Context, c *console) error {
	if err := checkLimit(k.Limit); err != nil {
		return err
	}
	node, err := k.connect()
	if err != nil {
		return err
	}
	defer node.Close()
	list, err := node.Hot(ctx, k.Limit)
	if err != nil {
		return err
	}
	for _, h := range list {
		if k.JSON {
			err = printJSON(c.out, hotLine{h.Hash.String(), h.Rate, h.Slow, h.Target, h.RF, h.MaxRF, h.Size, h.Epoch, h.Reason})
		} else {
			_, err = fmt.Fprintf(c.out, "%s %12s %12s  %s  %s\n", h.Hash, rateText(h.Rate), rateText(h.Slow), targetText(h.Target, h.RF, h.MaxRF), h.Reason)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// rateText writes bytes per second for people.
func rateText(rate float64) string { return bytesText(int64(rate)) + "/s" }

// targetText is the wanted number of replicas within its bounds.
// targetText is a target and its bounds, which a node knows of the chunks that
// it has itself.
func targetText(target, floor, ceiling int) string {
	if ceiling == 0 {
		return "not known here"
	}
	return fmt.Sprintf("%4d of %d-%d", target, floor, ceiling)
}

type heatPlanCmd struct {
	clientFlags
	Limit int  `short:"n" help:"List no more than so many chunks, 1 to 1000." default:"20" env:"-" placeholder:"N"`
	JSON  bool `help:"Print one line of JSON per decision; rates in bytes per second." env:"-"`
}

func (heatPlanCmd) Help() string {
	return "Nothing is decided by asking, and a plan is made while moves are frozen, too.\n\n" + examples(
		"inos heat plan",
		"inos heat plan --json | jq -r 'select(.target > .previous) | .hash'",
	)
}

// decisionLine is one line of --json.
type decisionLine struct {
	Hash     string    `json:"hash"`
	Target   int       `json:"target"`
	Previous int       `json:"previous"`
	Reason   string    `json:"reason"`
	Rate     float64   `json:"rate"`
	Moves    int64     `json:"moves"` // bytes
	RF       int       `json:"rf"`
	MaxRF    int       `json:"max_rf"`
	Epoch    uint64    `json:"epoch"`
	Expires  time.Time `json:"expires,omitzero"`
}

func (k *heatPlanCmd) Run(ctx context.Context, c *console) error {
	if err := checkLimit(k.Limit); err != nil {
		return err
	}
	node, err := k.connect()
	if err != nil {
		return err
	}
	defer node.Close()
	plan, err := node.Plan(ctx, k.Limit)
	if err != nil {
		return err
	}
	for _, d := range plan.Decisions {
		if k.JSON {
			err = printJSON(c.out, decisionLine{d.Hash.String(), d.Target, d.Previous, d.Reason, d.Rate, d.Moves, d.RF, d.MaxRF, d.Epoch, d.Expires})
		} else {
			_, err = fmt.Fprintf(c.out, "%s  %4d -> %-4d %12s %10s  %s\n", d.Hash, d.Previous, d.Target, rateText(d.Rate), bytesText(d.Moves), d.Reason)
		}
		if err != nil {
			return err
		}
	}
	if !k.JSON {
		printPlanEnd(c, plan)
	}
	return nil
}

// printPlanEnd sums a plan up, beside its lines.
func printPlanEnd(c *console, plan remote.Plan) {
	frozen := ""
	if plan.Frozen {
		frozen = "; moves are frozen, inos heat freeze --off lets them go on"
	}
	fmt.Fprintf(c.err, "%d chunks, %s to move%s\n", len(plan.Decisions), bytesText(plan.Moves), frozen)
}

type heatFreezeCmd struct {
	clientFlags
	Off  bool `help:"Let replicas move again." env:"-"`
	JSON bool `help:"Print one line of JSON." env:"-"`
}

func (heatFreezeCmd) Help() string {
	return "It holds for all nodes that share their heat; counting goes on. This needs the right admin.\n\n" + examples(
		"inos heat freeze",
		"inos heat freeze --off",
	)
}

func (k *heatFreezeCmd) Run(ctx context.Context, c *console) error {
	node, err := k.connect()
	if err != nil {
		return err
	}
	defer node.Close()
	frozen, err := node.SetFrozen(ctx, !k.Off)
	if err != nil {
		return err
	}
	if k.JSON {
		return printJSON(c.out, map[string]bool{"frozen": frozen})
	}
	_, err = fmt.Fprintln(c.out, frozenText(frozen))
	return err
}

func frozenText(frozen bool) string {
	if frozen {
		return "moves are frozen"
	}
	return "replicas may move"
}

type heatStatusCmd struct {
	clientFlags
	JSON bool `help:"Print one line of JSON." env:"-"`
}

func (heatStatusCmd) Help() string {
	return examples("inos heat status", "inos heat status --json | jq .frozen")
}

// heatStatusLine is the line of --json.
type heatStatusLine struct {
	Frozen      bool      `json:"frozen"`
	FrozenBy    string    `json:"frozen_by,omitempty"`
	FrozenAt    time.Time `json:"frozen_at,omitzero"`
	Shared      bool      `json:"shared"`
	Connected   bool      `json:"connected"`
	Tracked     int64     `json:"tracked"`
	Decisions   int64     `json:"decisions"`
	Budget      int64     `json:"budget"`
	WindowMS    int64     `json:"window_ms"`
	ReplicaRate int64     `json:"replica_rate"`
	Tail        int64     `json:"tail_bytes"`
}

func (k *heatStatusCmd) Run(ctx context.Context, c *console) error {
	node, err := k.connect()
	if err != nil {
		return err
	}
	defer node.Close()
	s, err := node.HeatStatus(ctx)
	if err != nil {
		return err
	}
	if k.JSON {
		return printJSON(c.out, heatStatusLine{
			s.Frozen, s.FrozenBy, s.FrozenAt, s.Shared, s.Connected, s.Tracked, s.Decisions, s.Budget, s.Window.Milliseconds(), s.ReplicaRate, s.Tail,
		})
	}
	shared := "by this node alone"
	if s.Shared && s.Connected {
		shared = "together with other nodes"
	} else if s.Shared {
		shared = "by this node alone: what it shares through is out of reach"
	}
	moves := frozenText(s.Frozen)
	if s.FrozenBy != "" {
		moves += fmt.Sprintf(", said %s at %s", s.FrozenBy, s.FrozenAt.UTC().Format(time.RFC3339))
	}
	return printRows(c.out, [][2]string{
		{"moves", moves},
		{"counted", shared},
		{"chunks", fmt.Sprintf("%d, with %d decisions in force", s.Tracked, s.Decisions)},
		{"budget", bytesText(max(0, s.Budget)) + " may move now"},
		{"window", s.Window.String()},
		{"a replica", "serves " + rateText(float64(s.ReplicaRate))},
	})
}

package heat_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/heat"
)

const c = 8 << 20 // what one replica serves by default

func chunk(i int) cas.Hash { return cas.Sum([]byte{byte(i), byte(i >> 8), byte(i >> 16)}) }

// node is a Heat that runs in a bubble, and what it announced.
type node struct {
	*heat.Heat

	decided []heat.Decision
}

func run(t *testing.T, cfg heat.Config) *node {
	t.Helper()
	n := &node{}
	if cfg.Node == "" {
		cfg.Node = "a"
	}
	if cfg.Policy == nil {
		cfg.Policy = func(context.Context, cas.Hash) (heat.Policy, bool) {
			return heat.Policy{RF: 3, MaxRF: 16, Size: 1 << 20}, true
		}
	}
	if cfg.Decided == nil {
		cfg.Decided = func(_ context.Context, d heat.Decision) error {
			n.decided = append(n.decided, d)
			return nil
		}
	}
	h, err := heat.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.Heat = h
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return n
}

// load reads a chunk at a rate for some time, in steps of 10 ms.
func (n *node) load(h cas.Hash, rate float64, d time.Duration) {
	for range d / (10 * time.Millisecond) {
		n.Count(h, int64(rate/100))
		time.Sleep(10 * time.Millisecond)
	}
}

func TestViral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := run(t, heat.Config{})
		start := time.Now()
		n.load(chunk(1), 50*c, 60*time.Second)
		for _, d := range n.decided {
			t.Log(d.Time.Sub(start), d.Previous, d.Target, d.Reason)
		}
		k := len(n.decided)
		stop := time.Now()
		time.Sleep(10 * time.Minute)
		for _, d := range n.decided[k:] {
			t.Log(d.Time.Sub(stop), d.Previous, d.Target, d.Reason)
		}
	})
}

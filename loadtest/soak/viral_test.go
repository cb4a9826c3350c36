package soak

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hot is what the node says of a chunk among the hottest; false if it is not
// one of them.
func (n *node) hot(chunk string) (target int, reason string, ok bool) {
	n.t.Helper()
	chunks, _ := n.call("inos.heat.v1.HeatService/ListHot", map[string]any{"limit": 100})["chunks"].([]any)
	for _, c := range chunks {
		c := c.(map[string]any)
		if c["hash"] == chunk {
			t, _ := c["target"].(float64)
			reason, _ = c["reason"].(string)
			return int(t), reason, true
		}
	}
	return 0, "", false
}

// readEvery reads a URL at a steady pace until ctx is done.
func readEvery(ctx context.Context, t *testing.T, url string, pace time.Duration, read *atomic.Int64) {
	t.Helper()
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		b, err := fetch(context.WithoutCancel(ctx), url)
		if err != nil {
			t.Errorf("a read failed: %v", err)
			return
		}
		read.Add(int64(len(b)))
	}
}

// TestViral: a chunk that is asked for more than 50 times as often as one
// replica serves, from one moment to the next, has its target at max_rf within
// three seconds and asks for replicas by an event. At full length the test
// waits until the target is back at its floor, which takes as long as the slow
// average of a minute takes to forget; gateway/heat has that in virtual time.
func TestViral(t *testing.T) {
	const replica, size, pace = 64 << 10, 100_000, 20 * time.Millisecond // 76 times what a replica serves
	n := startNode(t, "--scrub-rate", "0", "--replica-bytes", "64KiB", "--heat-cool-down", "5s", "--max-rf", "12")
	p := n.publish("operator", n.token("operator"), rand.New(rand.NewPCG(1, 1)), size)
	chunk := p.chunks[0]
	if target, _, ok := n.hot(chunk); ok && target != 3 {
		t.Errorf("a chunk that nobody reads has the target %d", target)
	}
	var read atomic.Int64
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	began := time.Now()
	wg.Go(func() { readEvery(ctx, t, n.url+"/chunk/"+chunk, pace, &read) })
	until(t, "the target is at its ceiling", func() bool { target, _, _ := n.hot(chunk); return target == 12 })
	took := time.Since(began)
	if rate := float64(read.Load()) / took.Seconds(); rate < 50*replica {
		t.Fatalf("the reader took %.0f bytes per second: less than 50 times what a replica serves", rate)
	}
	if took > 3*time.Second {
		t.Errorf("the target is at its ceiling %v after the step, want 3 s at most", took)
	}
	events := n.inos("events", "tail", "--from", "1", "--no-follow", "--service", "storage", "--action", "replicate_chunk", "--json")
	if !strings.Contains(events, `"hash":"`+chunk+`"`) || !strings.Contains(events, `"target":12`) {
		t.Errorf("no event asks for 12 replicas of the chunk:\n%s", events)
	}
	stop()
	wg.Wait()
	t.Logf("at the ceiling after %v", took.Round(time.Millisecond))
	if !full() {
		return
	}
	began = time.Now()
	for target, _, ok := n.hot(chunk); ok && target != 3; target, _, ok = n.hot(chunk) {
		if time.Since(began) > 5*time.Minute {
			t.Fatalf("the target is still %d", target)
		}
		pause(time.Second)
	}
	t.Logf("back at the floor after %v", time.Since(began).Round(time.Second))
}

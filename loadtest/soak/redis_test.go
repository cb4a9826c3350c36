package soak

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/redistest"
)

// gateways are two nodes that share a Redis, with the same content.
type gateways struct {
	redis   *redistest.Server
	nodes   [2]*node
	content [2][]published // for each node: alice's and bob's
}

func startGateways(t *testing.T) *gateways {
	t.Helper()
	g := &gateways{redis: redistest.Start(t)}
	for i := range g.nodes {
		n := startNode(t, "--scrub-rate", "0", "--redis", g.redis.URL())
		g.nodes[i] = n
		for _, owner := range []string{"alice", "bob"} {
			token := n.token(owner)
			// The same seed: the same content on both nodes.
			rng := rand.New(rand.NewPCG(uint64(len(owner)), 0))
			g.content[i] = append(g.content[i], n.publish(owner, token, rng, 3<<20), n.publish(owner, token, rng, 50_000))
		}
		checkHashes(t, g.content[i])
	}
	for _, owner := range []string{"alice", "bob"} {
		g.nodes[0].grant(owner, 1_000_000)
	}
	return g
}

// pause lets the load go on for a while.
func pause(d time.Duration) { <-time.After(d) }

// until waits until a condition holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	late := time.After(30 * time.Second)
	for !holds() {
		select {
		case <-late:
			t.Fatalf("it did not come to be: %s", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TestRedisLost: two gateways serve under load while the Redis that they share
// freezes, dies with its memory lost, and comes back empty. No read fails. What
// clients read to the end is charged exactly; of answers that they hung up on,
// at least what they received, and at most what sockets hold on top; nothing is
// charged twice. In the end the shared balances are the sum of the journals.
func TestRedisLost(t *testing.T) {
	frozen, around := time.Second, time.Second
	if full() {
		frozen, around = 5*time.Second, 3*time.Second
	}
	g := startGateways(t)
	until(t, "both gateways know the shared balance", func() bool {
		a, _, staleA := g.nodes[0].balance(credit.User("alice"))
		b, _, staleB := g.nodes[1].balance(credit.User("alice"))
		return a > 0 && a == b && !staleA && !staleB
	})
	got := newReaders(t, g.content[0], false)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	for i, n := range g.nodes {
		alices, bobs := g.content[i][:2], g.content[i][2:]
		for worker := range uint64(2) {
			got.start(ctx, n.url, alices, 10*uint64(i)+worker, false)
			got.start(ctx, n.url, bobs, 100+10*uint64(i)+worker, true) // who hang up
		}
	}
	pause(around)
	g.redis.Freeze()
	pause(frozen)
	g.redis.Kill()
	pause(around)
	g.redis.Restart()
	pause(around)
	stop()
	got.wg.Wait()
	g.checkBooks(t, got)
}

// checkBooks ends both nodes and compares journals, shared balances and what
// clients received.
func (g *gateways) checkBooks(t *testing.T, got *readers) {
	t.Helper()
	var last [2]int64
	shared := func() bool {
		settled := true
		for i, owner := range []string{"alice", "bob"} {
			a, _, staleA := g.nodes[0].balance(credit.User(owner))
			b, _, staleB := g.nodes[1].balance(credit.User(owner))
			settled = settled && a == b && a == last[i] && !staleA && !staleB
			last[i] = a
		}
		return settled
	}
	until(t, "the gateways agree on the shared balances again", shared)
	served, sums := map[string]int64{}, map[string]credit.Amount{}
	for _, n := range g.nodes {
		if code := n.stop(); code != 0 {
			t.Errorf("a node ended with %d:\n%s", code, n.log)
		}
		report, states := n.books()
		if report.Leased != 0 {
			t.Errorf("%d bytes are leased after a clean end", report.Leased)
		}
		for _, owner := range []string{"alice", "bob"} {
			served[owner] += states[credit.User(owner)].Served
			sums[owner] += states[credit.User(owner)].Balance
		}
	}
	alice, bob := got.got["alice"], got.got["bob"]
	if served["alice"] != alice.complete.Load() || alice.cut.Load() != 0 {
		t.Errorf("alice is charged %d bytes, clients received %d", served["alice"], alice.complete.Load())
	}
	if most := bob.all() + bob.cut.Load()*socketBuffers(t); served["bob"] < bob.all() || served["bob"] > most {
		t.Errorf("bob is charged %d bytes, clients received %d and can have left %d at most", served["bob"], bob.all(), most)
	}
	for i, owner := range []string{"alice", "bob"} {
		if int64(sums[owner]) != last[i] {
			t.Errorf("the journals have %s for %s, the gateways said %s", sums[owner], owner, credit.Amount(last[i]))
		}
	}
	t.Logf("alice: %d bytes; bob: %d received, %d charged, %d answers cut", served["alice"], bob.all(), served["bob"], bob.cut.Load())
}

// TestRedisCommands counts what the nodes send to Redis under load, and while
// nothing happens.
func TestRedisCommands(t *testing.T) {
	const most = 10 // commands per second and node
	span := 3 * time.Second
	if full() {
		span = 20 * time.Second
	}
	g := startGateways(t)
	got := newReaders(t, g.content[0], false)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	count := func(what string) {
		t.Helper()
		before, began := g.redis.CommandCount(), time.Now()
		pause(span)
		rate := float64(g.redis.CommandCount()-before) / time.Since(began).Seconds() / float64(len(g.nodes))
		if rate > most {
			t.Errorf("%s: %.1f commands per second and node, at most %d: %v", what, rate, most, g.redis.Commands())
		}
		t.Logf("%s: %.1f commands per second and node", what, rate)
	}
	count("idle")
	for i, n := range g.nodes {
		for worker := range uint64(4) {
			got.start(ctx, n.url, g.content[i], 10*uint64(i)+worker, false)
		}
	}
	got.await(100)
	count("under load")
	stop()
	got.wg.Wait()
}

package soak

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"inos.dev/edge/gateway/credit"
)

// TestCrashBooks kills the node at random moments while clients read. After
// each death the journal gives the balances; what clients received is charged
// or within a lease that is open; nothing is charged that nobody could have
// received; and the next start gives the leases back.
func TestCrashBooks(t *testing.T) {
	rounds := 20
	if full() {
		rounds = 200
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	n := startNode(t, "--scrub-rate", "0")
	alice, operator := n.token("alice"), n.token("operator")
	content := []published{
		n.publish("alice", alice, rng, 3<<20), n.publish("alice", alice, rng, 40_000),
		n.publish("operator", operator, rng, 2<<20), n.publish("operator", operator, rng, 1000),
	}
	checkHashes(t, content)
	n.grant("alice", 1_000_000)
	n.kill()
	var sum int64
	for round := range rounds {
		_, before := n.books()
		n.start()
		if _, leased, _ := n.balance(credit.User("alice")); leased != 0 {
			t.Fatalf("round %d: the start has left a lease of %d bytes open", round, leased)
		}
		got := newReaders(t, content, true)
		ctx, cancel := context.WithCancel(t.Context())
		for range 6 {
			got.start(ctx, n.url, content, rng.Uint64(), rng.IntN(3) == 0)
		}
		got.await(1 + rng.IntN(200)) // the other answers are anywhere by then
		n.kill()
		cancel()
		got.wg.Wait()
		_, after := n.books()
		sum += checkRound(t, round, got, before, after)
		if t.Failed() {
			return
		}
	}
	n.start()
	if code := n.stop(); code != 0 {
		t.Errorf("the node ended with %d", code)
	}
	report, states := n.books()
	if report.Leased != 0 {
		t.Errorf("%d bytes are leased after a clean end", report.Leased)
	}
	checkAmounts(t, states)
	t.Logf("%d rounds, %d bytes received, %d records", rounds, sum, report.Records)
}

// checkRound compares what clients received in a round with what was charged.
func checkRound(t *testing.T, round int, got *readers, before, after map[credit.Account]credit.State) (sum int64) {
	t.Helper()
	alice, house := credit.User("alice"), house(t, after)
	float := after[house].Leased
	var charged, leased int64
	for owner, account := range map[string]credit.Account{"alice": alice, "operator": house} {
		r := got.got[owner]
		served, lease := after[account].Served-before[account].Served, after[account].Leased
		if account == alice {
			lease += float // that first reads ride on
		}
		if served+lease < r.all() {
			t.Errorf("round %d: clients received %d bytes of %s; %d are charged and %d leased", round, r.all(), owner, served, lease)
		}
		// Answers under way when the node died, or that a client hung up on, may
		// have left bytes in sockets; six answers are under way at most. The house
		// pays for the call at the start of the round, too.
		if most := r.all() + (r.cut.Load()+6)*socketBuffers(t) + 4096; served > most {
			t.Errorf("round %d: %d bytes are charged to %s, and clients can have received %d at most", round, served, owner, most)
		}
		charged, leased, sum = charged+served, leased+after[account].Leased, sum+r.all()
	}
	if charged+leased < sum {
		t.Errorf("round %d: clients received %d bytes; %d are charged and %d leased", round, sum, charged, leased)
	}
	return sum
}

// checkAmounts recomputes what each payer paid from the bytes: one credit for a
// GiB, rounded down once for all of them.
func checkAmounts(t *testing.T, states map[credit.Account]credit.State) {
	t.Helper()
	const granted = 1_000_000 * credit.Credit
	cost := func(served int64) credit.Amount {
		c, _ := credit.Price(credit.Credit).For(served, 0)
		return c
	}
	alice, house := states[credit.User("alice")], states[house(t, states)]
	if want := granted - cost(alice.Served); alice.Balance != want {
		t.Errorf("alice has %s after %d bytes, want %s", alice.Balance, alice.Served, want)
	}
	if want := -cost(house.Served); house.Balance != want {
		t.Errorf("the house has %s after %d bytes, want %s", house.Balance, house.Served, want)
	}
	for a, s := range states {
		if a != credit.Treasury && s.Earned > 0 && (s.Earned != alice.Served+house.Served || s.Balance != cost(alice.Served)+cost(house.Served)) {
			t.Errorf("%s earned %s for %d bytes, and %d were charged", a, s.Balance, s.Earned, alice.Served+house.Served)
		}
	}
}

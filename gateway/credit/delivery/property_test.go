package delivery_test

import (
	"fmt"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/delivery"
	"inos.dev/edge/mesh"
)

// TestAttestation: whatever is read and confirmed in whatever order, the books
// attest min(signed, counted), on each payer no more than was counted, and with
// a ledger that fails at times nothing twice.
func TestAttestation(t *testing.T) {
	u := &unsure{}
	n, client := newNode(t, delivery.Config{Ledger: u, MaxSessions: 1 << 20, MaxPerQuota: 1 << 20}), secret(t, 2)
	u.Ledger = n.ledger
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		nonce := n.open(t, delivery.Who{Client: client.Public()})
		payer := func(i int) credit.Account { return credit.User(fmt.Sprintf("payer-%d-%d", run, i)) }
		counted, total, signed := map[int]int64{}, int64(0), int64(0)
		rt.Repeat(map[string]func(*rapid.T){
			"count": func(rt *rapid.T) {
				i, bytes := rapid.IntRange(0, 3).Draw(rt, "payer"), rapid.Int64Range(1, 1000).Draw(rt, "bytes")
				n.Count(nonce, payer(i), object, bytes)
				counted[i] += bytes
				total += bytes
			},
			"submit": func(rt *rapid.T) {
				bytes := rapid.Int64Range(0, 3000).Draw(rt, "bytes")
				u.fail, u.write = rapid.IntRange(-5, 2).Draw(rt, "failures"), rapid.Bool().Draw(rt, "written")
				for range 4 {
					c, err := n.Submit(t.Context(), "", n.receipt(t, client, nonce, bytes))
					if err == nil {
						signed = max(signed, bytes)
						if c.Receipt.Bytes != signed || c.Verify() != nil {
							rt.Fatalf("%+v counts after %d", c, signed)
						}
						break
					}
				}
				u.fail = 0
			},
			"": func(rt *rapid.T) {
				sum := int64(0)
				for i := range 4 {
					state, err := n.ledger.State(t.Context(), payer(i))
					if err != nil || state.Attested > counted[i] {
						rt.Fatalf("%d of %d attested, %v", state.Attested, counted[i], err)
					}
					sum += state.Attested
				}
				if sum > min(signed, total) {
					rt.Fatalf("attested %d of %d signed and %d counted", sum, signed, total)
				}
			},
		})
		c, err := n.Submit(t.Context(), "", n.receipt(t, client, nonce, 1<<40))
		if err != nil || c.Attested != total {
			rt.Fatalf("at the end %d of %d, %v", c.Attested, total, err)
		}
	})
}

// TestAtTheSameTime: readers count and confirm beside each other.
func TestAtTheSameTime(t *testing.T) {
	const readers, rounds = 8, 50
	n := newNode(t, delivery.Config{})
	var wg sync.WaitGroup
	for i := range readers {
		client := secret(t, byte(10+i))
		nonce := n.open(t, delivery.Who{Client: client.Public()})
		for range 2 {
			wg.Go(func() {
				for range rounds {
					n.Count(nonce, alice, object, 10)
				}
			})
		}
		wg.Go(func() {
			for k := range rounds {
				c, err := n.Submit(t.Context(), "", n.receipt(t, client, nonce, int64(k*20)))
				if err != nil || c.Attested > c.Counted {
					t.Errorf("%+v, %v", c, err)
				}
			}
		})
	}
	wg.Wait()
	state, err := n.ledger.State(t.Context(), alice)
	if err != nil || state.Attested == 0 || state.Attested > readers*rounds*20 {
		t.Errorf("%d bytes attested, %v", state.Attested, err)
	}
}

func TestCountDoesNotAllocate(t *testing.T) {
	n, client := newNode(t, delivery.Config{}), secret(t, 2)
	nonce := n.open(t, delivery.Who{Client: client.Public()})
	n.Count(nonce, alice, object, 1)
	if allocs := testing.AllocsPerRun(1000, func() { n.Count(nonce, alice, object, 1) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if allocs := testing.AllocsPerRun(1000, func() { n.Count(mesh.Nonce{1}, alice, object, 1) }); allocs != 0 {
		t.Errorf("%v allocations for a nonce that is not known", allocs)
	}
}

func BenchmarkCount(b *testing.B) {
	n, client := newNode(b, delivery.Config{}), secret(b, 2)
	nonce := n.open(b, delivery.Who{Client: client.Public()})
	n.Count(nonce, alice, object, 1)
	b.ReportAllocs()
	for b.Loop() {
		n.Count(nonce, alice, object, 1)
	}
}

package books

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"inos.dev/edge/gateway/credit"
)

func TestStand(t *testing.T) {
	others := func(n credit.Amount) *Others { return &Others{Sum: n} }
	for _, c := range []struct {
		name     string
		v        view
		standing int32
		onHouse  bool
	}{
		{"credits", view{local: 1, others: others(0)}, standingGood, false},
		{"credits at another gateway", view{local: -5, others: others(6)}, standingGood, false},
		{"fresh", view{others: others(0)}, standingGood, true},
		{"debt", view{local: -5, others: others(0), terms: credit.Terms{Debt: 6}}, standingGood, false},
		{"debt limit", view{local: -6, others: others(0), terms: credit.Terms{Debt: 6}}, standingGood, true},
		{"spent elsewhere", view{local: 5, others: others(-5)}, standingGood, true},
		{"throttled", view{others: others(0), terms: credit.Terms{WhenEmpty: credit.Throttle, Debt: 6}}, standingThrottled, false},
		{"throttled, at its limit", view{local: -6, others: others(0), terms: credit.Terms{WhenEmpty: credit.Throttle, Debt: 6}}, standingThrottled, true},
		{"refused", view{others: others(0), terms: credit.Terms{WhenEmpty: credit.Refuse}}, standingRefused, true},
		{"refuses, has credits", view{local: 1, others: others(0), terms: credit.Terms{WhenEmpty: credit.Refuse}}, standingGood, false},
		{"unknown", view{local: -99, terms: credit.Terms{WhenEmpty: credit.Refuse}}, standingGood, false},
		{"unknown, far below", view{local: -100, terms: credit.Terms{WhenEmpty: credit.Refuse}}, standingGood, true},
	} {
		if standing, onHouse := stand(c.v, 100); standing != c.standing || onHouse != c.onHouse {
			t.Errorf("%s: %d, %v; want %d, %v", c.name, standing, onHouse, c.standing, c.onHouse)
		}
	}
}

func TestAfford(t *testing.T) {
	for _, c := range []struct {
		v    view
		want int64
	}{
		{view{local: 2 * credit.Credit, others: &Others{}}, 2 << 30},
		{view{local: 2 * credit.Credit, others: &Others{Sum: -credit.Credit}}, 1 << 30},
		{view{local: 2 * credit.Credit, others: &Others{Leased: 1 << 30}}, 1 << 30},
		{view{local: -1, others: &Others{}}, 0},
		{view{local: -1, others: &Others{}, terms: credit.Terms{Debt: 1 + credit.Credit}}, 1 << 30},
		{view{local: math.MaxInt64, others: &Others{Sum: math.MaxInt64}}, math.MaxInt64},
		{view{}, math.MaxInt64},
	} {
		if got := afford(c.v, credit.Price(credit.Credit)); got != c.want {
			t.Errorf("%+v affords %d, want %d", c.v, got, c.want)
		}
	}
}

func TestSize(t *testing.T) {
	cfg := Config{Lease: 64 * mib, MaxLease: 4 << 30}
	for _, c := range []struct {
		name string
		n    need
		want int64
	}{
		{"first", need{limit: cfg.MaxLease, afford: math.MaxInt64}, 64 * mib},
		{"steady", need{lease: 64 * mib, used: 20 * mib, limit: cfg.MaxLease, afford: math.MaxInt64}, 64 * mib},
		{"half used", need{lease: 64 * mib, used: 40 * mib, limit: cfg.MaxLease, afford: math.MaxInt64}, 104 * mib},
		{"four windows", need{lease: 64 * mib, used: 60 * mib, window: 100 * mib, limit: cfg.MaxLease, afford: math.MaxInt64}, 460 * mib},
		{"near its end", need{lease: 64 * mib, used: 60 * mib, window: 100 * mib, limit: cfg.MaxLease, afford: 80 * mib}, 140 * mib},
		{"at its end", need{lease: 64 * mib, used: 60 * mib, window: 100 * mib, limit: cfg.MaxLease}, 124 * mib},
		{"most", need{lease: 4 << 30, used: 4 << 30, waiting: mib, limit: cfg.MaxLease, afford: math.MaxInt64}, 4 << 30},
		{"wide", need{lease: 4 << 30, used: mib, limit: cfg.MaxLease, afford: math.MaxInt64}, 65 * mib},
		{"over", need{lease: 64 * mib, used: 3, over: true, limit: cfg.MaxLease}, 3},
	} {
		if got := cfg.size(c.n); got != c.want {
			t.Errorf("%s: %d MiB, want %d", c.name, got/mib, c.want/mib)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.Int64Range(0, 1<<40)
		n := need{lease: some.Draw(t, "lease"), used: some.Draw(t, "used"), waiting: some.Draw(t, "waiting"), window: some.Draw(t, "window"),
			afford: some.Draw(t, "afford"), limit: cfg.MaxLease, over: rapid.Bool().Draw(t, "over")}
		got := cfg.size(n)
		if got < n.used {
			t.Fatalf("a lease of %d, %d are used", got, n.used)
		}
		if got != n.lease && got > max(n.used, n.limit) {
			t.Fatalf("a lease of %d is beyond its limit", got)
		}
		n.lease = got
		if again := cfg.size(n); n.waiting == 0 && again != got {
			t.Fatalf("%d became %d with nothing new", got, again)
		}
	})
}

func TestSum(t *testing.T) {
	for _, c := range [][3]credit.Amount{{1, 2, 3}, {math.MaxInt64, 1, math.MaxInt64}, {math.MinInt64, -1, math.MinInt64}, {math.MaxInt64, math.MinInt64, -1}} {
		if got := sum(c[0], c[1]); got != c[2] {
			t.Errorf("%d + %d = %d", c[0], c[1], got)
		}
	}
}

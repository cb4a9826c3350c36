package mesh

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPolicyLimits(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		p  Policy
		ok bool
	}{
		{Policy{}, true},
		{Policy{RF: 1}, true},
		{Policy{RF: 64}, true},
		{Policy{RF: 65}, false},
		{Policy{RF: -1}, false},
		{Policy{RF: 5, MaxRF: 5}, true},
		{Policy{RF: 5, MaxRF: 4}, false},
		{Policy{MaxRF: 2}, false}, // below the default rf
		{Policy{MaxRF: 3}, true},
		{Policy{MaxRF: 1024}, true},
		{Policy{MaxRF: 1025}, false},
		{Policy{MaxRF: -1}, false},
		{Policy{Tier: "hot"}, true},
		{Policy{Tier: "cold"}, true},
		{Policy{Tier: "Hot"}, false},
		{Policy{Expires: now.Add(1)}, true},
		{Policy{Expires: now}, false},
		{Policy{PriceCap: LimitPrice}, true},
		{Policy{PriceCap: LimitPrice + 1}, false},
		{Policy{PriceCap: -1}, false},
		{Policy{Expires: now.AddDate(9000, 0, 0)}, false},
	} {
		if err := tt.p.Validate(now); (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrPolicy) {
			t.Errorf("%+v: %v, want ok %v", tt.p, err, tt.ok)
		}
	}
}

// TestPolicyMax: the maximum is possible, keeps both promises, and does not
// depend on the order of what it is taken over.
func TestPolicyMax(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawPolicy(t), drawPolicy(t), drawPolicy(t)
		m := a.Max(b)
		if m != b.Max(a) || a.Max(a) != a || m.Max(c) != a.Max(b.Max(c)) {
			t.Fatalf("%+v, %+v, %+v", a, b, c)
		}
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		for _, p := range []Policy{a, b} {
			if m.Floor() < p.Floor() || m.MaxRF != 0 && (p.MaxRF == 0 || m.MaxRF < p.MaxRF) || m.PriceCap != 0 && (p.PriceCap == 0 || m.PriceCap < p.PriceCap) ||
				p.Tier == Hot && m.Tier != Hot || p.Tier == Cold && m.Tier == AnyTier || !m.Expires.IsZero() && (p.Expires.IsZero() || m.Expires.Before(p.Expires)) {
				t.Fatalf("%+v is less than %+v", m, p)
			}
		}
	})
}

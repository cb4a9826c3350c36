package mesh

import (
	"errors"
	"fmt"
	"time"
)

// ErrPolicy says: a policy is outside of its limits.
var ErrPolicy = errors.New("not a possible policy")

// Tier is where durable copies are to live.
type Tier string

// The tiers.
const (
	AnyTier Tier = "" // the node decides
	Hot     Tier = "hot"
	Cold    Tier = "cold"
)

// Limits of a Policy, and what a zero field means.
const (
	DefaultRF = 3
	MaxRF     = 64
	LimitRF   = 1024 // of Policy.MaxRF
	// LimitPrice is the greatest Policy.PriceCap: a million credits.
	LimitPrice = 1_000_000_000_000
)

// Policy says how an object is to be kept. The zero Policy is the node's
// defaults, for ever.
type Policy struct {
	RF       int       // durable copies at least, 1 … MaxRF; 0: DefaultRF
	MaxRF    int       // copies at most, however great the demand, RF … LimitRF; 0: the node decides
	Tier     Tier      // where they live
	Expires  time.Time // when the object may be forgotten; zero: never
	PriceCap int64     // the most that its owner pays for 2³⁰ bytes, in micro-credits, up to LimitPrice; 0: no cap
}

// Validate checks a policy that somebody asks for at now. The error is
// ErrPolicy.
func (p Policy) Validate(now time.Time) error {
	if p.Over(now) {
		return fmt.Errorf("%w: it expired at %s", ErrPolicy, p.Expires.UTC().Format(time.RFC3339))
	}
	return p.Check()
}

// Over reports whether what p says has ended by now.
func (p Policy) Over(now time.Time) bool { return !p.Expires.IsZero() && !p.Expires.After(now) }

// Check is Validate for a policy that may be over.
func (p Policy) Check() error {
	rf := p.Floor()
	switch {
	case rf < 1 || rf > MaxRF:
		return fmt.Errorf("%w: rf is %d, it must be 1 to %d", ErrPolicy, p.RF, MaxRF)
	case p.MaxRF != 0 && (p.MaxRF < rf || p.MaxRF > LimitRF):
		return fmt.Errorf("%w: max_rf is %d, it must be %d (rf) to %d", ErrPolicy, p.MaxRF, rf, LimitRF)
	case p.Tier != AnyTier && p.Tier != Hot && p.Tier != Cold:
		return fmt.Errorf("%w: tier is %.20q, it must be hot, cold or empty", ErrPolicy, string(p.Tier))
	case !p.Expires.IsZero() && !storable(p.Expires):
		return fmt.Errorf("%w: it expires in an absurd year", ErrPolicy)
	case p.PriceCap < 0 || p.PriceCap > LimitPrice:
		return fmt.Errorf("%w: the price cap is %d, it must be 0 to %d micro-credits for a GiB", ErrPolicy, p.PriceCap, LimitPrice)
	}
	return nil
}

// Canonical is p with its time in UTC, to the microsecond, as a Publication has
// it, so that policies compare.
func (p Policy) Canonical() Policy {
	p.Expires = canonicalTime(p.Expires)
	return p
}

// Floor is the number of durable copies that p asks for.
func (p Policy) Floor() int {
	if p.RF == 0 {
		return DefaultRF
	}
	return p.RF
}

// Max is what keeps both promises, p and q: the more copies, the higher bound
// (none is the highest), the better tier (hot before cold before any), the
// later end, the higher price.
func (p Policy) Max(q Policy) Policy {
	if q.Floor() > p.Floor() || q.Floor() == p.Floor() && q.RF > p.RF {
		p.RF = q.RF
	}
	if p.MaxRF != 0 && (q.MaxRF == 0 || q.MaxRF > p.MaxRF) {
		p.MaxRF = q.MaxRF
	}
	if q.Tier == Hot || p.Tier == AnyTier {
		p.Tier = q.Tier
	}
	if !p.Expires.IsZero() && (q.Expires.IsZero() || q.Expires.After(p.Expires)) {
		p.Expires = q.Expires
	}
	if p.PriceCap != 0 && (q.PriceCap == 0 || q.PriceCap > p.PriceCap) {
		p.PriceCap = q.PriceCap
	}
	return p
}

// storable reports a time that RFC 3339 and the encodings here can hold.
func storable(t time.Time) bool {
	y := t.UTC().Year()
	return t.Unix() > 0 && y <= 9999
}

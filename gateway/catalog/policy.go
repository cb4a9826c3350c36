package catalog

import (
	"fmt"
	"time"
)

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
)

// Policy says how an object is to be kept. The zero Policy is the node's
// defaults, for ever.
type Policy struct {
	RF      int       // durable copies at least, 1 … MaxRF; 0: DefaultRF
	MaxRF   int       // copies at most, however great the demand, RF … LimitRF; 0: the node decides
	Tier    Tier      // where they live
	Expires time.Time // when the object may be forgotten; zero: never
}

// Validate checks a policy that somebody asks for at now. The error is
// ErrPolicy.
func (p Policy) Validate(now time.Time) error {
	if !p.Expires.IsZero() && !p.Expires.After(now) {
		return fmt.Errorf("%w: it expired at %s", ErrPolicy, p.Expires.UTC().Format(time.RFC3339))
	}
	return p.check()
}

// check is Validate for a policy that may be over.
func (p Policy) check() error {
	rf := p.RF
	if rf == 0 {
		rf = DefaultRF
	}
	switch {
	case rf < 1 || rf > MaxRF:
		return fmt.Errorf("%w: rf is %d, it must be 1 to %d", ErrPolicy, p.RF, MaxRF)
	case p.MaxRF != 0 && (p.MaxRF < rf || p.MaxRF > LimitRF):
		return fmt.Errorf("%w: max_rf is %d, it must be %d (rf) to %d", ErrPolicy, p.MaxRF, rf, LimitRF)
	case p.Tier != AnyTier && p.Tier != Hot && p.Tier != Cold:
		return fmt.Errorf("%w: tier is %.20q, it must be hot, cold or empty", ErrPolicy, string(p.Tier))
	case !p.Expires.IsZero() && !storable(p.Expires):
		return fmt.Errorf("%w: it expires in an absurd year", ErrPolicy)
	}
	return nil
}

package heat

import (
	"math"
	"time"
)

// The time constants of the averages in seconds: half of the second and of the
// minute over which they are said to go, see the package's doc. The averages
// of Redis have the same (heat.lua).
const (
	fastConstant = 0.5
	slowConstant = 30
)

// averages are a chunk's bytes per second at a moment.
type averages struct {
	fast, slow float64
	at         time.Time
}

// decayed is what is left of a at now. A clock that went back is taken to
// stand still.
func (a averages) decayed(now time.Time) averages {
	if dt := now.Sub(a.at).Seconds(); dt > 0 {
		a.fast *= math.Exp(-dt / fastConstant)
		a.slow *= math.Exp(-dt / slowConstant)
		a.at = now
	}
	return a
}

// share is what one byte adds to an average if it came at some moment of a
// span, any moment being as likely, that ended age ago: a steady flow of r
// bytes per second gives an average of r, however long the spans are.
func share(span, age time.Duration, constant float64) float64 {
	s := span.Seconds()
	return -math.Expm1(-s/constant) / s * math.Exp(-age.Seconds()/constant)
}

// shares are those of the bytes of a window.
func (w *Window) shares() (fast, slow float64) {
	span, age := min(max(w.Span, minSpan), maxSpan), max(w.Age, 0)
	return share(span, age, fastConstant), share(span, age, slowConstant)
}

// Limits of the span of a window: one that is shorter would claim an absurd
// rate, a longer one is forgotten by the averages anyway.
const (
	minSpan = 10 * time.Millisecond
	maxSpan = 10 * time.Minute
)

// peaks remembers the greatest rate of the last 4/4 to 5/4 of a cool-down. The
// zero value remembers none.
type peaks struct {
	quarter int64 // number of the newest one
	rate    [5]float64
}

// add notes a rate at a moment that is not before the last one.
func (p *peaks) add(rate float64, now time.Time, coolDown time.Duration) {
	quarter := now.UnixNano() / max(int64(coolDown/4), 1)
	n := int64(len(p.rate))
	for passed := min(max(quarter-p.quarter, 0), n); passed > 0; passed-- {
		p.rate[(quarter-passed+1)%n] = 0
	}
	p.quarter = max(p.quarter, quarter)
	r := &p.rate[p.quarter%n]
	*r = max(*r, rate)
}

// greatest is the greatest rate that is remembered.
func (p *peaks) greatest() float64 {
	g := 0.0
	for _, r := range p.rate {
		g = max(g, r)
	}
	return g
}

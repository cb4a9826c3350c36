package heat

import (
	"time"

	"inos.dev/edge/cas"
)

// MemoryAt is a Memory with a clock of the test.
func MemoryAt(clock func() time.Time) *Memory { return &Memory{clock: clock} }

// Drain empties a Counter.
func (c *Counter) Drain() (sums map[cas.Hash]int64, tail int64) {
	sums = make(map[cas.Hash]int64)
	tail = c.drain(sums)
	return sums, tail
}

// The time constants of the averages, in seconds.
const (
	FastConstant = fastConstant
	SlowConstant = slowConstant
)

// Library is the name of the functions in Redis.
func (r *Redis) Library() string { return r.library }

// Share is what a byte adds to an average.
func Share(span time.Duration, constant float64) float64 { return share(span, 0, constant) }

package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// ErrQuota says: too much in too short a time. HTTP 429 with Retry-After.
var ErrQuota = errors.New("over the quota")

// QuotaError is ErrQuota and says when to come again.
type QuotaError struct {
	RetryAfter time.Duration
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("%v: try again in %v", ErrQuota, e.RetryAfter.Round(time.Second))
}

// Unwrap implements errors.Is.
func (e *QuotaError) Unwrap() error { return ErrQuota }

// Key names who shares a quota.
type Key string

// KeyOf is the token of id, or for anybody the network of the client: one
// IPv4 address (many customers share the /24 around it), an IPv6 /64 (one
// customer has all of it).
func KeyOf(id Identity, client netip.Addr) Key {
	if !id.Anonymous() {
		return Key("token " + id.TokenID)
	}
	if !client.IsValid() {
		return "unknown" // all of them together
	}
	bits := 32
	if client.Is6() {
		bits = 64
	}
	return Key("net " + netip.PrefixFrom(client, bits).Masked().String())
}

// QuotaConfig bounds what one Key may do in one direction. A zero rate is no
// limit.
type QuotaConfig struct {
	// BytesPerSecond in the long run, BurstBytes at once. The default burst is
	// four seconds' worth, at least 4 MiB.
	BytesPerSecond int64
	BurstBytes     int64
	// RequestsPerSecond in the long run, BurstRequests at once. The default
	// burst is four seconds' worth, at least 16.
	RequestsPerSecond float64
	BurstRequests     int
	// MaxKeys bounds the keys that are told apart, at least 2. Beyond it those
	// that were quiet for longest start anew. Default 65,536 (about 15 MB).
	MaxKeys int
}

const minBurstBytes = 4 << 20

func (c QuotaConfig) withDefaults() QuotaConfig {
	if c.BurstBytes == 0 {
		c.BurstBytes = max(4*c.BytesPerSecond, minBurstBytes)
	}
	if c.BurstRequests == 0 {
		c.BurstRequests = max(int(4*c.RequestsPerSecond), 16)
	}
	if c.MaxKeys == 0 {
		c.MaxKeys = 1 << 16
	}
	return c
}

func (c QuotaConfig) validate() error {
	if c.BytesPerSecond < 0 || c.BurstBytes < 0 || c.RequestsPerSecond < 0 || c.BurstRequests < 0 || c.MaxKeys < 0 {
		return errors.New("auth: a quota must not be negative; 0 means no limit")
	}
	return nil
}

// Quota counts requests and bytes per Key. Bytes are charged when they are
// known, which is after the request was let in: a key may go into debt, and
// its next request waits until that is paid off. All methods may be called at
// the same time.
type Quota struct {
	cfg QuotaConfig

	mu sync.Mutex // guards the fields below
	// Two generations: who comes is in young; when that is half of MaxKeys it
	// becomes old, and the old one, of whom nobody came since, is dropped.
	young, old map[Key]*bucket
}

type bucket struct {
	requests *rate.Limiter // nil: no limit
	// paid is the moment until which the bytes so far pay for themselves at
	// the long-run rate; what lies beyond now is debt. Guarded by Quota.mu.
	// (A rate.Limiter knows no debt beyond its burst.)
	paid time.Time
}

// NewQuota returns a Quota that nobody has used.
func NewQuota(cfg QuotaConfig) (*Quota, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Quota{cfg: cfg.withDefaults(), young: make(map[Key]*bucket)}, nil
}

// Admit counts one request of k, or answers *QuotaError.
func (q *Quota) Admit(k Key) error {
	if q.unlimited() {
		return nil
	}
	now := time.Now()
	q.mu.Lock()
	b := q.bucketLocked(k)
	debt := b.paid.Sub(now)
	q.mu.Unlock()
	if debt > 0 {
		return &QuotaError{wholeSeconds(debt)}
	}
	if b.requests != nil && !b.requests.AllowN(now, 1) {
		missing := 1 - b.requests.TokensAt(now)
		return &QuotaError{wholeSeconds(period(missing, q.cfg.RequestsPerSecond))}
	}
	return nil
}

// Charge counts n bytes of k and returns how far in debt that leaves it, at
// most maxDebt: what a caller that paces itself waits before the next bytes.
func (q *Quota) Charge(k Key, n int64) time.Duration {
	if q.cfg.BytesPerSecond == 0 || n <= 0 {
		return 0
	}
	now, perSecond := time.Now(), float64(q.cfg.BytesPerSecond)
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.bucketLocked(k)
	if saved := now.Add(-period(float64(q.cfg.BurstBytes), perSecond)); b.paid.Before(saved) {
		b.paid = saved // nobody saves up more than the burst
	}
	b.paid = b.paid.Add(period(float64(n), perSecond))
	if last := now.Add(maxDebt); b.paid.After(last) {
		b.paid = last
	}
	return max(b.paid.Sub(now), 0)
}

// Keys is the number of keys that are told apart now.
func (q *Quota) Keys() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.young) + len(q.old)
}

func (q *Quota) unlimited() bool {
	return q.cfg.BytesPerSecond == 0 && q.cfg.RequestsPerSecond == 0
}

// bucketLocked returns the bucket of k, a new one if need be.
func (q *Quota) bucketLocked(k Key) *bucket {
	if b := q.young[k]; b != nil {
		return b
	}
	b := q.old[k]
	if b == nil {
		b = &bucket{}
		if q.cfg.RequestsPerSecond > 0 {
			b.requests = rate.NewLimiter(rate.Limit(q.cfg.RequestsPerSecond), q.cfg.BurstRequests)
		}
	}
	delete(q.old, k)
	if len(q.young) >= max(q.cfg.MaxKeys/2, 1) {
		q.old, q.young = q.young, make(map[Key]*bucket)
	}
	q.young[k] = b
	return b
}

// maxDebt is the longest that anybody has to wait.
const maxDebt = 24 * time.Hour

// period is how long n of something last at a rate, at most maxDebt.
func period(n, perSecond float64) time.Duration {
	if s := n / perSecond; s < maxDebt.Seconds() {
		return time.Duration(s * float64(time.Second))
	}
	return maxDebt
}

// wholeSeconds rounds up, as Retry-After has them, to one at least.
func wholeSeconds(d time.Duration) time.Duration {
	return max((d + time.Second - 1).Truncate(time.Second), time.Second)
}

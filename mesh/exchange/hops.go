package exchange

import "context"

// MaxHops is the number of nodes after which a request is answered from the
// store alone: the longest chain of nodes that fill from each other.
const MaxHops = 4

type hopsKey struct{}

// WithHops returns a context for a request that came over n other nodes. A
// Provider that asks another node tells it Hops(ctx).
func WithHops(ctx context.Context, n int) context.Context {
	return context.WithValue(ctx, hopsKey{}, min(max(n, 0), MaxHops))
}

// Hops is the number of nodes that the request of ctx came over, 0 … MaxHops.
func Hops(ctx context.Context) int {
	n, _ := ctx.Value(hopsKey{}).(int) // absent is zero: a client's own request
	return n
}

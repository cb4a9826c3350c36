package content

import (
	"context"
	"fmt"
	"sync"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/mesh/exchange"
)

// holdPatience is how long an answer waits for room to hold its bytes.
const holdPatience = 5 * time.Second

// reserve takes n bytes of what answers may hold in memory, or answers
// exchange.ErrBusy: slow readers cost bounded memory, and no more than that.
func (c *Content) reserve(ctx context.Context, n int64) (release func(), err error) {
	wait, cancel := context.WithTimeout(ctx, holdPatience)
	defer cancel()
	if err := c.held.Acquire(wait, n); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: slow readers hold too much memory", exchange.ErrBusy)
	}
	return sync.OnceFunc(func() { c.held.Release(n) }), nil
}

// hold is a Body over bytes that nothing else keeps, until it is closed.
func (c *Content) hold(ctx context.Context, b []byte) (cas.Body, error) {
	release, err := c.reserve(ctx, int64(len(b)))
	if err != nil {
		return nil, err
	}
	return heldBody{cas.BytesBody(b), b, release}, nil
}

// heldBody is cas.InMemory, and gives its reservation back.
type heldBody struct {
	cas.Body
	bytes   []byte
	release func()
}

func (b heldBody) Bytes() []byte { return b.bytes }

func (b heldBody) Close() error {
	b.release()
	return b.Body.Close()
}

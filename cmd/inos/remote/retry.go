package remote

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Pauses between attempts: the first is about firstPause, each further one
// twice as long up to maxPause, unless the node asks for more (up to
// maxAsked).
const (
	firstPause = 250 * time.Millisecond
	maxPause   = 4 * time.Second
	maxAsked   = 30 * time.Second
)

// retry calls do until it succeeds, fails for good, or has failed too often.
// Each attempt has a deadline of its own.
func (n *Node) retry(ctx context.Context, do func(context.Context) error) error {
	pause := firstPause
	for attempt := 0; ; attempt++ {
		err := n.attempt(ctx, do)
		if err == nil || ctx.Err() != nil || !errors.Is(err, ErrUnavailable) || attempt >= n.cfg.Retries || !n.reached.Load() {
			return err
		}
		asked := time.Duration(0)
		if e, ok := errors.AsType[*Error](err); ok {
			asked = e.RetryAfter
		}
		if asked > maxAsked {
			return fmt.Errorf("%w; try again in %v", err, asked)
		}
		jittered := pause/2 + rand.N(pause)
		if err := sleep(ctx, max(asked, jittered)); err != nil {
			return err
		}
		pause = min(2*pause, maxPause)
	}
}

func (n *Node) attempt(ctx context.Context, do func(context.Context) error) error {
	attempt, cancel := context.WithTimeout(ctx, n.cfg.Timeout)
	defer cancel()
	err := do(attempt)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

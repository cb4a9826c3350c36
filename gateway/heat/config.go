package heat

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inos.dev/edge/cas"
)

// Config says what a Heat works on. The zero value of a field is its default,
// where it has one.
type Config struct {
	Rules

	// Node is the name of this node in the cluster. Required.
	Node string
	// Counter is where reads are counted. Default: one of its own.
	Counter *Counter
	// Store is where nodes meet. Default: a Memory, for a node alone.
	Store Store
	// Policy returns what bounds the replicas of a chunk, and whether this node
	// knows; about a chunk that it does not know it decides nothing. It is asked
	// once per window for each hot chunk, so it must be quick. Required.
	Policy func(ctx context.Context, h cas.Hash) (Policy, bool)
	// Decided announces a decision of this node. It is called by Run, one
	// decision after the other, and again in the next window after an error.
	// After a crash the same epoch may be announced once more. Default: nobody
	// is told.
	Decided func(ctx context.Context, d Decision) error

	// Window is how long counts are gathered for one call of the store: at
	// least 250 ms, which is the default.
	Window time.Duration
	// Timeout bounds a call of the store. Default 400 ms, at most 500 ms.
	Timeout time.Duration

	Registry prometheus.Registerer // may be nil
	Logger   *slog.Logger          // default: discarded
}

const minWindow = 250 * time.Millisecond

func (c Config) withDefaults() (Config, error) {
	c.Rules = c.Rules.withDefaults()
	c.Window = orDefault(c.Window, minWindow)
	c.Timeout = orDefault(c.Timeout, 400*time.Millisecond)
	if c.Store == nil {
		c.Store = &Memory{}
	}
	if c.Decided == nil {
		c.Decided = func(context.Context, Decision) error { return nil }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Counter == nil {
		counter, err := NewCounter(CounterConfig{})
		if err != nil {
			return c, err
		}
		c.Counter = counter
	}
	return c, nil
}

func (c Config) validate() error {
	switch {
	case c.Node == "" || len(c.Node) > maxName:
		return errors.New("heat: Node must be a name of 1 to 128 bytes")
	case c.Policy == nil:
		return errors.New("heat: Policy is required")
	case c.Window < minWindow || c.Window > time.Minute:
		return errors.New("heat: Window must be 250 ms to a minute")
	case c.Timeout < 0 || c.Timeout > 500*time.Millisecond:
		return errors.New("heat: Timeout must be at most 500 ms")
	}
	return c.Rules.validate()
}

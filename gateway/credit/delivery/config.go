package delivery

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/mesh"
)

// Config says who serves, and what bounds the deliveries.
type Config struct {
	// Key of the node: receipts name it, and it countersigns. Required.
	Key mesh.Secret
	// Ledger takes what is attested. Required.
	Ledger credit.Ledger
	// Earner is the account that is paid for what is served. Default:
	// credit.Node of the key.
	Earner credit.Account
	// Owners are the subjects of those to whom the node belongs: what they
	// receive attests nothing. Default: none.
	Owners []string
	// Idle is how long a delivery lives after its last use. Default 10 min.
	Idle time.Duration
	// Life is how long it lives at most. Default 24 h.
	Life time.Duration
	// MaxSessions bounds the deliveries in all. Default 16,384: 10 MB, or
	// 100 MB if each reads on the accounts of MaxPayers.
	MaxSessions int
	// MaxPerQuota bounds those that share a Who.Quota. Default 64.
	MaxPerQuota int
	// Registry gets the metrics. Default: none does.
	Registry prometheus.Registerer
}

func (c Config) withDefaults() (Config, error) {
	if c.Key == (mesh.Secret{}) || c.Ledger == nil {
		return Config{}, errors.New("delivery: Key and Ledger are required")
	}
	if c.Idle < 0 || c.Life < 0 || c.MaxSessions < 0 || c.MaxPerQuota < 0 {
		return Config{}, errors.New("delivery: a limit must not be negative; 0 means the default")
	}
	if c.Earner == "" {
		c.Earner = credit.Node(c.Key.Public())
	}
	if err := c.Earner.Validate(); err != nil {
		return Config{}, fmt.Errorf("delivery: Earner: %w", err)
	}
	if c.Idle == 0 {
		c.Idle = 10 * time.Minute
	}
	if c.Life == 0 {
		c.Life = 24 * time.Hour
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = 1 << 14
	}
	if c.MaxPerQuota == 0 {
		c.MaxPerQuota = 64
	}
	return c, nil
}

// metrics count what deliveries do. Their names are fixed.
type metrics struct {
	attested prometheus.Counter
	rejected *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer, s *Sessions) (*metrics, error) {
	m := &metrics{
		attested: prometheus.NewCounter(prometheus.CounterOpts{Name: "inos_credit_attested_bytes_total", Help: "Bytes served that receipts of clients confirm."}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inos_delivery_rejected_total", Help: "Deliveries and receipts that were refused, by reason: too-many, malformed, signature, server, unknown, identity, time, ledger."}, []string{"reason"}),
	}
	if registry == nil {
		return m, nil
	}
	sessions := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "inos_delivery_sessions", Help: "Open deliveries."}, func() float64 { return float64(s.Len()) })
	var errs []error
	for _, c := range []prometheus.Collector{m.attested, m.rejected, sessions} {
		errs = append(errs, registry.Register(c))
	}
	return m, errors.Join(errs...)
}

// rejected counts err and returns it.
func (s *Sessions) rejected(reason string, err error) error {
	s.metrics.rejected.WithLabelValues(reason).Inc()
	return err
}

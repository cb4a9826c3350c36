package books

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"inos.dev/edge/gateway/credit"
)

// metrics count what is charged. Their names are fixed: dashboards and alerts
// rely on them.
type metrics struct {
	bytes, amount *prometheus.CounterVec

	userBytes, userAmount, houseBytes, houseAmount prometheus.Counter

	leased, failing, shareUp, behind                               prometheus.Gauge
	waits, throttled, refused, failures, shareSyncs, shareFailures prometheus.Counter
	flush                                                          prometheus.Histogram
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	payer := []string{"payer"}
	m := &metrics{
		bytes:         prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inos_credit_charged_bytes_total", Help: "Bytes charged, by who pays: user or house."}, payer),
		amount:        prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inos_credit_charged_microcredits_total", Help: "Micro-credits charged, by who pays: user or house."}, payer),
		leased:        gauge("inos_credit_leased_bytes", "Bytes of open leases: what may be in doubt after a crash."),
		failing:       gauge("inos_credit_journal_failing", "1 while the journal cannot be written, so that bytes are served that only memory knows of."),
		shareUp:       gauge("inos_credit_share_up", "1 while the books of other gateways can be reached, or there are none."),
		behind:        gauge("inos_credit_share_rebuilding", "1 while balances are pushed again, since the shared ones were lost or are behind."),
		waits:         counter("inos_credit_lease_waits_total", "Reservations that waited for a lease."),
		throttled:     counter("inos_credit_throttled_total", "Reservations on accounts that are throttled."),
		refused:       counter("inos_credit_refused_total", "Requests refused since the publisher is out of credit."),
		failures:      counter("inos_credit_journal_failures_total", "Times that the journal began to fail."),
		shareFailures: counter("inos_credit_share_failures_total", "Exchanges of balances that failed."),
		shareSyncs:    counter("inos_credit_share_syncs_total", "Exchanges of balances that succeeded."),
		flush: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "inos_credit_flush_seconds", Help: "Time to write the charges of a window.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
	}
	m.userBytes, m.houseBytes = m.bytes.WithLabelValues("user"), m.bytes.WithLabelValues("house")
	m.userAmount, m.houseAmount = m.amount.WithLabelValues("user"), m.amount.WithLabelValues("house")
	m.shareUp.Set(1)
	if registry == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.bytes, m.amount, m.leased, m.failing, m.shareUp, m.behind, m.waits, m.throttled, m.refused, m.failures, m.shareFailures, m.shareSyncs, m.flush} {
		errs = append(errs, registry.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *metrics) count(onHouse bool, n int64, amount credit.Amount) {
	if onHouse {
		m.houseBytes.Add(float64(n))
		m.houseAmount.Add(float64(amount))
		return
	}
	m.userBytes.Add(float64(n))
	m.userAmount.Add(float64(amount))
}

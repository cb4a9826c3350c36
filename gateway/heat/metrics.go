package heat

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics have fixed names: dashboards and alerts rely on them.
type metrics struct {
	tracked, frozen, up prometheus.Gauge
	tail, moved         prometheus.Counter
	decisions, held     *prometheus.CounterVec
	flush               prometheus.Histogram
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		tracked:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "inos_heat_tracked_chunks", Help: "Chunks whose rates are kept, over all nodes that share them."}),
		frozen:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "inos_heat_frozen", Help: "1 while the operator has stopped all moves of replicas."}),
		up:        prometheus.NewGauge(prometheus.GaugeOpts{Name: "inos_heat_store_up", Help: "1 while the store of rates and decisions answers."}),
		tail:      prometheus.NewCounter(prometheus.CounterOpts{Name: "inos_heat_tail_bytes_total", Help: "Bytes read of chunks that were too cold to be told apart."}),
		moved:     prometheus.NewCounter(prometheus.CounterOpts{Name: "inos_heat_moved_bytes_total", Help: "Bytes that the decisions of this node move."}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inos_heat_decisions_total", Help: "Decisions of this node about replicas of a chunk, by reason."}, []string{"reason"}),
		held:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inos_heat_refused_total", Help: "Proposals of this node that the store refused, by reason."}, []string{"reason"}),
		flush: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "inos_heat_flush_seconds", Help: "Time of the call to the store that ends a window.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5}}),
	}
	if registry == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.tracked, m.frozen, m.up, m.tail, m.moved, m.decisions, m.held, m.flush} {
		errs = append(errs, registry.Register(c))
	}
	return m, errors.Join(errs...)
}

func gauge(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

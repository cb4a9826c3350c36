package event

import "github.com/prometheus/client_golang/prometheus"

// metrics are the bus's numbers.
type metrics struct {
	events          [numStates]prometheus.Counter
	refused, missed prometheus.Counter
	streams         prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	events := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inos_events_total", Help: "Events that were published, by state."}, []string{"state"})
	m := &metrics{
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "inos_events_refused_total", Help: "Events whose state did not follow, or that were not the publisher's."}),
		missed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "inos_event_gaps_total", Help: "Times that a subscriber was told of events which are no longer kept."}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Name: "inos_event_streams", Help: "Open streams of events."}),
	}
	for s := range State(numStates) {
		m.events[s] = events.WithLabelValues(s.String())
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{events, m.refused, m.missed, m.streams} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) published(s State) { m.events[s].Inc() }

package gateway

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/content"
	"inos.dev/edge/mesh/exchange"
)

// metrics are the gateway's counters. Their names are fixed: dashboards and
// alerts rely on them.
type metrics struct {
	requests  *prometheus.CounterVec   // by route and status
	routes    map[string]*routeMetrics // one per route; looked up, never written, after newMetrics
	direct    prometheus.Counter       // of the bytes sent, those handed to the connection as a file
	truncated prometheus.Counter
	stored    prometheus.Counter // raw bytes of uploads

	memory, disk, filled, decoded, cached prometheus.Counter // bytes by source
}

// routeMetrics are a route's counters with their labels resolved: that is most
// of what counting costs.
type routeMetrics struct {
	sent prometheus.Counter // bytes of all answers
	took prometheus.Observer
	ok   prometheus.Counter // answers with status 200
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inos_http_requests_total", Help: "Requests answered, by route and status."}, []string{"route", "status"})
	sent := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inos_http_sent_bytes_total", Help: "Bytes of answers' bodies that connections took, by route."}, []string{"route"})
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "inos_http_request_seconds", Help: "Time from the head of a request to the end of its answer, by route.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60}}, []string{"route"})
	source := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inos_content_bytes_total",
		Help: "Bytes of chunks and objects sent, by source: memory, disk, fill (fetched for this answer), decoded (decoded for this answer), decoded_memory. The hit ratio by bytes is 1 - fill/all."}, []string{"source"})
	m := &metrics{
		requests:  requests,
		routes:    map[string]*routeMetrics{},
		direct:    prometheus.NewCounter(prometheus.CounterOpts{Name: "inos_http_direct_bytes_total", Help: "Bytes handed to the connection as a file, so that the kernel can copy them (sendfile)."}),
		truncated: prometheus.NewCounter(prometheus.CounterOpts{Name: "inos_http_truncated_total", Help: "Answers broken off: the client left, or the content could not be finished."}),
		stored:    prometheus.NewCounter(prometheus.CounterOpts{Name: "inos_upload_bytes_total", Help: "Raw bytes of objects that were uploaded whole."}),
		memory:    source.WithLabelValues("memory"), disk: source.WithLabelValues("disk"), filled: source.WithLabelValues("fill"),
		decoded: source.WithLabelValues("decoded"), cached: source.WithLabelValues("decoded_memory"),
	}
	for _, route := range []string{routeChunk, routeObject, routeUpload, routeConnect, routeHealth, routeHome, routeOther} {
		m.routes[route] = &routeMetrics{sent.WithLabelValues(route), took.WithLabelValues(route), requests.WithLabelValues(route, "200")}
	}
	if registry == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{requests, sent, took, source, m.direct, m.truncated, m.stored} {
		errs = append(errs, registry.Register(c))
	}
	return m, errors.Join(errs...)
}

// request counts one answer. status is 0 if it was broken off before its head.
func (m *metrics) request(route string, status int, sent, direct int64, took time.Duration) {
	r := m.routes[route]
	if status == http.StatusOK {
		r.ok.Inc()
	} else {
		m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	}
	r.sent.Add(float64(sent))
	r.took.Observe(took.Seconds())
	if direct > 0 {
		m.direct.Add(float64(direct))
	}
}

// sourceOf is the counter of the place that a body comes from.
func (m *metrics) sourceOf(body cas.Body, from content.From) prometheus.Counter {
	if from.Filled {
		return m.filled
	}
	if _, ok := body.(cas.InMemory); ok {
		return m.memory
	}
	return m.disk
}

func (m *metrics) pieceSource(p *content.Piece) prometheus.Counter {
	switch {
	case p.From.Filled:
		return m.filled
	case p.Cached:
		return m.cached
	case p.Raw():
		return m.disk
	}
	return m.decoded
}

// FillMetrics counts what the exchange does; it is an exchange.Observer.
type FillMetrics struct {
	attempts *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	unstored prometheus.Counter
}

var _ exchange.Observer = (*FillMetrics)(nil)

// NewFillMetrics registers the metrics of fills.
func NewFillMetrics(registry prometheus.Registerer) (*FillMetrics, error) {
	m := &FillMetrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inos_fill_attempts_total", Help: "Sources asked for a missing chunk, by source and outcome."}, []string{"source", "outcome"}),
		bytes:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inos_fill_bytes_total", Help: "Verified stored bytes brought in, by source."}, []string{"source"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "inos_fill_seconds", Help: "Time from a miss to the verified chunk or the answer that there is none, by result.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}, []string{"result"}),
		unstored: prometheus.NewCounter(prometheus.CounterOpts{Name: "inos_fill_unstored_total", Help: "Verified chunks that were served and could not be kept."}),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.attempts, m.bytes, m.latency, m.unstored} {
		errs = append(errs, registry.Register(c))
	}
	return m, errors.Join(errs...)
}

// Attempted implements exchange.Observer.
func (m *FillMetrics) Attempted(a exchange.Attempt) {
	m.attempts.WithLabelValues(a.Source, a.Outcome.String()).Inc()
	if a.Bytes > 0 {
		m.bytes.WithLabelValues(a.Source).Add(float64(a.Bytes))
	}
}

// Settled implements exchange.Observer.
func (m *FillMetrics) Settled(took time.Duration, err error) {
	result := "filled"
	switch {
	case errors.Is(err, cas.ErrNotFound):
		result = "absent"
	case err != nil:
		result = "failed"
	}
	m.latency.WithLabelValues(result).Observe(took.Seconds())
}

// Unstored implements exchange.Observer.
func (m *FillMetrics) Unstored(error) { m.unstored.Inc() }

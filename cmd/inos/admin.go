package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"inos.dev/edge/cas/disk"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/rpc"
)

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// adminTimeout is how long a client of the admin listener has to take an answer
// that is ready.
const adminTimeout = 30 * time.Second

// adminServer has metrics for whoever may read, and profiles and collection for
// administrators, by the same rules as the node's other doors. Profiles extend
// its write timeout by the time that they take, and a collection takes what it
// takes.
func adminServer(n *node, admits func(*http.Request, auth.Action) error) *http.Server {
	door := func(action auth.Action, h http.Handler) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch err := admits(r, action); {
			case err == nil:
				h.ServeHTTP(w, r)
			case errors.Is(err, auth.ErrForbidden):
				http.Error(w, err.Error(), http.StatusForbidden)
			default:
				w.Header().Set("WWW-Authenticate", auth.Challenge)
				http.Error(w, err.Error(), http.StatusUnauthorized)
			}
		}
	}
	admin := func(h http.HandlerFunc) http.HandlerFunc { return door(auth.ActionAdmin, h) }
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", door(auth.ActionRead, promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})))
	mux.HandleFunc("GET /debug/pprof/", admin(pprof.Index))
	mux.HandleFunc("GET /debug/pprof/cmdline", admin(pprof.Cmdline))
	mux.HandleFunc("GET /debug/pprof/profile", admin(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/symbol", admin(pprof.Symbol))
	mux.HandleFunc("GET /debug/pprof/trace", admin(pprof.Trace))
	mux.HandleFunc("POST "+collectPath, admin(n.collectNow))
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: adminTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10}
}

// collectNow runs a collection and answers what it did.
func (n *node) collectNow(w http.ResponseWriter, r *http.Request) {
	deadline := http.NewResponseController(w)
	if err := deadline.SetWriteDeadline(time.Time{}); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	done, err := n.content.Collect(r.Context())
	if late := deadline.SetWriteDeadline(time.Now().Add(adminTimeout)); late != nil {
		n.log.Debug("the client of a collection is gone", "error", late)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(collection(done)); err != nil {
		n.log.Debug("the answer of a collection was not taken", "error", err)
	}
}

// ready is nil if the node can take traffic.
func (n *node) ready() error {
	if n.store.Stats().Full {
		return errors.New("out of disk: writes are refused, reads go on")
	}
	return nil
}

// info describes the node.
func (n *node) info(context.Context) (rpc.NodeInfo, error) {
	st := n.store.Stats()
	features := []string{"put-chunks", "tus", "unpack-tar"}
	if len(n.cfg.Upstream) > 0 {
		features = append(features, "upstream")
	}
	return rpc.NodeInfo{
		Version: version, Uptime: time.Since(n.started), Chunks: int64(st.Chunks), Bytes: st.Bytes,
		Free: max(0, st.Free-st.Headroom), ObjectBytes: int64(n.cfg.MaxObject), Features: features, Formats: []string{"br1"},
	}, nil
}

// storeMetrics shows the disk's numbers; it is a prometheus.Collector.
type storeMetrics struct{ store *disk.Store }

func gauge(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }

var (
	descChunks      = gauge("inos_store_chunks", "Chunks in the store.")
	descBytes       = gauge("inos_store_bytes", "Stored bytes.")
	descFree        = gauge("inos_store_free_bytes", "Free bytes of the file system.")
	descHeadroom    = gauge("inos_store_headroom_bytes", "Free bytes that writes leave alone.")
	descFull        = gauge("inos_store_full", "1 if writes are refused since the store is full.")
	descBatches     = gauge("inos_store_commit_batches_total", "Group commits.")
	descFileSyncs   = gauge("inos_store_file_syncs_total", "fsyncs of chunk files.")
	descDirSyncs    = gauge("inos_store_directory_syncs_total", "fsyncs of directories.")
	descFailures    = gauge("inos_store_put_failures_total", "Chunks that could not be stored.")
	descQuarantined = gauge("inos_store_quarantined_total", "Files found rotten and set aside.")
	descLost        = gauge("inos_store_lost_total", "Files that had disappeared.")
	descScrubbed    = gauge("inos_store_scrubbed_bytes_total", "Bytes that the scrubber has read.")
	descHandles     = gauge("inos_store_idle_handles", "Open files that wait for the next reader.")
)

// Describe implements prometheus.Collector.
func (s storeMetrics) Describe(c chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, c) }

// Collect implements prometheus.Collector.
func (s storeMetrics) Collect(c chan<- prometheus.Metric) {
	st := s.store.Stats()
	full := 0.0
	if st.Full {
		full = 1
	}
	send := func(d *prometheus.Desc, t prometheus.ValueType, v float64) {
		c <- prometheus.MustNewConstMetric(d, t, v)
	}
	send(descChunks, prometheus.GaugeValue, float64(st.Chunks))
	send(descBytes, prometheus.GaugeValue, float64(st.Bytes))
	send(descFree, prometheus.GaugeValue, float64(st.Free))
	send(descHeadroom, prometheus.GaugeValue, float64(st.Headroom))
	send(descFull, prometheus.GaugeValue, full)
	send(descHandles, prometheus.GaugeValue, float64(st.IdleHandles))
	send(descBatches, prometheus.CounterValue, float64(st.Batches))
	send(descFileSyncs, prometheus.CounterValue, float64(st.FileSyncs))
	send(descDirSyncs, prometheus.CounterValue, float64(st.DirSyncs))
	send(descFailures, prometheus.CounterValue, float64(st.PutFailures))
	send(descQuarantined, prometheus.CounterValue, float64(st.Quarantined))
	send(descLost, prometheus.CounterValue, float64(st.Lost))
	send(descScrubbed, prometheus.CounterValue, float64(st.ScrubbedBytes))
}

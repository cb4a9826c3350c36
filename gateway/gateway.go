// Package gateway is the front door: HTTP and Connect in, chunks and objects
// out. routes.go has every route with its handler and its cache policy,
// problem.go the one table that gives errors their face.
//
// What goes out is sent from where it lies. A chunk for a client that speaks
// Brotli is the file's own bytes; a whole object is HEAD, the BODY of each
// chunk, TAIL, with the length known before the first byte: nothing is
// encoded, decoded or hashed on the way, and over plain HTTP/1.1 the kernel
// copies file to socket. Clients without Brotli get pieces decoded under a
// bound.
//
// An answer that cannot be finished is never ended cleanly: the connection is
// broken, so that no cache keeps a part for the whole.
package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"inos.dev/edge/cas/dag"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/content"
	"inos.dev/edge/gateway/event"
	"inos.dev/edge/gateway/rpc"
	"inos.dev/edge/gateway/upload"
)

// Config says what a Gateway works with. Content, Writer, Auth and Uploads
// are required.
type Config struct {
	Content *content.Content
	Writer  *dag.Writer
	Auth    *auth.Verifier
	Uploads *upload.Sessions
	// Policy decides who may do what. nil: the default rules, and no record.
	Policy *auth.Policy

	// Node describes the node, for the home page and GetNode.
	Node func(ctx context.Context) (rpc.NodeInfo, error)
	// Ready is nil if the node can take traffic, else says why not.
	Ready func() error
	// Accounts is who pays for what is sent, and what counts it.
	Accounts Accounts
	// Credits, HeatAPI and Events are what the services of these names work
	// with; nil: there is no such service.
	Credits *rpc.Credits
	HeatAPI rpc.Heat
	Events  *event.Bus
	// Extra are further services behind the same middleware.
	Extra []rpc.Route

	Egress *auth.Quota // nil: no quota
	// PublicURL is how clients reach this node, without a slash at the end.
	// Empty: what their requests say.
	PublicURL string
	// MaxRequests bounds the requests under way. Default 16,384.
	MaxRequests int64
	// MaxUploads bounds the uploads under way, chunks and objects each by
	// itself a place. Default 256.
	MaxUploads int64
	// MaxObject bounds one upload in bytes; 0 is none.
	MaxObject int64
	// MinRate is the least rate in bytes per second at which a client must
	// send or take a body, and IOGrace what it has on top. Defaults 16 KiB/s
	// and 30 s.
	MinRate int64
	IOGrace time.Duration

	Registry  prometheus.Registerer // nil: metrics are counted and not shown
	Logger    *slog.Logger          // nil: slog.Default
	AccessLog *slog.Logger          // nil: no line per request
}

func (c *Config) validate() error {
	if c.Content == nil || c.Writer == nil || c.Auth == nil || c.Uploads == nil || c.Node == nil || c.Ready == nil {
		return errors.New("gateway: Content, Writer, Auth, Uploads, Node and Ready are required")
	}
	if c.MaxRequests < 0 || c.MaxUploads < 0 || c.MaxObject < 0 || c.MinRate < 0 || c.IOGrace < 0 {
		return errors.New("gateway: limits must not be negative; 0 means the default")
	}
	if c.PublicURL != "" && (strings.HasSuffix(c.PublicURL, "/") || !strings.Contains(c.PublicURL, "://")) {
		return errors.New("gateway: the public URL is scheme://host without a slash at the end")
	}
	orDefault(&c.MaxRequests, 16384)
	orDefault(&c.MaxUploads, 256)
	orDefault(&c.MaxObject, -1)
	orDefault(&c.MinRate, 16<<10)
	orDefault(&c.IOGrace, 30*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// maxReports bounds the reports that are looked into at once: each hashes a
// file.
const maxReports = 2

// Gateway serves; New makes one.
type Gateway struct {
	cfg       Config
	content   *content.Content
	policy    *auth.Policy
	log       *slog.Logger
	router    chi.Router
	metrics   *metrics
	templates pages
	active    atomic.Int64
	draining  atomic.Bool
	uploads   *semaphore.Weighted
	reports   *semaphore.Weighted
	// Bytes of Connect messages: of callers who may write, and of all others.
	messages, strangeMessages *semaphore.Weighted
	started                   time.Time
}

// New returns a Gateway. It starts nothing.
func New(cfg Config) (*Gateway, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Registry)
	if err != nil {
		return nil, err
	}
	templates, err := parsePages()
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		cfg: cfg, content: cfg.Content, policy: cfg.Policy, log: cfg.Logger, metrics: m, templates: templates,
		uploads: semaphore.NewWeighted(cfg.MaxUploads), reports: semaphore.NewWeighted(maxReports), messages: semaphore.NewWeighted(messageBudget), strangeMessages: semaphore.NewWeighted(strangeBudget),
		started: time.Now(),
	}
	if g.policy == nil {
		if g.policy, err = auth.OpenPolicy(auth.PolicyConfig{Registry: cfg.Registry, Logger: cfg.Logger}); err != nil {
			return nil, err
		}
	}
	services, err := g.services()
	if err != nil {
		return nil, err
	}
	g.router = g.routes(append(services, cfg.Extra...))
	return g, nil
}

// Drain makes the node say that it is not ready; requests are still answered.
func (g *Gateway) Drain() { g.draining.Store(true) }

// Active is the number of requests under way.
func (g *Gateway) Active() int64 { return g.active.Load() }

// ready is nil if the node can take traffic.
func (g *Gateway) ready() error {
	if g.draining.Load() {
		return errors.New("the node is draining")
	}
	return g.cfg.Ready()
}

// Server returns an http.Server for one of the gateway's listeners, with the
// limits that a public listener needs. The caller serves and shuts it down.
func (g *Gateway) Server(proxy bool) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           g.Handler(proxy),
		Protocols:         &protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		// The time for the largest chunk; handlers that send more extend it.
		WriteTimeout:   g.budget(1 << 20),
		MaxHeaderBytes: 32 << 10,
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: 250, MaxReadFrameSize: 256 << 10, SendPingTimeout: time.Minute, WriteByteTimeout: time.Minute},
		ErrorLog:       slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}
}

// maxConnectAnswer is what the deadline of a Connect answer is made for.
const maxConnectAnswer = 16 << 20

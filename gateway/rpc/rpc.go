// Package rpc is the border between the Connect services of proto/ and the
// node. A method decodes (and checks every limit), calls, and encodes;
// convert.go alone touches generated message types on the way out, decode.go
// on the way in.
//
// What a service needs of the node it asks for as a small interface, which
// the gateway implements. Errors come back as the sentinels of package cas;
// errors.go has the one table that gives them a code, a reason and details.
//
// Every call passes, in this order: CORS (cors.go, plain net/http, since a
// preflight is not a call), the gate (gate.go: may the caller do what the
// procedure does? asked before a byte of the message is read), recover,
// and the guard (guard.go: deadline, error table, cache headers).
//
// All services speak Connect, gRPC and gRPC-Web on one path; the gateway only
// has to offer HTTP/1.1 and HTTP/2.
package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"

	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/proto/gen/inos/cas/v1/casv1connect"
	"inos.dev/edge/proto/gen/inos/credit/v1/creditv1connect"
	"inos.dev/edge/proto/gen/inos/event/v1/eventv1connect"
	"inos.dev/edge/proto/gen/inos/heat/v1/heatv1connect"
)

// Config is what the services work with. Chunks, Objects, Node and Authorize
// have to be set.
type Config struct {
	Chunks  Chunks
	Objects Objects
	// Node answers GetNode.
	Node func(ctx context.Context) (NodeInfo, error)
	// Authorize is asked before a procedure runs; gate.go says what it does.
	Authorize Authorize
	// Procedures are those of services beside these ones, with what they do.
	Procedures map[string]auth.Action
	// Caller says who sends the call that the gateway put into ctx. Needed for
	// Credits, Heat and Events.
	Caller func(ctx context.Context) (Caller, error)
	// Credits are the books; nil: there is no CreditService.
	Credits *Credits
	// Heat is the demand for chunks; nil: there is no HeatService.
	Heat Heat
	// Events is the bus; nil: there is no EventService.
	Events *Events
	// Ready is what the health service reports; nil means always.
	Ready func() bool
	// Log gets internal errors and panics; nil means slog.Default().
	Log *slog.Logger
	// Timeout bounds every unary call, whatever the client asks for; 0 means
	// 60 s.
	Timeout time.Duration
}

func (c *Config) validate() error {
	if c.Chunks == nil || c.Objects == nil || c.Node == nil || c.Authorize == nil {
		return errors.New("rpc: Config needs Chunks, Objects, Node and Authorize")
	}
	if (c.Credits != nil || c.Heat != nil) && c.Caller == nil || c.Credits != nil && !c.Credits.complete() {
		return errors.New("rpc: Config.Credits needs all its fields, and Credits and Heat need Caller")
	}
	if c.Events != nil && (c.Caller == nil || !c.Events.complete()) {
		return errors.New("rpc: Config.Events needs Bus, WithToken and Again, and Caller")
	}
	if c.Timeout < 0 {
		return errors.New("rpc: Config.Timeout is negative")
	}
	c.setDefaults()
	return nil
}

func (c *Config) setDefaults() {
	if c.Ready == nil {
		c.Ready = func() bool { return true }
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Timeout == 0 {
		c.Timeout = 60 * time.Second
	}
}

// Route is a handler for all paths that start with Prefix, which begins and
// ends with a slash. The handler expects the path as it came.
type Route struct {
	Prefix  string
	Handler http.Handler
}

// New returns the routes of all services, with reflection (v1 and v1alpha)
// and gRPC health. It starts nothing.
func New(cfg Config) ([]Route, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	opts := Options(cfg)
	var names []string
	var routes []Route
	mount := func(prefix string, h http.Handler) {
		routes = append(routes, Route{prefix, CORS(h)})
	}
	service := func(prefix string, h http.Handler) {
		names = append(names, strings.Trim(prefix, "/"))
		mount(prefix, h)
	}
	service(casv1connect.NewCasServiceHandler(&casService{chunks: cfg.Chunks, objects: cfg.Objects, node: cfg.Node}, opts...))
	if cfg.Credits != nil {
		service(creditv1connect.NewCreditServiceHandler(newCreditService(&cfg), opts...))
	}
	if cfg.Heat != nil {
		service(heatv1connect.NewHeatServiceHandler(&heatService{cfg.Heat, cfg.Caller}, opts...))
	}
	if cfg.Events != nil {
		service(eventv1connect.NewEventServiceHandler(newEventService(&cfg), opts...))
	}
	names = append(names, grpchealth.HealthV1ServiceName)
	reflector := grpcreflect.NewStaticReflector(names...)
	mount(grpchealth.NewHandler(health{cfg.Ready, names}, opts...))
	mount(grpcreflect.NewHandlerV1(reflector, opts...))
	mount(grpcreflect.NewHandlerV1Alpha(reflector, opts...))
	return routes, nil
}

const (
	// readLimit is the most bytes of one message, after decompression. The
	// largest is a Has of MaxHas hashes in JSON.
	readLimit = 1 << 20
	// putReadLimit is that of PutChunks: in JSON its MaxPutBytes are base64,
	// and every chunk adds its hash.
	putReadLimit = 8 << 20
	// compressAbove is the size from which answers are compressed.
	compressAbove = 1 << 10
)

// Options is what every Connect service of the gateway is built with.
// Of cfg it uses Authorize, Procedures, Log and Timeout.
func Options(cfg Config) []connect.HandlerOption {
	cfg.setDefaults()
	guard := &guard{log: cfg.Log, timeout: cfg.Timeout}
	return []connect.HandlerOption{
		connect.WithRequestGate(gate(cfg.Authorize, cfg.Procedures, guard)),
		connect.WithRecover(guard.panicked),
		connect.WithInterceptors(guard),
		connect.WithCompressMinBytes(compressAbove),
		connect.WithConditionalHandlerOptions(func(spec connect.Spec) []connect.HandlerOption {
			limit := readLimit
			if spec.Procedure == casv1connect.CasServicePutChunksProcedure {
				limit = putReadLimit
			}
			return []connect.HandlerOption{connect.WithReadMaxBytes(limit)}
		}),
	}
}

// health answers grpc.health.v1: every service is up while the node is ready.
type health struct {
	ready    func() bool
	services []string
}

func (h health) Check(_ context.Context, req *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	known := req.Service == ""
	for _, name := range h.services {
		known = known || name == req.Service
	}
	switch {
	case !known:
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no such service here"))
	case h.ready():
		return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
	}
	return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
}

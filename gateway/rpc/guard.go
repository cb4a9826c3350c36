package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"connectrpc.com/connect"

	"inos.dev/edge/gateway/auth"
)

// guard stands around every handler: it bounds the call in time, turns errors
// into their public face, and keeps answers out of caches unless the method
// said otherwise.
type guard struct {
	log     *slog.Logger
	timeout time.Duration
}

func (g *guard) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, g.timeout)
		defer cancel()
		resp, err := next(ctx, req)
		if err != nil {
			return nil, g.fail(ctx, req.Spec(), req.Peer(), err)
		}
		if info, ok := connect.CallInfoForHandlerContext(ctx); !ok || info.ResponseHeader().Get("Cache-Control") == "" {
			resp.Header().Set("Cache-Control", "no-store")
		}
		return resp, nil
	}
}

// WrapStreamingClient implements connect.Interceptor; a handler has no client.
func (g *guard) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler sets no deadline: how long a stream may last and how
// slow its client may be is the HTTP server's affair.
func (g *guard) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		if err := next(ctx, conn); err != nil {
			return g.fail(ctx, conn.Spec(), conn.Peer(), err)
		}
		return nil
	}
}

// fail gives err its public face. What the client must not see is logged here.
func (g *guard) fail(ctx context.Context, spec connect.Spec, peer connect.Peer, err error) *connect.Error {
	ce, log := asConnect(err)
	if log {
		g.log.ErrorContext(ctx, "call failed", "procedure", spec.Procedure, "code", ce.Code(), "err", err)
	}
	if peer.Protocol != connect.ProtocolConnect {
		return ce // Meta would become trailers, where these mean nothing
	}
	ce.Meta().Set("Cache-Control", "no-store")
	if ce.Code() == connect.CodeUnauthenticated {
		ce.Meta().Set("WWW-Authenticate", auth.Challenge)
	}
	return ce
}

// panicked is the recover hook: the client learns that it happened, the log
// where.
func (g *guard) panicked(ctx context.Context, spec connect.Spec, _ http.Header, v any) error {
	g.log.ErrorContext(ctx, "call panicked", "procedure", spec.Procedure, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	ce, _ := asConnect(errPanic)
	return ce
}

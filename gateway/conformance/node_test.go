package conformance

import (
	"context"
	"net/http"

	"connectrpc.com/connect"
	"github.com/go-chi/chi/v5"

	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/rpc"
)

// node is the handler to judge: the service with the options of the gateway's
// own services, on the gateway's mux.
func node(extra ...connect.HandlerOption) (http.Handler, error) {
	opts := rpc.Options(rpc.Config{Authorize: func(context.Context, auth.Rights) error { return nil }})
	prefix, service := Handler(append(opts, extra...)...)
	mux := chi.NewRouter()
	mux.Handle(prefix+"*", rpc.CORS(service))
	return mux, nil
}

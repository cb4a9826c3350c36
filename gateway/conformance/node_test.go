package conformance

import (
	"context"
	"net/http"

	"connectrpc.com/connect"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cas/mem"
	"inos.dev/edge/gateway"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/gateway/conformance/gen/connectrpc/conformance/v1/conformancev1connect"
	"inos.dev/edge/gateway/content"
	"inos.dev/edge/gateway/rpc"
	"inos.dev/edge/gateway/upload"
	"inos.dev/edge/mesh"
)

// node is the server to judge: a gateway over an empty store in memory, with
// the suite's service beside its own and with their options. dir is for its
// files.
func node(dir string, opts ...connect.HandlerOption) (*http.Server, error) {
	store, err := mem.New(mem.Config{})
	if err != nil {
		return nil, err
	}
	key, err := mesh.NewSecret()
	if err != nil {
		return nil, err
	}
	c, err := content.New(content.Config{Store: store, Keeper: keeper{store}, Catalog: new(catalog.Memory), Key: key})
	if err != nil {
		return nil, err
	}
	writer := dag.NewWriter(store, dag.WriterConfig{})
	uploads, err := upload.Open(upload.Config{Dir: dir, Writer: writer})
	if err != nil {
		return nil, err
	}
	verifier, err := auth.NewVerifier(auth.Config{Own: auth.NewSecretKey().Public()})
	if err != nil {
		return nil, err
	}
	allow := func(context.Context, auth.Action, string) error { return nil }
	prefix, service := Handler(append(rpc.Options(rpc.Config{Authorize: allow, Procedures: procedures()}), opts...)...)
	g, err := gateway.New(gateway.Config{
		Content: c, Writer: writer, Auth: verifier, Uploads: uploads,
		Node:  func(context.Context) (rpc.NodeInfo, error) { return rpc.NodeInfo{}, nil },
		Ready: func() error { return nil },
		Extra: []rpc.Route{{Prefix: prefix, Handler: rpc.CORS(service)}},
	})
	if err != nil {
		return nil, err
	}
	return g.Server(false), nil
}

// procedures are those of the suite's service.
func procedures() map[string]auth.Action {
	all := make(map[string]auth.Action)
	for _, name := range []string{
		conformancev1connect.ConformanceServiceUnaryProcedure,
		conformancev1connect.ConformanceServiceServerStreamProcedure,
		conformancev1connect.ConformanceServiceClientStreamProcedure,
		conformancev1connect.ConformanceServiceBidiStreamProcedure,
		conformancev1connect.ConformanceServiceUnimplementedProcedure,
		conformancev1connect.ConformanceServiceIdempotentUnaryProcedure,
	} {
		all[name] = auth.ActionRead
	}
	return all
}

// keeper is what a store in memory has to say about its chunks' age and rot.
type keeper struct{ *mem.Store }

func (k keeper) Touch(ctx context.Context, h cas.Hash) (cas.Info, error) { return k.Stat(ctx, h) }
func (keeper) Report(context.Context, cas.Hash) error                    { return nil }

package rpc

import (
	"context"
	"net/http"

	"connectrpc.com/connect"

	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/proto/gen/inos/cas/v1/casv1connect"
)

// rightsFor lists the procedures that need a right. All others must be marked
// NO_SIDE_EFFECTS in the schema, or be health or reflection; a test holds
// that. Whose objects a caller may touch is for Objects to say.
func rightsFor(procedure string) auth.Rights {
	switch procedure {
	case casv1connect.CasServiceHasProcedure,
		casv1connect.CasServicePutChunksProcedure,
		casv1connect.CasServiceCommitProcedure,
		casv1connect.CasServiceSetPolicyProcedure,
		casv1connect.CasServiceDeleteObjectProcedure:
		return auth.Write
	}
	return auth.None
}

// gate asks for the right of a procedure before its message is read, so that
// a stranger cannot make the node buffer what it will refuse anyway.
func gate(authorize func(context.Context, auth.Rights) error, g *guard) connect.RequestGateFunc {
	return func(ctx context.Context, spec connect.Spec, peer connect.Peer, _ http.Header) (context.Context, error) {
		rights := rightsFor(spec.Procedure)
		if rights == auth.None {
			return ctx, nil
		}
		if err := authorize(ctx, rights); err != nil {
			return ctx, g.fail(ctx, spec, peer, err)
		}
		return ctx, nil
	}
}

package rpc

import (
	"context"
	"errors"
	"net/http"

	"connectrpc.com/connect"

	"inos.dev/edge/proto/gen/inos/cas/v1/casv1connect"
)

// Right is what a caller may do.
type Right string

// The rights that procedures ask for.
const (
	RightWrite  Right = "write"
	RightDelete Right = "delete"
)

// What Authorize wraps.
var (
	// ErrNoToken: the call needs a token and has none, or not a valid one.
	ErrNoToken = errors.New("a valid token is needed")
	// ErrNoRight: the token does not carry the right.
	ErrNoRight = errors.New("the token does not carry the right")
)

// rightOf lists the procedures that need a right. All others must be marked
// NO_SIDE_EFFECTS in the schema, or be health or reflection; a test holds that.
func rightOf(procedure string) (Right, bool) {
	switch procedure {
	case casv1connect.CasServiceHasProcedure,
		casv1connect.CasServicePutChunksProcedure,
		casv1connect.CasServiceCommitProcedure,
		casv1connect.CasServiceSetPolicyProcedure:
		return RightWrite, true
	case casv1connect.CasServiceDeleteObjectProcedure:
		return RightDelete, true
	}
	return "", false
}

// gate asks for the right of a procedure before its message is read, so that
// a stranger cannot make the node buffer what it will refuse anyway.
func gate(authorize func(context.Context, Right) error, g *guard) connect.RequestGateFunc {
	return func(ctx context.Context, spec connect.Spec, peer connect.Peer, _ http.Header) (context.Context, error) {
		right, needed := rightOf(spec.Procedure)
		if !needed {
			return ctx, nil
		}
		if err := authorize(ctx, right); err != nil {
			return ctx, g.fail(ctx, spec, peer, err)
		}
		return ctx, nil
	}
}

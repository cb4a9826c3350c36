package rpc

import (
	"context"
	"fmt"
	"net/http"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"

	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/proto/gen/inos/cas/v1/casv1connect"
	"inos.dev/edge/proto/gen/inos/credit/v1/creditv1connect"
	"inos.dev/edge/proto/gen/inos/event/v1/eventv1connect"
	"inos.dev/edge/proto/gen/inos/heat/v1/heatv1connect"
)

// access is what the gate asks for a procedure: the action that it is, or
// nothing where open is set. A late one may prove who calls by its message: if
// there is no Authorization header, its method asks.
type access struct {
	action     auth.Action
	open, late bool
}

// accessTo lists the procedures that are more than a read, or a read although
// the schema does not call them NO_SIDE_EFFECTS. Those that it calls so are
// reads without an entry; any other procedure is denied. Whose objects, accounts
// and pledges a caller may touch is for the services to say.
func accessTo(spec connect.Spec) (access, bool) {
	switch spec.Procedure {
	case casv1connect.CasServiceHasProcedure,
		casv1connect.CasServicePutChunksProcedure,
		casv1connect.CasServiceCommitProcedure,
		casv1connect.CasServiceSetPolicyProcedure,
		casv1connect.CasServiceDeleteObjectProcedure,
		creditv1connect.CreditServiceSetTermsProcedure:
		return access{action: auth.ActionWrite}, true
	case creditv1connect.CreditServiceCreatePledgeProcedure,
		creditv1connect.CreditServiceTopUpPledgeProcedure,
		creditv1connect.CreditServiceReleasePledgeProcedure:
		return access{action: auth.ActionPledge}, true
	case eventv1connect.EventServicePublishProcedure:
		return access{action: auth.ActionPublish, late: true}, true
	case eventv1connect.EventServiceHandleProcedure:
		return access{action: auth.ActionPublish}, true
	case creditv1connect.CreditServiceListAccountsProcedure,
		creditv1connect.CreditServiceGrantProcedure,
		creditv1connect.CreditServiceAuditProcedure,
		heatv1connect.HeatServiceSetFrozenProcedure:
		return access{action: auth.ActionAdmin}, true
	case creditv1connect.CreditServiceOpenDeliveryProcedure, // who may read may confirm it
		creditv1connect.CreditServiceSubmitReceiptProcedure,
		"/" + grpcreflect.ReflectV1ServiceName + "/ServerReflectionInfo",
		"/" + grpcreflect.ReflectV1AlphaServiceName + "/ServerReflectionInfo":
		return access{action: auth.ActionRead}, true
	case "/" + grpchealth.HealthV1ServiceName + "/Check", // as /health/ready
		"/" + grpchealth.HealthV1ServiceName + "/Watch":
		return access{open: true}, true
	}
	return access{action: auth.ActionRead}, spec.IdempotencyLevel == connect.IdempotencyNoSideEffects
}

// Authorize asks whether the caller that the gateway put into ctx may do an
// action to a resource: nil, auth.ErrUnauthenticated or auth.ErrForbidden.
type Authorize func(ctx context.Context, action auth.Action, resource string) error

// gate asks for the action of a procedure before its message is read, so that
// a stranger cannot make the node buffer what it will refuse anyway.
func gate(authorize Authorize, more map[string]auth.Action, g *guard) connect.RequestGateFunc {
	return func(ctx context.Context, spec connect.Spec, peer connect.Peer, header http.Header) (context.Context, error) {
		to, known := accessTo(spec)
		if action, ok := more[spec.Procedure]; ok {
			to, known = access{action: action}, true
		}
		var err error
		switch {
		case !known:
			err = fmt.Errorf("%w: %s is in no table", auth.ErrForbidden, spec.Procedure)
		case to.open, to.late && header["Authorization"] == nil:
		default:
			err = authorize(ctx, to.action, spec.Procedure)
		}
		if err != nil {
			return ctx, g.fail(ctx, spec, peer, err)
		}
		return ctx, nil
	}
}

package conformance

import (
	"context"
	"errors"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	conformancev1 "inos.dev/edge/gateway/conformance/gen/connectrpc/conformance/v1"
)

// call is what is echoed of a call besides its messages.
type call struct {
	header http.Header
	peer   connect.Peer
}

// info is the echo of a call and the messages seen of it.
func (c call) info(ctx context.Context, seen []proto.Message) (*conformancev1.ConformancePayload_RequestInfo, error) {
	info := &conformancev1.ConformancePayload_RequestInfo{RequestHeaders: toHeaders(c.header)}
	for _, m := range seen {
		packed, err := anypb.New(m)
		if err != nil {
			return nil, connect.NewError(connect.CodeInternal, err)
		}
		info.Requests = append(info.Requests, packed)
	}
	if len(c.peer.Query) > 0 {
		info.ConnectGetInfo = &conformancev1.ConformancePayload_ConnectGetInfo{QueryParams: toHeaders(http.Header(c.peer.Query))}
	}
	// The gateway sets a deadline of its own; only the client's is echoed.
	if c.header.Get("Connect-Timeout-Ms") != "" || c.header.Get("Grpc-Timeout") != "" {
		if deadline, ok := ctx.Deadline(); ok {
			info.TimeoutMs = new(time.Until(deadline).Milliseconds())
		}
	}
	return info, nil
}

// answer is the one payload, or the error, that def asks for.
func (c call) answer(ctx context.Context, def *conformancev1.UnaryResponseDefinition, seen ...proto.Message) (*conformancev1.ConformancePayload, error) {
	info, err := c.info(ctx, seen)
	if err != nil {
		return nil, err
	}
	if def.GetRawResponse() != nil {
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("raw responses are for the reference server"))
	}
	if err := pause(ctx, def.GetResponseDelayMs()); err != nil {
		return nil, err
	}
	if def.GetError() == nil {
		return &conformancev1.ConformancePayload{Data: def.GetResponseData(), RequestInfo: info}, nil
	}
	failure := toError(def.GetError(), info)
	addHeaders(failure.Meta(), def.GetResponseHeaders())
	addHeaders(failure.Meta(), def.GetResponseTrailers())
	return nil, failure
}

// toError makes the error that a definition describes, with the echo as its
// last detail unless info is nil.
func toError(e *conformancev1.Error, info *conformancev1.ConformancePayload_RequestInfo) *connect.Error {
	failure := connect.NewError(connect.Code(e.GetCode()), errors.New(e.GetMessage()))
	details := e.GetDetails()
	if info != nil {
		packed, err := anypb.New(info)
		if err != nil {
			return connect.NewError(connect.CodeInternal, err)
		}
		details = append(details, packed)
	}
	for _, d := range details {
		detail, err := connect.NewErrorDetail(d)
		if err != nil {
			return connect.NewError(connect.CodeInternal, err)
		}
		failure.AddDetail(detail)
	}
	return failure
}

func addHeaders(to http.Header, from []*conformancev1.Header) {
	for _, h := range from {
		for _, v := range h.GetValue() {
			to.Add(h.GetName(), v)
		}
	}
}

func toHeaders(from http.Header) []*conformancev1.Header {
	var list []*conformancev1.Header
	for name, values := range from {
		list = append(list, &conformancev1.Header{Name: name, Value: values})
	}
	return list
}

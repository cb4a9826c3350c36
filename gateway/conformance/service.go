// Package conformance has the service that the Connect conformance suite
// calls. Its test mounts it on the gateway's own mux, behind the gateway's own
// middleware and with the options of every other service, and lets the suite
// judge all of that: Connect, gRPC and gRPC-Web, over HTTP/1.1, h2c and TLS.
//
// The service does what each request tells it to: answer, fail or wait, and
// echo what it saw of the request. No program links it.
package conformance

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	conformancev1 "inos.dev/edge/gateway/conformance/gen/connectrpc/conformance/v1"
	"inos.dev/edge/gateway/conformance/gen/connectrpc/conformance/v1/conformancev1connect"
)

// Handler returns the path prefix of the service and its handler.
func Handler(opts ...connect.HandlerOption) (string, http.Handler) {
	return conformancev1connect.NewConformanceServiceHandler(service{}, opts...)
}

// service embeds the generated answers for Unimplemented alone.
type service struct {
	conformancev1connect.UnimplementedConformanceServiceHandler
}

func (service) Unary(ctx context.Context, req *connect.Request[conformancev1.UnaryRequest]) (*connect.Response[conformancev1.UnaryResponse], error) {
	return unary(ctx, req, req.Msg.GetResponseDefinition(), func(p *conformancev1.ConformancePayload) *conformancev1.UnaryResponse {
		return &conformancev1.UnaryResponse{Payload: p}
	})
}

func (service) IdempotentUnary(ctx context.Context, req *connect.Request[conformancev1.IdempotentUnaryRequest]) (*connect.Response[conformancev1.IdempotentUnaryResponse], error) {
	return unary(ctx, req, req.Msg.GetResponseDefinition(), func(p *conformancev1.ConformancePayload) *conformancev1.IdempotentUnaryResponse {
		return &conformancev1.IdempotentUnaryResponse{Payload: p}
	})
}

func unary[Q, R any](ctx context.Context, req *connect.Request[Q], def *conformancev1.UnaryResponseDefinition, wrap func(*conformancev1.ConformancePayload) *R) (*connect.Response[R], error) {
	call := call{header: req.Header(), peer: req.Peer()}
	msg, ok := req.Any().(proto.Message)
	if !ok {
		return nil, connect.NewError(connect.CodeInternal, errors.New("request is no protobuf message"))
	}
	payload, err := call.answer(ctx, def, msg)
	if err != nil {
		return nil, err
	}
	resp := connect.NewResponse(wrap(payload))
	addHeaders(resp.Header(), def.GetResponseHeaders())
	addHeaders(resp.Trailer(), def.GetResponseTrailers())
	return resp, nil
}

func (service) ClientStream(ctx context.Context, stream *connect.ClientStream[conformancev1.ClientStreamRequest]) (*connect.Response[conformancev1.ClientStreamResponse], error) {
	call := call{header: stream.RequestHeader(), peer: stream.Peer()}
	var def *conformancev1.UnaryResponseDefinition
	var seen []proto.Message
	for stream.Receive() {
		if seen == nil {
			def = stream.Msg().GetResponseDefinition()
		}
		seen = append(seen, proto.CloneOf(stream.Msg()))
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	payload, err := call.answer(ctx, def, seen...)
	if err != nil {
		return nil, err
	}
	resp := connect.NewResponse(&conformancev1.ClientStreamResponse{Payload: payload})
	addHeaders(resp.Header(), def.GetResponseHeaders())
	addHeaders(resp.Trailer(), def.GetResponseTrailers())
	return resp, nil
}

func (service) ServerStream(ctx context.Context, req *connect.Request[conformancev1.ServerStreamRequest], stream *connect.ServerStream[conformancev1.ServerStreamResponse]) error {
	def := req.Msg.GetResponseDefinition()
	addHeaders(stream.ResponseHeader(), def.GetResponseHeaders())
	addHeaders(stream.ResponseTrailer(), def.GetResponseTrailers())
	out := &answers{
		call: call{header: req.Header(), peer: req.Peer()},
		def:  def,
		send: func(p *conformancev1.ConformancePayload) error {
			if p == nil {
				return stream.Send(nil)
			}
			return stream.Send(&conformancev1.ServerStreamResponse{Payload: p})
		},
	}
	out.seen = append(out.seen, req.Msg)
	return out.finish(ctx)
}

func (service) BidiStream(ctx context.Context, stream *connect.BidiStream[conformancev1.BidiStreamRequest, conformancev1.BidiStreamResponse]) error {
	out := &answers{
		call: call{header: stream.RequestHeader(), peer: stream.Peer()},
		send: func(p *conformancev1.ConformancePayload) error {
			if p == nil {
				return stream.Send(nil)
			}
			return stream.Send(&conformancev1.BidiStreamResponse{Payload: p})
		},
	}
	for first, fullDuplex := true, false; ; first = false {
		req, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		out.seen = append(out.seen, req)
		if first {
			out.def, fullDuplex = req.GetResponseDefinition(), req.GetFullDuplex()
			addHeaders(stream.ResponseHeader(), out.def.GetResponseHeaders())
			addHeaders(stream.ResponseTrailer(), out.def.GetResponseTrailers())
		}
		if !fullDuplex {
			continue
		}
		if out.left() == 0 {
			break // more questions than answers
		}
		if err := out.next(ctx); err != nil {
			return err
		}
	}
	return out.finish(ctx)
}

// answers sends what a stream's definition asks for.
type answers struct {
	call
	def  *conformancev1.StreamResponseDefinition
	send func(*conformancev1.ConformancePayload) error // nil sends the headers alone
	seen []proto.Message                               // requests that no answer has echoed yet
	sent int
}

func (a *answers) left() int { return len(a.def.GetResponseData()) - a.sent }

// next sends one answer. The first echoes headers and requests, a later one
// the requests that came since.
func (a *answers) next(ctx context.Context) error {
	if a.sent == 0 {
		if err := a.send(nil); err != nil {
			return err
		}
	}
	payload := &conformancev1.ConformancePayload{Data: a.def.GetResponseData()[a.sent]}
	if len(a.seen) > 0 {
		info, err := a.info(ctx, a.seen)
		if err != nil {
			return err
		}
		if a.sent > 0 {
			info = &conformancev1.ConformancePayload_RequestInfo{Requests: info.GetRequests()}
		}
		payload.RequestInfo = info
	}
	if err := pause(ctx, a.def.GetResponseDelayMs()); err != nil {
		return err
	}
	a.seen = nil
	a.sent++
	return a.send(payload)
}

// finish sends all answers that are left, then the error, if there is one.
func (a *answers) finish(ctx context.Context) error {
	for a.left() > 0 {
		if err := a.next(ctx); err != nil {
			return err
		}
	}
	switch {
	case a.def.GetError() == nil:
		return nil
	case a.sent > 0:
		return toError(a.def.GetError(), nil)
	}
	info, err := a.info(ctx, a.seen)
	if err != nil {
		return err
	}
	return toError(a.def.GetError(), info)
}

// pause waits as long as a definition says.
func pause(ctx context.Context, ms uint32) error {
	if ms == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

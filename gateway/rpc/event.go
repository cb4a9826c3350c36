package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/event"
	eventv1 "inos.dev/edge/proto/gen/inos/event/v1"
	"inos.dev/edge/proto/gen/inos/event/v1/eventv1connect"
)

// Events is what EventService works with. Bus has to be set.
type Events struct {
	Bus *event.Bus
	// WithToken returns a context whose caller is the one that a token names:
	// auth.ErrUnauthenticated, or auth.ErrForbidden if the call has a caller
	// who is somebody else. Needed.
	WithToken func(ctx context.Context, token auth.Token) (context.Context, error)
	// Again is Authorize for a stream that goes on: a yes is not recorded.
	// Needed.
	Again Authorize
	// Extend gives the client of a stream time to take n more bytes; nil does
	// nothing.
	Extend func(ctx context.Context, n int64)
	// KeepAlive is the most time between two messages of a stream. Default 15 s.
	KeepAlive time.Duration
}

func (e *Events) complete() bool {
	return e.Bus != nil && e.WithToken != nil && e.Again != nil && e.KeepAlive >= 0
}

// defaultKeepAlive is shorter than what proxies and browsers wait for.
const defaultKeepAlive = 15 * time.Second

// eventService is inos.event.v1.EventService.
type eventService struct {
	Events
	caller    func(context.Context) (Caller, error)
	authorize Authorize
}

func newEventService(cfg *Config) *eventService {
	s := &eventService{*cfg.Events, cfg.Caller, cfg.Authorize}
	if s.Extend == nil {
		s.Extend = func(context.Context, int64) {}
	}
	if s.KeepAlive == 0 {
		s.KeepAlive = defaultKeepAlive
	}
	return s
}

// Publish lets nobody publish but the caller of its Authorization header, whom
// the gate has let in, or the one of the token in the envelopes, whom it asks
// for here.
func (s *eventService) Publish(ctx context.Context, req *eventv1.PublishRequest) (*eventv1.PublishResponse, error) {
	events, token, err := decodePublish(req)
	if err != nil {
		return nil, err
	}
	if token != "" {
		if ctx, err = s.WithToken(ctx, token); err != nil {
			return nil, err
		}
	}
	if info, ok := connect.CallInfoForHandlerContext(ctx); token != "" || !ok || info.RequestHeader()["Authorization"] == nil {
		if err := s.authorize(ctx, auth.ActionPublish, eventv1connect.EventServicePublishProcedure); err != nil {
			return nil, err
		}
	}
	_, p, err := s.publisher(ctx)
	if err != nil {
		return nil, err
	}
	published, err := s.Bus.Publish(p, events)
	if err != nil {
		return nil, err
	}
	return encodePublished(published), nil
}

// publisher is the caller as the bus knows him.
func (s *eventService) publisher(ctx context.Context) (Caller, event.Publisher, error) {
	who, err := s.caller(ctx)
	if err != nil {
		return Caller{}, event.Publisher{}, err
	}
	admin := who.Rights.Has(auth.Admin) && s.authorize(ctx, auth.ActionAdmin, "events") == nil
	return who, event.Publisher{Subject: who.Subject, Device: who.TokenID, Admin: admin}, nil
}

func (s *eventService) Subscribe(ctx context.Context, req *eventv1.SubscribeRequest, stream *connect.ServerStream[eventv1.SubscribeResponse]) error {
	q, err := decodeSubscribe(req)
	if err != nil {
		return err
	}
	who, p, err := s.publisher(ctx)
	if err != nil {
		return err
	}
	q.Caller, q.Subject, q.Admin = string(who.Quota), p.Subject, p.Admin
	sub, err := s.Bus.Subscribe(q)
	if err != nil {
		return err
	}
	defer sub.Close()
	send := func(m *eventv1.SubscribeResponse) error {
		s.Extend(ctx, int64(len(m.GetEvent().GetEnvelope().GetPayload()))+messageOverhead)
		return stream.Send(m)
	}
	if err := send(encodeKeepAlive(sub.Seen())); err != nil {
		return err
	}
	return s.pump(ctx, auth.ActionRead, eventv1connect.EventServiceSubscribeProcedure,
		func(wait context.Context) error {
			m, err := sub.Next(wait)
			if err != nil {
				return err
			}
			return send(encodeMessage(m))
		},
		func() error { return send(encodeKeepAlive(sub.Seen())) })
}

func (s *eventService) Handle(ctx context.Context, req *eventv1.HandleRequest, stream *connect.ServerStream[eventv1.HandleResponse]) error {
	who, p, err := s.publisher(ctx)
	if err != nil {
		return err
	}
	offer, err := s.Bus.Offer(string(who.Quota), p, req.GetOperations(), int(max(req.GetConcurrency(), 1)))
	if err != nil {
		return err
	}
	defer offer.Close()
	send := func(m *eventv1.HandleResponse) error {
		s.Extend(ctx, int64(len(m.GetEvent().GetEnvelope().GetPayload()))+messageOverhead)
		return stream.Send(m)
	}
	alive := func() error { return send(encodeHandleAlive()) }
	if err := alive(); err != nil {
		return err
	}
	return s.pump(ctx, auth.ActionPublish, eventv1connect.EventServiceHandleProcedure,
		func(wait context.Context) error {
			e, err := offer.Next(wait)
			if err != nil {
				return err
			}
			return send(encodeOffered(e))
		}, alive)
}

// messageOverhead is more than a message has beside its payload.
const messageOverhead = 4 << 10

// pump sends one message after the other until something ends the stream, and
// a keep-alive once in KeepAlive, however much there is to send. Before each of
// these it asks whether the caller still may: rules change, and tokens expire.
func (s *eventService) pump(ctx context.Context, action auth.Action, procedure string, next func(context.Context) error, alive func() error) error {
	for {
		until, cancel := context.WithTimeout(ctx, s.KeepAlive)
		err := error(nil)
		for err == nil {
			if err = next(until); err == nil {
				err = until.Err() // whoever is behind never waits
			}
		}
		cancel()
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("the stream was ended: %w", ctx.Err())
		case !errors.Is(err, context.DeadlineExceeded):
			return err
		}
		if err := s.Again(ctx, action, procedure); err != nil {
			return err
		}
		if err := alive(); err != nil {
			return err
		}
	}
}

package rpc

import (
	"slices"
	"strconv"

	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/event"
	eventv1 "inos.dev/edge/proto/gen/inos/event/v1"
)

// The keys of Metadata.trace_context.
const (
	traceparent = "traceparent"
	tracestate  = "tracestate"
)

// decodePublish reads events, and the one token that they carry, if any does:
// the events themselves have no place for it.
func decodePublish(req *eventv1.PublishRequest) (events []event.Event, token auth.Token, err error) {
	var v violations
	if !v.count("envelopes", len(req.GetEnvelopes()), event.MaxBatch) {
		return nil, "", v.err()
	}
	for i, in := range req.GetEnvelopes() {
		field := "envelopes[" + strconv.Itoa(i) + "]"
		name, err := event.ParseName(in.GetEventType())
		if err != nil {
			v.add(field+".event_type", "%v", err)
		}
		meta := in.GetMetadata()
		for key := range meta.GetTraceContext() {
			if key != traceparent && key != tracestate {
				v.add(field+".metadata.trace_context", "%.40q is neither %s nor %s", key, traceparent, tracestate)
			}
		}
		if t := auth.Token(meta.GetSecurityToken()); t != "" {
			if token != "" && token != t {
				v.add(field+".metadata.security_token", "one call is one publisher's: it differs from the one before")
			}
			token = t
		}
		events = append(events, event.Event{
			ID: in.GetId(), Name: name, User: meta.GetUserId(), Device: meta.GetDeviceId(), Payload: in.GetPayload(),
			Trace: event.Trace{Parent: meta.GetTraceContext()[traceparent], State: meta.GetTraceContext()[tracestate]},
		})
	}
	return events, token, v.err()
}

func decodeSubscribe(req *eventv1.SubscribeRequest) (event.Query, error) {
	var v violations
	if n := len(req.GetFilters()); n > event.MaxFilters {
		v.add("filters", "has %d entries; up to %d are possible", n, event.MaxFilters)
		return event.Query{}, v.err()
	}
	q := event.Query{From: req.GetFromSequence()}
	for i, in := range req.GetFilters() {
		field := "filters[" + strconv.Itoa(i) + "]"
		f := event.Filter{Service: in.GetService(), Action: in.GetAction(), Own: in.GetOwn()}
		if in.GetHash() != "" {
			f.Hash = v.hash(field+".hash", in.GetHash())
		}
		for _, text := range slices.Compact(slices.Sorted(slices.Values(in.GetStates()))) {
			state, err := event.ParseState(text)
			if err != nil {
				v.add(field+".states", "%v", err)
			}
			f.States = append(f.States, state)
		}
		q.Filters = append(q.Filters, f)
	}
	return q, v.err()
}

func encodePublished(list []event.Published) *eventv1.PublishResponse {
	resp := &eventv1.PublishResponse{Published: make([]*eventv1.Published, len(list))}
	for i, p := range list {
		resp.Published[i] = &eventv1.Published{Id: p.ID, Sequence: p.Sequence, Again: p.Again}
		if !p.Time.IsZero() {
			resp.Published[i].Timestamp = p.Time.UnixNano()
		}
	}
	return resp
}

func encodeEvent(e event.Event) *eventv1.Event {
	meta := &eventv1.Metadata{UserId: e.User, DeviceId: e.Device}
	if e.Trace.Parent != "" {
		meta.TraceContext = map[string]string{traceparent: e.Trace.Parent}
		if e.Trace.State != "" {
			meta.TraceContext[tracestate] = e.Trace.State
		}
	}
	return &eventv1.Event{Sequence: e.Sequence, Envelope: &eventv1.Envelope{
		Id: e.ID, EventType: e.Name.String(), Timestamp: e.Time.UnixNano(), Metadata: meta, Payload: e.Payload,
	}}
}

func encodeMessage(m event.Message) *eventv1.SubscribeResponse {
	if m.To > 0 {
		return &eventv1.SubscribeResponse{Message: &eventv1.SubscribeResponse_Missed{Missed: &eventv1.Missed{FromSequence: m.From, ToSequence: m.To}}}
	}
	return &eventv1.SubscribeResponse{Message: &eventv1.SubscribeResponse_Event{Event: encodeEvent(m.Event)}}
}

func encodeKeepAlive(seen uint64) *eventv1.SubscribeResponse {
	return &eventv1.SubscribeResponse{Message: &eventv1.SubscribeResponse_KeepAlive{KeepAlive: &eventv1.KeepAlive{Sequence: seen}}}
}

func encodeHandleAlive() *eventv1.HandleResponse {
	return &eventv1.HandleResponse{Message: &eventv1.HandleResponse_KeepAlive{KeepAlive: &eventv1.KeepAlive{}}}
}

func encodeOffered(e event.Event) *eventv1.HandleResponse {
	return &eventv1.HandleResponse{Message: &eventv1.HandleResponse_Event{Event: encodeEvent(e)}}
}

package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/event"
	eventv1 "inos.dev/edge/proto/gen/inos/event/v1"
	"inos.dev/edge/proto/gen/inos/event/v1/eventv1connect"
)

// callerKey is where the tests' callers are.
type callerKey struct{}

// eventNode is a bus behind the service; a token is "Bearer NAME", and the
// subject "root" is an administrator. "nobody" may do nothing.
type eventNode struct {
	bus *event.Bus
	dir string
	srv *httptest.Server
	out atomic.Bool // whoever has a stream must go
}

func serveEvents(t *testing.T) *eventNode {
	t.Helper()
	n := &eventNode{dir: filepath.Join(t.TempDir(), "events")}
	var err error
	if n.bus, err = event.Open(event.Config{Dir: n.dir}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.bus.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg := newFakeNode(t).config()
	cfg.Caller = func(ctx context.Context) (Caller, error) {
		name, _ := ctx.Value(callerKey{}).(string)
		rights := auth.Write
		if name == "root" {
			rights |= auth.Admin
		}
		if name == "" {
			rights = auth.None
		}
		return Caller{auth.Identity{Subject: name, Rights: rights, TokenID: "device of " + name}, auth.Key(name)}, nil
	}
	cfg.Authorize = func(ctx context.Context, action auth.Action, _ string) error {
		who, err := cfg.Caller(ctx)
		if err != nil || action == auth.ActionRead {
			return err
		}
		return who.Require(action.Right())
	}
	withToken := func(ctx context.Context, token auth.Token) (context.Context, error) {
		name, ok := strings.CutPrefix(token.Reveal(), "token of ")
		if had, _ := ctx.Value(callerKey{}).(string); !ok || had != "" && had != name {
			return nil, auth.ErrUnauthenticated
		}
		return context.WithValue(ctx, callerKey{}, name), nil
	}
	again := func(context.Context, auth.Action, string) error {
		if n.out.Load() {
			return auth.ErrForbidden
		}
		return nil
	}
	cfg.Events = &Events{Bus: n.bus, WithToken: withToken, Again: again, KeepAlive: 20 * time.Millisecond}
	routes, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.Handle(r.Prefix, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			name := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
			r.Handler.ServeHTTP(w, req.WithContext(context.WithValue(req.Context(), callerKey{}, name)))
		}))
	}
	n.srv = httptest.NewServer(mux)
	t.Cleanup(n.srv.Close)
	return n
}

// as is a client with a name in its Authorization header, or without one.
func (n *eventNode) as(name string, opts ...connect.ClientOption) eventv1connect.EventServiceClient {
	opts = append(opts, connect.WithInterceptors(nameSender(name)))
	return eventv1connect.NewEventServiceClient(n.srv.Client(), n.srv.URL, opts...)
}

// nameSender puts a name into the Authorization header.
type nameSender string

func (s nameSender) set(h http.Header) {
	if s != "" {
		h.Set("Authorization", "Bearer "+string(s))
	}
}

func (s nameSender) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		s.set(req.Header())
		return next(ctx, req)
	}
}

func (s nameSender) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		s.set(conn.RequestHeader())
		return conn
	}
}

func (nameSender) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

func envelope(id, name, payload string) *eventv1.Envelope {
	return &eventv1.Envelope{Id: id, EventType: name, Payload: []byte(payload)}
}

func tokened(e *eventv1.Envelope, meta *eventv1.Metadata) *eventv1.Envelope {
	e.Metadata = meta
	return e
}

func publishOne(t *testing.T, c eventv1connect.EventServiceClient, e *eventv1.Envelope) (*eventv1.Published, error) {
	t.Helper()
	resp, err := c.Publish(t.Context(), &eventv1.PublishRequest{Envelopes: []*eventv1.Envelope{e}})
	if err != nil {
		return nil, err
	}
	return resp.GetPublished()[0], nil
}

// TestPublishIdentity: who publishes is said by a token and by nothing else,
// and the token itself is nowhere afterwards.
func TestPublishIdentity(t *testing.T) {
	n := serveEvents(t)
	const name = "app:draw:v1:requested"
	const secret = "token of carl"
	for what, tc := range map[string]struct {
		header string
		meta   *eventv1.Metadata
		want   string // user, or code and reason
	}{
		"by header":            {"ann", nil, "ann"},
		"nobody":               {"", nil, "unauthenticated UNAUTHENTICATED"},
		"says who":             {"ann", &eventv1.Metadata{UserId: "ann", DeviceId: "device of ann"}, "ann"},
		"says another":         {"ann", &eventv1.Metadata{UserId: "bob"}, "permission_denied FOREIGN_EVENT"},
		"says another device":  {"ann", &eventv1.Metadata{DeviceId: "x"}, "permission_denied FOREIGN_EVENT"},
		"says who, no token":   {"", &eventv1.Metadata{UserId: "ann"}, "unauthenticated UNAUTHENTICATED"},
		"by token":             {"", &eventv1.Metadata{SecurityToken: secret}, "carl"},
		"by a bad token":       {"", &eventv1.Metadata{SecurityToken: "nonsense"}, "unauthenticated UNAUTHENTICATED"},
		"by both":              {"carl", &eventv1.Metadata{SecurityToken: secret}, "carl"},
		"by two":               {"ann", &eventv1.Metadata{SecurityToken: secret}, "unauthenticated UNAUTHENTICATED"},
		"with a trace":         {"ann", &eventv1.Metadata{TraceContext: map[string]string{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=b"}}, "ann"},
		"with a bad trace":     {"ann", &eventv1.Metadata{TraceContext: map[string]string{"traceparent": "x"}}, "invalid_argument BAD_EVENT"},
		"with something else":  {"ann", &eventv1.Metadata{TraceContext: map[string]string{"authorization": secret}}, "invalid_argument BAD_REQUEST"},
		"with a foreign state": {"ann", &eventv1.Metadata{TraceContext: map[string]string{"tracestate": "a=b"}}, "invalid_argument BAD_EVENT"},
	} {
		var got string
		p, err := publishOne(t, n.as(tc.header), tokened(envelope("", name, "{}"), tc.meta))
		if err != nil {
			got = connect.CodeOf(err).String() + " " + reason(err)
		} else {
			got = lastUser(t, n, p.GetSequence())
		}
		if got != tc.want {
			t.Errorf("%s: %s (%v); want %s", what, got, err, tc.want)
		}
	}
	files, err := filepath.Glob(filepath.Join(n.dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no journal: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(secret)) || !bytes.Contains(data, []byte("carl")) {
			t.Errorf("%s has the token, or nothing of its subject", file)
		}
	}
}

// lastUser replays one event and returns its user, after a look at the rest.
func lastUser(t *testing.T, n *eventNode, seq uint64) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := n.as("").Subscribe(ctx, &eventv1.SubscribeRequest{FromSequence: seq})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for stream.Receive() {
		e := stream.Msg().GetEvent()
		if e == nil {
			continue
		}
		meta := e.GetEnvelope().GetMetadata()
		if e.GetSequence() != seq || meta.GetSecurityToken() != "" || meta.GetDeviceId() != "device of "+meta.GetUserId() || time.Since(time.Unix(0, e.GetEnvelope().GetTimestamp())) > time.Minute {
			t.Errorf("%v", e)
		}
		return meta.GetUserId()
	}
	t.Fatal(stream.Err())
	return ""
}

func TestPublishRefuses(t *testing.T) {
	n := serveEvents(t)
	ann := n.as("ann")
	if _, err := publishOne(t, ann, envelope("x", "app:draw:v1:requested", "")); err != nil {
		t.Fatal(err)
	}
	many := make([]*eventv1.Envelope, event.MaxBatch+1)
	for what, tc := range map[string]struct {
		list []*eventv1.Envelope
		want string
	}{
		"nothing":         {nil, "invalid_argument BAD_REQUEST"},
		"too many":        {many, "invalid_argument BAD_REQUEST"},
		"no name":         {[]*eventv1.Envelope{envelope("", "draw", "")}, "invalid_argument BAD_REQUEST"},
		"no id":           {[]*eventv1.Envelope{envelope("a b", "app:draw:v1:requested", "")}, "invalid_argument BAD_EVENT"},
		"too large":       {[]*eventv1.Envelope{envelope("", "app:draw:v1:requested", strings.Repeat("x", event.MaxPayload+1))}, "invalid_argument BAD_EVENT"},
		"a skipped state": {[]*eventv1.Envelope{envelope("x", "app:draw:v1:completed", "")}, "failed_precondition ILLEGAL_TRANSITION"},
		"two tokens": {[]*eventv1.Envelope{
			tokened(envelope("", "app:draw:v1:requested", ""), &eventv1.Metadata{SecurityToken: "token of ann"}),
			tokened(envelope("", "app:draw:v1:requested", ""), &eventv1.Metadata{SecurityToken: "token of bob"}),
		}, "invalid_argument BAD_REQUEST"},
		"the node's": {[]*eventv1.Envelope{envelope("", event.GrantCreditsCompleted, "")}, "permission_denied FOREIGN_EVENT"},
	} {
		_, err := ann.Publish(t.Context(), &eventv1.PublishRequest{Envelopes: tc.list})
		if got := connect.CodeOf(err).String() + " " + reason(err); got != tc.want {
			t.Errorf("%s: %s (%v); want %s", what, got, err, tc.want)
		}
	}
	if p, err := publishOne(t, ann, envelope("x", "app:draw:v1:requested", "")); err != nil || !p.GetAgain() || p.GetTimestamp() == 0 {
		t.Errorf("the same again: %v, %v", p, err)
	}
	if _, err := publishOne(t, n.as("root"), envelope("", event.ReplicateChunkRequested, "{}")); err != nil {
		t.Errorf("an administrator: %v", err)
	}
}

// TestSubscribe reads over every protocol that a browser speaks.
func TestSubscribe(t *testing.T) {
	n := serveEvents(t)
	h := cas.Sum([]byte("x"))
	p, err := publishOne(t, n.as("ann"), envelope("1", "app:draw:v1:requested", `{"hash":"`+h.String()+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	for i, opts := range [][]connect.ClientOption{nil, {connect.WithProtoJSON()}, {connect.WithGRPCWeb()}} {
		stream, err := n.as("ann", opts...).Subscribe(t.Context(), &eventv1.SubscribeRequest{FromSequence: p.GetSequence(), Filters: []*eventv1.Filter{
			{Service: "app", States: []string{"requested", "requested"}, Own: true, Hash: h.String()},
			{Action: fmt.Sprint("live_", i)},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if !stream.Receive() || stream.Msg().GetKeepAlive().GetSequence() != p.GetSequence()-1 {
			t.Fatalf("first %v, %v", stream.Msg(), stream.Err())
		}
		if !stream.Receive() || stream.Msg().GetEvent().GetEnvelope().GetId() != "1" {
			t.Fatalf("then %v, %v", stream.Msg(), stream.Err())
		}
		if !stream.Receive() || stream.Msg().GetKeepAlive().GetSequence() < p.GetSequence() {
			t.Fatalf("then %v, %v", stream.Msg(), stream.Err())
		}
		if _, err := publishOne(t, n.as("bob"), envelope("", fmt.Sprintf("app:live_%d:v1:failed", i), "")); err != nil {
			t.Fatal(err)
		}
		for stream.Receive() && stream.Msg().GetEvent() == nil {
		}
		if stream.Msg().GetEvent().GetEnvelope().GetMetadata().GetUserId() != "bob" {
			t.Fatalf("live %v, %v", stream.Msg(), stream.Err())
		}
		if err := stream.Close(); err != nil {
			t.Error(err)
		}
	}
	stream, err := n.as("").Subscribe(t.Context(), &eventv1.SubscribeRequest{FromSequence: 5})
	if err != nil {
		t.Fatal(err)
	}
	for stream.Receive() && stream.Msg().GetMissed() == nil {
	}
	if stream.Msg().GetMissed().GetFromSequence() != 5 || stream.Msg().GetMissed().GetToSequence() != p.GetSequence()-1 {
		t.Errorf("from what is gone: %v, %v", stream.Msg(), stream.Err())
	}
	n.out.Store(true)
	for stream.Receive() {
	}
	if err := stream.Err(); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("who must go: %v", err)
	}
	for what, req := range map[string]*eventv1.SubscribeRequest{
		"own, no token": {Filters: []*eventv1.Filter{{Own: true}}},
		"no hash":       {Filters: []*eventv1.Filter{{Hash: "x"}}},
		"no state":      {Filters: []*eventv1.Filter{{States: []string{"done"}}}},
		"no service":    {Filters: []*eventv1.Filter{{Service: "*"}}},
		"too many":      {Filters: make([]*eventv1.Filter, event.MaxFilters+1)},
	} {
		stream, err := n.as("").Subscribe(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if stream.Receive() || stream.Err() == nil {
			t.Errorf("%s is accepted", what)
		}
	}
}

// TestHandleStream: a client offers, gets one operation, and ends it.
// TestPumpAsks: who has no rights any longer is cut off also while there is
// always something to send.
func TestPumpAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := 2
		s := &eventService{Events: Events{KeepAlive: time.Second, Again: func(context.Context, auth.Action, string) error {
			if left--; left < 0 {
				return auth.ErrForbidden
			}
			return nil
		}}}
		began, alive := time.Now(), 0
		err := s.pump(t.Context(), auth.ActionRead, "", func(context.Context) error {
			time.Sleep(time.Millisecond)
			if time.Since(began) > time.Minute {
				return io.EOF
			}
			return nil
		}, func() error { alive++; return nil })
		if took := time.Since(began); !errors.Is(err, auth.ErrForbidden) || alive != 2 || took > 4*time.Second {
			t.Errorf("%v after %v and %d keep-alives", err, took, alive)
		}
	})
}

func TestHandleStream(t *testing.T) {
	n := serveEvents(t)
	stream, err := n.as("bob").Handle(t.Context(), &eventv1.HandleRequest{Operations: []string{"app:draw"}})
	if err != nil {
		t.Fatal(err)
	}
	if !stream.Receive() || stream.Msg().GetKeepAlive() == nil {
		t.Fatalf("first %v, %v", stream.Msg(), stream.Err())
	}
	if _, err := publishOne(t, n.as("ann"), envelope("1", "app:draw:v1:requested", "a line")); err != nil {
		t.Fatal(err)
	}
	for stream.Receive() && stream.Msg().GetEvent() == nil {
	}
	if e := stream.Msg().GetEvent().GetEnvelope(); e.GetId() != "1" || string(e.GetPayload()) != "a line" {
		t.Fatalf("%v, %v", stream.Msg(), stream.Err())
	}
	if _, err := publishOne(t, n.as("ann"), envelope("1", "app:draw:v1:processing", "")); reason(err) != "FOREIGN_EVENT" {
		t.Errorf("by another: %v", err)
	}
	for _, state := range []string{"processing", "completed"} {
		if _, err := publishOne(t, n.as("bob"), envelope("1", "app:draw:v1:"+state, "")); err != nil {
			t.Error(err)
		}
	}
	n.bus.Drain()
	for stream.Receive() {
	}
	if err := stream.Err(); connect.CodeOf(err) != connect.CodeUnavailable || reason(err) != "DRAINING" {
		t.Errorf("while the node drains: %v", err)
	}
	for what, tc := range map[string]struct {
		name string
		req  *eventv1.HandleRequest
		want string
	}{
		"a stranger": {"", &eventv1.HandleRequest{Operations: []string{"app:draw"}}, "UNAUTHENTICATED"},
		"nothing":    {"bob", &eventv1.HandleRequest{}, "BAD_EVENT"},
		"the node's": {"bob", &eventv1.HandleRequest{Operations: []string{"storage:replicate_chunk"}}, "FOREIGN_EVENT"},
	} {
		stream, err := n.as(tc.name).Handle(t.Context(), tc.req)
		if err != nil {
			t.Fatal(err)
		}
		if stream.Receive() || reason(stream.Err()) != tc.want {
			t.Errorf("%s: %v", what, stream.Err())
		}
	}
}

// FuzzDecodeEvents: no message breaks a decoder, and what it lets through has
// its limits and no token.
func FuzzDecodeEvents(f *testing.F) {
	for _, m := range []proto.Message{
		&eventv1.PublishRequest{Envelopes: []*eventv1.Envelope{tokened(envelope("x", "app:draw:v1:requested", "{}"), &eventv1.Metadata{
			UserId: "ann", SecurityToken: "secret", TraceContext: map[string]string{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
		})}},
		&eventv1.SubscribeRequest{FromSequence: 1, Filters: []*eventv1.Filter{{Service: "app", States: []string{"failed"}, Hash: cas.Sum(nil).String()}}},
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var publish eventv1.PublishRequest
		if proto.Unmarshal(data, &publish) == nil {
			events, token, err := decodePublish(&publish)
			if err == nil && (len(events) == 0 || len(events) > event.MaxBatch) {
				t.Errorf("%d events", len(events))
			}
			if len(token) > 16 && bytes.Contains(fmt.Append(nil, events), []byte(token.Reveal())) && err == nil && strings.Count(publish.String(), token.Reveal()) == 1 {
				t.Error("the token is in the events")
			}
		}
		var subscribe eventv1.SubscribeRequest
		if proto.Unmarshal(data, &subscribe) == nil {
			if q, err := decodeSubscribe(&subscribe); err == nil && len(q.Filters) > event.MaxFilters {
				t.Errorf("%d filters", len(q.Filters))
			}
		}
	})
}

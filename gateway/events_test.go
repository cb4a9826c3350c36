package gateway_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"inos.dev/edge/gateway"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/event"
	eventv1 "inos.dev/edge/proto/gen/inos/event/v1"
	"inos.dev/edge/proto/gen/inos/event/v1/eventv1connect"
)

// newBus is a house with a bus, in which nobody may be slow for long.
func newBus(t *testing.T, rules string) (*house, *event.Bus) {
	t.Helper()
	bus, err := event.Open(event.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
	})
	h := newHouse(t, rules, func(cfg *gateway.Config) { cfg.Events, cfg.IOGrace, cfg.MinRate = bus, 100*time.Millisecond, 1<<30 })
	return h, bus
}

// authorized sends an Authorization header with every request.
type authorized struct {
	http.RoundTripper
	value string
}

func (a authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	if a.value != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", a.value)
	}
	return a.RoundTripper.RoundTrip(r)
}

// events is a client over a protocol, as somebody.
func (h *house) events(t *testing.T, protocol, who string) eventv1connect.EventServiceClient {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(protocol == "h1")
	tr.Protocols.SetUnencryptedHTTP2(protocol == "h2c")
	t.Cleanup(tr.CloseIdleConnections)
	return eventv1connect.NewEventServiceClient(&http.Client{Transport: authorized{tr, h.tokens[who]}}, h.url)
}

func said(what string) *eventv1.PublishRequest {
	return &eventv1.PublishRequest{Envelopes: []*eventv1.Envelope{{EventType: "app:" + what + ":v1:completed"}}}
}

// TestEventStream: a stream goes on for many times the grace of a slow client,
// and ends when the node goes down.
func TestEventStream(t *testing.T) {
	for _, protocol := range []string{"h1", "h2c"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			h, bus := newBus(t, auth.DefaultRules)
			stream, err := h.events(t, protocol, "nobody").Subscribe(t.Context(), &eventv1.SubscribeRequest{})
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			for begin := time.Now(); time.Since(begin) < time.Second; {
				if !stream.Receive() || stream.Msg().GetKeepAlive() == nil {
					t.Fatalf("after %v: %v, %v", time.Since(begin), stream.Msg(), stream.Err())
				}
			}
			if _, err := h.events(t, protocol, "writer").Publish(t.Context(), said("speak")); err != nil {
				t.Fatal(err)
			}
			for stream.Receive() && stream.Msg().GetEvent() == nil {
			}
			if e := stream.Msg().GetEvent().GetEnvelope(); e.GetMetadata().GetUserId() != "writer" {
				t.Errorf("%v, %v", e, stream.Err())
			}
			bus.Drain()
			for stream.Receive() {
			}
			if connect.CodeOf(stream.Err()) != connect.CodeUnavailable {
				t.Errorf("while the node drains: %v", stream.Err())
			}
		})
	}
}

// TestEventRights: who may publish and listen is the policy's to say, by a real
// token, wherever it stands, and for as long as it holds.
func TestEventRights(t *testing.T) {
	h, _ := newBus(t, auth.DefaultRules)
	bare := strings.TrimPrefix(h.tokens["writer"], "Bearer ")
	for _, tc := range []struct {
		who, token string
		want       connect.Code // 0: published as writer
	}{
		{"nobody", "", connect.CodeUnauthenticated},
		{"liar", "", connect.CodeUnauthenticated},
		{"reader", "", connect.CodePermissionDenied},
		{"writer", "", 0},
		{"nobody", bare, 0},
		{"writer", bare, 0},
		{"nobody", bare + "x", connect.CodeUnauthenticated},
		{"nobody", strings.TrimPrefix(h.tokens["reader"], "Bearer "), connect.CodePermissionDenied},
		{"both", bare, connect.CodePermissionDenied},
		{"liar", bare, connect.CodeUnauthenticated},
	} {
		req := said("speak")
		req.Envelopes[0].Metadata = &eventv1.Metadata{SecurityToken: tc.token}
		_, err := h.events(t, "h1", tc.who).Publish(t.Context(), req)
		if (err == nil) != (tc.want == 0) || err != nil && connect.CodeOf(err) != tc.want {
			t.Errorf("%s with token %t: %v", tc.who, tc.token != "", err)
		}
	}

	private, _ := newBus(t, privateRules)
	for who, want := range map[string]connect.Code{"nobody": connect.CodeUnauthenticated, "writer": connect.CodePermissionDenied} {
		stream, err := private.events(t, "h1", who).Subscribe(t.Context(), &eventv1.SubscribeRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if stream.Receive() || connect.CodeOf(stream.Err()) != want {
			t.Errorf("%s listens at a private node: %v", who, stream.Err())
		}
	}
	if _, err := private.events(t, "h1", "both").Publish(t.Context(), said("speak")); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("where no rule lets anybody publish: %v", err)
	}
}

// TestEventTokenExpires: a stream is over when its token is.
func TestEventTokenExpires(t *testing.T) {
	key := auth.NewSecretKey()
	verifier, err := auth.NewVerifier(auth.Config{Own: key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	bus, err := event.Open(event.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, privateRules, func(cfg *gateway.Config) { cfg.Events, cfg.Auth, cfg.IOGrace = bus, verifier, 100*time.Millisecond })
	token, err := key.Issue("brief", auth.Read, time.Now(), time.Now().Add(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	h.tokens["brief"] = "Bearer " + token.Reveal()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stream, err := h.events(t, "h1", "brief").Subscribe(ctx, &eventv1.SubscribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	for stream.Receive() {
	}
	if connect.CodeOf(stream.Err()) != connect.CodeUnauthenticated || !strings.Contains(stream.Err().Error(), "expired") {
		t.Errorf("%v", stream.Err())
	}
	if err := bus.Close(); err != nil {
		t.Error(err)
	}
}

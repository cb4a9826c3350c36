package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"connectrpc.com/connect"

	eventv1 "inos.dev/edge/proto/gen/inos/event/v1"
	"inos.dev/edge/proto/gen/inos/event/v1/eventv1connect"
)

// bus has events 1 to last, of which those from kept on are there. Its streams
// end after breaks events, unless that is 0.
type bus struct {
	eventv1connect.UnimplementedEventServiceHandler
	last, kept, breaks uint64

	mu   sync.Mutex
	from []uint64 // guarded by mu: what streams asked for
}

func (b *bus) Subscribe(ctx context.Context, req *eventv1.SubscribeRequest, stream *connect.ServerStream[eventv1.SubscribeResponse]) error {
	b.mu.Lock()
	next, last := req.GetFromSequence(), b.last
	b.from = append(b.from, next)
	b.mu.Unlock()
	if next == 0 {
		next = last + 1
	}
	err := stream.Send(&eventv1.SubscribeResponse{Message: &eventv1.SubscribeResponse_KeepAlive{KeepAlive: &eventv1.KeepAlive{Sequence: next - 1}}})
	if next < b.kept {
		missed := &eventv1.Missed{FromSequence: next, ToSequence: b.kept - 1}
		err = errors.Join(err, stream.Send(&eventv1.SubscribeResponse{Message: &eventv1.SubscribeResponse_Missed{Missed: missed}}))
		next = b.kept
	}
	for sent := uint64(0); next <= last && err == nil; next++ {
		if sent++; b.breaks > 0 && sent > b.breaks {
			panic(http.ErrAbortHandler)
		}
		if service := req.GetFilters(); len(service) > 0 && service[0].GetService() != "all" {
			continue
		}
		e := &eventv1.Event{Sequence: next, Envelope: &eventv1.Envelope{Id: fmt.Sprint(next), EventType: "a:b:v1:completed"}}
		err = stream.Send(&eventv1.SubscribeResponse{Message: &eventv1.SubscribeResponse_Event{Event: e}})
	}
	end := &eventv1.SubscribeResponse{Message: &eventv1.SubscribeResponse_KeepAlive{KeepAlive: &eventv1.KeepAlive{Sequence: next - 1}}}
	if err = errors.Join(err, stream.Send(end)); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (b *bus) Publish(context.Context, *eventv1.PublishRequest) (*eventv1.PublishResponse, error) {
	return &eventv1.PublishResponse{}, nil
}

func serveBus(t *testing.T, b *bus) *Node {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(eventv1connect.NewEventServiceHandler(b))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return dial(t, server.URL, Config{})
}

// TestEvents: what was asked for comes in order and once, over as many streams
// as it takes, and ends where it should.
func TestEvents(t *testing.T) {
	for name, tc := range map[string]struct {
		bus   *bus
		query EventQuery
		limit int
		want  string
	}{
		"all":                  {&bus{last: 5}, EventQuery{From: 1}, 0, "1 2 3 4 5"},
		"some":                 {&bus{last: 5}, EventQuery{From: 4}, 0, "4 5"},
		"none":                 {&bus{}, EventQuery{From: 1}, 0, ""},
		"beyond the end":       {&bus{last: 5}, EventQuery{From: 9}, 0, ""},
		"from the beginning":   {&bus{last: 2}, EventQuery{}, 0, "1 2"},
		"lost":                 {&bus{last: 5, kept: 3}, EventQuery{From: 1}, 0, "1-2 3 4 5"},
		"none that passes":     {&bus{last: 5}, EventQuery{From: 1, Service: "none"}, 0, ""},
		"broken":               {&bus{last: 5, breaks: 2}, EventQuery{From: 1}, 0, "1 2 3 4 5"},
		"followed":             {&bus{last: 5}, EventQuery{From: 2, Follow: true}, 4, "2 3 4 5"},
		"followed and broken":  {&bus{last: 5, breaks: 1}, EventQuery{From: 2, Follow: true, Service: "all"}, 4, "2 3 4 5"},
		"followed up to there": {&bus{last: 5}, EventQuery{From: 2, Follow: true}, 2, "2 3"},
	} {
		t.Run(name, func(t *testing.T) {
			n := serveBus(t, tc.bus)
			var got []string
			for e, err := range n.Events(t.Context(), tc.query) {
				if err != nil {
					t.Fatal(err)
				}
				if e.Lost > 0 {
					got = append(got, fmt.Sprintf("%d-%d", e.Sequence, e.Lost))
				} else {
					got = append(got, e.ID)
				}
				if len(got) == tc.limit {
					break
				}
			}
			if text := fmt.Sprint(got); text != "["+tc.want+"]" {
				t.Errorf("%s, want %s; streams from %d", text, tc.want, tc.bus.from)
			}
			if tc.bus.breaks == 2 && !slices.Equal(tc.bus.from, []uint64{0, 1, 3, 5}) {
				t.Errorf("streams from %d", tc.bus.from)
			}
		})
	}
}

// TestEventsEnd: with the context, and with a node that has no such service.
func TestEventsEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	for _, err := range serveBus(t, &bus{last: 1}).Events(ctx, EventQuery{From: 1, Follow: true}) {
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		cancel()
	}
	cancel()
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	for _, err := range dial(t, server.URL, Config{}).Events(t.Context(), EventQuery{Follow: true}) {
		if !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
	}
}

func TestPublishOfNothing(t *testing.T) {
	if _, err := serveBus(t, &bus{}).Publish(t.Context(), "a:b:v1:requested", "", nil); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
}

package event

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// run runs a bus until the test ends.
func run(t *testing.T, b *Bus) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// history waits for the end of an operation, and says what happened.
func history(t *testing.T, s *Subscription, id string) string {
	t.Helper()
	var states []string
	for {
		m, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m.Event.ID != id {
			continue
		}
		text := m.Event.Name.State.String()
		if m.Event.Name.State >= Completed {
			return strings.Join(append(states, text+" "+string(m.Event.Payload)), ", ")
		}
		states = append(states, text)
	}
}

func TestHandle(t *testing.T) {
	b := open(t, Config{})
	var calls atomic.Int64
	h := Handler{Timeout: time.Millisecond, Concurrency: 2, Do: func(ctx context.Context, e Event) (any, error) {
		calls.Add(1)
		switch string(e.Payload) {
		case "good":
			return map[string]string{"for": e.For}, nil
		case "bad":
			return nil, errors.New("no paint")
		case "panic":
			panic("no canvas")
		case "slow":
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return make([]byte, MaxPayload), nil
	}}
	publish(t, b, ann, "early", "app:draw:v1:requested", "good")
	if err := b.Handle("app:draw", h); err != nil {
		t.Fatal(err)
	}
	if err := b.Handle("app:draw", h); err == nil {
		t.Error("a second handler is accepted")
	}
	if err := b.Handle("app", h); err == nil {
		t.Error("half a name is accepted")
	}
	if err := b.Handle("app:none", Handler{}); err == nil {
		t.Error("a handler that does nothing is accepted")
	}
	run(t, b)
	for payload, want := range map[string]string{
		"good":  `requested, processing, completed {"for":"ann"}`,
		"bad":   `requested, processing, failed {"error":"no paint"}`,
		"panic": `requested, processing, failed {"error":"the handler panicked; the node's log says more"}`,
		"slow":  `requested, processing, failed {"error":"context deadline exceeded"}`,
		"huge":  `requested, processing, failed {"error":"the handler's answer was not accepted; the node's log says more"}`,
	} {
		s := subscribe(t, b, Query{Subject: "ann", Filters: []Filter{{Own: true}}})
		publish(t, b, ann, payload, "app:draw:v1:requested", payload)
		if got := history(t, s, payload); got != want {
			t.Errorf("%s: %s; want %s", payload, got, want)
		}
		s.Close()
	}
	if got := history(t, subscribe(t, b, Query{From: 1}), "early"); got != `requested, processing, completed {"for":"ann"}` {
		t.Errorf("what was there before the handler: %s", got)
	}
	n := calls.Load()
	if again := publish(t, b, ann, "good", "app:draw:v1:requested", "good"); !again.Again || calls.Load() != n {
		t.Error("an id was handled twice")
	}
	if _, err := b.Publish(ann, []Event{{ID: "good", Name: mustName(t, "app:draw:v1:failed")}}); !errors.Is(err, ErrTransition) {
		t.Errorf("%v", err)
	}
	if _, err := b.Offer("", bob, []string{"app:draw"}, 1); !errors.Is(err, ErrForeign) {
		t.Errorf("an offer for what the node handles: %v", err)
	}
}

// TestConcurrency: no more run at once than may.
func TestConcurrency(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	synctest.Test(t, func(t *testing.T) {
		b := open(t, Config{Dir: dir})
		var now, most atomic.Int64
		err := b.Handle("app:draw", Handler{Concurrency: 3, Do: func(context.Context, Event) (any, error) {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Second)
			now.Add(-1)
			return nil, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		stop := run(t, b)
		begin := time.Now()
		s := subscribe(t, b, Query{Filters: []Filter{{States: []State{Completed}}}})
		for range 9 {
			publish(t, b, ann, "", "app:draw:v1:requested", "")
		}
		for range 9 {
			if _, err := s.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begin); took != 3*time.Second || most.Load() != 3 {
			t.Errorf("9 of one second each, 3 at once: %v, %d at once", took, most.Load())
		}
		stop()
	})
}

// TestInterrupted: what the node was at when it went down has failed, at once
// or, after a kill, with the next start.
func TestInterrupted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	b := open(t, Config{Dir: dir})
	begun := make(chan struct{})
	err := b.Handle("app:draw", Handler{Do: func(ctx context.Context, _ Event) (any, error) {
		close(begun)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, b)
	s := subscribe(t, b, Query{})
	publish(t, b, ann, "x", "app:draw:v1:requested", "")
	<-begun
	stop()
	if got := history(t, s, "x"); got != `requested, processing, failed {"error":"interrupted: the node went down"}` {
		t.Error(got)
	}

	_, err = b.Publish(Publisher{node: true}, []Event{
		{ID: "y", Name: mustName(t, "app:draw:v1:requested")},
		{ID: "y", Name: mustName(t, "app:draw:v1:processing"), handled: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	publish(t, b, ann, "own", "app:fill:v1:requested", "")
	publish(t, b, ann, "own", "app:fill:v1:processing", "")
	f, err := b.Offer("bob", bob, []string{"app:paint"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, b, ann, "z", "app:paint:v1:requested", "")
	if _, err := f.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(t, b, bob, "z", "app:paint:v1:processing", "")
	b2 := open(t, Config{Dir: dir}) // as a process that comes after a kill
	run(t, b2)
	for _, id := range []string{"y", "z"} {
		if got := history(t, subscribe(t, b2, Query{From: 1, Admin: true}), id); got != `requested, processing, failed {"error":"interrupted: the node was started anew"}` {
			t.Errorf("%s: %s", id, got)
		}
	}
	publish(t, b2, ann, "own", "app:fill:v1:completed", "") // nobody's but its publisher's
}

// TestOffer: one of several clients gets each operation, and it alone ends it.
func TestOffer(t *testing.T) {
	b := open(t, Config{})
	publish(t, b, ann, "1", "app:draw:v1:requested", "one")
	carl := Publisher{Subject: "carl", Device: "c1"}
	first, err := b.Offer("bob", bob, []string{"app:draw", "app:paint"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Offer("carl", carl, []string{"app:draw"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	take := func(f *Offer, want string) {
		t.Helper()
		e, err := f.Next(t.Context())
		if err != nil || e.ID != want || e.User != "ann" {
			t.Fatalf("%+v, %v; want %s", e, err, want)
		}
	}
	nothing := func(f *Offer) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if e, err := f.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%+v, %v", e, err)
		}
	}
	take(first, "1")
	publish(t, b, ann, "2", "app:draw:v1:requested", "two")
	publish(t, b, ann, "3", "app:draw:v1:requested", "three")
	nothing(first) // it may have one at a time
	take(second, "2")
	take(second, "3")
	nothing(second)

	refused := func(p Publisher, id, name string) {
		t.Helper()
		if _, err := b.Publish(p, []Event{{ID: id, Name: mustName(t, name)}}); !errors.Is(err, ErrForeign) {
			t.Errorf("%s publishes %s of %s: %v", p.Subject, name, id, err)
		}
	}
	refused(carl, "1", "app:draw:v1:processing")
	refused(ann, "1", "app:draw:v1:processing")
	publish(t, b, bob, "1", "app:draw:v1:processing", "")
	s := subscribe(t, b, Query{Subject: "ann", Filters: []Filter{{Own: true}}})
	publish(t, b, bob, "1", "app:draw:v1:completed", "done")
	if got := history(t, s, "1"); got != "completed done" {
		t.Errorf("whoever requested it is told %s", got)
	}

	// carl has begun 2 and not 3 when he goes.
	publish(t, b, carl, "2", "app:draw:v1:processing", "")
	second.Close()
	if got := history(t, s, "2"); got != `processing, failed {"error":"its handler went away"}` {
		t.Error(got)
	}
	take(first, "3")
	refused(carl, "3", "app:draw:v1:processing")
	first.Close()
	if _, err := first.Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	third, err := b.Offer("carl", carl, []string{"app:draw"}, 1) // nobody was there in between
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	take(third, "3")
	b.Drain()
	if _, err := third.Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// TestWaiting: what nobody takes is forgotten with its event.
func TestWaiting(t *testing.T) {
	b := open(t, Config{MaxEvents: 160})
	f, err := b.Offer("bob", bob, []string{"app:draw"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range 1000 {
		publish(t, b, ann, fmt.Sprint(i), "app:draw:v1:requested", "")
	}
	if n := len(b.routes["app:draw"].waiting); n == 0 || n > 160 {
		t.Errorf("%d operations wait, of 160 events that are kept", n)
	}
	if e, err := f.Next(t.Context()); err != nil || e.Sequence != b.journal.kept {
		t.Errorf("%+v, %v; want the oldest that is kept", e, err)
	}
}

func TestOfferLimits(t *testing.T) {
	b := open(t, Config{})
	for name, tc := range map[string]struct {
		operations  []string
		concurrency int
		want        error
	}{
		"none":       {nil, 1, ErrEvent},
		"too many":   {make([]string, MaxOperations+1), 1, ErrEvent},
		"no name":    {[]string{"app"}, 1, ErrName},
		"the node's": {[]string{"storage:replicate_chunk"}, 1, ErrForeign},
		"nothing":    {[]string{"app:draw"}, 0, ErrEvent},
		"all":        {[]string{"app:draw"}, MaxConcurrency + 1, ErrEvent},
	} {
		if _, err := b.Offer("", bob, tc.operations, tc.concurrency); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

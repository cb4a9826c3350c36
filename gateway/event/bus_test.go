package event

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"inos.dev/edge/cas"
)

var ann, bob, root = Publisher{Subject: "ann", Device: "a1"}, Publisher{Subject: "bob", Device: "b1"}, Publisher{Subject: "root", Device: "r1", Admin: true}

func mustName(t testing.TB, text string) Name {
	t.Helper()
	n, err := ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// open opens a bus that is closed at the end of the test.
func open(t testing.TB, cfg Config) *Bus {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "events")
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	b, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() }) // a second time, in some tests
	return b
}

// publish publishes one event, which must be accepted.
func publish(t testing.TB, b *Bus, p Publisher, id, name, payload string) Published {
	t.Helper()
	list, err := b.Publish(p, []Event{{ID: id, Name: mustName(t, name), Payload: []byte(payload)}})
	if err != nil {
		t.Fatalf("%s %s: %v", id, name, err)
	}
	return list[0]
}

func subscribe(t testing.TB, b *Bus, q Query) *Subscription {
	t.Helper()
	s, err := b.Subscribe(q)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// read reads what there is now, as "id state" with spaces between.
func read(t testing.TB, s *Subscription) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var list []string
	for {
		m, err := s.Next(ctx)
		switch {
		case errors.Is(err, context.Canceled):
			return strings.Join(list, " ")
		case err != nil:
			t.Fatal(err)
		case m.To > 0:
			list = append(list, "missed")
		default:
			list = append(list, m.Event.ID+" "+m.Event.Name.State.String())
		}
	}
}

func TestPublish(t *testing.T) {
	b := open(t, Config{})
	s := subscribe(t, b, Query{})
	before := time.Now()
	first := publish(t, b, ann, "x", "app:draw:v1:requested", "{}")
	again := publish(t, b, ann, "x", "app:draw:v1:requested", "{}")
	made := publish(t, b, ann, "", "app:draw:v1:completed", "")
	if first.Sequence == 0 || again.Sequence != first.Sequence || !again.Again || !again.Time.Equal(first.Time) || made.Sequence <= first.Sequence || len(made.ID) < 16 {
		t.Errorf("%+v, %+v, %+v", first, again, made)
	}
	if first.Time.Before(before) || first.Time.After(time.Now()) {
		t.Errorf("accepted at %v", first.Time)
	}
	if got, want := read(t, s), "x requested "+made.ID+" completed"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
	// All of a batch or none.
	draw := mustName(t, "app:draw:v1:requested")
	for _, last := range []Event{{ID: "z", Name: draw.In(Completed)}, {ID: "z", Name: draw, User: "bob"}, {ID: "a b", Name: draw}} {
		if _, err := b.Publish(ann, []Event{{ID: "y", Name: draw}, {ID: "y", Name: draw.In(Processing)}, {ID: "z", Name: draw}, last}); err == nil {
			t.Errorf("%+v is accepted", last)
		}
	}
	if got := read(t, s); got != "" {
		t.Errorf("of a refused batch: %s", got)
	}
	if list, err := b.Publish(ann, []Event{{ID: "y", Name: draw}, {ID: "y", Name: draw.In(Processing)}, {ID: "y", Name: draw}, {ID: "y", Name: draw.In(Failed)}}); err != nil || !list[2].Again || list[2].Sequence != list[0].Sequence {
		t.Errorf("%+v, %v", list, err)
	}
	for name, err := range map[string]error{
		"nothing":  func() error { _, err := b.Publish(ann, nil); return err }(),
		"too many": func() error { _, err := b.Publish(ann, make([]Event, MaxBatch+1)); return err }(),
		"nobody":   func() error { _, err := b.Publish(Publisher{}, []Event{{Name: draw}}); return err }(),
	} {
		if err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// TestEmit: the node's own events, told once whatever their ids are made of.
func TestEmit(t *testing.T) {
	b := open(t, Config{})
	s := subscribe(t, b, Query{Subject: "ann"})
	long := strings.Repeat("ä ", MaxID)
	for range 2 {
		for _, id := range []string{"short/1", long, long + "er"} {
			if err := b.Emit(PublishObjectCompleted, id, "ann", ObjectPublished{Hash: "x"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := "short/1 completed node/" + cas.Sum([]byte(long)).String() + " completed node/" + cas.Sum([]byte(long+"er")).String() + " completed"
	if got := read(t, s); got != want {
		t.Errorf("%s; want %s", got, want)
	}
	// Nobody can take an id away from the node, one that can be foreseen either.
	for _, id := range []string{"short/2", "2"} {
		_, err := b.Publish(ann, []Event{{ID: id, Name: mustName(t, "app:draw:v1:completed")}})
		if (err == nil) == strings.Contains(id, "/") {
			t.Errorf("a client publishes under the id %s: %v", id, err)
		}
		if err := b.Emit(PublishObjectCompleted, id, "ann", ObjectPublished{Hash: "x"}); err != nil {
			t.Error(err)
		}
	}
	for name, err := range map[string]error{
		"no name":       b.Emit("publish", "", "", nil),
		"another type":  b.Emit(PublishObjectCompleted, "", "", Failure{}),
		"not in a row":  b.Emit("storage:publish_object:v2:completed", "", "", ObjectPublished{}),
		"not a payload": b.Emit(PublishObjectCompleted, "", "", make(chan int)),
	} {
		if err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestFilters(t *testing.T) {
	b := open(t, Config{})
	h := cas.Sum([]byte("x"))
	publish(t, b, ann, "1", "app:draw:v1:requested", `{"hash":"`+h.String()+`"}`)
	publish(t, b, bob, "2", "app:paint:v1:requested", "")
	publish(t, b, bob, "3", "other:draw:v1:completed", "")
	publish(t, b, root, "4", "storage:replicate_chunk:v1:requested", "")
	if err := b.Emit(GrantCreditsCompleted, "n/5", "ann", CreditsGranted{Account: "user:ann"}); err != nil {
		t.Fatal(err)
	}
	publish(t, b, ann, "1", "app:draw:v1:processing", "")
	for name, tc := range map[string]struct {
		q    Query
		want string
	}{
		"all, anonymous":   {Query{}, "1 requested 2 requested 3 completed 4 requested 1 processing"},
		"all, ann":         {Query{Subject: "ann"}, "1 requested 2 requested 3 completed 4 requested n/5 completed 1 processing"},
		"all, root":        {Query{Subject: "root", Admin: true}, "1 requested 2 requested 3 completed 4 requested n/5 completed 1 processing"},
		"a service":        {Query{Filters: []Filter{{Service: "app"}}}, "1 requested 2 requested 1 processing"},
		"an action":        {Query{Filters: []Filter{{Action: "draw"}}}, "1 requested 3 completed 1 processing"},
		"both":             {Query{Filters: []Filter{{Service: "app", Action: "draw"}}}, "1 requested 1 processing"},
		"either":           {Query{Filters: []Filter{{Action: "paint"}, {Service: "other"}}}, "2 requested 3 completed"},
		"states":           {Query{Filters: []Filter{{States: []State{Processing, Completed}}}}, "3 completed 1 processing"},
		"own":              {Query{Subject: "ann", Filters: []Filter{{Own: true}}}, "1 requested n/5 completed 1 processing"},
		"own, with others": {Query{Subject: "bob", Filters: []Filter{{Own: true, Service: "app"}}}, "2 requested"},
		"a hash":           {Query{Filters: []Filter{{Hash: h}}}, "1 requested"},
		"private":          {Query{Subject: "bob", Filters: []Filter{{Service: "credit"}}}, ""},
	} {
		tc.q.From, tc.q.Caller = 1, name
		if got := read(t, subscribe(t, b, tc.q)); got != tc.want {
			t.Errorf("%s: %s; want %s", name, got, tc.want)
		}
	}
	for _, q := range []Query{
		{Filters: []Filter{{Own: true}}},
		{Filters: []Filter{{Service: "No"}}},
		{Filters: make([]Filter, MaxFilters+1)},
	} {
		if _, err := b.Subscribe(q); err == nil {
			t.Errorf("%+v is accepted", q)
		}
	}
}

func TestStreams(t *testing.T) {
	b := open(t, Config{MaxStreams: 3, MaxPerCaller: 2})
	first := subscribe(t, b, Query{Caller: "a"})
	subscribe(t, b, Query{Caller: "a"})
	if _, err := b.Subscribe(Query{Caller: "a"}); !errors.Is(err, ErrTooMany) {
		t.Errorf("a third one: %v", err)
	}
	offer, err := b.Offer("b", bob, []string{"app:draw"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Subscribe(Query{Caller: "c"}); !errors.Is(err, ErrTooMany) {
		t.Errorf("a fourth one: %v", err)
	}
	offer.Close()
	offer.Close()
	subscribe(t, b, Query{Caller: "c"})
	first.Close()
	first.Close()
	if _, err := first.Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed one: %v", err)
	}
	s := subscribe(t, b, Query{Caller: "c"})
	b.Drain()
	if _, err := s.Next(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("while the node drains: %v", err)
	}
	if _, err := b.Subscribe(Query{}); !errors.Is(err, ErrClosed) {
		t.Errorf("after that: %v", err)
	}
	publish(t, b, ann, "x", "app:draw:v1:requested", "")
}

// TestManyReaders: readers of all speeds see every event once and in order,
// while the journal rolls on.
func TestManyReaders(t *testing.T) {
	b := open(t, Config{})
	const events = 3000
	var wg sync.WaitGroup
	for i := range 8 {
		s := subscribe(t, b, Query{Caller: fmt.Sprint(i), From: 1})
		wg.Go(func() {
			for n := range events {
				m, err := s.Next(t.Context())
				if err != nil || m.Event.ID != fmt.Sprint("n", n) {
					t.Errorf("reader %d, event %d: %+v, %v", i, n, m, err)
					return
				}
			}
		})
	}
	for n := range events {
		publish(t, b, ann, fmt.Sprint("n", n), "app:draw:v1:requested", "{}")
	}
	wg.Wait()
}

func BenchmarkPublish(b *testing.B) {
	bus := open(b, Config{})
	for i := range 100 { // nobody of them makes it slower
		subscribe(b, bus, Query{Caller: fmt.Sprint(i)})
	}
	e := []Event{{Name: Name{"app", "draw", 1, Completed}, Payload: make([]byte, 200)}}
	for b.Loop() {
		if _, err := bus.Publish(ann, e); err != nil {
			b.Fatal(err)
		}
	}
}

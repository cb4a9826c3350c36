package event

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
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
		for _, id := range []string{"short", long, long + "er"} {
			if err := b.Emit(PublishObjectCompleted, id, "ann", ObjectPublished{Hash: "x"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := "short completed " + cas.Sum([]byte(long)).String() + " completed " + cas.Sum([]byte(long+"er")).String() + " completed"
	if got := read(t, s); got != want {
		t.Errorf("%s; want %s", got, want)
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
	if err := b.Emit(GrantCreditsCompleted, "5", "ann", CreditsGranted{Account: "user:ann"}); err != nil {
		t.Fatal(err)
	}
	publish(t, b, ann, "1", "app:draw:v1:processing", "")
	for name, tc := range map[string]struct {
		q    Query
		want string
	}{
		"all, anonymous":   {Query{}, "1 requested 2 requested 3 completed 4 requested 1 processing"},
		"all, ann":         {Query{Subject: "ann"}, "1 requested 2 requested 3 completed 4 requested 5 completed 1 processing"},
		"all, root":        {Query{Subject: "root", Admin: true}, "1 requested 2 requested 3 completed 4 requested 5 completed 1 processing"},
		"a service":        {Query{Filters: []Filter{{Service: "app"}}}, "1 requested 2 requested 1 processing"},
		"an action":        {Query{Filters: []Filter{{Action: "draw"}}}, "1 requested 3 completed 1 processing"},
		"both":             {Query{Filters: []Filter{{Service: "app", Action: "draw"}}}, "1 requested 1 processing"},
		"either":           {Query{Filters: []Filter{{Action: "paint"}, {Service: "other"}}}, "2 requested 3 completed"},
		"states":           {Query{Filters: []Filter{{States: []State{Processing, Completed}}}}, "3 completed 1 processing"},
		"own":              {Query{Subject: "ann", Filters: []Filter{{Own: true}}}, "1 requested 5 completed 1 processing"},
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

// TestRing: the journal keeps its bounds, and whoever was left behind is told.
func TestRing(t *testing.T) {
	b := open(t, Config{MaxBytes: 256 << 10})
	slow := subscribe(t, b, Query{})
	last := publish(t, b, ann, "first", "app:draw:v1:requested", "{}")
	payload := strings.Repeat("p", 1000)
	for i := range 1000 {
		last = publish(t, b, ann, fmt.Sprint("n", i), "app:draw:v1:requested", payload)
	}
	entries, err := os.ReadDir(b.cfg.Dir)
	if err != nil || len(entries) > ring+1 {
		t.Fatalf("%d files, %v", len(entries), err)
	}
	size := int64(0)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > 256<<10+16<<10 || size < 200<<10 {
		t.Errorf("%d bytes", size)
	}
	if n := len(b.operations); n > 200 {
		t.Errorf("%d operations are remembered", n)
	}
	m, err := slow.Next(t.Context())
	if err != nil || m.To == 0 || m.To != b.journal.kept-1 || m.From > m.To {
		t.Fatalf("%+v, %v", m, err)
	}
	m, err = slow.Next(t.Context())
	if err != nil || m.Event.Sequence != b.journal.kept {
		t.Errorf("behind the gap: %+v, %v", m, err)
	}
	if s := subscribe(t, b, Query{From: last.Sequence - 100_000}); !strings.HasPrefix(read(t, s), "missed n") {
		t.Error("a replay of what is gone says nothing")
	}
	if s := subscribe(t, b, Query{From: 1}); strings.Contains(read(t, s), "missed") {
		t.Error("all that is kept misses something")
	}
	if got := read(t, subscribe(t, b, Query{From: last.Sequence})); got != "n999 requested" {
		t.Errorf("the last one: %s", got)
	}
	// An id that is forgotten is new.
	if again := publish(t, b, ann, "first", "app:draw:v1:requested", "{}"); again.Again {
		t.Error("what is no longer kept is remembered")
	}
}

// TestReplay: after a start the journal answers as before, numbers go on, and
// so do operations.
func TestReplay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	b := open(t, Config{Dir: dir})
	publish(t, b, ann, "1", "app:draw:v1:requested", strings.Repeat("a", MaxPayload))
	for i := range 2000 { // beyond the tail
		publish(t, b, bob, fmt.Sprint("n", i), "app:fill:v1:completed", "{}")
	}
	last := publish(t, b, ann, "1", "app:draw:v1:processing", `{"é":"<>"}`)
	all := read(t, subscribe(t, b, Query{From: 1}))
	if strings.Count(all, " completed") != 2000 {
		t.Errorf("%d of 2000 while it is being written", strings.Count(all, " completed"))
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, Config{Dir: dir})
	if got := read(t, subscribe(t, b, Query{From: 1})); got != all {
		t.Error("after a start there is something else")
	}
	s := subscribe(t, b, Query{From: last.Sequence + 1})
	if got := read(t, s); got != "" {
		t.Errorf("behind the end: %s", got)
	}
	if _, err := b.Publish(ann, []Event{{ID: "1", Name: mustName(t, "app:draw:v1:failed"), User: "bob"}}); !errors.Is(err, ErrForeign) {
		t.Errorf("%v", err)
	}
	next := publish(t, b, ann, "1", "app:draw:v1:completed", "{}")
	if next.Sequence <= last.Sequence {
		t.Errorf("%d after %d", next.Sequence, last.Sequence)
	}
	if got := read(t, s); got != "1 completed" {
		t.Errorf("%s", got)
	}
	live := subscribe(t, b, Query{From: next.Sequence + 1000})
	publish(t, b, ann, "2", "app:draw:v1:requested", "{}")
	if got := read(t, live); got != "2 requested" {
		t.Errorf("from a number that was not given yet: %s", got)
	}
}

// TestTorn cuts the last file at every length, and damages it at every byte:
// what is whole stays.
func TestTorn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	b := open(t, Config{Dir: dir})
	for i := range 3 {
		publish(t, b, ann, fmt.Sprint(i), "app:draw:v1:requested", "{}")
	}
	path := b.journal.segments[0].f.Name()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var ends []int // of the records: a time is as long as its digits
	for rest := whole; len(rest) > 0; {
		if _, _, rest, err = cutRecord(rest); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, len(whole)-len(rest))
	}
	for _, damage := range []func(i int) []byte{
		func(i int) []byte { return whole[:i] },
		func(i int) []byte { c := bytes.Clone(whole); c[i] ^= 0x40; return c },
	} {
		for i := range whole {
			records, size := 0, 0 // that are whole in front of i
			for ; ends[records] <= i; records++ {
				size = ends[records]
			}
			if err := os.WriteFile(path, damage(i), 0o600); err != nil {
				t.Fatal(err)
			}
			var kept []string
			j, lost, err := openJournal(dir, 1<<20, 1000, func(e *Event) { kept = append(kept, e.ID) })
			if err != nil || len(kept) != records {
				t.Fatalf("at %d: %v, %v", i, kept, err)
			}
			if info, err := os.Stat(path); err != nil || info.Size() != int64(size) || lost < 0 {
				t.Fatalf("at %d: %v, %v", i, info, err)
			}
			if err := j.close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestDiskFails: an event that cannot be written has not happened.
func TestDiskFails(t *testing.T) {
	b := open(t, Config{})
	s := subscribe(t, b, Query{From: 1})
	publish(t, b, ann, "x", "app:draw:v1:requested", "")
	good := b.journal.segments[0].f
	bad, err := os.Open(good.Name()) // only to read
	if err != nil {
		t.Fatal(err)
	}
	b.journal.segments[0].f = bad
	if _, err := b.Publish(ann, []Event{{ID: "x", Name: mustName(t, "app:draw:v1:failed")}}); err == nil {
		t.Error("published without a journal")
	}
	if got := read(t, s); got != "x requested" {
		t.Errorf("%s", got)
	}
	b.journal.segments[0].f = good
	if err := bad.Close(); err != nil {
		t.Error(err)
	}
	if p := publish(t, b, ann, "x", "app:draw:v1:processing", ""); p.Again {
		t.Errorf("%+v", p)
	}
	if got := read(t, s); got != "x processing" {
		t.Errorf("%s", got)
	}
	if err := diskError(&os.PathError{Op: "write", Err: syscall.ENOSPC}); !errors.Is(err, cas.ErrNoSpace) {
		t.Error(err)
	}
}

func FuzzRecord(f *testing.F) {
	e := Event{Sequence: 7, ID: "x", Name: Name{"app", "draw", 1, Failed}, Time: time.Unix(1, 2).UTC(), User: "ann", For: "bob", Payload: []byte("{}"), Trace: Trace{Parent: "p"}}
	data, err := appendRecord(nil, &e)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(append(bytes.Clone(data), data...))
	f.Add(data[:len(data)-1])
	f.Fuzz(func(t *testing.T, data []byte) {
		seq, body, rest, err := cutRecord(data)
		if err != nil {
			if len(rest) != len(data) {
				t.Error("what is not whole was taken off")
			}
			return
		}
		if len(body)+headerSize+len(rest) != len(data) {
			t.Error("bytes are lost")
		}
		e, err := decodeRecord(seq, body)
		if err != nil {
			return
		}
		out, err := appendRecord(nil, &e)
		if err != nil {
			t.Fatalf("%+v does not encode: %v", e, err)
		}
		seq2, body2, _, err := cutRecord(out)
		if err != nil {
			t.Fatal(err)
		}
		if e2, err := decodeRecord(seq2, body2); err != nil || e2.ID != e.ID || e2.Name != e.Name || !e2.Time.Equal(e.Time) || !bytes.Equal(e2.Payload, e.Payload) {
			t.Errorf("%+v, %+v, %v", e, e2, err)
		}
	})
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

func TestSync(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	synctest.Test(t, func(t *testing.T) {
		b := open(t, Config{Dir: dir})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		publish(t, b, ann, "x", "app:draw:v1:requested", "")
		dirty := func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.journal.segments[0].dirty
		}
		if !dirty() {
			t.Error("synced at once")
		}
		time.Sleep(syncEvery + time.Millisecond)
		synctest.Wait()
		if dirty() {
			t.Error("not synced after a second")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
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

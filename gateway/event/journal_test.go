package event

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"inos.dev/edge/cas"
)

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

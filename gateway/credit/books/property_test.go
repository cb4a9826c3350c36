package books

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// reader is somebody who has taken bytes of a line and sends them.
type reader struct {
	line        *Line
	taken, sent int64
}

// worldPrice is high, so that a few bytes cost something.
const worldPrice = credit.Price(credit.Credit) << 8

// world is the books, and what really went out.
type world struct {
	t       *rapid.T
	l       *memLedger
	b       *Books
	now     time.Time
	readers []*reader
	sent    int64 // bytes that clients received
	lost    int64 // of those, what crashes left uncharged
	inside  bool  // an append is going on
	failed  bool  // the journal has failed in this run of the node
}

func (w *world) check() {
	charged, leased := w.l.covered()
	due := w.sent - w.lost
	if charged > due {
		w.t.Fatalf("%d bytes charged, %d sent", charged, due)
	}
	if !w.failed && charged+leased < due {
		w.t.Fatalf("%d bytes charged, leases of %d, %d sent: %d are in no book", charged, leased, due, due-charged-leased)
	}
}

// step is something that happens beside the flusher.
func (w *world) step() {
	t := w.t
	switch rapid.IntRange(0, 4).Draw(t, "step") {
	case 0:
		r := w.open()
		if n := int64(rapid.IntRange(1, 700).Draw(t, "take")); w.take(r, n) {
			r.taken = n
		}
	case 1: // everything that can be had, and all of it is sent
		r := w.open()
		for _, n := range []int64{700, 30, 1} {
			for w.take(r, n) {
				r.taken += n
			}
		}
		r.sent = r.taken
		w.sent += r.sent
	case 2:
		if r := w.any(); r != nil {
			n := int64(rapid.IntRange(0, int(r.taken-r.sent)).Draw(t, "send"))
			r.sent += n
			w.sent += n
		}
	default:
		if r := w.any(); r != nil {
			w.settle(r)
		}
	}
	w.check()
}

// open is a new reader, who has taken nothing yet.
func (w *world) open() *reader {
	owner := rapid.SampledFrom([]string{"", "op", "rich", "poor", "new"}).Draw(w.t, "owner")
	r := &reader{line: w.b.Open(owner, cas.Hash{byte(rapid.IntRange(0, 3).Draw(w.t, "object"))})}
	w.readers = append(w.readers, r)
	return r
}

// take reports whether there was so much to take.
func (w *world) take(r *reader, n int64) bool {
	err := r.line.Take(ended(), n)
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, ErrUnbooked) {
		w.t.Fatal(err)
	}
	return err == nil
}

func (w *world) any() *reader {
	if len(w.readers) == 0 {
		return nil
	}
	i := rapid.IntRange(0, len(w.readers)-1).Draw(w.t, "reader")
	last := len(w.readers) - 1
	w.readers[i], w.readers[last] = w.readers[last], w.readers[i]
	return w.readers[last]
}

// settle ends the last reader.
func (w *world) settle(r *reader) {
	w.readers = w.readers[:len(w.readers)-1]
	r.line.Settle(r.taken, r.sent)
	r.line.Close()
}

// steps happen while a record is being written.
func (w *world) steps() {
	if w.inside { // of New or of a grant
		w.check()
		for range rapid.IntRange(0, 4).Draw(w.t, "beside") {
			w.step()
		}
	}
}

func (w *world) flush(ph phase) error {
	w.inside = true
	err := w.b.flush(context.Background(), w.now, ph)
	w.inside = false
	w.check()
	return err
}

func (w *world) start() {
	cfg := config(w.l)
	cfg.Lease, cfg.MaxLease, cfg.Float, cfg.Unbooked = 1000, 16_000, 1000, 4000
	cfg.Retrieval, cfg.ThrottleRate = worldPrice, 1<<40
	b, err := New(context.Background(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.b, w.readers, w.failed = b, nil, false
}

// crash ends the node at once: what is in no book was in a lease, and goes
// back.
func (w *world) crash() {
	w.check()
	charged, _ := w.l.covered()
	w.lost = w.sent - charged
	w.start()
	if list, err := w.l.Leases(context.Background()); err != nil || len(list) != 1 || list[0].State.Leased != 2000 {
		w.t.Fatalf("leases after a start: %v, %v", list, err)
	}
}

// TestLeasesCover holds the invariant of the leases at every instant, also of
// those within an append, over crashes.
func TestLeasesCover(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { history(t, false) })
}

// TestJournalFails has the journal fail on the way: nothing is charged twice,
// and in the end everything is charged.
func TestJournalFails(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { history(t, true) })
}

func history(t *rapid.T, failures bool) {
	w := &world{t: t, l: newMemLedger(), now: time.Unix(1000, 0)}
	w.l.before, w.l.after = w.steps, w.steps
	w.start()
	if _, _, err := w.b.Grant(t.Context(), "", credit.User("rich"), 1<<40, ""); err != nil {
		t.Fatal(err)
	}
	debt, throttle := credit.Amount(1000), credit.Throttle
	if err := w.b.SetTerms(t.Context(), credit.User("new"), &throttle, &debt); err != nil {
		t.Fatal(err)
	}
	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		switch rapid.IntRange(0, 9).Draw(t, "what") {
		case 0, 1, 2:
			w.now = w.now.Add(time.Duration(rapid.SampledFrom([]int{1, 250, 3000, 20000}).Draw(t, "ms")) * time.Millisecond)
			if err := w.flush(serving); (err != nil) != (w.l.fail != nil && err != nil) {
				t.Fatal(err)
			}
		case 3:
			if failures {
				w.l.setFail(rapid.SampledFrom([]error{nil, errors.New("the disk is gone")}).Draw(t, "disk"))
				w.failed = w.failed || w.l.fail != nil
			} else if rapid.IntRange(0, 4).Draw(t, "crash") == 0 {
				w.crash()
			}
		default:
			w.step()
		}
	}
	w.finish()
}

// finish settles everything and closes the books, which must then be exact.
func (w *world) finish() {
	w.l.setFail(nil)
	w.l.before, w.l.after = nil, nil
	for len(w.readers) > 0 {
		w.settle(w.readers[len(w.readers)-1])
	}
	if err := w.b.Close(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	charged, leased := w.l.covered()
	if charged != w.sent-w.lost || leased != 0 {
		w.t.Fatalf("in the end: %d charged of %d, leases of %d", charged, w.sent-w.lost, leased)
	}
	var total credit.Amount
	for a, s := range w.l.states {
		total += s.Balance
		if want, rest := worldPrice.For(s.Served, 0); s.Served > 0 && a != credit.User("rich") && (want != -s.Balance || rest != s.Rest) {
			w.t.Fatalf("%s: %d bytes cost %d, rest %d; want %d, rest %d", a, s.Served, -s.Balance, s.Rest, want, rest)
		}
	}
	if total != 0 {
		w.t.Fatalf("the sum of all balances is %d", total)
	}
}

// TestMany has readers and the flusher at work at the same time, and looks at
// the ledger alone, as after a crash.
func TestMany(t *testing.T) {
	l := newMemLedger()
	cfg := config(l)
	cfg.Window = 2 * time.Millisecond
	give(t, l, "rich", 1<<40)
	b := open(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	var node, readers sync.WaitGroup
	node.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	var sent atomic.Int64
	for i := range 8 {
		readers.Go(func() {
			for k := range 400 {
				owner := []string{"", "rich", "poor", fmt.Sprint("owner", k%20)}[(i+k)%4]
				l := b.Open(owner, cas.Hash{byte(k % 7), byte(k)})
				n := int64(1 + (k*7919+i*104729)%(256<<10))
				if err := l.Take(t.Context(), n); err != nil {
					t.Error(err)
					return
				}
				part := n - int64(k%3)
				sent.Add(part)
				l.Settle(n, part)
				l.Close()
			}
		})
	}
	watched := make(chan struct{})
	node.Go(func() {
		for {
			at := sent.Load()
			charged, leased := l.covered()
			if charged+leased < at {
				t.Errorf("%d sent, %d charged, leases of %d", at, charged, leased)
			}
			if now := sent.Load(); charged > now {
				t.Errorf("%d charged, %d sent", charged, now)
			}
			select {
			case <-watched:
				return
			default:
			}
		}
	})
	readers.Wait()
	close(watched)
	cancel()
	node.Wait()
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if charged, leased := l.covered(); charged != sent.Load() || leased != 0 {
		t.Errorf("%d charged of %d, leases of %d", charged, sent.Load(), leased)
	}
}

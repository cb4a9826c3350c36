package heat_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"inos.dev/edge/gateway/heat"
	"inos.dev/edge/gateway/redistest"
)

func openRedis(t testing.TB, server *redistest.Server) *heat.Redis {
	t.Helper()
	s, err := heat.OpenRedis(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// direct is a client of the server itself, whose commands are not counted.
func direct(t testing.TB, server *redistest.Server) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(server.Direct())
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(options)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func flush(t testing.TB, server *redistest.Server) {
	t.Helper()
	if err := direct(t, server).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestRedisIsMemory has both stores do the same, at the same times, and
// compares all that they say.
func TestRedisIsMemory(t *testing.T) {
	server := redistest.Start(t)
	shared, admin := openRedis(t, server), direct(t, server)
	rapid.Check(t, func(t *rapid.T) {
		if err := admin.FlushAll(context.Background()).Err(); err != nil {
			t.Fatal(err)
		}
		var now time.Time
		m := heat.MemoryAt(func() time.Time { return now })
		var seen heat.View
		seqs := map[string]uint64{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			if rapid.IntRange(0, 9).Draw(t, "freeze") == 0 {
				on := rapid.Bool().Draw(t, "on")
				got, err := shared.Freeze(context.Background(), on, "somebody")
				if err != nil {
					t.Fatal(err)
				}
				now = got.At
				want, err := m.Freeze(context.Background(), on, "somebody")
				if err != nil || got != want {
					t.Fatalf("Redis says %+v, memory %+v, %v", got, want, err)
				}
				continue
			}
			w := drawWindow(t, seqs, seen)
			got, err := shared.Apply(context.Background(), w)
			if err != nil {
				t.Fatal(err)
			}
			now = got.Now
			want, err := m.Apply(context.Background(), w)
			if err != nil {
				t.Fatal(err)
			}
			if err := sameView(got, want); err != nil {
				t.Fatalf("%v after %+v\nRedis:  %+v\nmemory: %+v", err, w, got, want)
			}
			seqs[w.Node], seen = got.LastSeq, got
		}
	})
}

// drawWindow is mostly the next window of a node, with something wrong at times.
func drawWindow(t *rapid.T, seqs map[string]uint64, seen heat.View) heat.Window {
	node := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "node")
	w := heat.Window{
		Node: node, Epoch: uint64(rapid.SampledFrom([]int{3, 3, 3, 3, 2, 4}).Draw(t, "epoch")), Base: seqs[node], Seq: seqs[node] + 1,
		Span: time.Duration(rapid.IntRange(0, 2000).Draw(t, "span")) * time.Millisecond, Age: time.Duration(rapid.SampledFrom([]int{0, 0, 1000}).Draw(t, "age")) * time.Millisecond,
		Above: rapid.SampledFrom([]float64{0, 1e4, 1e6}).Draw(t, "above"), BytesPerMinute: rapid.SampledFrom([]int64{0, 10 << 20, 1 << 30}).Draw(t, "budget"),
	}
	if rapid.IntRange(0, 4).Draw(t, "wrong") == 0 {
		w.Base = uint64(rapid.IntRange(0, 5).Draw(t, "base"))
		w.Seq = w.Base + uint64(rapid.IntRange(0, 3).Draw(t, "more"))
	}
	for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, 8), 0, 5, rapid.ID).Draw(t, "chunks") {
		w.Deltas = append(w.Deltas, heat.Delta{Chunk: chunk(i), Bytes: rapid.Int64Range(0, 10<<20).Draw(t, "bytes")})
	}
	for _, i := range rapid.SliceOfN(rapid.IntRange(0, 8), 0, 3).Draw(t, "proposals") {
		epoch := of(seen, chunk(i)).Decision.Epoch
		if rapid.IntRange(0, 4).Draw(t, "outdated") == 0 {
			epoch++
		}
		d := proposal(chunk(i), epoch, 3, rapid.IntRange(3, 5).Draw(t, "target"), rapid.Int64Range(0, 6<<20).Draw(t, "moves"))
		d.Expires = d.Time.Add(time.Duration(rapid.SampledFrom([]int{1, 1000, 600_000}).Draw(t, "life")) * time.Millisecond)
		w.Proposals = append(w.Proposals, d)
	}
	for _, r := range seen.Rates {
		if d := r.Decision; d.Epoch != 0 && rapid.IntRange(0, 3).Draw(t, "known") == 0 {
			d.Epoch = uint64(int64(d.Epoch) + rapid.Int64Range(-1, 1).Draw(t, "difference"))
			w.Known = append(w.Known, d)
		}
	}
	if !seen.Now.IsZero() && rapid.IntRange(0, 5).Draw(t, "switch") == 0 {
		w.Switch = seen.Switch
		w.Switch.On = !w.Switch.On
		w.Switch.At = seen.Now.Add(time.Duration(rapid.IntRange(-5, 0).Draw(t, "at")) * time.Millisecond)
	}
	return w
}

// sameView compares two views; averages may differ by what logarithms lose.
func sameView(a, b heat.View) error {
	if len(a.Rates) != len(b.Rates) {
		return fmt.Errorf("%d and %d chunks", len(a.Rates), len(b.Rates))
	}
	for _, r := range a.Rates {
		other := of(b, r.Chunk)
		if !near(r.Fast, other.Fast, 1e-4) || !near(r.Slow, other.Slow, 1e-4) {
			return fmt.Errorf("rates of %v: %v, %v and %v, %v", r.Chunk, r.Fast, r.Slow, other.Fast, other.Slow)
		}
		if r.Decision != other.Decision {
			return fmt.Errorf("decisions about %v", r.Chunk)
		}
	}
	if d := a.Budget - b.Budget; d < -1 || d > 1 {
		return fmt.Errorf("budgets %d and %d", a.Budget, b.Budget)
	}
	a.Rates, b.Rates, a.Budget, b.Budget = nil, nil, 0, 0
	if !reflect.DeepEqual(a, b) {
		return errors.New("heads differ")
	}
	return nil
}

// TestRedisEmptiesItself: every key has an end, and all are in one slot.
func TestRedisEmptiesItself(t *testing.T) {
	server := redistest.Start(t)
	n, admin := tell(t, openRedis(t, server), "a"), direct(t, server)
	n.window(func(w *heat.Window) {
		w.Deltas = []heat.Delta{{Chunk: chunk(1), Bytes: 1 << 20}}
		w.Proposals = []heat.Decision{proposal(chunk(1), 0, 3, 4, 0)}
	})
	if _, err := n.store.Freeze(t.Context(), true, "alice"); err != nil {
		t.Fatal(err)
	}
	keys, err := admin.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) != 5 {
		t.Fatal(keys, err)
	}
	for _, key := range keys {
		if !strings.HasPrefix(key, "{heat:0}:") {
			t.Errorf("key %q is not of the hash tag", key)
		}
		if ttl, err := admin.TTL(t.Context(), key).Result(); err != nil || ttl <= 0 || ttl > 31*24*time.Hour {
			t.Errorf("%s lives %v, %v", key, ttl, err)
		}
	}
}

// TestRedisRefuses: what is in the way of the functions is an error.
func TestRedisRefuses(t *testing.T) {
	server := redistest.Start(t)
	s, admin := openRedis(t, server), direct(t, server)
	for key, value := range map[string]func() error{
		"{heat:0}:fast":      func() error { return admin.Set(t.Context(), "{heat:0}:fast", "x", 0).Err() },
		"{heat:0}:decisions": func() error { return admin.HSet(t.Context(), "{heat:0}:decisions", "x", "y").Err() },
		"{heat:0}:nodes":     func() error { return admin.HSet(t.Context(), "{heat:0}:nodes", "a", "y").Err() },
	} {
		if err := value(); err != nil {
			t.Fatal(err)
		}
		n := tell(t, s, "a")
		n.next.Deltas = []heat.Delta{{Chunk: chunk(1), Bytes: 1}}
		if v, err := s.Apply(t.Context(), n.next); err == nil {
			t.Errorf("%s is broken: %+v", key, v)
		}
		if err := admin.Del(t.Context(), key).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, url := range []string{"", "http://a", "redis://a:b:c", "unix://"} {
		if s, err := heat.OpenRedis(url); err == nil && url != "unix://" {
			t.Errorf("%q is accepted: %v", url, s.Close())
		}
	}
}

// wait waits until something is so.
func wait(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !so() {
		select {
		case <-deadline:
			t.Fatalf("in vain: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TestRedisUnderLoad has two nodes share a Redis that freezes, comes back, and
// dies with its memory lost.
func TestRedisUnderLoad(t *testing.T) {
	server := redistest.Start(t)
	a := run(t, heat.Config{Node: "a", Store: openRedis(t, server)})
	b := run(t, heat.Config{Node: "b", Store: openRedis(t, server)})
	stop := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() { atMost(t, server, 2*4+2, stop) }) // two for the operator: Freeze, on a connection of its own
	load.Go(func() {
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				a.Count(chunk(1), 30*replica/200)
				for i := range 200 {
					a.Count(chunk(2+i), 100)
				}
			}
		}
	})
	defer load.Wait()
	defer close(stop)

	started := time.Now()
	wait(t, "one of them decides", func() bool { return len(a.decided())+len(b.decided()) > 0 })
	wait(t, "both see it", func() bool { return len(a.Decisions()) == 1 && len(b.Decisions()) == 1 })
	if took := time.Since(started); took > 3*time.Second {
		t.Errorf("that took %v", took)
	}
	server.Freeze()
	wait(t, "they find out", func() bool { return !a.Status().Up && !b.Status().Up })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := a.Freeze(ctx, true, "alice"); err == nil || ctx.Err() != nil {
		t.Errorf("freeze while Redis does not answer: %v, %v", err, ctx.Err())
	}
	server.Thaw()
	wait(t, "they are back, and b is frozen, too", func() bool { return a.Status().Up && b.Status().Up && b.Status().On })

	epoch := a.Decisions()[0].Epoch
	server.Kill()
	wait(t, "they find out", func() bool { return !a.Status().Up && !b.Status().Up })
	server.Restart()
	wait(t, "they are back", func() bool { return a.Status().Up && b.Status().Up })
	var view heat.View
	asking, err := heat.OpenRedis(server.Direct())
	if err != nil {
		t.Fatal(err)
	}
	defer asking.Close()
	wait(t, "the new one knows all", func() bool {
		var err error
		if view, err = asking.Apply(t.Context(), heat.Window{Node: "x"}); err != nil {
			t.Fatal(err)
		}
		return len(of(view, chunk(1)).Decision.Node) > 0 && of(view, chunk(1)).Fast > replica
	})
	if d := of(view, chunk(1)).Decision; d.Epoch < epoch || d.Target != 16 || !view.Switch.On || view.Switch.By != "alice" {
		t.Errorf("it knows %+v, %+v; before that the epoch was %d", d, view.Switch, epoch)
	}
	if n := server.Commands()["FCALL"]; n < 10 {
		t.Errorf("commands %v", server.Commands())
	}
}

// atMost sees to it that clients send no more than so many commands in any
// second.
func atMost(t *testing.T, server *redistest.Server, most int64, stop <-chan struct{}) {
	t.Helper()
	var counts []int64 // every 10 ms
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case <-stop:
			tick.Stop()
			return
		case <-tick.C:
		}
		counts = append(counts, server.CommandCount())
		if n := len(counts); n > 95 && counts[n-1]-counts[n-96] > most {
			t.Errorf("%d commands within a second", counts[n-1]-counts[n-96])
			return
		}
	}
}

// BenchmarkApply is a window with all that it may tell, of a store that tracks
// all that it may. For Redis, cpu-µs/op is what the server itself works.
func BenchmarkApply(b *testing.B) {
	var deltas []heat.Delta
	for i := range 256 {
		deltas = append(deltas, heat.Delta{Chunk: chunk(i), Bytes: 1 << 20})
	}
	server := redistest.Start(b)
	for name, s := range map[string]heat.Store{"memory": &heat.Memory{}, "redis": openRedis(b, server)} {
		b.Run(name, func(b *testing.B) {
			n := tell(b, s, "a")
			n.next.Epoch = uint64(time.Now().UnixMicro())
			n.window(func(w *heat.Window) {
				for i := range heat.MaxTracked {
					w.Deltas = append(w.Deltas, heat.Delta{Chunk: chunk(i), Bytes: 1 << 20})
				}
			})
			before := cpu(b, server)
			for b.Loop() {
				n.window(func(w *heat.Window) { w.Deltas, w.Above = deltas, 8<<20 })
			}
			if name == "redis" {
				b.ReportMetric(1e6*(cpu(b, server)-before)/float64(b.N), "cpu-µs/op")
			}
		})
	}
}

// cpu is how many seconds a server has worked.
func cpu(b *testing.B, server *redistest.Server) (seconds float64) {
	b.Helper()
	info, err := direct(b, server).Info(b.Context(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(info) {
		for _, name := range []string{"used_cpu_user:", "used_cpu_sys:"} {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), name); ok {
				f, err := strconv.ParseFloat(v, 64)
				if err != nil {
					b.Fatal(err)
				}
				seconds += f
			}
		}
	}
	return seconds
}

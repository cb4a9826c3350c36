package heat_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/heat"
)

func counter(t testing.TB, cfg heat.CounterConfig) *heat.Counter {
	t.Helper()
	c, err := heat.NewCounter(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sum(m map[cas.Hash]int64) (n int64) {
	for v := range maps.Values(m) {
		n += v
	}
	return n
}

// TestCounterBound holds whatever the stream is: no byte is lost, no chunk has
// too many, and what one lacks is in the tail.
func TestCounterBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, err := heat.NewCounter(heat.CounterConfig{Chunks: 1 << rapid.IntRange(3, 7).Draw(t, "chunks"), Shards: 1 << rapid.IntRange(0, 2).Draw(t, "shards")})
		if err != nil {
			t.Fatal(err)
		}
		distinct := rapid.IntRange(1, 1000).Draw(t, "distinct")
		for range 3 { // drained and used again
			truth := make(map[cas.Hash]int64)
			for _, k := range rapid.SliceOfN(rapid.IntRange(0, distinct), 0, 2000).Draw(t, "stream") {
				n := int64(k%7) * 100
				c.Count(chunk(k), n)
				truth[chunk(k)] += n
			}
			got, tail := c.Drain()
			if sum(got)+tail != sum(truth) {
				t.Fatalf("%d bytes in entries and %d in the tail, but %d were counted", sum(got), tail, sum(truth))
			}
			for h, n := range truth {
				if got[h] > n || n-got[h] > tail {
					t.Fatalf("%v has %d of %d bytes, the tail has %d", h, got[h], n, tail)
				}
			}
		}
	})
}

// TestCounterTop counts 200,000 reads of a million chunks in one window, as
// unevenly as they come in practice: the hottest chunks are exact.
func TestCounterTop(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(rng, 1.1, 1, 1<<20)
	c := counter(t, heat.CounterConfig{})
	truth := make(map[cas.Hash]int64)
	for range 200_000 {
		h := chunk(int(zipf.Uint64()))
		n := 1 + rng.Int64N(1<<20)
		c.Count(h, n)
		truth[h] += n
	}
	got, tail := c.Drain()
	if sum(got)+tail != sum(truth) {
		t.Fatalf("%d bytes in entries and %d in the tail, but %d were counted", sum(got), tail, sum(truth))
	}
	top := slices.SortedFunc(maps.Keys(truth), func(a, b cas.Hash) int { return int(truth[b] - truth[a]) })
	for i, h := range top[:100] {
		if got[h] != truth[h] {
			t.Errorf("chunk %d of the top has %d bytes, want %d", i, got[h], truth[h])
		}
	}
	t.Logf("%d of %d chunks told apart, %.1f %% of the bytes in the tail", len(got), len(truth), 100*float64(tail)/float64(sum(truth)))
}

func TestCounterConcurrent(t *testing.T) {
	c := counter(t, heat.CounterConfig{Chunks: 64})
	const readers, reads = 8, 20_000
	var wg sync.WaitGroup
	for k := range readers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(k), 0))
			for range reads {
				c.Count(chunk(rng.IntN(300)), 1)
			}
		})
	}
	var total int64
	for range 100 {
		got, tail := c.Drain()
		total += sum(got) + tail
	}
	wg.Wait()
	got, tail := c.Drain()
	if total += sum(got) + tail; total != readers*reads {
		t.Errorf("%d bytes, want %d", total, readers*reads)
	}
}

func TestCounterConfig(t *testing.T) {
	for _, cfg := range []heat.CounterConfig{{Chunks: 4}, {Chunks: 100}, {Chunks: 1 << 17}, {Chunks: -8}, {Shards: 3}, {Shards: 512}, {Shards: -1}} {
		if _, err := heat.NewCounter(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
	c := counter(t, heat.CounterConfig{})
	c.Count(chunk(1), 0)
	c.Count(chunk(1), -5)
	if got, tail := c.Drain(); len(got) != 0 || tail != 0 {
		t.Errorf("no bytes: %v, %d", got, tail)
	}
	if n := testing.AllocsPerRun(1000, func() { c.Count(chunk(1), 1) }); n > 0 {
		t.Errorf("Count allocates %v times", n)
	}
}

// naive is what Counter is measured against.
type naive struct {
	mu  sync.Mutex // guards sum
	sum map[cas.Hash]int64
}

func (n *naive) Count(h cas.Hash, bytes int64) {
	n.mu.Lock()
	n.sum[h] += bytes
	n.mu.Unlock()
}

func BenchmarkCount(b *testing.B) {
	for _, streams := range []struct {
		name   string
		chunks int
	}{{"one chunk", 1}, {"1000 chunks", 1000}, {"a million chunks", 1 << 20}} {
		hashes := make([]cas.Hash, streams.chunks)
		for i := range hashes {
			hashes[i] = chunk(i)
		}
		for name, c := range map[string]interface{ Count(h cas.Hash, n int64) }{
			"sharded": counter(b, heat.CounterConfig{}), "mutex and map": &naive{sum: make(map[cas.Hash]int64)},
		} {
			b.Run(streams.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					c.Count(hashes[i%len(hashes)], 1000)
					i++
				}
			})
			b.Run(streams.name+"/"+name+"/parallel", func(b *testing.B) {
				b.ReportAllocs()
				var start atomic.Int64
				b.RunParallel(func(pb *testing.PB) {
					i := int(start.Add(7919))
					for pb.Next() {
						c.Count(hashes[i%len(hashes)], 1000)
						i++
					}
				})
			})
		}
	}
}

// BenchmarkDrain is what a window costs whose counter is full.
func BenchmarkDrain(b *testing.B) {
	c := counter(b, heat.CounterConfig{})
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for i := range 100_000 {
			c.Count(chunk(i), 1000)
		}
		b.StartTimer()
		c.Drain()
	}
}

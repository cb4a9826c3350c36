package catalog_test

import (
	"encoding/binary"
	"sync/atomic"
	"testing"

	"inos.dev/edge/cas"
)

// BenchmarkPut commits records one after the other, and 64 at a time, which
// share their syncs.
func BenchmarkPut(b *testing.B) {
	for name, writers := range map[string]int{"alone": 0, "together": 64} {
		b.Run(name, func(b *testing.B) {
			c := open(b, b.TempDir())
			defer func() {
				if err := c.Close(); err != nil {
					b.Error(err)
				}
			}()
			var n atomic.Uint64
			put := func() {
				h := cas.Hash{1}
				binary.BigEndian.PutUint64(h[1:], n.Add(1))
				publish(b, c, object(h), first(b, h))
			}
			if writers == 0 {
				for b.Loop() {
					put()
				}
				return
			}
			b.SetParallelism(writers)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					put()
				}
			})
		})
	}
}

package disk

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/castest"
)

// putters is how many goroutines put at once.
const putters = 96

func BenchmarkPut(b *testing.B) {
	b.Run("group", func(b *testing.B) {
		s := openTest(b, Config{})
		putAll(b, func(c cas.Chunk) error {
			_, err := s.Put(b.Context(), c)
			return err
		})
		st := s.Stats()
		b.ReportMetric(float64(st.FileSyncs)/float64(st.Batches), "chunks/batch")
	})
	b.Run("naive", func(b *testing.B) {
		dir := b.TempDir()
		putAll(b, func(c cas.Chunk) error { return naivePut(dir, c) })
	})
}

func putAll(b *testing.B, put func(cas.Chunk) error) {
	b.Helper()
	chunks := make([]cas.Chunk, b.N)
	for i := range chunks {
		chunks[i] = castest.Random(b, uint64(i), 1024+i%4096)
	}
	var next atomic.Int64
	b.SetParallelism(putters / 2)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := put(chunks[next.Add(1)-1]); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "chunks/s")
}

// naivePut is the same without a group: every Put waits for its own fsyncs.
func naivePut(dir string, c cas.Chunk) error {
	name := c.Hash().String()
	sub := filepath.Join(dir, name[:2])
	if err := os.MkdirAll(sub, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	if _, err := f.Write(c.Bytes()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(sub, name)); err != nil {
		return err
	}
	d, err := os.Open(sub)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		return err
	}
	return d.Close()
}

func BenchmarkOpen(b *testing.B) {
	c := castest.Random(b, 1, 64<<10)
	b.Run("hot", func(b *testing.B) {
		s := openTest(b, Config{})
		if _, err := s.Put(b.Context(), c); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			body, err := s.Open(b.Context(), c.Hash())
			if err != nil {
				b.Fatal(err)
			}
			if err := body.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("naive", func(b *testing.B) {
		name := filepath.Join(b.TempDir(), c.Hash().String())
		if err := os.WriteFile(name, c.Bytes(), 0o644); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			f, err := os.Open(name)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := f.Stat(); err != nil {
				b.Fatal(err)
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

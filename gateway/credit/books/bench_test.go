package books

import (
	"context"
	"testing"

	"inos.dev/edge/cas"
)

// hook is all that a request costs here.
func hook(ctx context.Context, books *Books, owner string, object cas.Hash) error {
	line := books.Open(owner, object)
	if err := line.Admit(""); err != nil {
		return err
	}
	if err := line.Take(ctx, 1); err != nil {
		return err
	}
	line.Settle(1, 1)
	line.Close()
	return nil
}

func benchBooks(b *testing.B) *Books {
	b.Helper()
	cfg := config(newMemLedger())
	cfg.Lease, cfg.MaxLease = 1<<40, 1<<40
	return open(b, cfg)
}

// BenchmarkHook is a request for an object that somebody read before.
func BenchmarkHook(b *testing.B) {
	books := benchBooks(b)
	objects := make([]cas.Hash, 1000)
	for i := range objects {
		objects[i] = cas.Sum([]byte{byte(i), byte(i >> 8)})
		books.Open("", objects[i]) // and not closed: it stays
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := hook(b.Context(), books, "", objects[i%len(objects)]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHookParallel is the same on all processors: all on one account, and
// half of them on one object.
func BenchmarkHookParallel(b *testing.B) {
	books := benchBooks(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if err := hook(b.Context(), books, "", cas.Hash{byte(i&1) * byte(i>>1&15)}); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkHookNew is a request for an object that nobody read lately, its
// charge included.
func BenchmarkHookNew(b *testing.B) {
	books := benchBooks(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := hook(b.Context(), books, "", cas.Hash{byte(i), byte(i >> 8), byte(i >> 16), byte(i >> 24)}); err != nil {
			b.Fatal(err)
		}
		if i%10_000 == 0 {
			if err := books.flush(b.Context(), books.swept, serving); err != nil {
				b.Fatal(err)
			}
		}
	}
}

package castest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"inos.dev/edge/cas"
)

// examConcurrentPut lets many goroutines put the same chunks at once: each
// chunk is added exactly once, and whoever has its answer can read it.
func examConcurrentPut(t *testing.T, s cas.Store) {
	t.Helper()
	const writers, chunks = 8, 20
	var added [chunks]atomic.Int32
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for i := range chunks {
				c := Random(t, uint64(i), 3000+i)
				ok, err := s.Put(t.Context(), c)
				if err != nil {
					t.Errorf("Put: %v", err)
					return
				}
				if ok {
					added[i].Add(1)
				}
				if err := readBack(t.Context(), s, c); err != nil {
					t.Errorf("read after Put: %v", err)
				}
			}
		})
	}
	wg.Wait()
	for i := range added {
		if n := added[i].Load(); n != 1 {
			t.Errorf("chunk %d was added %d times", i, n)
		}
	}
}

// examChurn puts, reads, lists and deletes a few chunks from many goroutines.
// A chunk may be there or not, but never with wrong bytes.
func examChurn(t *testing.T, s cas.Store) {
	t.Helper()
	const workers, rounds = 8, 60
	chunks := make([]cas.Chunk, 6)
	for i := range chunks {
		chunks[i] = Random(t, uint64(i), 2000+5000*i)
	}
	g, ctx := errgroup.WithContext(t.Context())
	for w := range workers {
		g.Go(func() error {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for range rounds {
				if err := churn(ctx, s, r, chunks); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

func churn(ctx context.Context, s cas.Store, r *rand.Rand, chunks []cas.Chunk) error {
	c := chunks[r.IntN(len(chunks))]
	switch r.IntN(8) {
	case 0, 1, 2:
		if _, err := s.Put(ctx, c); err != nil {
			return fmt.Errorf("put: %w", err)
		}
	case 3:
		if err := s.Delete(ctx, c.Hash()); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
	case 4:
		for _, err := range s.All(ctx) {
			if err != nil {
				return fmt.Errorf("all: %w", err)
			}
		}
	default:
		if err := readBack(ctx, s, c); err != nil && !errors.Is(err, cas.ErrNotFound) {
			return fmt.Errorf("read: %w", err)
		}
	}
	return nil
}

// readBack compares a stored chunk with c by way of WriteSection.
func readBack(ctx context.Context, s cas.Store, c cas.Chunk) error {
	b, err := s.Open(ctx, c.Hash())
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	_, err = b.WriteSection(&buf, 0, b.Size())
	if err = errors.Join(err, b.Close()); err != nil {
		return err
	}
	if !bytes.Equal(buf.Bytes(), c.Bytes()) {
		return fmt.Errorf("the bytes of %s differ", c.Hash())
	}
	return nil
}

package content

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"inos.dev/edge/cas"
	"inos.dev/edge/mesh/exchange"
)

// holds bounds the bytes that answers under way keep in memory: a client that
// does not read would pin a decoded piece or a filled chunk for as long as its
// deadline lets it. Answers with the same bytes share one reservation, as they
// share the bytes.
type holds struct {
	room *semaphore.Weighted

	mu     sync.Mutex
	shared map[holdKey]*held // guarded by mu
}

type holdKey struct {
	hash    cas.Hash
	decoded bool
}

// held is a reservation. refs is guarded by holds.mu; err is set before ready
// is closed.
type held struct {
	refs  int
	size  int64
	ready chan struct{}
	err   error
}

// holdPatience is how long an answer waits for room.
const holdPatience = 5 * time.Second

func newHolds(limit int64) *holds {
	return &holds{room: semaphore.NewWeighted(limit), shared: map[holdKey]*held{}}
}

// reserve takes n bytes, or answers exchange.ErrBusy. release must be called
// once.
func (s *holds) reserve(ctx context.Context, key holdKey, n int64) (release func(), err error) {
	s.mu.Lock()
	h, joined := s.shared[key]
	if !joined {
		h = &held{size: n, ready: make(chan struct{})}
		s.shared[key] = h
	}
	h.refs++
	s.mu.Unlock()
	if !joined {
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), holdPatience)
		if err := s.room.Acquire(wait, n); err != nil {
			h.err = fmt.Errorf("%w: slow readers hold too much memory", exchange.ErrBusy)
		}
		cancel()
		close(h.ready)
	}
	<-h.ready // at most holdPatience
	if h.err != nil {
		s.release(key, h)
		return nil, h.err
	}
	return sync.OnceFunc(func() { s.release(key, h) }), nil
}

func (s *holds) release(key holdKey, h *held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.refs--; h.refs > 0 {
		return
	}
	delete(s.shared, key)
	if h.err == nil {
		s.room.Release(h.size)
	}
}

// hold is a Body over the bytes of a filled chunk, until it is closed.
func (c *Content) hold(ctx context.Context, chunk cas.Chunk) (cas.Body, error) {
	release, err := c.holds.reserve(ctx, holdKey{hash: chunk.Hash()}, chunk.Size())
	if err != nil {
		return nil, err
	}
	return heldBody{cas.BytesBody(chunk.Bytes()), chunk.Bytes(), release}, nil
}

// heldBody is cas.InMemory, and gives its reservation back.
type heldBody struct {
	cas.Body
	bytes   []byte
	release func()
}

// Bytes implements cas.InMemory.
func (b heldBody) Bytes() []byte { return b.bytes }

// Close implements cas.Body.
func (b heldBody) Close() error {
	b.release()
	return b.Body.Close()
}

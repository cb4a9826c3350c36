package remote

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"inos.dev/edge/cas"
	casv1 "inos.dev/edge/proto/gen/inos/cas/v1"
)

// What one PutChunks carries at most; the service's contract.
const (
	maxBatch      = 4096
	maxBatchBytes = 4 << 20
)

const (
	// senders is how many batches are under way at once: enough to keep the
	// node busy while one of them waits for its disk, few enough that batches
	// grow.
	senders = 4
	// alone is the size from which a chunk travels by itself, as the body of a
	// PUT, which neither side has to copy into a message.
	alone = 256 << 10
	// maxKnown bounds how many chunks an Upload remembers to be there.
	maxKnown = 1 << 17
)

// Upload takes chunks to a node: a dag.Putter whose Put returns when the node
// has the chunk durably.
//
// Chunks that are put at the same time travel together. A sender that becomes
// free takes what has queued up meanwhile, so that batches are small while
// there is little to do and large under load, and nobody waits for a timer.
// For each batch it asks Has, then sends what is missing: small chunks in one
// PutChunks, large ones by themselves. Whoever calls Put bounds the memory by
// how many Puts are under way.
type Upload struct {
	node  *Node
	queue chan *parcel
	stats uploadStats

	mu    sync.Mutex
	known map[cas.Hash]struct{} // guarded by mu: the node has these
}

type uploadStats struct {
	sent, sentBytes, present, presentBytes atomic.Int64
}

// UploadStats counts distinct chunks of one Upload.
type UploadStats struct {
	Sent, SentBytes       int64 // chunks that were missing
	Present, PresentBytes int64 // chunks that the node had
}

// parcel is one Put on its way.
type parcel struct {
	chunk cas.Chunk
	added bool
	done  chan error // has room for the one answer
}

// Upload calls write with an Upload to put chunks into, and returns when write
// has returned and nothing is under way any more: the first error of either.
// The context of write ends when the node fails for good. No Put may be called
// after write has returned.
func (n *Node) Upload(ctx context.Context, write func(context.Context, *Upload) error) (UploadStats, error) {
	u := &Upload{node: n, queue: make(chan *parcel, maxBatch), known: map[cas.Hash]struct{}{}}
	g, ctx := errgroup.WithContext(ctx)
	for range senders {
		g.Go(func() error { return u.send(ctx) })
	}
	g.Go(func() error {
		defer close(u.queue)
		return write(ctx, u)
	})
	err := g.Wait()
	s := &u.stats
	return UploadStats{s.sent.Load(), s.sentBytes.Load(), s.present.Load(), s.presentBytes.Load()}, err
}

// Put implements dag.Putter.
func (u *Upload) Put(ctx context.Context, c cas.Chunk) (added bool, err error) {
	if u.isKnown(c.Hash()) {
		return false, nil
	}
	p := &parcel{chunk: c, done: make(chan error, 1)}
	select {
	case u.queue <- p:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	select {
	case err := <-p.done:
		return p.added, err
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

func (u *Upload) isKnown(h cas.Hash) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.known[h]
	return ok
}

// learn remembers chunks that the node has. A full memory starts over: it only
// spares questions.
func (u *Upload) learn(batch []*parcel) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.known)+len(batch) > maxKnown {
		clear(u.known)
	}
	for _, p := range batch {
		u.known[p.chunk.Hash()] = struct{}{}
	}
}

// send is one sender.
func (u *Upload) send(ctx context.Context) error {
	var carry *parcel
	for {
		var batch []*parcel
		batch, carry = u.next(ctx, carry)
		if len(batch) == 0 {
			return nil // the queue is closed, or ctx is over, which others report
		}
		err := u.deliver(ctx, batch)
		for _, p := range batch {
			p.done <- err
		}
		if err != nil {
			return err
		}
	}
}

// next waits for a parcel and takes what else is in the queue, up to the
// limits of a batch. carry is the parcel that did not fit, if there is one.
func (u *Upload) next(ctx context.Context, first *parcel) (batch []*parcel, carry *parcel) {
	if first == nil {
		select {
		case first = <-u.queue:
		case <-ctx.Done():
		}
		if first == nil {
			return nil, nil
		}
	}
	batch = append(batch, first)
	for size := first.chunk.Size(); len(batch) < maxBatch; {
		select {
		case p := <-u.queue:
			if p == nil {
				return batch, nil
			}
			if size += p.chunk.Size(); size > maxBatchBytes {
				return batch, p
			}
			batch = append(batch, p)
		default:
			return batch, nil
		}
	}
	return batch, nil
}

// deliver returns when the node has all chunks of the batch.
func (u *Upload) deliver(ctx context.Context, batch []*parcel) error {
	distinct := unique(batch)
	missing, err := u.node.has(ctx, distinct)
	if err != nil {
		return err
	}
	u.count(distinct, missing)
	small := make([]*parcel, 0, len(missing))
	for _, p := range missing {
		if p.chunk.Size() < alone {
			small = append(small, p)
			continue
		}
		if p.added, err = u.node.putChunk(ctx, p.chunk); err != nil {
			return err
		}
	}
	if len(small) > 0 {
		if err := u.node.putChunks(ctx, small); err != nil {
			return err
		}
	}
	u.learn(distinct)
	return nil
}

// unique leaves out further parcels of one chunk; all of them are answered
// together.
func unique(batch []*parcel) []*parcel {
	seen := make(map[cas.Hash]struct{}, len(batch))
	out := make([]*parcel, 0, len(batch))
	for _, p := range batch {
		if _, ok := seen[p.chunk.Hash()]; !ok {
			seen[p.chunk.Hash()] = struct{}{}
			out = append(out, p)
		}
	}
	return out
}

func (u *Upload) count(all, missing []*parcel) {
	var bytes, sent int64
	for _, p := range all {
		bytes += p.chunk.Size()
	}
	for _, p := range missing {
		sent += p.chunk.Size()
	}
	u.stats.sent.Add(int64(len(missing)))
	u.stats.sentBytes.Add(sent)
	u.stats.present.Add(int64(len(all) - len(missing)))
	u.stats.presentBytes.Add(bytes - sent)
}

// has asks which of the chunks are missing.
func (n *Node) has(ctx context.Context, batch []*parcel) ([]*parcel, error) {
	req := &casv1.HasRequest{Hashes: make([]string, len(batch))}
	for i, p := range batch {
		req.Hashes[i] = p.chunk.Hash().String()
	}
	resp, err := call(ctx, n, n.rpc.Has, req)
	if err != nil {
		return nil, fmt.Errorf("ask what is missing: %w", err)
	}
	missing := make([]*parcel, 0, len(resp.GetMissing()))
	last := -1
	for _, at := range resp.GetMissing() {
		if int64(at) >= int64(len(batch)) || int(at) <= last {
			return nil, fmt.Errorf("%w: its list of missing chunks makes no sense", ErrRefused)
		}
		last = int(at)
		missing = append(missing, batch[at])
	}
	return missing, nil
}

// putChunks sends small chunks together.
func (n *Node) putChunks(ctx context.Context, batch []*parcel) error {
	req := &casv1.PutChunksRequest{Chunks: make([]*casv1.Chunk, len(batch))}
	for i, p := range batch {
		req.Chunks[i] = &casv1.Chunk{Hash: p.chunk.Hash().String(), Data: p.chunk.Bytes()}
	}
	resp, err := call(ctx, n, n.rpc.PutChunks, req)
	if err != nil {
		return fmt.Errorf("send %d chunks: %w", len(batch), err)
	}
	results := resp.GetResults()
	if len(results) != len(batch) {
		return fmt.Errorf("%w: %d answers to %d chunks", ErrRefused, len(results), len(batch))
	}
	for i, r := range results {
		p := batch[i]
		switch r.GetState() {
		case casv1.PutState_PUT_STATE_STORED:
			p.added = true
		case casv1.PutState_PUT_STATE_PRESENT:
		case casv1.PutState_PUT_STATE_REFUSED, casv1.PutState_PUT_STATE_UNSPECIFIED:
			return fmt.Errorf("chunk %s: %w", p.chunk.Hash(), refusal(r))
		}
	}
	return nil
}

// refusal translates why one chunk was not taken.
func refusal(r *casv1.PutResult) error {
	kind := kindOfReason(r.GetReason())
	if kind == nil {
		kind = ErrRefused
	}
	return &Error{Kind: kind, Text: printable(r.GetMessage())}
}

package disk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"inos.dev/edge/cas"
)

// Run scrubs, takes snapshots of the index and watches the headroom, until ctx
// ends; then it returns nil, after all that it started has ended. The store
// works without it, but notices rot on first reads only.
func (s *Store) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if s.cfg.ScrubRate > 0 {
		g.Go(func() error { return s.scrub(ctx) })
	}
	g.Go(func() error { return every(ctx, s.cfg.SnapshotEvery, s.snapshot) })
	g.Go(func() error {
		return every(ctx, lookEvery, func() {
			if _, err := s.room.stats(); err != nil {
				s.log.Warn("cannot see how full the file system is", "error", err)
			}
		})
	})
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("disk: %w", err)
	}
	return nil
}

// every calls do at the interval until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			do()
		}
	}
}

// snapshot saves the index if it has changed.
func (s *Store) snapshot() {
	if s.counts.changes.Load() == s.counts.saved.Load() || s.begin(context.Background()) != nil {
		return
	}
	defer s.end()
	if err := s.saveIndex(); err != nil {
		s.log.Warn("cannot save the index; the next start takes longer", "error", err)
	}
}

// scrubLeast is what a small file counts against the rate: opening one costs
// about as much as reading so many bytes, and a node with a million small
// chunks has better things to do.
const scrubLeast = 64 << 10

// scrub reads all chunks, over and over, at the rate of the configuration.
func (s *Store) scrub(ctx context.Context) error {
	limit := rate.NewLimiter(rate.Limit(s.cfg.ScrubRate), cas.MaxChunkSize)
	for {
		started := time.Now()
		for e, err := range s.entries(ctx) {
			if err != nil {
				return err
			}
			if err := limit.WaitN(ctx, max(int(e.size()), scrubLeast)); err != nil {
				return err
			}
			if err := s.scrubOne(ctx, e); err != nil {
				return err
			}
		}
		s.counts.scrubPasses.Add(1)
		s.counts.scrubbedAt.Store(time.Now().Unix())
		if err := pause(ctx, s.cfg.ScrubEvery-time.Since(started)); err != nil {
			return err
		}
	}
}

func (s *Store) scrubOne(ctx context.Context, e entry) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	started := time.Now()
	if err := s.checkFile(e.hash, true); err != nil && !errors.Is(err, cas.ErrNotFound) {
		s.log.Warn("cannot scrub a chunk", "hash", e.hash, "error", err)
	}
	s.counts.scrubbed.Add(e.size())
	s.counts.scrubNanos.Add(int64(time.Since(started)))
	return nil
}

// pause waits for d, which may be negative, or for ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

package pledge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"inos.dev/edge/gateway/credit"
)

// retryAfter is how long Run waits after a Settle that failed.
const retryAfter = time.Minute

// Run settles each epoch when it is complete, until ctx ends; those that passed
// before, at once.
func (s *Pledges) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		now := time.Now()
		wait := epochAt(now, s.cfg.Epoch).End.Sub(now)
		more, err := s.Settle(ctx, now)
		switch {
		case err != nil && ctx.Err() == nil:
			s.cfg.Logger.Error("pledge: epochs could not be settled; they are tried again", "error", err)
			wait = min(wait, retryAfter)
		case more:
			wait = 0
		}
		timer.Reset(wait)
	}
}

// Settle pays the holders of all pledges for the epochs that were complete at
// now, each pledge's in their order and at most Config.MaxEpochs of them; more
// says that some are left. It forgets what has been over for Config.Keep. An
// error does not keep other pledges from being settled.
func (s *Pledges) Settle(ctx context.Context, now time.Time) (more bool, err error) {
	due := s.due(now)
	var (
		group errgroup.Group
		mu    sync.Mutex // guards the fields below, and more
		count int
		first error
	)
	group.SetLimit(workers)
	for _, id := range due {
		group.Go(func() error {
			left, err := s.settle(ctx, id, now)
			mu.Lock()
			defer mu.Unlock()
			more = more || left
			if err != nil {
				count++
				first = cmp.Or(first, err)
			}
			return nil // the others go on
		})
	}
	_ = group.Wait() // always nil
	if first != nil {
		err = fmt.Errorf("%d of %d pledges: %w", count, len(due), first)
	}
	return more, errors.Join(err, s.forget(ctx, now))
}

// due returns the pledges with a complete epoch to settle, and those that are
// to be looked up.
func (s *Pledges) due(now time.Time) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var ids []string
	for id, e := range s.all {
		if e.p.ID == "" || e.p.Over.IsZero() && !epochAt(e.p.Settled, s.cfg.Epoch).End.After(now) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// settle settles one pledge up to now.
func (s *Pledges) settle(ctx context.Context, id string, now time.Time) (more bool, err error) {
	e, err := s.hold(ctx, id)
	if errors.Is(err, ErrUnknown) {
		return false, nil // it came to nothing
	}
	if err != nil {
		return false, err
	}
	defer e.op.Unlock()
	for range s.cfg.MaxEpochs {
		p := s.show(e)
		epoch := epochAt(p.Settled, s.cfg.Epoch)
		if !p.Over.IsZero() || epoch.End.After(now) {
			return false, nil
		}
		if err := s.settleEpoch(ctx, e, p, epoch); err != nil {
			s.metrics.failed.Inc()
			return false, err
		}
	}
	return true, nil
}

// settleEpoch pays the holders of was for one epoch. The caller holds e.op.
func (s *Pledges) settleEpoch(ctx context.Context, e *entry, was Pledge, epoch Epoch) error {
	holdings, err := s.cfg.Holders.Holders(ctx, was.Request.Object, epoch)
	if err != nil {
		return fmt.Errorf("who held the object of pledge %s: %w", was.ID, err)
	}
	p, paid := was.settled(epoch, holdings, s.cfg.Epoch, s.cfg.NoticeEpochs)
	if was.State == Active && (p.State == Low || p.State == Dry) && !e.noticed {
		e.noticed = true // first the notice, then the step: it must not get lost
		low := was
		low.State = Low
		s.tell(ctx, RunsLow, low)
	}
	if err := s.write(ctx, e, prefix+p.ID+"/"+strconv.FormatInt(p.Settled.Unix(), 10), p, settlement(was, p, paid)); err != nil {
		return err
	}
	p = s.show(e)
	s.metrics.epochs.Inc()
	s.metrics.paid.Add(float64(p.Paid - was.Paid))
	s.tellEnd(ctx, p)
	return nil
}

// settlement is the entries of a step from was to p.
func settlement(was, p Pledge, paid []payment) []credit.Entry {
	var entries []credit.Entry
	for _, h := range paid {
		if h.amount > 0 {
			entries = append(entries, credit.Entry{Kind: credit.KindRetain, From: credit.Escrow(p.ID), To: h.Account, Amount: h.amount, Object: p.Request.Object, Bytes: h.Bytes, Ref: p.ID})
		}
	}
	return append(entries, goingBack(was, p)...)
}

// Limits of one forget: documents in a record, and records.
const (
	forgetBatch   = 64
	forgetBatches = 16
)

// forget deletes the documents of pledges that have been over for long enough,
// and of the oldest beyond Config.MaxPledges.
func (s *Pledges) forget(ctx context.Context, now time.Time) error {
	for batch := range slices.Chunk(s.forgettable(now), forgetBatch) {
		if err := s.forgetBatch(ctx, batch); err != nil {
			return fmt.Errorf("forget pledges: %w", err)
		}
	}
	return nil
}

// forgettable returns what forget deletes now, the oldest first.
func (s *Pledges) forgettable(now time.Time) []*entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.over == 0 {
		return nil
	}
	var list []*entry
	for _, e := range s.all {
		if !e.p.Over.IsZero() {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *entry) int { return cmp.Or(a.p.Over.Compare(b.p.Over), cmp.Compare(a.id, b.id)) })
	n := len(list) - s.cfg.MaxPledges
	for n = max(n, 0); n < len(list) && now.Sub(list[n].p.Over) >= s.cfg.Keep; n++ {
	}
	return list[:min(n, forgetBatch*forgetBatches)]
}

// forgetBatch deletes the documents of some pledges that are over, in one
// record. Only forget locks more than one entry, and in one order.
func (s *Pledges) forgetBatch(ctx context.Context, batch []*entry) error {
	var entries []credit.Entry
	for _, e := range batch {
		e.op.Lock()
		if e.doc != nil { // else somebody else was here
			e.unsure = true
			entries = append(entries, credit.Entry{Kind: credit.KindDoc, From: credit.Escrow(e.id), Ref: prefix + e.id})
		}
	}
	_, _, err := s.cfg.Ledger.Append(ctx, "", entries)
	for _, e := range batch {
		if err == nil {
			s.gone(e)
		}
		e.op.Unlock()
	}
	return err
}

package pledge

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// Create locks credits of owner for what r asks, durably when it returns. With
// the same id, owner and request, the pledge is the one that Create made before.
// Gateways that share balances need ids that differ: random ones. Errors:
// ErrRequest, credit.ErrPrice, credit.ErrAccount, credit.ErrUnderfunded,
// ErrExists, ErrTooMany, ErrBooks, the ledger's.
func (s *Pledges) Create(ctx context.Context, owner credit.Account, id string, r Request) (Pledge, error) {
	p, err := s.draft(id, owner, r, time.Now())
	if err != nil {
		return Pledge{}, err
	}
	e, err := s.reserve(ctx, id, owner)
	if err != nil {
		return Pledge{}, err
	}
	defer e.op.Unlock()
	if e.doc != nil {
		if was := s.show(e); was.Owner == owner && was.Request == p.Request {
			return was, nil
		}
		return Pledge{}, fmt.Errorf("%w: %s; choose another one", ErrExists, id)
	}
	if err := s.unused(ctx, id); err != nil {
		s.gone(e)
		return Pledge{}, err
	}
	if err := s.fund(ctx, e, prefix+id, p, p.Locked); err != nil {
		return Pledge{}, err
	}
	p = s.show(e)
	s.tell(ctx, Opened, p)
	if p.State == Low {
		e.noticed = true
		s.tell(ctx, RunsLow, p)
	}
	return p, nil
}

// draft is the pledge that Create makes.
func (s *Pledges) draft(id string, owner credit.Account, r Request, now time.Time) (Pledge, error) {
	if r.PriceCap == 0 {
		r.PriceCap = s.cfg.Retention
	}
	if err := errors.Join(checkID(id), r.check()); err != nil {
		return Pledge{}, err
	}
	if err := owner.Validate(); err != nil {
		return Pledge{}, err
	}
	if owner == credit.Treasury || owner.IsEscrow() {
		return Pledge{}, fmt.Errorf("%w: %s cannot open one", ErrRequest, owner)
	}
	now = moment(now.Unix())
	p := Pledge{ID: id, Owner: owner, Request: r, State: Active, Opened: now, Settled: now, Locked: r.Credits}
	epoch, err := Quote(r.Bytes, r.RF, s.cfg.Epoch, r.PriceCap)
	if err != nil {
		return Pledge{}, err
	}
	if r.For != 0 {
		p.Ends = now.Add(r.For)
		if p.Locked, err = Quote(r.Bytes, r.RF, r.For, r.PriceCap); err != nil {
			return Pledge{}, err
		}
	} else if p.Locked < epoch {
		return Pledge{}, fmt.Errorf("%w: %s would not last for an epoch (%v), which takes %s for %d replicas of %d bytes", credit.ErrUnderfunded, p.Locked, s.cfg.Epoch, epoch, r.RF, r.Bytes)
	}
	return p.outlook(now, s.cfg.Epoch, s.cfg.NoticeEpochs), nil
}

// reserve returns the entry of id, locked: with a document if there is such a
// pledge, without one if there is room for it. The caller unlocks e.op, after
// gone if there is still no document.
func (s *Pledges) reserve(ctx context.Context, id string, owner credit.Account) (*entry, error) {
	for {
		e, err := s.place(id, owner)
		if err != nil {
			return nil, err
		}
		e.op.Lock()
		if err := s.sure(ctx, e); err != nil {
			e.op.Unlock()
			return nil, err
		}
		s.mu.RLock()
		there := s.all[id] == e
		s.mu.RUnlock()
		if there {
			return e, nil
		}
		e.op.Unlock() // it came to nothing, or was forgotten
	}
}

// place returns the entry of id, a new one if there is none and there is room.
func (s *Pledges) place(id string, owner credit.Account) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.all[id]; e != nil {
		return e, nil
	}
	switch {
	case s.live[owner] >= s.cfg.MaxPerOwner:
		return nil, fmt.Errorf("%w: %s has %d; release one", ErrTooMany, owner, s.cfg.MaxPerOwner)
	case len(s.all)-s.over >= s.cfg.MaxPledges || len(s.all) >= 2*s.cfg.MaxPledges:
		return nil, fmt.Errorf("%w: the node keeps no more than %d; try again later", ErrTooMany, s.cfg.MaxPledges)
	}
	e := &entry{id: id, owner: owner}
	s.all[id] = e
	s.live[owner]++
	return e, nil
}

// unused is nil if no pledge ever had this id: an escrow's statement is that
// of one pledge.
func (s *Pledges) unused(ctx context.Context, id string) error {
	state, err := s.cfg.Ledger.State(ctx, credit.Escrow(id))
	if err != nil {
		return fmt.Errorf("pledge %s: %w", id, err)
	}
	if state.Entries > 0 {
		return fmt.Errorf("%w: %s, which is over; choose another one", ErrExists, id)
	}
	return nil
}

// fund moves amount from the owner to the escrow of p, together with its
// document. If that fails, all is as before. The caller holds e.op.
func (s *Pledges) fund(ctx context.Context, e *entry, id string, p Pledge, amount credit.Amount) error {
	entries, err := withDocument(p, []credit.Entry{
		{Kind: credit.KindEscrow, From: p.Owner, To: credit.Escrow(p.ID), Amount: amount, Object: p.Request.Object, Bytes: p.Request.Bytes, Ref: p.ID},
	})
	if err != nil {
		return err
	}
	e.unsure = true // until it is known how this went
	err = s.cfg.Spend(ctx, id, p.Owner, amount, entries)
	if errors.Is(err, credit.ErrUnderfunded) {
		err = fmt.Errorf("%w: the pledge takes %s for %d replicas of %d bytes until %s; ask for less, or for a grant",
			err, amount, p.Request.RF, p.Request.Bytes, p.Until().Format(time.RFC3339))
	}
	return s.outcome(ctx, e, p, entries, err)
}

// TopUp locks more credits of the owner: a pledge with an end ends later, by
// what they pay for at its price cap. With the same key again, nothing is
// locked. Errors: ErrUnknown, ErrOwner, ErrOver, ErrRequest,
// credit.ErrUnderfunded, ErrBooks, the ledger's.
func (s *Pledges) TopUp(ctx context.Context, owner credit.Account, id, key string, amount credit.Amount) (Pledge, error) {
	e, err := s.hold(ctx, id)
	if err != nil {
		return Pledge{}, err
	}
	defer e.op.Unlock()
	was, now := s.show(e), time.Now()
	switch {
	case was.Owner != owner:
		return Pledge{}, notOwner(was)
	case !was.Live(now):
		return Pledge{}, fmt.Errorf("%w: %s is %s; open another one", ErrOver, id, was.State)
	case amount < 1 || amount > credit.MaxAmount-was.Locked:
		return Pledge{}, fmt.Errorf("%w: %d more micro-credits on %d", ErrRequest, amount, was.Locked)
	}
	p := was
	p.Locked += amount
	if !p.Ends.IsZero() {
		p.Ends = p.Ends.Add(Lasts(p.Request.Bytes, p.Request.RF, amount, p.Request.PriceCap))
		if p.Ends.Sub(now) > MaxTerm {
			return Pledge{}, fmt.Errorf("%w: it would end at %s, the latest is in %v", ErrRequest, p.Ends.Format(time.RFC3339), MaxTerm)
		}
	}
	if p = p.outlook(now, s.cfg.Epoch, s.cfg.NoticeEpochs); !p.Over.IsZero() { // epochs are longer than when it was opened
		return Pledge{}, fmt.Errorf("%w: %s more would not last for an epoch (%v); add more", credit.ErrUnderfunded, amount, s.cfg.Epoch)
	}
	sum := cas.Sum([]byte(key))
	if err := s.fund(ctx, e, prefix+id+"/top/"+hex.EncodeToString(sum[:16]), p, amount); err != nil {
		return Pledge{}, err
	}
	p = s.show(e)
	if p.Locked != was.Locked {
		e.noticed = p.State == Low
		s.tell(ctx, ToppedUp, p)
	}
	return p, nil
}

// Release ends a pledge of owner now. What the epochs until now cannot cost goes
// back at once, the rest of it when they are settled. One that has ended stays
// as it is. Errors: ErrUnknown, ErrOwner, ErrBooks, the ledger's.
func (s *Pledges) Release(ctx context.Context, owner credit.Account, id string) (Pledge, error) {
	e, err := s.hold(ctx, id)
	if err != nil {
		return Pledge{}, err
	}
	defer e.op.Unlock()
	was, now := s.show(e), time.Now()
	if was.Owner != owner {
		return Pledge{}, notOwner(was)
	}
	if !was.Live(now) {
		return was, nil
	}
	p := was.released(moment(now.Unix()))
	if err := s.write(ctx, e, "", p, goingBack(was, p)); err != nil {
		return Pledge{}, err
	}
	p = s.show(e)
	s.tell(ctx, WasFreed, p)
	s.tellEnd(ctx, p)
	return p, nil
}

// goingBack is the entry for what returns between two states of a pledge, if
// something does.
func goingBack(was, p Pledge) []credit.Entry {
	if p.Returned == was.Returned {
		return nil
	}
	return []credit.Entry{{Kind: credit.KindRelease, From: credit.Escrow(p.ID), To: p.Owner, Amount: p.Returned - was.Returned, Object: p.Request.Object, Ref: p.ID}}
}

func notOwner(p Pledge) error {
	return fmt.Errorf("%w: %s was opened by another account", ErrOwner, p.ID)
}

// tell gives notice.
func (s *Pledges) tell(ctx context.Context, kind EventKind, p Pledge) {
	s.cfg.Notice(ctx, Event{kind, p, time.Now()})
}

// tellEnd gives notice of a pledge that is over.
func (s *Pledges) tellEnd(ctx context.Context, p Pledge) {
	switch {
	case p.Over.IsZero():
	case p.State == Dry:
		s.tell(ctx, RanDry, p)
	default:
		s.tell(ctx, Ended, p)
	}
}

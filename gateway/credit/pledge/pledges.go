package pledge

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// Pledges are the pledges of a node. All methods may be called at the same
// time; only Run starts goroutines, and waits for them.
type Pledges struct {
	cfg     Config
	metrics *metrics

	mu     sync.RWMutex           // guards the fields below, and entry.p
	all    map[string]*entry      // by id: live, over, and on their way
	live   map[credit.Account]int // by owner: not over, or on their way
	over   int                    // of all, those that are over
	floors map[cas.Hash][]*entry  // the live ones of an object, the greatest RF first
}

// entry is a pledge, or one on its way.
type entry struct {
	id    string
	owner credit.Account

	op      sync.Mutex // one step at a time; guards the fields below, and is locked before Pledges.mu
	doc     []byte     // as in the ledger; nil: none
	unsure  bool       // whether the ledger may have another document
	noticed bool       // whether its notice was given by this process

	p Pledge // guarded by Pledges.mu: as doc says; zero: on its way
}

// Open reads the pledges out of the ledger. Errors: ErrBooks, the ledger's.
func Open(ctx context.Context, cfg Config) (*Pledges, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Pledges{cfg: cfg, all: make(map[string]*entry), live: make(map[credit.Account]int), floors: make(map[cas.Hash][]*entry)}
	const page = 1000
	for after, more := "", true; more; {
		docs, err := cfg.Ledger.Docs(ctx, prefix, after, page)
		if err != nil {
			return nil, fmt.Errorf("pledge: %w", err)
		}
		for _, d := range docs {
			id := strings.TrimPrefix(d.Name, prefix)
			p, err := decode(id, d.Data)
			if err != nil {
				return nil, err
			}
			e := &entry{id: id, owner: p.Owner, doc: d.Data}
			s.all[id] = e
			s.live[e.owner]++
			s.showLocked(e, p)
			after = d.Name
		}
		more = len(docs) == page
	}
	s.metrics, err = newMetrics(cfg.Registry, s)
	return s, err
}

// showLocked makes p what others see of e.
func (s *Pledges) showLocked(e *entry, p Pledge) {
	s.lowerLocked(e)
	if e.p.Over.IsZero() && !p.Over.IsZero() {
		s.liveLocked(e.owner, -1)
		s.over++
	}
	e.p = p
	if p.State == Active || p.State == Low {
		list := s.floors[p.Request.Object]
		at, _ := slices.BinarySearchFunc(list, p.Request.RF, func(o *entry, rf int) int { return rf - o.p.Request.RF })
		s.floors[p.Request.Object] = slices.Insert(list, at, e)
	}
}

// lowerLocked takes e out of the floors.
func (s *Pledges) lowerLocked(e *entry) {
	object := e.p.Request.Object
	list := slices.DeleteFunc(s.floors[object], func(o *entry) bool { return o == e })
	if len(list) == 0 {
		delete(s.floors, object)
		return
	}
	s.floors[object] = list
}

func (s *Pledges) liveLocked(owner credit.Account, n int) {
	if s.live[owner] += n; s.live[owner] == 0 {
		delete(s.live, owner)
	}
}

// gone takes out an entry that has no document: it came to nothing, or it is
// forgotten. The caller holds e.op.
func (s *Pledges) gone(e *entry) {
	e.doc, e.unsure = nil, false
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[e.id] != e {
		return
	}
	delete(s.all, e.id)
	s.lowerLocked(e)
	if e.p.Over.IsZero() {
		s.liveLocked(e.owner, -1)
	} else {
		s.over--
	}
}

// Floor is the greatest RF that live pledges hold an object at; ok is false if
// there are none. It looks into memory alone.
func (s *Pledges) Floor(object cas.Hash) (rf int, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := s.floors[object]
	if len(list) == 0 {
		return 0, false
	}
	now := time.Now()
	for _, e := range list { // those at their end leave when the epoch is settled
		if e.p.Live(now) {
			return e.p.Request.RF, true
		}
	}
	return 0, false
}

// Get returns a pledge, or ErrUnknown. Those that are over are kept for
// Config.Keep; the statement of their escrow stays.
func (s *Pledges) Get(_ context.Context, id string) (Pledge, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.all[id]; e != nil && e.p.ID != "" {
		return e.p, nil
	}
	return Pledge{}, unknown(id)
}

func unknown(id string) error {
	return fmt.Errorf("%w: %.64q; those that ended some days ago are in the statement of %.80q", ErrUnknown, id, credit.Escrow(id))
}

// List returns the pledges of an owner behind after, by id, the first limit of
// them (1 … 1000). Fewer than that is the end. An empty owner stands for all.
func (s *Pledges) List(_ context.Context, owner credit.Account, after string, limit int) ([]Pledge, error) {
	if limit < 1 {
		return nil, fmt.Errorf("pledge: a page of %d", limit)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var ids []string
	for id, e := range s.all {
		if id > after && e.p.ID != "" && (owner == "" || e.owner == owner) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	ids = ids[:min(len(ids), limit, 1000)]
	list := make([]Pledge, 0, len(ids))
	for _, id := range ids {
		list = append(list, s.all[id].p)
	}
	return list, nil
}

// totals is the number of live pledges, and what is in escrow.
func (s *Pledges) totals() (live int, escrow credit.Amount) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, e := range s.all {
		if e.p.ID != "" && e.p.Over.IsZero() {
			live++
			escrow += e.p.Escrow()
		}
	}
	return live, escrow
}

// show is what others see of e.
func (s *Pledges) show(e *entry) Pledge {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return e.p
}

// hold locks a pledge for a step, and looks it up if the last one left it
// unsure. The caller unlocks e.op. Errors: ErrUnknown, ErrBooks, the ledger's.
func (s *Pledges) hold(ctx context.Context, id string) (*entry, error) {
	s.mu.RLock()
	e := s.all[id]
	s.mu.RUnlock()
	if e == nil {
		return nil, unknown(id)
	}
	e.op.Lock()
	err := s.sure(ctx, e)
	if err == nil && e.doc == nil {
		err = unknown(id)
	}
	if err != nil {
		e.op.Unlock()
		return nil, err
	}
	return e, nil
}

// sure reads e's document if the ledger may have another one than memory. The
// caller holds e.op.
func (s *Pledges) sure(ctx context.Context, e *entry) error {
	if !e.unsure {
		return nil
	}
	doc, err := s.cfg.Ledger.Doc(ctx, prefix+e.id)
	if err != nil {
		return fmt.Errorf("pledge: look up %s: %w", e.id, err)
	}
	if doc == nil {
		s.gone(e)
		return nil
	}
	p, err := decode(e.id, doc)
	if err != nil {
		return err
	}
	e.doc, e.unsure = doc, false
	s.mu.Lock()
	defer s.mu.Unlock()
	s.showLocked(e, p)
	return nil
}

// write writes a step of e: entries, and the document of p. Nobody else's step
// is in between, and what escrow holds is what the document says. The caller
// holds e.op. Errors: ErrBooks, the ledger's.
func (s *Pledges) write(ctx context.Context, e *entry, id string, p Pledge, entries []credit.Entry) error {
	was := s.show(e)
	entries, err := withDocument(p, entries)
	if err != nil {
		return err
	}
	e.unsure = true // until it is known how this went
	_, _, err = s.cfg.Ledger.Decide(ctx, id, func(v credit.View) ([]credit.Entry, error) {
		doc, err := v.Doc(ctx, prefix+p.ID)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(doc, e.doc) {
			return nil, fmt.Errorf("%w: somebody else has written it", ErrBooks)
		}
		state, err := v.State(ctx, credit.Escrow(p.ID))
		if err != nil {
			return nil, err
		}
		if state.Balance != was.Escrow() {
			return nil, fmt.Errorf("%w: its escrow holds %s, and its document says %s; run an audit", ErrBooks, state.Balance, was.Escrow())
		}
		return entries, nil
	})
	return s.outcome(ctx, e, p, entries, err)
}

// outcome looks up what became of a record that ends in the document of p, and
// returns nil if the ledger has it, whatever it said, or if its id was there
// before. The caller holds e.op.
func (s *Pledges) outcome(ctx context.Context, e *entry, p Pledge, entries []credit.Entry, err error) error {
	lookup := s.sure(context.WithoutCancel(ctx), e)
	switch {
	case lookup == nil && bytes.Equal(e.doc, entries[len(entries)-1].Doc):
		return nil
	case err == nil && lookup == nil && e.doc == nil:
		err = fmt.Errorf("%w: what was written is not there", ErrBooks)
	case err == nil:
		err = lookup
	}
	if err != nil {
		err = fmt.Errorf("pledge %s: %w", p.ID, err)
	}
	return err
}

// withDocument adds the document of p to the entries of its step. It concerns
// the escrow, so that it is in no person's statement.
func withDocument(p Pledge, entries []credit.Entry) ([]credit.Entry, error) {
	doc, err := encode(p)
	if err != nil {
		return nil, err
	}
	return append(entries, credit.Entry{Kind: credit.KindDoc, From: credit.Escrow(p.ID), Ref: prefix + p.ID, Doc: doc}), nil
}

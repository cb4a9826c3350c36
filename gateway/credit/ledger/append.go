package ledger

import (
	"context"
	"errors"
	"fmt"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/journal"
)

// Append implements credit.Ledger. No entries are no record. Another error
// than ErrEntry and ErrAccount says that the record is not in the books, but
// for one that comes from ctx: then it may be, and the same id tells.
func (l *Ledger) Append(ctx context.Context, id string, entries []credit.Entry) (seq uint64, again bool, err error) {
	return l.Decide(ctx, id, func(credit.View) ([]credit.Entry, error) { return entries, nil })
}

// Decide implements credit.Ledger. f must ask the View that it gets, and never
// the ledger.
func (l *Ledger) Decide(ctx context.Context, id string, f func(credit.View) ([]credit.Entry, error)) (seq uint64, again bool, err error) {
	if len(id) > journal.MaxID {
		return 0, false, fmt.Errorf("%w: an id of %d bytes, more than %d", credit.ErrEntry, len(id), journal.MaxID)
	}
	if err := l.lock(ctx); err != nil {
		return 0, false, err
	}
	seq, again, err = l.decideLocked(id, f)
	// What f has seen, and what an id stands for, is waited for as well: nobody
	// acts on what a crash may take away.
	seen := seq
	if seq == 0 {
		seen = l.tip.Seq
	}
	if err := errors.Join(err, l.unlockAndSync(ctx, seen)); err != nil {
		return 0, false, err
	}
	return seq, again, nil
}

// lock locks mu when there is room for a record: in memory, and in front of
// the disk.
func (l *Ledger) lock(ctx context.Context) error {
	for {
		if err := l.begin(ctx); err != nil {
			return err
		}
		if l.dueLocked(2) {
			select {
			case l.nudge <- struct{}{}:
			default: // Run knows, or there is none
			}
		}
		full, j := l.dueLocked(1), l.journal
		if !full && j.HasRoom() {
			return nil
		}
		l.mu.Unlock()
		if full {
			if err := l.Checkpoint(ctx); err != nil {
				return err
			}
		}
		if err := j.Room(ctx); err != nil {
			return err
		}
	}
}

// begin locks mu of a ledger that is open. If its journal has failed, it is
// opened again, if that can be.
func (l *Ledger) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	if !l.closed && l.journal.Failed() != nil {
		l.mu.Unlock()
		if err := l.revive(ctx); err != nil {
			l.cfg.Logger.Debug("ledger: still failed", "error", err)
		}
		l.mu.Lock()
	}
	if l.closed {
		l.mu.Unlock()
		return errClosed()
	}
	return nil
}

// unlockAndSync unlocks mu and waits until record seq is durable.
func (l *Ledger) unlockAndSync(ctx context.Context, seq uint64) error {
	j := l.journal
	l.mu.Unlock()
	return j.Sync(ctx, seq)
}

// dueLocked reports whether the changes are a part of what they may be.
func (l *Ledger) dueLocked(part int) bool {
	return l.dirty.weight >= l.cfg.MaxDirty/part || int64(l.tip.Pos-l.saved.Pos) >= l.cfg.CheckpointBytes/int64(part) && l.frozen == nil
}

func (l *Ledger) decideLocked(id string, f func(credit.View) ([]credit.Entry, error)) (uint64, bool, error) {
	d := l.draft()
	defer d.close()
	if id != "" {
		seq, err := d.known(cas.Sum([]byte(id)))
		if err != nil || seq > 0 {
			return seq, err == nil, err
		}
	}
	entries, err := f(d)
	if err != nil || len(entries) == 0 {
		return 0, false, err
	}
	for i := range entries {
		if err := entries[i].Validate(); err != nil {
			return 0, false, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	seq, err := d.write(id, entries)
	return seq, false, err
}

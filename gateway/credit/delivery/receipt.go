package delivery

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/mesh"
)

// Submit takes a receipt from a client whose verified subject is given ("":
// none), and returns the one that counts now, countersigned. Errors:
// mesh.ErrReceipt, mesh.ErrSignature, ErrServer, ErrUnknown, ErrIdentity,
// ErrTime, ErrTooOften, the ledger's.
func (s *Sessions) Submit(ctx context.Context, subject string, r mesh.Receipt) (mesh.Countersigned, error) {
	now := time.Now()
	e, err := s.accept(subject, r)
	if err != nil {
		return mesh.Countersigned{}, err
	}
	e.submit.Lock()
	defer e.submit.Unlock()
	if err := s.write(ctx, e); err != nil { // what an earlier receipt left behind
		return mesh.Countersigned{}, err
	}
	if e.answered() && r.Bytes < e.last.Receipt.Bytes {
		return e.last, nil
	}
	a := e.due(r.Bytes)
	if s.selfDealt(e.who) {
		a.parts = nil
	}
	if e.answered() && r.Bytes == e.last.Receipt.Bytes && len(a.parts) == 0 {
		return e.last, nil
	}
	if age := now.Sub(r.Time); age < -Tolerance || age > Tolerance {
		return mesh.Countersigned{}, s.rejected("time", fmt.Errorf("%w: it says %s and it is %s; set the clock, and sign again", ErrTime, r.Time.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)))
	}
	if len(a.parts) > 0 && !e.pace.Allow() {
		return mesh.Countersigned{}, s.rejected("too-often", fmt.Errorf("%w: %d at once and then one a second; they are cumulative, so sign one for all that you read", ErrTooOften, ReceiptBurst))
	}
	a.result, err = s.cfg.Key.Countersign(mesh.Countersigned{Receipt: r, Counted: a.counted, Attested: e.last.Attested + a.bytes(), Time: now})
	if err != nil {
		return mesh.Countersigned{}, s.rejected("malformed", err)
	}
	e.pending = a
	if err := s.write(ctx, e); err != nil {
		return mesh.Countersigned{}, err
	}
	return e.last, nil
}

// accept finds the delivery that a receipt may speak of.
func (s *Sessions) accept(subject string, r mesh.Receipt) (*session, error) {
	if r.Server != s.cfg.Key.Public() {
		return nil, s.rejected("server", fmt.Errorf("%w: this is %s; send it to %s", ErrServer, s.cfg.Key.Public(), r.Server))
	}
	e := s.find(r.Nonce)
	switch {
	case e == nil:
		return nil, s.rejected("unknown", fmt.Errorf("%w: it was idle for %v or open for %v, or the node has restarted; open a new one for what you read from now on", ErrUnknown, s.cfg.Idle, s.cfg.Life))
	case e.who.Client != r.Client || e.who.Subject != subject:
		return nil, s.rejected("identity", fmt.Errorf("%w: send the receipt with the key and the token that opened it", ErrIdentity))
	}
	if err := r.Verify(); errors.Is(err, mesh.ErrSignature) { // last, since it costs most
		return nil, s.rejected("signature", err)
	} else if err != nil {
		return nil, s.rejected("malformed", err)
	}
	s.use(e)
	return e, nil
}

// answered reports whether a receipt has been countersigned. The caller holds
// e.submit.
func (e *session) answered() bool { return !e.last.Receipt.Nonce.IsZero() }

// selfDealt reports whether client and server are the same people.
func (s *Sessions) selfDealt(who Who) bool {
	if who.Client == s.cfg.Key.Public() {
		return true
	}
	if who.Subject == "" {
		return false
	}
	_, owner := s.owners[who.Subject]
	return owner || credit.User(who.Subject) == s.cfg.Earner
}

// attestation is what a receipt newly attests, until it is written down.
type attestation struct {
	counted int64 // in the delivery, when it was made
	parts   []part
	result  mesh.Countersigned
}

// part is the attestation on one payer.
type part struct {
	index  int // in session.payers
	payer  credit.Account
	object cas.Hash
	n      int64
}

func (a *attestation) bytes() int64 {
	var sum int64
	for _, p := range a.parts {
		sum += p.n
	}
	return sum
}

// due is what a receipt over received bytes newly attests.
func (e *session) due(received int64) *attestation {
	e.mu.Lock()
	defer e.mu.Unlock()
	a, left := &attestation{counted: e.counted}, received
	for i := range e.payers {
		left -= e.payers[i].attested
	}
	for i := range e.payers {
		p := &e.payers[i]
		if n := min(p.counted-p.attested, left); n > 0 {
			a.parts = append(a.parts, part{i, p.payer, p.object, n})
			left -= n
		}
	}
	return a
}

// write makes the pending attestation durable, and its result the last one. If
// that fails, the ledger may have it or not: it stays pending, and is written
// under the same id, before anything else is attested. The caller holds
// e.submit.
func (s *Sessions) write(ctx context.Context, e *session) error {
	a := e.pending
	if a == nil {
		return nil
	}
	if len(a.parts) > 0 {
		entries := make([]credit.Entry, 0, len(a.parts))
		for _, p := range a.parts {
			entries = append(entries, credit.Entry{Kind: credit.KindAttest, From: p.payer, To: s.cfg.Earner, Object: p.object, Bytes: p.n, Ref: e.nonce.String()})
		}
		id := "delivery/" + e.nonce.String() + "/" + strconv.FormatInt(a.result.Attested, 10)
		if _, _, err := s.cfg.Ledger.Append(ctx, id, entries); err != nil {
			return s.rejected("ledger", fmt.Errorf("write a receipt down: %w", err))
		}
	}
	e.attested(a.parts)
	e.last, e.pending = a.result, nil
	s.metrics.attested.Add(float64(a.bytes()))
	return nil
}

func (e *session) attested(parts []part) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range parts {
		e.payers[p.index].attested += p.n
	}
}

// Package delivery lets clients confirm what they received. A client opens a
// delivery and names its nonce with each request; the server counts what it
// sends under that name; the client signs receipts (mesh.Receipt), and the
// server countersigns what both of them say.
//
// # What a receipt is worth
//
// Receipts are cumulative: each says what the delivery came to so far, and the
// last one wins. An older one, or the same one again, is answered with the last
// countersignature and changes nothing. A receipt attests
//
//	min(what the client signed, what the server counted)
//
// and the part of that which no earlier receipt attested goes to the payers of
// the delivery in the order in which they first appeared, never more to one
// than was counted on it. It becomes an entry per payer (credit.KindAttest),
// which moves no credits: the bytes were charged when they were sent.
//
// Nobody attests itself: where client and server have one key, or the client's
// subject owns the node or earns what it serves, a receipt is countersigned and
// attests 0 bytes.
//
// # Durability
//
// The entries are durable before a countersignature is given. Their record has
// an id of the nonce and of the bytes attested so far, so that a receipt that
// is tried again after a failure counts once. Deliveries themselves are in
// memory: a restart ends them. What was attested stays attested, and what comes
// later needs a new delivery (ErrUnknown).
//
// # The one race
//
// An answer is counted when the connection has taken it, and its client may
// have signed for it a moment earlier. Then the countersignature attests less
// than the receipt says; the client sends the same receipt again, or a later
// one, and the rest is attested.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/mesh"
)

// Beside these, Submit answers mesh.ErrReceipt and mesh.ErrSignature.
var (
	// ErrUnknown says: the nonce names no open delivery.
	ErrUnknown = errors.New("no such delivery is open")
	// ErrTooMany says: there is no room for another delivery.
	ErrTooMany = errors.New("too many open deliveries")
	// ErrIdentity says: somebody else opened the delivery.
	ErrIdentity = errors.New("somebody else opened this delivery")
	// ErrServer says: a receipt is for another server.
	ErrServer = errors.New("the receipt is for another server")
	// ErrTime says: a receipt is not of now.
	ErrTime = errors.New("the receipt is not of now")
	// ErrTooOften says: a delivery has had too many receipts over new bytes.
	ErrTooOften = errors.New("too many receipts for this delivery")
)

// ReceiptBurst is how many receipts over new bytes a delivery may have at once;
// in the long run it may have one per second.
const ReceiptBurst = 60

// Tolerance is how far the clocks of client and server may be apart.
const Tolerance = 2 * time.Minute

// MaxPayers bounds the payers that one delivery counts on. What it reads on the
// account of others stays unattested.
const MaxPayers = 64

// Who opens a delivery.
type Who struct {
	// Client signs the receipts. Required.
	Client mesh.Key
	// Subject of the verified token; "" without one.
	Subject string
	// Quota names those who share MaxPerQuota: the token, or the client's
	// network. "" is one more name.
	Quota string
}

// Delivery is what Open answers.
type Delivery struct {
	Nonce   mesh.Nonce
	Server  mesh.Key
	Expires time.Time // unless something is read or confirmed before
}

// Sessions are the open deliveries of a node. All methods may be called at the
// same time; none starts a goroutine.
type Sessions struct {
	cfg     Config
	owners  map[string]struct{} // of Config.Owners
	metrics *metrics
	start   time.Time

	mu      sync.RWMutex            // guards the fields below
	byNonce map[mesh.Nonce]*session // those in queue
	queue   idleQueue
	quotas  map[string]int // deliveries by Who.Quota
}

// session is one open delivery.
type session struct {
	nonce  mesh.Nonce
	who    Who
	opened time.Duration // by Sessions.clock
	used   atomic.Int64  // the last use, by Sessions.clock

	seen  time.Duration // the last use that the queue knows of; guarded by Sessions.mu
	index int           // in the queue; guarded by Sessions.mu

	submit  sync.Mutex         // one receipt at a time; guards last and pending
	last    mesh.Countersigned // the zero value: none yet
	pending *attestation       // what the ledger may have written, or not
	pace    *rate.Limiter      // of those that attest something: each is a record and a sync

	mu      sync.Mutex // guards the fields below; never held while the ledger writes
	counted int64      // bytes on all payers, also on those beyond MaxPayers
	payers  []share    // in the order in which they first appeared, at most MaxPayers
}

// share is what a delivery has read on one account.
type share struct {
	payer    credit.Account
	object   cas.Hash // the zero Hash: several
	counted  int64
	attested int64 // never more than counted
}

// New returns Sessions without any.
func New(cfg Config) (*Sessions, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Sessions{cfg: cfg, start: time.Now(), owners: make(map[string]struct{}), byNonce: make(map[mesh.Nonce]*session), quotas: make(map[string]int)}
	for _, subject := range cfg.Owners {
		s.owners[subject] = struct{}{}
	}
	s.metrics, err = newMetrics(cfg.Registry, s)
	return s, err
}

// Open begins a delivery. Where all places are taken, that of the delivery
// which nobody has used for longest is, if it was idle for a while. Errors:
// ErrTooMany, mesh.ErrReceipt.
func (s *Sessions) Open(_ context.Context, who Who) (Delivery, error) {
	if who.Client.IsZero() {
		return Delivery{}, fmt.Errorf("%w: send the key that will sign the receipts", mesh.ErrReceipt)
	}
	now := s.clock()
	e := &session{nonce: mesh.NewNonce(), who: who, opened: now, seen: now, pace: rate.NewLimiter(1, ReceiptBurst)}
	e.used.Store(int64(now))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked(now)
	if s.quotas[who.Quota] >= s.cfg.MaxPerQuota {
		return Delivery{}, s.rejected("too-many", fmt.Errorf("%w: you have %d, use one of them or wait until one has been idle for %v", ErrTooMany, s.cfg.MaxPerQuota, s.cfg.Idle))
	}
	if len(s.queue) >= s.cfg.MaxSessions && !s.evictLocked(now) {
		return Delivery{}, s.rejected("too-many", fmt.Errorf("%w: all %d are in use, try again in a minute", ErrTooMany, s.cfg.MaxSessions))
	}
	s.addLocked(e)
	return Delivery{Nonce: e.nonce, Server: s.cfg.Key.Public(), Expires: time.Now().Add(min(s.cfg.Idle, s.cfg.Life))}, nil
}

// Count says that n bytes of object, which payer pays for, were sent to whoever
// named the nonce. It reports whether a receipt can attest them: not where the
// delivery is over, and not on a payer beyond MaxPayers. It does not allocate,
// except for a payer's first bytes in a delivery.
func (s *Sessions) Count(nonce mesh.Nonce, payer credit.Account, object cas.Hash, n int64) bool {
	if n <= 0 || nonce.IsZero() {
		return false
	}
	e := s.find(nonce)
	if e == nil {
		return false
	}
	s.use(e)
	return e.count(payer, object, n, s.cfg.Earner)
}

// count adds to a payer's share. What the earner pays itself, or what names no
// account, can never be attested.
func (e *session) count(payer credit.Account, object cas.Hash, n int64, earner credit.Account) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counted += n
	for i := range e.payers {
		p := &e.payers[i]
		if p.payer != payer {
			continue
		}
		p.counted += n
		if p.object != object {
			p.object = cas.Hash{}
		}
		return true
	}
	if len(e.payers) == MaxPayers || payer == earner || payer.Validate() != nil {
		return false
	}
	e.payers = append(e.payers, share{payer: payer, object: object, counted: n})
	return true
}

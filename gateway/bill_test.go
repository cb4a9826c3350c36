package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/books"
	"inos.dev/edge/gateway/credit/ledger"
	"inos.dev/edge/mesh"
)

// billed is a gateway that charges to alice, who has no credits, and its books,
// which run only when the test says so.
type billed struct {
	*Gateway
	key      mesh.Key
	ledger   *ledger.Ledger
	books    *books.Books
	counted  []credit.Account // payers that deliveries heard of
	registry *prometheus.Registry
}

func (b *billed) Count(_ mesh.Nonce, payer credit.Account, _ cas.Hash, _ int64) bool {
	b.counted = append(b.counted, payer)
	return true
}

func openBilled(t *testing.T) *billed {
	t.Helper()
	secret, err := mesh.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	b := &billed{key: secret.Public(), registry: prometheus.NewRegistry()}
	if b.ledger, err = ledger.Open(ledger.Config{Dir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	if b.books, err = books.New(t.Context(), books.Config{Ledger: b.ledger, Key: b.key, Registry: b.registry}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.ledger.Close(); err != nil {
			t.Error(err)
		}
	})
	issuer, err := auth.OpenIssuer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := auth.NewVerifier(auth.Config{Own: issuer.Public()})
	if err != nil {
		t.Fatal(err)
	}
	b.Gateway = &Gateway{cfg: Config{Auth: verifier, MinRate: 16 << 10, Accounts: Accounts{
		Books: b.books, Deliveries: b, Payer: func(cas.Hash, bool) (string, cas.Hash) { return "alice", cas.Hash{1} },
	}}}
	return b
}

// answer sends content and then an error under one bill.
func (b *billed) answer(t *testing.T, content, failure int64) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/object/x", http.NoBody)
	r.Header.Set(deliveryHeader, mesh.NewNonce().String())
	w := &recorder{g: b.Gateway, ResponseWriter: httptest.NewRecorder()}
	if err := b.openBill(w, r, cas.Hash{1}, true); err != nil {
		t.Fatal(err)
	}
	if err := w.reserve(t.Context(), content); err != nil {
		t.Fatal(err)
	}
	w.bytes += content
	w.endBill()
	w.bytes += failure
	w.closeBill()
}

func (b *billed) served(t *testing.T, a credit.Account) int64 {
	t.Helper()
	s, err := b.ledger.State(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return s.Served
}

// TestBillEnds: what is no content is the house's, and no delivery's.
func TestBillEnds(t *testing.T) {
	b := openBilled(t)
	alice := credit.User("alice")
	if _, _, err := b.books.Grant(t.Context(), "", alice, credit.Credit, ""); err != nil {
		t.Fatal(err)
	}
	b.answer(t, 1000, 70)
	if err := b.books.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if owner, house := b.served(t, alice), b.served(t, credit.House(b.key)); owner != 1000 || house != 70 {
		t.Errorf("alice is charged for %d bytes, the house for %d; want 1000 and 70", owner, house)
	}
	if len(b.counted) != 1 || b.counted[0] != alice {
		t.Errorf("deliveries heard of %v", b.counted)
	}
}

// TestBillOnHouse: where the house pays for an owner, it is also who a receipt
// speaks of.
func TestBillOnHouse(t *testing.T) {
	b := openBilled(t)
	keep := b.books.Open("alice", cas.Hash{1})
	defer keep.Close()
	b.answer(t, 1000, 0)
	if err := b.books.Close(t.Context()); err != nil { // the record decides who pays
		t.Fatal(err)
	}
	house := credit.House(b.key)
	if n := b.served(t, house); n != 1000 {
		t.Fatalf("the house is charged for %d bytes", n)
	}
	if got := keep.Account(); got != house {
		t.Errorf("%s is said to pay", got)
	}
}

// TestRefusedOnce: a request that is refused is counted once, and leaves no
// line open.
func TestRefusedOnce(t *testing.T) {
	b := openBilled(t)
	refuse := credit.Refuse
	if err := b.books.SetTerms(t.Context(), credit.User("alice"), &refuse, nil); err != nil {
		t.Fatal(err)
	}
	b.answer(t, 1000, 0)
	keep := b.books.Open("alice", cas.Hash{1})
	defer keep.Close()
	if err := b.books.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/object/x", http.NoBody)
	w := &recorder{g: b.Gateway, ResponseWriter: httptest.NewRecorder(), start: time.Now()}
	if err := b.openBill(w, r, cas.Hash{1}, true); !errors.Is(err, credit.ErrOutOfCredit) || w.bill.line != nil {
		t.Fatalf("%v, with the line %v", err, w.bill.line)
	}
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "inos_credit_refused_total" && f.GetMetric()[0].GetCounter().GetValue() != 1 {
			t.Errorf("%v refused", f.GetMetric()[0].GetCounter().GetValue())
		}
	}
}

// writeDeadlines is a ResponseWriter that knows its write deadline.
type writeDeadlines struct {
	http.ResponseWriter
	set []time.Time
}

func (d *writeDeadlines) SetWriteDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

// TestThrottledDeadline: who waits because of his publisher's credits is not
// cut off for that: the deadline begins when he may be served.
func TestThrottledDeadline(t *testing.T) {
	b := openBilled(t)
	throttle := credit.Throttle
	if err := b.books.SetTerms(t.Context(), credit.User("alice"), &throttle, nil); err != nil {
		t.Fatal(err)
	}
	keep := b.books.Open("alice", cas.Hash{1})
	defer keep.Close()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.books.Run(ctx) }()
	defer func() {
		stop()
		if err := errors.Join(<-done, b.books.Close(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	for late := time.After(10 * time.Second); !keep.Throttled(); {
		select {
		case <-late:
			t.Fatal("alice is not throttled")
		case <-time.After(time.Millisecond):
		}
	}
	d := &writeDeadlines{ResponseWriter: httptest.NewRecorder()}
	w := &recorder{g: b.Gateway, ResponseWriter: d, start: time.Now()}
	r := httptest.NewRequest(http.MethodGet, "/object/x", http.NoBody)
	if err := b.openBill(w, r, cas.Hash{1}, true); err != nil {
		t.Fatal(err)
	}
	defer w.closeBill()
	for range 2 { // the first is the burst, the second waits
		before := time.Now()
		if err := w.reserve(t.Context(), 700<<10); err != nil {
			t.Fatal(err)
		}
		if n := len(d.set); n < 2 || !d.set[n-2].IsZero() || d.set[n-1].Before(before) {
			t.Errorf("the deadlines were %v", d.set)
		}
	}
}

// activeWhen notes how many requests are active when one is logged.
type activeWhen struct {
	slog.Handler
	active func() int64
	saw    []int64
}

func (a *activeWhen) Enabled(context.Context, slog.Level) bool { return true }

func (a *activeWhen) Handle(context.Context, slog.Record) error {
	a.saw = append(a.saw, a.active())
	return nil
}

// TestActiveUntilCharged: who waits until no request is active finds all of
// them charged.
func TestActiveUntilCharged(t *testing.T) {
	b := openBilled(t)
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	log := &activeWhen{Handler: slog.DiscardHandler, active: b.Active}
	b.metrics, b.log, b.cfg.AccessLog = m, slog.New(slog.DiscardHandler), slog.New(log)
	answer := httptest.NewRecorder()
	b.serveHTTP(answer, httptest.NewRequest(http.MethodGet, "/x", http.NoBody), false) // MaxRequests is 0
	if answer.Code != http.StatusTooManyRequests || len(log.saw) != 1 || log.saw[0] != 1 || b.Active() != 0 {
		t.Errorf("status %d; active while it is charged %v, afterwards %d", answer.Code, log.saw, b.Active())
	}
}

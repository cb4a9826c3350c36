package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/books"
	"inos.dev/edge/gateway/credit/delivery"
	"inos.dev/edge/gateway/credit/ledger"
	"inos.dev/edge/gateway/heat"
	"inos.dev/edge/gateway/payer"
	"inos.dev/edge/mesh"
)

// countingHouse is a gateway with nothing but accounts, over real books.
type countingHouse struct {
	*Gateway
	books *books.Books
}

const hookOwner = "alice"

func openHouse(tb testing.TB) *countingHouse {
	tb.Helper()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	key, err := mesh.NewSecret()
	must(err)
	l, err := ledger.Open(ledger.Config{Dir: tb.TempDir()})
	must(err)
	b, err := books.New(tb.Context(), books.Config{Ledger: l, Key: key.Public()})
	must(err)
	_, _, err = b.Grant(tb.Context(), "", credit.User(hookOwner), 1000*credit.Credit, "")
	must(err)
	counter, err := heat.NewCounter(heat.CounterConfig{})
	must(err)
	deliveries, err := delivery.New(delivery.Config{Key: key, Ledger: b.Ledger()})
	must(err)
	payers := hookPayers(tb, key)
	g := &Gateway{cfg: Config{Accounts: Accounts{
		Books: b, Heat: counter, Deliveries: deliveries,
		Payer: func(h cas.Hash, _ bool) (string, cas.Hash) {
			ref, ok := payers.Chunk(h)
			if !ok {
				tb.Fatalf("nobody pays for %s", h)
			}
			return ref.Owner, ref.Object
		},
	}}}
	ctx, stop := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	tb.Cleanup(func() {
		stop()
		must(<-done)
		must(errors.Join(b.Close(context.WithoutCancel(ctx)), l.Close()))
	})
	return &countingHouse{g, b}
}

// hookChunk is a chunk of the one object that is published.
func hookChunk(i int) cas.Hash { return cas.Sum([]byte{byte(i), byte(i >> 8)}) }

// hookChunks is how many there are.
const hookChunks = 1024

// hookPayers is the table of who pays, with one object in it.
func hookPayers(tb testing.TB, key mesh.Secret) *payer.Table {
	tb.Helper()
	object := cas.Sum([]byte("object"))
	p, err := mesh.Publication{Object: object, Owner: hookOwner, Sequence: 1, Created: time.Now()}.Sign(key)
	if err != nil {
		tb.Fatal(err)
	}
	list := &catalog.Memory{}
	about := catalog.Record{Hash: object, Kind: cas.KindFile, Size: 1, Encoded: 1, Pieces: hookChunks}
	if _, err := list.Publish(tb.Context(), about, catalog.Change{Publication: catalog.Publication{Publication: p}}); err != nil {
		tb.Fatal(err)
	}
	table, err := payer.New(tb.Context(), payer.Config{Catalog: list, Walk: func(_ context.Context, _ cas.Hash, visit func(cas.Hash) error) error {
		for i := range hookChunks {
			if err := visit(hookChunk(i)); err != nil {
				return err
			}
		}
		return nil
	}})
	if err != nil {
		tb.Fatal(err)
	}
	table.Changed(tb.Context(), object)
	return table
}

// hook is all that accounts add to an answer of n bytes.
func (h *countingHouse) hook(w *recorder, r *http.Request, chunk cas.Hash, n int64) error {
	if err := h.openBill(w, r, chunk, false); err != nil {
		return err
	}
	if err := w.reserve(r.Context(), n); err != nil {
		return err
	}
	w.bytes += n
	h.heat(chunk, n)
	w.closeBill()
	return nil
}

func TestHookDoesNotAllocate(t *testing.T) {
	h := openHouse(t)
	r := httptest.NewRequest(http.MethodGet, "/chunk/x", http.NoBody)
	chunk := hookChunk(7)
	w := &recorder{g: h.Gateway}
	allocated := testing.AllocsPerRun(1000, func() {
		*w = recorder{g: h.Gateway}
		if err := h.hook(w, r, chunk, 1024); err != nil {
			t.Fatal(err)
		}
	})
	if allocated != 0 {
		t.Errorf("%v allocations per answer", allocated)
	}
}

// TestBill: what was sent is charged, what was only reserved is not, and a
// delivery that is named counts.
func TestBill(t *testing.T) {
	h := openHouse(t)
	client, err := mesh.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	d, err := h.cfg.Accounts.Deliveries.(*delivery.Sessions).Open(t.Context(), delivery.Who{Client: client.Public()})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/chunk/x", http.NoBody)
	r.Header.Set(deliveryHeader, d.Nonce.String())
	w := &recorder{g: h.Gateway}
	if err := h.openBill(w, r, hookChunk(1), false); err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct{ reserved, sent int64 }{{1000, 1000}, {1000, 300}} {
		if err := w.reserve(t.Context(), part.reserved); err != nil {
			t.Fatal(err)
		}
		w.bytes += part.sent
	}
	w.closeBill()
	overhead := &recorder{g: h.Gateway, bytes: 77} // an answer that nobody opened a bill for
	overhead.closeBill()

	alice := credit.User(hookOwner)
	late := time.After(10 * time.Second)
	for {
		b, err := h.books.Balance(t.Context(), alice)
		if err != nil {
			t.Fatal(err)
		}
		if b.Local.Served == 1300 {
			break
		}
		select {
		case <-late:
			t.Fatalf("%d bytes are charged, want 1300", b.Local.Served)
		case <-time.After(10 * time.Millisecond):
		}
	}
	receipt, err := client.SignReceipt(mesh.Receipt{Nonce: d.Nonce, Server: d.Server, Bytes: 5000, Time: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	got, err := h.cfg.Accounts.Deliveries.(*delivery.Sessions).Submit(t.Context(), "", receipt)
	if err != nil || got.Attested != 1300 {
		t.Errorf("a receipt for more than was sent attests %d, %v; want 1300", got.Attested, err)
	}
}

// BenchmarkHook is what heat and accounts cost an answer: who pays, the line,
// the reservation, the count, the charge, the line closed.
func BenchmarkHook(b *testing.B) {
	h := openHouse(b)
	r := httptest.NewRequest(http.MethodGet, "/chunk/x", http.NoBody)
	chunks := make([]cas.Hash, hookChunks)
	for i := range chunks {
		chunks[i] = hookChunk(i)
	}
	w := &recorder{g: h.Gateway}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		*w = recorder{g: h.Gateway}
		if err := h.hook(w, r, chunks[i%len(chunks)], 1024); err != nil {
			b.Fatal(err)
		}
	}
}

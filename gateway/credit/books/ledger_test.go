package books

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/ledger"
)

// disk is one that can fail.
type disk struct{ broken atomic.Bool }

var errDisk = errors.New("input/output error")

func (d *disk) WriteAt(f *os.File, b []byte, off int64) (int, error) {
	if d.broken.Load() {
		n, err := f.WriteAt(b[:len(b)/2], off)
		return n, errors.Join(errDisk, err)
	}
	return f.WriteAt(b, off)
}

func (d *disk) Truncate(f *os.File, size int64) error { return f.Truncate(size) }

func (d *disk) Sync(f *os.File) error {
	if d.broken.Load() {
		return errDisk
	}
	return f.Sync()
}

func openLedger(t testing.TB, dir string, d *disk) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(ledger.Config{Dir: dir, Disk: d, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// audit checks the books, which must have charged so many bytes.
func audit(t testing.TB, l *ledger.Ledger, charged int64) ledger.Report {
	t.Helper()
	report, err := l.Audit(t.Context())
	if err != nil || !report.OK {
		t.Fatalf("audit: %+v, %v", report, err)
	}
	sum, after := int64(0), credit.Account("")
	for {
		list, err := l.Accounts(t.Context(), after, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			after = a.Account
			sum += a.State.Served
		}
		if len(list) < 100 {
			break
		}
	}
	if sum != charged {
		t.Errorf("%d bytes are charged, want %d", sum, charged)
	}
	return report
}

// TestWithLedger has the books of a real journal go through a disk that fails,
// a node that ends without a word, and one that ends as it should.
func TestWithLedger(t *testing.T) {
	dir, d := t.TempDir(), &disk{}
	l := openLedger(t, dir, d)
	b := open(t, config(l))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	if _, _, err := b.Grant(t.Context(), "grant", credit.User("rich"), credit.Credit, "for a test"); err != nil {
		t.Fatal(err)
	}
	sent := int64(0)
	for i := range 40 {
		d.broken.Store(i/10 == 1)
		for k := range 10 {
			line := b.Open([]string{"rich", "poor", ""}[k%3], cas.Hash{byte(i), byte(k)})
			if err := line.Take(t.Context(), 10_000); err != nil {
				t.Fatal(err)
			}
			line.Settle(10_000, 9_000)
			line.Close()
			sent += 9_000
		}
		<-time.After(20 * time.Millisecond) // the reader's pace: no condition is awaited
	}
	all := func() bool {
		rich, errRich := l.State(t.Context(), credit.User("rich"))
		house, errHouse := l.State(t.Context(), credit.House(key(1)))
		return errors.Join(errRich, errHouse) == nil && rich.Served+house.Served == sent
	}
	eventually(t, "all is charged", all)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	serve(t, b, "rich", 5000) // nobody hears of this: the node ends
	if report := audit(t, l, sent); report.Leased < 2*mib {
		t.Errorf("leases of %d are open", report.Leased)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	l = openLedger(t, dir, d)
	b = open(t, config(l))
	if report := audit(t, l, sent); report.Leased != 2*mib {
		t.Errorf("leases of %d after a start", report.Leased)
	}
	serve(t, b, "rich", 5000)
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if report := audit(t, l, sent+5000); report.Leased != 0 {
		t.Errorf("leases of %d at the end", report.Leased)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkFlush is one record of a window with 1,000 objects of 100 owners,
// on a real disk.
func BenchmarkFlush(b *testing.B) {
	l := openLedger(b, b.TempDir(), &disk{})
	books := open(b, config(l))
	for b.Loop() {
		for i := range 1000 {
			line := books.Open(string(rune('a'+i%100)), cas.Hash{byte(i), byte(i >> 8)})
			if err := line.Take(b.Context(), 1000); err != nil {
				b.Fatal(err)
			}
			line.Settle(1000, 1000)
			line.Close()
		}
		if err := books.flush(b.Context(), time.Now(), serving); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(books.Close(b.Context()), l.Close()); err != nil {
		b.Fatal(err)
	}
}

package books

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// TestBounded: a flood of objects and owners does not grow without end, and
// is charged all the same.
func TestBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLedger()
		cfg := config(l)
		cfg.MaxLines = 100
		b := open(t, cfg)
		var lines []*Line
		for i := range 1000 {
			line := b.Open(fmt.Sprint("owner", i%200), cas.Hash{byte(i), byte(i >> 8), 1})
			lines = append(lines, line)
			if err := line.Take(t.Context(), 10); err != nil {
				t.Fatal(err)
			}
			line.Settle(10, 10)
		}
		if n, payers := inMemory(b); n > 201 || payers > 100 {
			t.Errorf("%d lines, %d payers", n, payers)
		}
		for _, line := range lines {
			line.Close()
		}
		run(t, b)
		time.Sleep(time.Minute)
		if charged, _ := l.covered(); charged != 10_000 {
			t.Errorf("%d charged", charged)
		}
		if n, payers := inMemory(b); n != 0 || payers != 0 {
			t.Errorf("%d lines, %d payers are left", n, payers)
		}
	})
}

// TestManyLines: what does not fit one record is in several.
func TestManyLines(t *testing.T) {
	l := newMemLedger()
	give(t, l, "rich", 1<<40)
	b := open(t, config(l))
	const n = 2*maxEntries + 10
	for i := range n {
		line := b.Open([]string{"rich", "op"}[i%2], cas.Hash{byte(i), byte(i >> 8), byte(i >> 16)})
		line.Settle(0, 100)
		line.Close()
	}
	at := len(l.records)
	if err := b.flush(t.Context(), time.Now(), serving); err != nil {
		t.Fatal(err)
	}
	for _, r := range l.records[at:] {
		if len(r) > maxEntries {
			t.Errorf("a record of %d entries", len(r))
		}
	}
	if charged, _ := l.covered(); charged != n*100 || len(l.records)-at != 3 {
		t.Errorf("%d charged in %d records", charged, len(l.records)-at)
	}
}

func TestSpend(t *testing.T) {
	l := newMemLedger()
	b := open(t, config(l))
	give(t, l, "alice", 100)
	alice, escrow := credit.User("alice"), credit.Escrow("p")
	lock := func(n credit.Amount) []credit.Entry {
		return []credit.Entry{{Kind: credit.KindEscrow, From: alice, To: escrow, Amount: n}}
	}
	for _, c := range []struct {
		id     string
		amount credit.Amount
		err    error
		left   credit.Amount
	}{
		{"a", 60, nil, 40}, {"b", 41, credit.ErrUnderfunded, 40}, {"a", 60, nil, 40}, {"b", 40, nil, 0}, {"c", -1, credit.ErrEntry, 0},
	} {
		err := b.Spend(t.Context(), c.id, alice, c.amount, lock(c.amount))
		if got := state(t, l, alice).Balance; !errors.Is(err, c.err) || got != c.left {
			t.Errorf("%s: %v, left %d", c.id, err, got)
		}
	}
	if got, err := b.Balance(t.Context(), escrow); err != nil || got.Shared != 100 || !got.Known {
		t.Errorf("escrow: %+v, %v", got, err)
	}
	if s := b.Status(); s != (Status{}) {
		t.Errorf("alone: %+v", s)
	}
}

func TestMetrics(t *testing.T) {
	l := newMemLedger()
	cfg := config(l)
	registry := prometheus.NewRegistry()
	cfg.Registry = registry
	b := open(t, cfg)
	give(t, l, "rich", 1<<40)
	serve(t, b, "rich", 100_000)
	serve(t, b, "", 50_000)
	if err := b.flush(t.Context(), time.Now(), serving); err != nil {
		t.Fatal(err)
	}
	_, leased := l.covered()
	for name, want := range map[string]float64{
		"inos_credit_charged_bytes_total house": 50_000, "inos_credit_charged_bytes_total user": 100_000,
		"inos_credit_charged_microcredits_total house": 46, "inos_credit_charged_microcredits_total user": 93,
		"inos_credit_leased_bytes": float64(leased), "inos_credit_flush_seconds": 1, "inos_credit_share_up": 1,
		"inos_credit_journal_failing": 0, "inos_credit_refused_total": 0,
	} {
		if got := metric(t, registry, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := metric(t, registry, "inos_credit_leased_bytes"); got != 0 {
		t.Errorf("leases of %v after Close", got)
	}
}

// metric is the value of a metric, named with its label behind a blank if it
// has one; of a histogram, how much it has seen.
func metric(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	name, label, _ := strings.Cut(name, " ")
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() != name || len(m.GetLabel()) > 0 && m.GetLabel()[0].GetValue() != label {
				continue
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	t.Fatalf("there is no metric %s %s", name, label)
	return 0
}

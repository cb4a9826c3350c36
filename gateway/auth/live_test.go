package auth

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

const closedRules = `
[[rule]]
name = "members"
actions = ["read"]
rights = ["read"]
`

func writeRules(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestReload: new rules hold without a restart, and wrong ones change nothing.
func TestReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rules.toml")
	if _, err := OpenPolicy(PolicyConfig{Rules: path}); err == nil || !strings.Contains(err.Error(), "make it, or leave the option out") {
		t.Errorf("no file: %v", err)
	}
	writeRules(t, path, "nonsense")
	if _, err := OpenPolicy(PolicyConfig{Rules: path}); !errors.Is(err, ErrRules) {
		t.Errorf("nonsense: %v", err)
	}
	writeRules(t, path, DefaultRules)
	synctest.Test(t, func(t *testing.T) {
		p, err := OpenPolicy(PolicyConfig{Rules: path, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		read := Request{Action: ActionRead, Doors: DoorHTTP}
		for _, step := range []struct {
			text  string
			allow bool
		}{
			{"", true},
			{closedRules, false},
			{closedRules + "[[rule]]", false},
			{DefaultRules + "# and so on", true},
			{"gone", true},
			{closedRules + "\n\n", false},
		} {
			switch step.text {
			case "":
			case "gone":
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			default:
				writeRules(t, path, step.text)
			}
			time.Sleep(1100 * time.Millisecond)
			synctest.Wait()
			if err := p.Check(&read, noon); (err == nil) != step.allow {
				t.Errorf("after %.40q: %v", step.text, err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestAudit: denials and what is more than a read are in the record, reads are
// only counted, and no record has a secret.
func TestAudit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	registry := prometheus.NewRegistry()
	p, err := OpenPolicy(PolicyConfig{Audit: path, Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	key := NewSecretKey()
	token, err := key.Issue("ann", Write, noon, noon.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier(Config{Own: key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	ann, err := v.Verify(token, noon)
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range []Request{
		{Action: ActionRead, Doors: DoorHTTP, Resource: "/chunk/x"},
		{Action: ActionWrite, Doors: DoorHTTP, Resource: "/object", Identity: ann},
		{Action: ActionWrite, Doors: DoorHTTP | DoorProxy, Resource: "/object/" + strings.Repeat("x", 1000)},
		{Action: ActionWrite, Doors: DoorHTTP, Resource: "/object/y", Identity: ann, Object: ObjectOthers},
		{Action: ActionAdmin, Doors: DoorConnect, Resource: "/inos.heat.v1.HeatService/SetFrozen", Identity: ann},
	} {
		_ = p.Check(&req, noon) // what it says is in the record
	}
	bad := Request{Action: ActionWrite, Doors: DoorHTTP, Resource: "/object"}
	if err := p.Refuse(&bad, noon, ErrUnauthenticated); !errors.Is(err, ErrUnauthenticated) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // what is queued is written all the same
	if err := errors.Join(p.Run(ctx), p.Close()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range readAudit(t, path) {
		if !r.Time.Equal(noon) || r.Subject != "" && r.Token != ann.TokenID || len(r.Resource) > maxResource {
			t.Errorf("%+v", r)
		}
		effect := "denied"
		if r.Allow {
			effect = "allowed by " + r.Rule
		}
		got = append(got, strings.TrimSpace(r.Subject+" "+r.Action+" "+r.Door+" "+r.Object)+" "+effect)
	}
	want := []string{
		"ann write http allowed by writers", "write http+proxy denied", "ann write http others denied", "ann admin connect denied", "write http denied",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q; want %q", got, want)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), token.Reveal()) || strings.Contains(string(text), "v4.public") {
		t.Error("the token stands in the record")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for labels, want := range map[string]float64{"read allow": 1, "write allow": 1, "write deny": 3, "admin deny": 1, "admin allow": 0} {
		if n := decisionsOf(t, registry, labels); n != want {
			t.Errorf("%s: %v; want %v", labels, n, want)
		}
	}
}

// decisionsOf reads a counter by its labels: action, effect.
func decisionsOf(t *testing.T, r *prometheus.Registry, labels string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if slices.Equal(strings.Fields(labels), labelValues(m)) && f.GetName() == "inos_policy_decisions_total" {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Errorf("no series %s", labels)
	return 0
}

func labelValues(m *dto.Metric) (values []string) {
	for _, l := range m.GetLabel() {
		values = append(values, l.GetValue())
	}
	return values
}

func readAudit(t *testing.T, path string) (records []record) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		records = append(records, r)
	}
	return records
}

// TestAuditRotates: two files, none above the limit, and the newest records in
// the first.
func TestAuditRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a, err := openAudit(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	a.limit = 10_000
	for i := range 500 {
		a.write(record{Time: noon.Add(time.Duration(i) * time.Second), Action: "write"})
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	older, newer := readAudit(t, path+".1"), readAudit(t, path)
	all := slices.Concat(older, newer)
	if last := all[len(all)-1].Time; !last.Equal(noon.Add(499 * time.Second)) {
		t.Errorf("the last record is of %v", last)
	}
	for i := range all[1:] {
		if all[i+1].Time.Sub(all[i].Time) != time.Second {
			t.Errorf("between %v and %v something is lost", all[i].Time, all[i+1].Time)
		}
	}
	for _, name := range []string{path, path + ".1"} {
		if info, err := os.Stat(name); err != nil || info.Size() > a.limit || info.Size() == 0 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if again, err := openAudit(path, nil); err != nil || again.size == 0 {
		t.Errorf("opened again: %v", err)
	} else if err := again.close(); err != nil {
		t.Error(err)
	}
}

// TestAuditFull: a record for which there is no room is dropped and counted, and
// nobody waits.
func TestAuditFull(t *testing.T) {
	registry := prometheus.NewRegistry()
	p, err := OpenPolicy(PolicyConfig{Audit: filepath.Join(t.TempDir(), "audit.log"), Registry: registry, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range auditQueue / 2 {
				_ = p.Check(&Request{Action: ActionWrite, Doors: DoorHTTP}, noon) // denied, all of them
			}
		})
	}
	wg.Wait()
	if n := p.audit.dropped.Load(); n != auditQueue {
		t.Errorf("%d are dropped", n)
	}
	if err := p.Close(); err != nil { // from now on it cannot be written
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx); err != nil {
		t.Error(err)
	}
	if n := p.audit.dropped.Load(); n != 2*auditQueue || !p.audit.failed {
		t.Errorf("%d are dropped", n)
	}
	if _, err := OpenPolicy(PolicyConfig{Audit: t.TempDir()}); err == nil {
		t.Error("a directory is taken for the record")
	}
}

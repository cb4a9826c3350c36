package content

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inos.dev/edge/cas"
)

func hashes(names ...string) []cas.Hash {
	list := make([]cas.Hash, len(names))
	for i, n := range names {
		list[i] = cas.Sum([]byte(n))
	}
	return list
}

func TestParseDeny(t *testing.T) {
	h := hashes("a", "b")
	text := "# head\n\n  " + h[0].String() + "  # why\n" + h[1].String() + "\tlegal by order\r\n"
	list, err := parseDeny(strings.NewReader(text))
	if err != nil || len(list) != 2 || list[h[0]] || !list[h[1]] {
		t.Errorf("%v, %v", list, err)
	}
	for _, bad := range []string{"x", h[0].String()[1:], strings.ToUpper(h[0].String()), h[0].String() + "," + h[1].String()} {
		if _, err := parseDeny(strings.NewReader("\n" + bad)); !errors.Is(err, cas.ErrBadHash) || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := parseDeny(strings.NewReader(strings.Repeat("x", 1<<17))); err == nil {
		t.Error("a line without an end is taken")
	}
}

// TestDenyReload: a list is read again when it changes, also between Open and
// Run; one that is damaged or gone leaves the last good one in force.
func TestDenyReload(t *testing.T) {
	h := hashes("a", "b", "c")
	path := filepath.Join(t.TempDir(), "deny")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	if _, err := OpenDeny(path, log); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing list: %v", err)
	}
	write(h[0].String() + "\n")
	d, err := OpenDeny(path, log)
	if err != nil || !d.Has(h[0]) || d.Has(h[1]) || d.Len() != 1 {
		t.Fatalf("%v", err)
	}
	write(h[0].String() + "\n" + h[1].String() + " legal\n")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	wait := func(holds func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !holds(); <-time.After(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("the change is not in force")
			}
		}
	}
	wait(func() bool { return d.Has(h[1]) })
	var denied *DeniedError
	if err := d.Check(h[1]); !errors.As(err, &denied) || !denied.Legal || !errors.Is(err, cas.ErrDenied) {
		t.Errorf("%v", err)
	}
	write("nonsense\n")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if !d.Has(h[0]) {
		t.Error("a list that is gone is not in force")
	}
	write(h[2].String() + "\n")
	wait(func() bool { return d.Has(h[2]) && !d.Has(h[0]) })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNoDenyList(t *testing.T) {
	var d *Deny
	if d.Has(cas.Sum(nil)) || d.Len() != 0 || d.Run(t.Context()) != nil {
		t.Error("no list denies something")
	}
}

func FuzzParseDeny(f *testing.F) {
	h := hashes("a")[0].String()
	for _, s := range []string{"", "#", h, h + " legal", " \t" + h + "#x\r\n" + h, "\x00", h + "\n" + h + " legal\nx"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseDeny(strings.NewReader(text))
		if err != nil {
			return
		}
		for h := range list {
			if !strings.Contains(text, h.String()) {
				t.Errorf("%s came from nowhere", h)
			}
		}
		if len(list) > strings.Count(text, "\n")+1 {
			t.Errorf("%d hashes", len(list))
		}
	})
}

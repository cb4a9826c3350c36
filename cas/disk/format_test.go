package disk

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestLock(t *testing.T) {
	s := openTest(t, Config{})
	_, err := Open(Config{Dir: s.cfg.Dir})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Errorf("the second Open: %v; want ErrLocked with the process id", err)
	}
	s = reopen(t, s, func(string) {})
	fill(t, s, 1)
}

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		text, says string
	}{
		{"inos-data 1\n", ""},
		{"inos-data 2\n", "use a newer program"},
		{"inos-data 0\n", "not understood"},
		{"inos-data 01\n", "not understood"},
		{"inos-data 1", "not understood"},
		{"inos-data 1\nmore", "not understood"},
		{"", "not understood"},
		{"something else", "not understood"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, formatName), []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if c.says == "" {
			if err != nil {
				t.Errorf("%q: %v", c.text, err)
			} else if err := s.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("FORMAT %q: %v; want %q", c.text, err, c.says)
		}
		if _, err := os.Stat(filepath.Join(dir, chunksName)); err == nil {
			t.Errorf("FORMAT %q is refused, but the directory was changed", c.text)
		}
	}
}

func TestFormatMissing(t *testing.T) {
	s := openTest(t, Config{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.cfg.Dir, formatName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: s.cfg.Dir}); !errors.Is(err, ErrFormat) {
		t.Errorf("Open of chunks without FORMAT: %v", err)
	}
}

// TestMigrate goes from format 1 to 3 with made-up steps, one of which fails
// at first.
func TestMigrate(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := writeFormat(root, 1); err != nil {
		t.Fatal(err)
	}
	var done []int
	broken := errors.New("power cut")
	steps := map[int]func(*os.Root) error{
		1: func(*os.Root) error { done = append(done, 1); return nil },
		2: func(*os.Root) error {
			done = append(done, 2)
			return broken
		},
	}
	if err := ensureFormat(root, 3, steps); !errors.Is(err, broken) {
		t.Fatalf("ensureFormat = %v", err)
	}
	broken = nil
	if err := ensureFormat(root, 3, steps); err != nil {
		t.Fatal(err)
	}
	if v, err := readFormat(root); v != 3 || err != nil || len(done) != 3 || done[2] != 2 {
		t.Errorf("format %d, %v, steps %v", v, err, done)
	}
	if err := ensureFormat(root, 5, steps); !errors.Is(err, ErrFormat) {
		t.Errorf("a step that nobody knows: %v", err)
	}
}

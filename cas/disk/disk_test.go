package disk

import (
	"errors"
	"log/slog"
	"testing"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/castest"
)

// openTest opens a store, which is closed at the end of the test unless the
// test has closed it.
func openTest(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, errClosed) {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	castest.Run(t, func(t *testing.T) cas.Store {
		t.Helper()
		return openTest(t, Config{})
	})
}

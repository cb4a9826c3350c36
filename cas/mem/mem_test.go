package mem_test

import (
	"errors"
	"testing"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/castest"
	"inos.dev/edge/cas/mem"
)

func open(t *testing.T, cfg mem.Config) *mem.Store {
	t.Helper()
	s, err := mem.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	castest.Run(t, func(t *testing.T) cas.Store {
		t.Helper()
		return open(t, mem.Config{})
	})
}

func TestMaxBytes(t *testing.T) {
	s := open(t, mem.Config{MaxBytes: 2500})
	a, b, c := castest.Random(t, 1, 1000), castest.Random(t, 2, 1000), castest.Random(t, 3, 1000)
	for _, chunk := range []cas.Chunk{a, b, a} {
		if _, err := s.Put(t.Context(), chunk); err != nil {
			t.Fatalf("Put below the limit: %v", err)
		}
	}
	if _, err := s.Put(t.Context(), c); !errors.Is(err, cas.ErrNoSpace) {
		t.Errorf("Put beyond the limit: %v", err)
	}
	if err := s.Delete(t.Context(), a.Hash()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), c); err != nil {
		t.Errorf("Put after room was made: %v", err)
	}
	if n, bytes := s.Size(); n != 2 || bytes != 2000 {
		t.Errorf("Size = %d chunks, %d bytes; want 2, 2000", n, bytes)
	}
}

func TestConfig(t *testing.T) {
	if _, err := mem.New(mem.Config{MaxBytes: -1}); err == nil {
		t.Error("a negative MaxBytes is taken")
	}
}

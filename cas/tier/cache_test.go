package tier_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/brotli"
	"inos.dev/edge/cas/castest"
	"inos.dev/edge/cas/mem"
	"inos.dev/edge/cas/tier"
)

// onDisk hides that the bodies of the store behind are in memory, and counts
// how often they are opened.
type onDisk struct {
	cas.Store
	opened int
	during func() // called while a chunk is being opened, if set
}

type fileBody struct{ cas.Body }

func (s *onDisk) Open(ctx context.Context, h cas.Hash) (cas.Body, error) {
	b, err := s.Store.Open(ctx, h)
	if err != nil {
		return nil, err
	}
	s.opened++
	if s.during != nil {
		s.during()
	}
	return fileBody{b}, nil
}

func cache(t *testing.T, cfg tier.CacheConfig) (*tier.Cache, *onDisk) {
	t.Helper()
	m, err := mem.New(mem.Config{})
	if err != nil {
		t.Fatal(err)
	}
	slow := &onDisk{Store: m}
	c, err := tier.NewCache(slow, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, slow
}

func TestCacheIsAStore(t *testing.T) {
	castest.Run(t, func(t *testing.T) cas.Store {
		t.Helper()
		c, err := tier.NewCache(castestStore(t), tier.CacheConfig{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
}

func castestStore(t *testing.T) cas.Store {
	t.Helper()
	m, err := mem.New(mem.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func chunk(t *testing.T, piece []byte) cas.Chunk {
	t.Helper()
	c, err := brotli.Encode(piece)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSmallChunksStayInMemory(t *testing.T) {
	c, slow := cache(t, tier.CacheConfig{MaxChunk: 100})
	small, large := chunk(t, []byte("small")), chunk(t, []byte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ!$%&/()=?,.-;:_<>|+*~#{[]}^@äöüÄÖÜß€µ"))
	for _, k := range []cas.Chunk{small, large} {
		if _, err := c.Put(t.Context(), k); err != nil {
			t.Fatal(err)
		}
	}
	open := func(k cas.Chunk) (memory bool) {
		t.Helper()
		b, err := c.Open(t.Context(), k.Hash())
		if err != nil {
			t.Fatal(err)
		}
		_, memory = b.(cas.InMemory)
		got, err := cas.Load(b, nil)
		if err != nil || !bytes.Equal(got, k.Bytes()) {
			t.Fatalf("wrong bytes: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		return memory
	}
	for range 3 {
		if !open(small) {
			t.Error("a small chunk does not come from memory")
		}
	}
	if slow.opened != 1 {
		t.Errorf("the store was opened %d times for one small chunk", slow.opened)
	}
	if large.Size() <= 100 {
		t.Fatalf("the large chunk has only %d bytes", large.Size())
	}
	if open(large) {
		t.Error("a large chunk was read into memory")
	}
	if err := c.Delete(t.Context(), small.Hash()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Open(t.Context(), small.Hash()); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("deleted chunk: %v", err)
	}
}

// TestDeletedWhileRead: a chunk that goes while it is read into the cache does
// not stay there.
func TestDeletedWhileRead(t *testing.T) {
	c, slow := cache(t, tier.CacheConfig{})
	k := chunk(t, []byte("fleeting"))
	for name, remove := range map[string]func(){
		"deleted": func() {
			if err := c.Delete(t.Context(), k.Hash()); err != nil {
				t.Error(err)
			}
		},
		"swept": func() {
			if err := slow.Delete(t.Context(), k.Hash()); err != nil {
				t.Error(err)
			}
			c.Forget(k.Hash())
		},
	} {
		if _, err := c.Put(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		slow.during = remove
		if _, err := c.Open(t.Context(), k.Hash()); err != nil {
			t.Errorf("%s: the reader that was first: %v", name, err)
		}
		slow.during = nil
		if _, err := c.Open(t.Context(), k.Hash()); !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("%s: the next reader: %v", name, err)
		}
	}
}

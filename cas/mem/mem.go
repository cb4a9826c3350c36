// Package mem keeps chunks in a map: the fake of every test, and the store of
// a browser's kernel. It is as durable as its process.
package mem

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"inos.dev/edge/cas"
)

// Config bounds a Store. The zero value is a store without a limit.
type Config struct {
	// MaxBytes is the most stored bytes that the store keeps; a Put beyond
	// answers cas.ErrNoSpace. 0 means no limit.
	MaxBytes int64
}

func (c Config) validate() error {
	if c.MaxBytes < 0 {
		return errors.New("mem: MaxBytes is negative; 0 means no limit")
	}
	return nil
}

// Store is a cas.Store in memory. It keeps the chunks' own bytes, without a
// copy.
type Store struct {
	maxBytes int64

	mu     sync.RWMutex
	chunks map[cas.Hash][]byte // guarded by mu
	bytes  int64               // guarded by mu: the sum of the chunks' sizes
}

var _ cas.Store = (*Store)(nil)

// New returns an empty store.
func New(cfg Config) (*Store, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Store{maxBytes: cfg.MaxBytes, chunks: map[cas.Hash][]byte{}}, nil
}

// Open implements cas.Store; the Body is cas.InMemory.
func (s *Store) Open(ctx context.Context, h cas.Hash) (cas.Body, error) {
	b, err := s.get(ctx, h)
	if err != nil {
		return nil, err
	}
	return cas.BytesBody(b), nil
}

// Stat implements cas.Store.
func (s *Store) Stat(ctx context.Context, h cas.Hash) (cas.Info, error) {
	b, err := s.get(ctx, h)
	if err != nil {
		return cas.Info{}, err
	}
	return cas.Info{Hash: h, Size: int64(len(b))}, nil
}

func (s *Store) get(ctx context.Context, h cas.Hash) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	b, ok := s.chunks[h]
	s.mu.RUnlock()
	if !ok {
		return nil, fmt.Errorf("%w: chunk %s", cas.ErrNotFound, h)
	}
	return b, nil
}

// Put implements cas.Store.
func (s *Store) Put(ctx context.Context, c cas.Chunk) (added bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if c.Hash().IsZero() {
		return false, fmt.Errorf("%w: the zero Chunk", cas.ErrShape)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.chunks[c.Hash()]; ok {
		return false, nil
	}
	if s.maxBytes > 0 && s.bytes+c.Size() > s.maxBytes {
		return false, fmt.Errorf("%w: %d of %d bytes in memory are taken; delete chunks or raise MaxBytes", cas.ErrNoSpace, s.bytes, s.maxBytes)
	}
	s.chunks[c.Hash()] = c.Bytes()
	s.bytes += c.Size()
	return true, nil
}

// Delete implements cas.Store.
func (s *Store) Delete(ctx context.Context, h cas.Hash) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes -= int64(len(s.chunks[h]))
	delete(s.chunks, h)
	return nil
}

// All implements cas.Store: it lists what was there when it was called.
func (s *Store) All(ctx context.Context) iter.Seq2[cas.Info, error] {
	return func(yield func(cas.Info, error) bool) {
		s.mu.RLock()
		infos := make([]cas.Info, 0, len(s.chunks))
		for h, b := range s.chunks {
			infos = append(infos, cas.Info{Hash: h, Size: int64(len(b))})
		}
		s.mu.RUnlock()
		for _, info := range infos {
			if err := ctx.Err(); err != nil {
				yield(cas.Info{}, err)
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

// Size returns the number of chunks and of their stored bytes.
func (s *Store) Size() (chunks int, bytes int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.chunks), s.bytes
}

package castest

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
)

// plainWriter hides every method of a buffer but Write.
type plainWriter struct{ b *bytes.Buffer }

func (w plainWriter) Write(p []byte) (int, error) { return w.b.Write(p) }

// examSections compares a Body with the byte slice that it stands for.
func examSections(t *testing.T, s cas.Store) {
	t.Helper()
	c := Random(t, 7, 200_003)
	put(t, s, c)
	b, err := s.Open(t.Context(), c.Hash())
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}()
	size := b.Size()
	if size != c.Size() {
		t.Fatalf("Size %d, want %d", size, c.Size())
	}
	t.Run("WriteSection", rapid.MakeCheck(func(t *rapid.T) {
		off := rapid.Int64Range(0, size).Draw(t, "off")
		n := rapid.Int64Range(0, size-off).Draw(t, "n")
		var buf bytes.Buffer
		var w io.Writer = &buf
		if rapid.Bool().Draw(t, "plain") {
			w = plainWriter{&buf}
		}
		m, err := b.WriteSection(w, off, n)
		if err != nil || m != n || !bytes.Equal(buf.Bytes(), c.Bytes()[off:off+n]) {
			t.Fatalf("WriteSection(%d, %d) = %d, %v; or the bytes differ", off, n, m, err)
		}
	}))
	t.Run("ReadAt", rapid.MakeCheck(func(t *rapid.T) {
		off := rapid.Int64Range(0, size).Draw(t, "off")
		p := make([]byte, rapid.IntRange(0, int(size)+10).Draw(t, "n"))
		m, err := b.ReadAt(p, off)
		want := c.Bytes()[off:min(size, off+int64(len(p)))]
		if !bytes.Equal(p[:m], want) {
			t.Fatalf("ReadAt(%d bytes, %d) gave %d bytes, want %d; or they differ", len(p), off, m, len(want))
		}
		if short := m < len(p); short != errors.Is(err, io.EOF) {
			t.Fatalf("ReadAt(%d bytes, %d) = %d, %v", len(p), off, m, err)
		}
	}))
	examBadSections(t, b)
	examFailingWriter(t, b)
}

func examBadSections(t *testing.T, b cas.Body) {
	t.Helper()
	size := b.Size()
	for _, bad := range [][2]int64{{-1, 1}, {0, -1}, {0, size + 1}, {size, 1}, {size + 1, 0}, {1, size}, {1 << 62, 1 << 62}} {
		var buf bytes.Buffer
		if n, err := b.WriteSection(&buf, bad[0], bad[1]); err == nil || n != 0 || buf.Len() != 0 {
			t.Errorf("WriteSection(%d, %d) of %d bytes: wrote %d, error %v", bad[0], bad[1], size, n, err)
		}
	}
	for _, off := range []int64{-1, size + 1} {
		if n, err := b.ReadAt(make([]byte, 1), off); err == nil || n != 0 {
			t.Errorf("ReadAt at %d of %d: %d bytes, error %v", off, size, n, err)
		}
	}
}

var errWriter = errors.New("this writer is broken")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errWriter }

func examFailingWriter(t *testing.T, b cas.Body) {
	t.Helper()
	if _, err := b.WriteSection(failingWriter{}, 0, b.Size()); !errors.Is(err, errWriter) {
		t.Errorf("WriteSection hides the writer's error: %v", err)
	}
}

func put(t *testing.T, s cas.Store, c cas.Chunk) (added bool) {
	t.Helper()
	added, err := s.Put(t.Context(), c)
	if err != nil {
		t.Fatalf("Put: %v", err)
	}
	return added
}

func wantChunk(t *testing.T, s cas.Store, c cas.Chunk) {
	t.Helper()
	info, err := s.Stat(t.Context(), c.Hash())
	if err != nil || info != (cas.Info{Hash: c.Hash(), Size: c.Size()}) {
		t.Errorf("Stat = %+v, %v; want %s with %d bytes", info, err, c.Hash(), c.Size())
	}
	b, err := s.Open(t.Context(), c.Hash())
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	got, err := cas.Load(b, nil)
	if err != nil || b.Size() != c.Size() || !bytes.Equal(got, c.Bytes()) {
		t.Errorf("the body of %s has %d bytes, %v; or they differ", c.Hash(), len(got), err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func wantAbsent(t *testing.T, s cas.Store, h cas.Hash) {
	t.Helper()
	if b, err := s.Open(t.Context(), h); !errors.Is(err, cas.ErrNotFound) || b != nil {
		t.Errorf("Open of an absent chunk: body %v, error %v; want ErrNotFound", b, err)
	}
	if _, err := s.Stat(t.Context(), h); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("Stat of an absent chunk: %v; want ErrNotFound", err)
	}
}

func list(t *testing.T, s cas.Store) map[cas.Hash]int64 {
	t.Helper()
	got := map[cas.Hash]int64{}
	for info, err := range s.All(t.Context()) {
		if err != nil {
			t.Fatalf("All: %v", err)
		}
		if _, twice := got[info.Hash]; twice {
			t.Errorf("All lists %s twice", info.Hash)
		}
		got[info.Hash] = info.Size
	}
	return got
}

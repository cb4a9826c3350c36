package disk

import (
	"bytes"
	"io"
	"os"
	"testing"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/castest"
)

// recorder is a writer as net/http's: it takes a source, and remembers which.
type recorder struct {
	bytes.Buffer
	source io.Reader
	plain  int // calls of Write
}

func (r *recorder) Write(p []byte) (int, error) { r.plain++; return r.Buffer.Write(p) }

func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	r.source = src
	return r.Buffer.ReadFrom(src)
}

// TestSendfile: a writer that can take a file gets exactly what the net
// package hands to sendfile.
func TestSendfile(t *testing.T) {
	s := openTest(t, Config{})
	c := castest.Random(t, 1, 100_000)
	if _, err := s.Put(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	b, err := s.Open(t.Context(), c.Hash())
	if err != nil {
		t.Fatal(err)
	}
	var w recorder
	if n, err := b.WriteSection(&w, 2, 99_000); n != 99_000 || err != nil {
		t.Fatalf("WriteSection = %d, %v", n, err)
	}
	limited, ok := w.source.(*io.LimitedReader)
	if !ok {
		t.Fatalf("the writer got a %T", w.source)
	}
	if _, ok := limited.R.(*os.File); !ok {
		t.Errorf("in the LimitedReader is a %T", limited.R)
	}
	if w.plain != 0 || !bytes.Equal(w.Bytes(), c.Bytes()[2:99_002]) {
		t.Errorf("%d plain writes; or the bytes differ", w.plain)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// TestHandles: idle handles are used again, bounded, and gone after a Delete.
func TestHandles(t *testing.T) {
	s := openTest(t, Config{Handles: 32})
	chunks := fill(t, s, 200)
	for _, c := range chunks {
		var open []cas.Body
		for range 3 {
			b, err := s.Open(t.Context(), c.Hash())
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, b)
		}
		if open[0].(*body).handle.file == open[1].(*body).handle.file {
			t.Fatal("two bodies share a handle")
		}
		for _, b := range open {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := s.idle.idleCount(); n == 0 || n > 32 {
		t.Errorf("%d idle handles, want 1 to 32", n)
	}
	wantReused(t, s, chunks[199])
	for _, c := range chunks {
		if err := s.Delete(t.Context(), c.Hash()); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.idle.idleCount(); n != 0 {
		t.Errorf("%d idle handles of deleted chunks", n)
	}
}

func wantReused(t *testing.T, s *Store, c cas.Chunk) {
	t.Helper()
	var last *os.File
	for i := range 3 {
		b, err := s.Open(t.Context(), c.Hash())
		if err != nil {
			t.Fatal(err)
		}
		file := b.(*body).handle.file
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if i > 0 && file != last {
			t.Error("a hot chunk was opened again")
		}
		last = file
	}
}

// TestHandleOfDeleted: a handle that was in use when its chunk was deleted is
// not kept, and neither is one without a pool.
func TestHandleOfDeleted(t *testing.T) {
	for _, handles := range []int{32, -1} {
		s := openTest(t, Config{Handles: handles})
		c := fill(t, s, 1)[0]
		b, err := s.Open(t.Context(), c.Hash())
		if err != nil {
			t.Fatal(err)
		}
		if handles > 0 {
			if err := s.Delete(t.Context(), c.Hash()); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if n := s.idle.idleCount(); n != 0 {
			t.Errorf("Handles %d: %d idle", handles, n)
		}
	}
}

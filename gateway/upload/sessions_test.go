package upload

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cas/mem"
)

// fatalist is what *testing.T and *rapid.T have in common here.
type fatalist interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func newWriter(t fatalist) *dag.Writer {
	t.Helper()
	store, err := mem.New(mem.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return dag.NewWriter(store, dag.WriterConfig{})
}

func open(t fatalist, dir string, w *dag.Writer) *Sessions {
	t.Helper()
	s, err := Open(Config{Dir: dir, Writer: w, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func create(t fatalist, s *Sessions, length int) Session {
	t.Helper()
	in, err := s.Create(Session{Length: int64(length), Owner: "a", Name: "n", MediaType: "text/plain"})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(n), 0))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func nobody() {}

// TestPartsProperty: a file that arrives in any parts, some of them broken
// off, over restarts, becomes the object that it is in one go.
func TestPartsProperty(t *testing.T) {
	const most = 2*cas.PieceSize + 5
	whole := noise(most)
	dirs, runs := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		dir := filepath.Join(dirs, strconv.Itoa(runs))
		runs++
		w := newWriter(rt)
		file := whole[:rapid.SampledFrom([]int{0, 1, 1000, 30_000, cas.PieceSize, cas.PieceSize + 1, most}).Draw(rt, "length")]
		s := open(rt, dir, w)
		in := create(rt, s, len(file))
		for in.Object == nil {
			_, at, err := s.Get(t.Context(), in.ID)
			if err != nil {
				rt.Fatal(err)
			}
			n := rapid.IntRange(0, len(file)-int(at)).Draw(rt, "part")
			if rapid.Bool().Draw(rt, "rest") {
				n = len(file) - int(at)
			}
			var r io.Reader = bytes.NewReader(file[at:][:n])
			broken := n > 0 && rapid.IntRange(0, 3).Draw(rt, "broken") == 0
			if broken {
				r = io.MultiReader(bytes.NewReader(file[at:][:n-1]), iotestErr{})
			}
			next, now, err := s.Append(t.Context(), in.ID, at, r, nobody)
			if (err != nil) != broken {
				rt.Fatalf("part of %d bytes at %d: %v", n, at, err)
			}
			if !broken && now != at+int64(n) || now < at-at%cas.PieceSize {
				rt.Fatalf("part of %d bytes at %d: now at %d", n, at, now)
			}
			in = next
			if rapid.IntRange(0, 2).Draw(rt, "restart") == 0 {
				if err := s.Close(); err != nil {
					rt.Fatal(err)
				}
				s = open(rt, dir, w)
			}
		}
		want, err := w.File(t.Context(), bytes.NewReader(file), "text/plain")
		if err != nil || *in.Object != want {
			rt.Fatalf("%+v\nwant %+v, %v", *in.Object, want, err)
		}
		if err := s.Close(); err != nil {
			rt.Fatal(err)
		}
	})
}

var errBroken = errors.New("broken off")

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, errBroken }

// TestTornRecords: whatever the end of a log has become, the upload stands at the
// last whole record, and can be finished from there.
func TestTornRecords(t *testing.T) {
	file := noise(3 * cas.PieceSize)
	for name, tear := range map[string]func(log []byte) []byte{
		"whole":            func(b []byte) []byte { return b },
		"a byte less":      func(b []byte) []byte { return b[:len(b)-1] },
		"a byte more":      func(b []byte) []byte { return append(b, 0) },
		"zeros behind":     func(b []byte) []byte { return append(b, make([]byte, recordSize)...) },
		"a bit in the end": func(b []byte) []byte { b[len(b)-recordSize/2] ^= 1; return b },
		"a bit in front":   func(b []byte) []byte { b[5] ^= 1; return b },
		"half a record":    func(b []byte) []byte { return b[:recordSize/2] },
		"nothing":          func([]byte) []byte { return nil },
	} {
		dir, w := t.TempDir(), newWriter(t)
		s := open(t, dir, w)
		in := create(t, s, len(file))
		if _, at, err := s.Append(t.Context(), in.ID, 0, bytes.NewReader(file[:2*cas.PieceSize]), nobody); err != nil || at != 2*cas.PieceSize {
			t.Fatalf("%d, %v", at, err)
		}
		path := filepath.Join(dir, in.ID+".log")
		log, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Close(), os.WriteFile(path, tear(log), 0o600)); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, w) // what tears a log ends the process
		_, at, err := s.Get(t.Context(), in.ID)
		want := map[string]int64{"whole": 2, "a byte more": 2, "zeros behind": 2, "a byte less": 1, "a bit in the end": 1}[name]
		if err != nil || at != want*cas.PieceSize {
			t.Errorf("%s: at %d, %v", name, at, err)
		}
		done, _, err := s.Append(t.Context(), in.ID, at, bytes.NewReader(file[at:]), nobody)
		if err != nil || done.Object == nil || done.Object.SHA256 != sha(t, w, file) {
			t.Errorf("%s: %+v, %v", name, done.Object, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func sha(t *testing.T, w *dag.Writer, file []byte) cas.Hash {
	t.Helper()
	o, err := w.File(t.Context(), bytes.NewReader(file), "text/plain")
	if err != nil {
		t.Fatal(err)
	}
	return o.SHA256
}

// TestStaleTail: a tail that belongs behind fewer pieces than there are now is
// not used.
func TestStaleTail(t *testing.T) {
	dir, w := t.TempDir(), newWriter(t)
	s := open(t, dir, w)
	file := noise(2*cas.PieceSize + 10)
	in := create(t, s, len(file))
	if _, at, err := s.Append(t.Context(), in.ID, 0, bytes.NewReader(file[:1000]), nobody); err != nil || at != 1000 {
		t.Fatalf("%d, %v", at, err)
	}
	// The tail becomes part of a piece, and the rest of the part is lost.
	part := io.MultiReader(bytes.NewReader(file[1000:cas.PieceSize+500]), iotestErr{})
	if _, _, err := s.Append(t.Context(), in.ID, 1000, part, nobody); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, in.ID+".tail")); err != nil {
		t.Fatalf("the test needs a stale tail: %v", err)
	}
	_, at, err := s.Get(t.Context(), in.ID)
	if err != nil || at != cas.PieceSize {
		t.Fatalf("at %d, %v", at, err)
	}
	done, _, err := s.Append(t.Context(), in.ID, at, bytes.NewReader(file[at:]), nobody)
	if err != nil || done.Object == nil || done.Object.SHA256 != sha(t, w, file) {
		t.Errorf("%+v, %v", done.Object, err)
	}
}

// TestRefusals: parts that do not fit leave an upload where it was.
func TestRefusals(t *testing.T) {
	s := open(t, t.TempDir(), newWriter(t))
	in := create(t, s, 100)
	for name, test := range map[string]struct {
		id     string
		offset int64
		part   string
		err    error
	}{
		"another offset":  {in.ID, 5, "x", ErrOffset},
		"too many bytes":  {in.ID, 0, strings.Repeat("x", 101), cas.ErrTooLarge},
		"no such upload":  {strings.Repeat("0", 32), 0, "x", cas.ErrNotFound},
		"no id":           {"../" + in.ID, 0, "x", cas.ErrNotFound},
		"upper case":      {strings.ToUpper(in.ID), 0, "x", cas.ErrNotFound},
		"negative offset": {in.ID, -1, "x", ErrOffset},
	} {
		if name == "upper case" && test.id == in.ID {
			continue // an id of digits alone
		}
		if _, _, err := s.Append(t.Context(), test.id, test.offset, strings.NewReader(test.part), nobody); !errors.Is(err, test.err) {
			t.Errorf("%s: %v", name, err)
		}
		if _, at, err := s.Get(t.Context(), in.ID); err != nil || at != 0 {
			t.Errorf("%s: at %d, %v", name, at, err)
		}
	}
	if _, _, err := s.Append(t.Context(), in.ID, 0, strings.NewReader(strings.Repeat("x", 100)), nobody); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Append(t.Context(), in.ID, 100, strings.NewReader(""), nobody); !errors.Is(err, ErrOffset) {
		t.Errorf("a part of a complete upload: %v", err)
	}
}

// TestTooMany: sessions are bounded, deleted ones make room, and a restart
// counts what is there.
func TestTooMany(t *testing.T) {
	dir, w := t.TempDir(), newWriter(t)
	s, err := Open(Config{Dir: dir, Writer: w, MaxSessions: 2})
	if err != nil {
		t.Fatal(err)
	}
	first := create(t, s, 1)
	create(t, s, 1)
	if _, err := s.Create(Session{Length: 1}); !errors.Is(err, ErrTooMany) {
		t.Errorf("a third: %v", err)
	}
	if err := s.Delete(t.Context(), first.ID); err != nil || s.Count() != 1 {
		t.Errorf("%d sessions, %v", s.Count(), err)
	}
	if err := s.Delete(t.Context(), first.ID); !errors.Is(err, cas.ErrNotFound) || s.Count() != 1 {
		t.Errorf("again: %d sessions, %v", s.Count(), err)
	}
	if again := open(t, dir, w); again.Count() != 1 {
		t.Errorf("after a restart %d sessions", again.Count())
	}
}

// stuck is the body of a client that is gone: Read hangs until somebody
// interrupts it.
type stuck struct {
	reading, cut chan struct{}
}

func newStuck() *stuck { return &stuck{make(chan struct{}), make(chan struct{})} }

func (s *stuck) Read([]byte) (int, error) {
	close(s.reading)
	<-s.cut
	return 0, errBroken
}

// TestTakeover: a later part, or a question for the offset, interrupts a part
// whose client is gone; one that cannot be interrupted keeps the session.
func TestTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), newWriter(t))
		defer s.Close()
		in := create(t, s, 10)
		body := newStuck()
		ended := make(chan error, 1)
		go func() {
			_, _, err := s.Append(t.Context(), in.ID, 0, body, func() { close(body.cut) })
			ended <- err
		}()
		<-body.reading
		if _, at, err := s.Get(t.Context(), in.ID); err != nil || at != 0 {
			t.Errorf("at %d, %v", at, err)
		}
		if err := <-ended; !errors.Is(err, errBroken) {
			t.Errorf("the first part: %v", err)
		}

		deaf := newStuck()
		go func() {
			_, _, err := s.Append(t.Context(), in.ID, 0, deaf, nobody)
			ended <- err
		}()
		<-deaf.reading
		began := time.Now()
		if _, _, err := s.Get(t.Context(), in.ID); !errors.Is(err, ErrLocked) || time.Since(began) != takeover {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		close(deaf.cut)
		<-ended
		if _, _, err := s.Append(t.Context(), in.ID, 0, strings.NewReader("0123456789"), nobody); err != nil {
			t.Error(err)
		}
	})
}

// TestExpiry: a session goes when its time is over, but not while a part of it
// is on its way, and one that cannot be read does not keep the others.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, newWriter(t))
		defer s.Close()
		old, busy := create(t, s, 10), create(t, s, 10)
		damaged := strings.Repeat("0", 32)
		if err := os.WriteFile(filepath.Join(dir, damaged+".json"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
		body := newStuck()
		ended := make(chan error, 1)
		go func() {
			_, _, err := s.Append(t.Context(), busy.ID, 0, body, nobody)
			ended <- err
		}()
		<-body.reading
		time.Sleep(12 * time.Hour)
		fresh := create(t, s, 10)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(13 * time.Hour)
		synctest.Wait()
		for id, here := range map[string]bool{old.ID: false, busy.ID: true, fresh.ID: true} {
			if _, err := os.Stat(filepath.Join(dir, id+".json")); (err == nil) != here {
				t.Errorf("%s: %v", id, err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		close(body.cut)
		<-ended
	})
}

// TestKeep names the pieces of unfinished uploads, which the collector spares.
func TestKeep(t *testing.T) {
	s := open(t, t.TempDir(), newWriter(t))
	in := create(t, s, 3*cas.PieceSize)
	file := noise(2*cas.PieceSize + 100)
	if _, _, err := s.Append(t.Context(), in.ID, 0, bytes.NewReader(file), nobody); err != nil {
		t.Fatal(err)
	}
	var kept []cas.Hash
	if err := s.Keep(t.Context(), func(h cas.Hash) { kept = append(kept, h) }); err != nil || len(kept) != 2 {
		t.Fatalf("%v, %v", kept, err)
	}
	for i, h := range kept {
		c, _, err := dag.EncodePiece(file[i*cas.PieceSize:][:cas.PieceSize], int64(i))
		if err != nil || c.Hash() != h {
			t.Errorf("piece %d: %s, %v", i, h, err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	link := cas.Piece{Hash: cas.Sum([]byte("h")), Raw: cas.Sum([]byte("r")), CV: cas.Sum([]byte("c")), Size: cas.PieceSize, Encoded: 99}
	good, err := encodeRecord(link, make([]byte, stateSize))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:recordSize-1])
	f.Add(append(bytes.Clone(good), 1, 2, 3))
	f.Add(make([]byte, recordSize))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		link, state, ok := decodeRecord(b)
		if !ok {
			return
		}
		again, err := encodeRecord(link, state)
		if err != nil || !bytes.Equal(again, b[:recordSize]) {
			t.Errorf("a record that is not what it says: %v", err)
		}
	})
}

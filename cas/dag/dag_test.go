package dag_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"lukechampine.com/blake3"
	"pgregory.net/rapid"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cas/mem"
)

func store(t testing.TB) *mem.Store {
	t.Helper()
	s, err := mem.New(mem.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// mixed makes n bytes that are noise in one half and text in the other.
func mixed(n int, seed uint64) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		if i/70_000%2 == 0 {
			b[i] = byte(rng.Uint32())
		} else {
			b[i] = "all work and no play "[(i+int(seed))%21]
		}
	}
	return b
}

func write(t testing.TB, s *mem.Store, b []byte) dag.Object {
	t.Helper()
	o, err := dag.NewWriter(s, dag.WriterConfig{}).File(t.Context(), bytes.NewReader(b), "text/plain")
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestFileRoundTrip(t *testing.T) {
	const piece = cas.PieceSize
	for _, n := range []int{0, 1, 1023, 1024, 1025, piece - 1, piece, piece + 1, 2 * piece, 3*piece + 5, 7*piece + 1024} {
		s := store(t)
		want := mixed(n, uint64(n))
		o := write(t, s, want)
		if o.Raw != cas.Hash(blake3.Sum256(want)) || o.SHA256 != cas.Hash(sha256.Sum256(want)) {
			t.Errorf("%d bytes: digests differ from the plain hashes", n)
		}
		root, err := dag.Root(t.Context(), dag.Manifests{Getter: s}, o.Hash)
		if err != nil {
			t.Fatal(err)
		}
		if root.Size != int64(n) || dag.ObjectOf(o.Hash, root) != o {
			t.Errorf("%d bytes: manifest %+v, written %+v", n, root, o)
		}
		var got bytes.Buffer
		if _, err := dag.Copy(t.Context(), &got, s, dag.Manifests{Getter: s}, root, 0, root.Size); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%d bytes: read back differently", n)
		}
	}
}

// TestRangesProperty compares ranges of an object with those of a byte slice.
func TestRangesProperty(t *testing.T) {
	s := store(t)
	want := mixed(4*cas.PieceSize+777, 3)
	o := write(t, s, want)
	source := dag.Manifests{Getter: s}
	root, err := dag.Root(t.Context(), source, o.Hash)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.IntRange(0, len(want)).Draw(t, "from")
		n := rapid.IntRange(0, len(want)-from).Draw(t, "n")
		var got bytes.Buffer
		if _, err := dag.Copy(context.Background(), &got, s, source, root, int64(from), int64(n)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want[from:from+n]) {
			t.Fatalf("range %d+%d differs", from, n)
		}
	})
}

// fakeSource has manifests without their chunks, so that deep trees are cheap.
type fakeSource map[cas.Hash]*cas.Manifest

func (f fakeSource) Manifest(_ context.Context, h cas.Hash) (*cas.Manifest, error) {
	m, ok := f[h]
	if !ok {
		return nil, cas.ErrNotFound
	}
	return m, nil
}

// TestDeepTree builds manifests over millions of pieces and walks to places in
// them, by raw and by joined offset.
func TestDeepTree(t *testing.T) {
	for _, count := range []int64{cas.Fanout, cas.Fanout + 1, 2 * cas.Fanout, 5*cas.Fanout + 17, cas.Fanout*cas.Fanout + 1, cas.Fanout*cas.Fanout + cas.Fanout + 1} {
		source := fakeSource{}
		root := dag.BuildForTest(t, source, count)
		if root.Count != count || root.Size != count*cas.PieceSize {
			t.Fatalf("%d pieces: root says %d", count, root.Count)
		}
		for _, index := range []int64{0, 1, cas.Fanout - 1, count / 2, count - 1} {
			joined := cas.BodyOffset + index*(dag.TestEncoded-cas.FrameOverhead)
			for name, from := range map[string]dag.Place{"raw": dag.At(index*cas.PieceSize + 5), "joined": dag.AtJoined(joined)} {
				for span, err := range dag.Spans(t.Context(), source, root, from) {
					if err != nil {
						t.Fatal(err)
					}
					if span.Index != index || span.Offset != index*cas.PieceSize || span.Joined != joined {
						t.Fatalf("%s: %d pieces: looked for %d, got %+v", name, count, index, span)
					}
					break
				}
			}
		}
	}
}

func TestPartial(t *testing.T) {
	want := mixed(5*cas.PieceSize+999, 9)
	s := store(t)
	whole := write(t, s, want)
	w := dag.NewWriter(s, dag.WriterConfig{})
	rapid.Check(t, func(t *rapid.T) {
		var links []cas.Piece
		var state, tail []byte
		for at := 0; at < len(want); {
			p, err := w.Resume(sequence(links), state)
			if err != nil {
				t.Fatal(err)
			}
			n := rapid.IntRange(1, len(want)-at).Draw(t, "part")
			part := io.MultiReader(bytes.NewReader(tail), bytes.NewReader(want[at:at+n]))
			next, err := p.Append(context.Background(), part, func(l cas.Piece, s []byte) error {
				links, state = append(links, l), s
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			tail = next
			at += n
		}
		p, err := w.Resume(sequence(links), state)
		if err != nil {
			t.Fatal(err)
		}
		o, err := p.Finish(context.Background(), tail, "text/plain")
		if err != nil || o != whole {
			t.Fatalf("in parts %+v, whole %+v: %v", o, whole, err)
		}
	})
}

func sequence(links []cas.Piece) func(func(cas.Piece, error) bool) {
	return func(yield func(cas.Piece, error) bool) {
		for _, l := range links {
			if !yield(l, nil) {
				return
			}
		}
	}
}

func TestDirectoryLookup(t *testing.T) {
	s := store(t)
	tree := dag.NewWriter(s, dag.WriterConfig{}).Tree(t.Context())
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	file := func(name, text string) {
		t.Helper()
		must(tree.File(name, strings.NewReader(text), int64(len(text)), false))
	}
	for i := range 5000 {
		file(fmt.Sprintf("many/%05d.txt", i), fmt.Sprint(i))
	}
	file("a/b/c.txt", "deep")
	must(tree.Link("short", "a/b"))
	must(tree.Link("a/up", "../many"))
	must(tree.Link("loop", "loop"))
	must(tree.Dir("empty"))
	o, err := tree.Finish(t.Context())
	must(err)
	source := dag.Manifests{Getter: s}
	for name, want := range map[string]string{
		"": "", "a/b/c.txt": "a/b/c.txt", "short/c.txt": "a/b/c.txt", "a/up/04999.txt": "many/04999.txt",
		"many/00000.txt": "many/00000.txt", "many/02048.txt": "many/02048.txt", "empty/": "empty", "a/./b//": "a/b",
	} {
		f, err := dag.Lookup(t.Context(), source, o.Hash, name)
		if err != nil || f.Path != want {
			t.Errorf("%q leads to %q: %v", name, f.Path, err)
		}
	}
	for _, name := range []string{"nothing", "many/05000.txt", "a/b/c.txt/d", "loop", "..", "a/../../x"} {
		if _, err := dag.Lookup(t.Context(), source, o.Hash, name); !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	many, err := dag.Lookup(t.Context(), source, o.Hash, "many")
	must(err)
	var names []string
	for e, err := range dag.Entries(t.Context(), source, many.Manifest, "04000.txt") {
		must(err)
		names = append(names, e.Name)
	}
	if len(names) != 1000 || !slices.IsSorted(names) || names[0] != "04000.txt" {
		t.Errorf("listing from the middle has %d names", len(names))
	}
}

func TestUnpackRefuses(t *testing.T) {
	for name, h := range map[string]tar.Header{
		"traversal":     {Name: "../evil", Typeflag: tar.TypeReg},
		"absolute":      {Name: "/etc/passwd", Typeflag: tar.TypeReg},
		"link out":      {Name: "d/l", Typeflag: tar.TypeSymlink, Linkname: "../../x"},
		"absolute link": {Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		"hard link":     {Name: "l", Typeflag: tar.TypeLink, Linkname: "missing"},
		"bad name":      {Name: "a\x01b", Typeflag: tar.TypeReg},
		"too deep":      {Name: strings.Repeat("d/", 200) + "f", Typeflag: tar.TypeReg},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := errors.Join(w.WriteHeader(&h), w.Close()); err != nil {
			t.Fatal(name, err)
		}
		s := store(t)
		_, _, err := dag.NewWriter(s, dag.WriterConfig{}).Unpack(t.Context(), &b)
		if !errors.Is(err, cas.ErrCorrupt) && !errors.Is(err, cas.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := store(t)
	if _, _, err := dag.NewWriter(s, dag.WriterConfig{}).Unpack(t.Context(), strings.NewReader(strings.Repeat("no tar at all ", 100))); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("garbage: %v", err)
	}
}

func TestWriterReportsFailures(t *testing.T) {
	s, err := mem.New(mem.Config{MaxBytes: 3 << 20})
	if err != nil {
		t.Fatal(err)
	}
	w := dag.NewWriter(s, dag.WriterConfig{InFlight: 4})
	noise := make([]byte, 12<<20)
	rng := rand.NewChaCha8([32]byte{1})
	if _, err := rng.Read(noise); err != nil {
		t.Fatal(err)
	}
	if _, err := w.File(t.Context(), bytes.NewReader(noise), "text/plain"); !errors.Is(err, cas.ErrNoSpace) {
		t.Errorf("full store: %v", err)
	}
	w = dag.NewWriter(store(t), dag.WriterConfig{InFlight: 4})
	broken := io.MultiReader(bytes.NewReader(noise[:2<<20]), failing{})
	if _, err := w.File(t.Context(), broken, "text/plain"); !errors.Is(err, errBroken) {
		t.Errorf("broken reader: %v", err)
	}
	truncated := io.MultiReader(bytes.NewReader(noise[:2<<20+5]), iotest.ErrReader(io.ErrUnexpectedEOF))
	if _, err := w.File(t.Context(), truncated, "text/plain"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a truncated body was taken for complete: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.File(ctx, bytes.NewReader(noise), "text/plain"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

var errBroken = errors.New("broken reader")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBroken }

func FuzzUnpack(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: 3, Mode: 0o644}), writeString(w, "abc"), w.Close()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, archive []byte) {
		s := store(t)
		o, _, err := dag.NewWriter(s, dag.WriterConfig{}).Unpack(t.Context(), bytes.NewReader(archive))
		if err != nil {
			return
		}
		if _, err := dag.Root(t.Context(), dag.Manifests{Getter: s}, o.Hash); err != nil {
			t.Fatalf("unpacked to something unreadable: %v", err)
		}
	})
}

func writeString(w io.Writer, s string) error {
	_, err := io.WriteString(w, s)
	return err
}

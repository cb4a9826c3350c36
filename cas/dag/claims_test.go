package dag_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lukechampine.com/blake3/guts"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
)

// leafCV is a BLAKE3 chaining value by the definition, one leaf at a time.
func leafCV(b []byte, counter uint64) [8]uint32 {
	if len(b) <= guts.ChunkSize {
		return guts.ChainingValue(guts.CompressChunk(b, &guts.IV, counter, 0))
	}
	left := guts.ChunkSize
	for 2*left < len(b) {
		left *= 2
	}
	return guts.ChainingValue(guts.ParentNode(leafCV(b[:left], counter), leafCV(b[left:], counter+uint64(left/guts.ChunkSize)), &guts.IV, 0))
}

// TestChainingValues: each link carries the piece's BLAKE3 and its chaining
// value at its offset.
func TestChainingValues(t *testing.T) {
	for _, n := range []int{1, 1024, 1025, 16 << 10, 16<<10 + 1, 17 << 10, 300_001, cas.PieceSize - 1, cas.PieceSize, 2*cas.PieceSize + 40_000} {
		s := store(t)
		data := mixed(n, 5)
		o := write(t, s, data)
		root, err := dag.Root(t.Context(), dag.Manifests{Getter: s}, o.Hash)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range root.Pieces {
			piece := data[i*cas.PieceSize:][:p.Size]
			words := leafCV(piece, uint64(i)*cas.PieceSize/guts.ChunkSize)
			var want cas.Hash
			for j, w := range words {
				want[4*j], want[4*j+1], want[4*j+2], want[4*j+3] = byte(w), byte(w>>8), byte(w>>16), byte(w>>24)
			}
			if p.CV != want || p.Raw != cas.Sum(piece) {
				t.Errorf("%d bytes, piece %d: wrong chaining value or BLAKE3", n, i)
			}
		}
	}
}

// TestWholeHashes holds an object's digests against the programs that people
// check them with.
func TestWholeHashes(t *testing.T) {
	data := mixed(3*cas.PieceSize+12345, 8)
	file := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	o := write(t, store(t), data)
	for program, want := range map[string]cas.Hash{"b3sum": o.Raw, "sha256sum": o.SHA256} {
		out, err := exec.Command(program, file).Output()
		if err != nil {
			t.Fatalf("%s: %v", program, err)
		}
		if got := strings.Fields(string(out))[0]; got != want.String() {
			t.Errorf("%s says %s, the manifest %s", program, got, want)
		}
	}
}

// TestClaims: a link that says something wrong of its chunk is found out.
func TestClaims(t *testing.T) {
	s := store(t)
	o := write(t, s, mixed(cas.PieceSize+100, 1))
	root, err := dag.Root(t.Context(), dag.Manifests{Getter: s}, o.Hash)
	if err != nil {
		t.Fatal(err)
	}
	other := cas.Sum([]byte("something else"))
	for name, change := range map[string]func(*cas.Piece){
		"stored length": func(p *cas.Piece) { p.Encoded-- },
		"raw length":    func(p *cas.Piece) { p.Size-- },
		"raw BLAKE3":    func(p *cas.Piece) { p.Raw = other },
	} {
		lying := *root
		lying.Pieces = append([]cas.Piece(nil), root.Pieces...)
		change(&lying.Pieces[1])
		var got bytes.Buffer
		_, err := dag.Copy(t.Context(), &got, s, dag.Manifests{Getter: s}, &lying, 0, root.Size)
		if !errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if got.Len() > cas.PieceSize {
			t.Errorf("%s: bytes of the wrong piece were handed on", name)
		}
	}
}

// TestMediaType is the rule of the format.
func TestMediaType(t *testing.T) {
	for _, c := range []struct{ explicit, name, want string }{
		{"", "", "application/octet-stream"},
		{"", "index.HTML", "text/html; charset=utf-8"},
		{"", "app.wasm", "application/wasm"},
		{"", "archive.tar.gz", "application/gzip"},
		{"", "noextension", "application/octet-stream"},
		{"text/x-mine", "a.html", "text/x-mine"},
		{"Text/HTML; Charset=UTF-8", "a.png", "text/html; charset=utf-8"},
		{"application/x-www-form-urlencoded", "a.png", "image/png"},
		{"multipart/form-data; boundary=x", "a.png", "image/png"},
		{"application/octet-stream", "a.png", "image/png"},
		{"not a type", "a.png", "image/png"},
		{"text/plain\r\nX-Evil: 1", "a.png", "image/png"},
		{"text/" + strings.Repeat("x", 200), "a.png", "image/png"},
	} {
		if got := dag.MediaType(c.explicit, c.name); got != c.want {
			t.Errorf("%q, %q: %q, want %q", c.explicit, c.name, got, c.want)
		}
	}
}

// TestMediaTypeMakesObjects: the same bytes with two types are two objects
// over the same chunks.
func TestMediaTypeMakesObjects(t *testing.T) {
	s := store(t)
	w := dag.NewWriter(s, dag.WriterConfig{})
	data := mixed(100_000, 2)
	a, errA := w.File(t.Context(), bytes.NewReader(data), "text/plain")
	b, errB := w.File(t.Context(), bytes.NewReader(data), "text/html")
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	if chunks, _ := s.Size(); a.Hash == b.Hash || chunks != 3 {
		t.Errorf("objects %s and %s, %d chunks in all; want two objects, two manifests and one piece", a.Hash, b.Hash, chunks)
	}
}

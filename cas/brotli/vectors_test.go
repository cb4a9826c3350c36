package brotli

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"

	"inos.dev/edge/cas"
)

var update = flag.Bool("update", false, "write the golden vectors anew: a new profile, never an edit")

// vector pins one chunk. The piece is made by a rule that every language can
// follow: Noise bytes of the generator x = 1664525·x + 1013904223 mod 2^32
// (from Seed; the byte is x >> 24, its low Bits bits kept), then Text repeated
// up to Length.
type vector struct {
	Name   string
	Seed   uint32
	Noise  int
	Bits   int
	Text   string
	Length int

	Piece string // BLAKE3 of the piece
	Form  string // encoded or raw
	Size  int    // of the chunk
	Hash  string // of the chunk
	Chunk string `json:",omitempty"` // all of it, in hexadecimal, if it is short
}

func (v *vector) piece() []byte {
	b := make([]byte, 0, v.Length)
	x := v.Seed
	for range v.Noise {
		x = 1664525*x + 1013904223
		b = append(b, byte(x>>24)&(1<<v.Bits-1))
	}
	for len(b) < v.Length {
		b = append(b, v.Text...)
	}
	return b[:v.Length]
}

const vectorFile = "../testdata/vectors.json"

// TestVectors: the same piece makes the same chunk on every CPU and in every
// build. A difference means that a dependency has changed its output (perhaps
// another one forced its version): pin it back.
func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	b, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(b, &vectors); err != nil || len(vectors) < 20 {
		t.Fatalf("%d vectors: %v", len(vectors), err)
	}
	for _, want := range vectors {
		got := want
		got.fill(t)
		if got != want {
			t.Errorf("%s: the chunk is %s (%s, %d bytes), pinned is %s (%s, %d bytes); was github.com/andybalholm/brotli moved from v1.2.8, by another dependency perhaps?",
				want.Name, got.Hash, got.Form, got.Size, want.Hash, want.Form, want.Size)
		}
	}
}

func (v *vector) fill(t *testing.T) {
	t.Helper()
	p := v.piece()
	c, err := Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	v.Piece, v.Hash, v.Size, v.Form, v.Chunk = cas.Sum(p).String(), c.Hash().String(), int(c.Size()), "encoded", ""
	if _, ok := cas.RawForm(c.Bytes(), c.Size()); ok {
		v.Form = "raw"
	}
	if v.Size <= 100 {
		v.Chunk = hex.EncodeToString(c.Bytes())
	}
}

func writeVectors(t *testing.T) {
	t.Helper()
	list := []vector{
		{Name: "one byte", Text: "x", Length: 1},
		{Name: "one zero", Text: "\x00", Length: 1},
		{Name: "short text", Text: "hello, hello, hello, hello, hello", Length: 33},
		{Name: "noise 1 KiB", Seed: 1, Noise: 1024, Bits: 8, Length: 1024},
		{Name: "noise 64 KiB", Seed: 2, Noise: 65536, Bits: 8, Length: 65536},
		{Name: "noise 64 KiB + 1", Seed: 3, Noise: 65537, Bits: 8, Length: 65537},
		{Name: "noise full", Seed: 4, Noise: cas.PieceSize, Bits: 8, Length: cas.PieceSize},
		{Name: "zeros full", Text: "\x00", Length: cas.PieceSize},
		{Name: "period 7 full", Text: "1234567", Length: cas.PieceSize},
		{Name: "nibbles full", Seed: 5, Noise: cas.PieceSize, Bits: 4, Length: cas.PieceSize},
		{Name: "bits 100,000", Seed: 6, Noise: 100_000, Bits: 1, Length: 100_000},
	}
	for _, n := range []int{65534, 65535, 65536, 65537, 65538, 131072, cas.PieceSize - 1} {
		list = append(list, vector{Name: "mixed " + cas.Sum([]byte{byte(n)}).String()[:4], Seed: uint32(n), Noise: n / 3, Bits: 7, Text: "The quick brown fox jumps over the lazy dog. ", Length: n})
	}
	list = append(list, ties(t)...)
	for i := range list {
		list[i].fill(t)
	}
	b, err := json.MarshalIndent(list, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorFile, append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// encodedSize is the length of the encoded form, taken or not.
func encodedSize(t *testing.T, p []byte) int {
	t.Helper()
	e := newEncoder()
	e.writer.Reset(&e.out)
	if _, err := e.writer.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := e.writer.Close(); err != nil {
		t.Fatal(err)
	}
	return e.out.Len() + cas.FrameOverhead
}

// ties looks for pieces whose encoded form is exactly as long as the piece, a
// byte shorter and a byte longer.
func ties(t *testing.T) (list []vector) {
	t.Helper()
	names := map[int]string{-1: "encoded one below the piece", 0: "encoded as long as the piece", 1: "encoded one above the piece"}
	for i := 0; i < 40_000 && len(names) > 0; i++ {
		noise := 200 + i/200
		v := vector{Seed: uint32(noise), Noise: noise, Bits: 8, Text: "ab", Length: noise + i%200}
		d := encodedSize(t, v.piece()) - v.Length
		if name, ok := names[d]; ok {
			v.Name = name
			list = append(list, v)
			delete(names, d)
		}
	}
	if len(names) > 0 {
		t.Fatalf("not found: %v", names)
	}
	return list
}

// TestRawForm: taken if and only if the encoded form is at least as long as
// the piece; always 7 bytes more; the piece lies at offset 5.
func TestRawForm(t *testing.T) {
	for n := 1; n < 1200; n += 7 {
		for _, bits := range []int{8, 7, 6, 1} {
			v := vector{Seed: uint32(n), Noise: n, Bits: bits, Length: n}
			p := v.piece()
			c, err := Encode(p)
			if err != nil {
				t.Fatal(err)
			}
			size, raw := cas.RawForm(c.Bytes(), c.Size())
			if raw != (encodedSize(t, p) >= n) {
				t.Fatalf("%d bytes: raw is %v, the encoded form has %d", n, raw, encodedSize(t, p))
			}
			if raw && (c.Size() != int64(n)+cas.RawOverhead || size != int64(n) || !bytes.Equal(c.Bytes()[cas.RawPieceOffset:][:n], p)) {
				t.Fatalf("%d bytes: the raw form is not what it should be", n)
			}
		}
	}
}

// TestReferenceFiles runs Brotli's own test files through the profile: what we
// encode, the general decoder reads; and what others have encoded, our decoder
// reads right or refuses.
func TestReferenceFiles(t *testing.T) {
	names, err := filepath.Glob("testdata/reference/*")
	if err != nil || len(names) < 40 {
		t.Fatalf("%d files: %v", len(names), err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		base, _, foreign := strings.Cut(name, ".compressed")
		if !foreign {
			referencePlain(t, name, data)
			continue
		}
		want, err := os.ReadFile(base)
		if err != nil {
			t.Fatal(err)
		}
		general, err := io.ReadAll(brotli.NewReader(bytes.NewReader(data)))
		if err != nil || !bytes.Equal(general, want) {
			t.Errorf("%s: the library does not decode it: %v", name, err)
		}
		if got, err := Decode(nil, data); err == nil && !bytes.Equal(got, want) {
			t.Errorf("%s: decoded to something else", name)
		}
	}
}

func referencePlain(t *testing.T, name string, data []byte) {
	t.Helper()
	var chunks [][]byte
	for rest := data; len(rest) > 0; {
		n := min(len(rest), cas.PieceSize)
		c, err := Encode(rest[:n])
		if err != nil {
			t.Fatal(name, err)
		}
		chunks, rest = append(chunks, c.Bytes()), rest[n:]
	}
	joined, err := Join(nil, chunks...)
	if err != nil {
		t.Fatal(name, err)
	}
	got, err := io.ReadAll(brotli.NewReader(bytes.NewReader(joined)))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%s: the joined stream does not decode to it: %v", name, err)
	}
}

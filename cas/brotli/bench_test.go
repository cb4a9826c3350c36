package brotli

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"

	"inos.dev/edge/cas"
)

// corpus returns pieces of Go source text, of the go command's binary, and of
// noise.
func corpus(b *testing.B) map[string][]byte {
	b.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		b.Fatal(err)
	}
	root := strings.TrimSpace(string(out))
	var text []byte
	files, err := filepath.Glob(filepath.Join(root, "src/net/http/*.go"))
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range files {
		t, err := os.ReadFile(f)
		if err != nil {
			b.Fatal(err)
		}
		text = append(text, t...)
	}
	binary, err := os.ReadFile(filepath.Join(root, "bin/go"))
	if err != nil {
		b.Fatal(err)
	}
	noise := make([]byte, cas.PieceSize)
	src := rand.NewChaCha8([32]byte{})
	if _, err := src.Read(noise); err != nil {
		b.Fatal(err)
	}
	return map[string][]byte{"text": text[:cas.PieceSize], "binary": binary[4<<20 : 5<<20], "noise": noise}
}

func BenchmarkEncode(b *testing.B) {
	for name, p := range corpus(b) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if _, err := Encode(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDecode runs br1's decoder beside the general one.
func BenchmarkDecode(b *testing.B) {
	for name, p := range corpus(b) {
		c, err := Encode(p)
		if err != nil {
			b.Fatal(err)
		}
		buf := make([]byte, 0, DecodeRoom(cas.PieceSize))
		b.Run(name+"/br1", func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				if _, err := Decode(buf, c.Bytes()); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/general", func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			r := brotli.NewReader(nil)
			for b.Loop() {
				if err := r.Reset(bytes.NewReader(c.Bytes())); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(r, buf[:len(p)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

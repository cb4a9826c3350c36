package brotli

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/andybalholm/brotli/matchfinder"
	"pgregory.net/rapid"

	"inos.dev/edge/cas"
)

// piece draws bytes of the kinds that encoders get wrong: runs, periods,
// text, noise and mixes of them.
func piece(t *rapid.T, most int) []byte {
	n := rapid.OneOf(
		rapid.IntRange(1, 40),
		rapid.IntRange(1, most),
		rapid.SampledFrom([]int{65534, 65535, 65536, 65537, 131072, 131073, most - 1, most}),
	).Draw(t, "length")
	n = min(n, most)
	seed := rapid.Uint64().Draw(t, "seed")
	next := func() uint64 { seed = seed*6364136223846793005 + 1442695040888963407; return seed >> 33 }
	out := make([]byte, 0, n)
	for len(out) < n {
		run := min(n-len(out), 1+int(next()%5000))
		switch next() % 5 {
		case 0:
			out = append(out, bytes.Repeat([]byte{byte(next())}, run)...)
		case 1:
			for range run {
				out = append(out, byte(next()))
			}
		case 2:
			for i := range run {
				out = append(out, "the quick brown fox jumps over the lazy dog, "[i%45])
			}
		case 3:
			period := 1 + int(next()%9)
			for i := range run {
				out = append(out, byte(i%period))
			}
		default:
			if len(out) == 0 {
				continue
			}
			from := int(next() % uint64(len(out)))
			out = append(out, out[from:min(len(out), from+run)]...)
		}
	}
	return out[:n]
}

func TestEncodeDecodeProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := piece(t, 300_000)
		chunk, err := Encode(p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Check(nil, chunk)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, p) {
			t.Fatal("decoded bytes differ")
		}
		oracle, err := io.ReadAll(brotli.NewReader(bytes.NewReader(chunk.Bytes())))
		if err != nil || !bytes.Equal(oracle, p) {
			t.Fatalf("the general decoder disagrees: %v", err)
		}
		if raw, ok := cas.RawForm(chunk.Bytes(), chunk.Size()); ok != (chunk.Size() >= int64(len(p))) || ok && raw != int64(len(p)) {
			t.Fatalf("form: raw %v %d for %d bytes in %d", ok, raw, len(p), chunk.Size())
		}
	})
}

func TestJoinProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var whole []byte
		var stored [][]byte
		for range rapid.IntRange(0, 6).Draw(t, "pieces") {
			p := piece(t, 150_000)
			c, err := Encode(p)
			if err != nil {
				t.Fatal(err)
			}
			whole, stored = append(whole, p...), append(stored, c.Bytes())
		}
		joined, err := Join(nil, stored...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(brotli.NewReader(bytes.NewReader(joined)))
		if err != nil || !bytes.Equal(got, whole) {
			t.Fatalf("the joined stream does not decode to the object: %v", err)
		}
	})
}

func TestPieceLimits(t *testing.T) {
	for _, n := range []int{0, cas.PieceSize + 1} {
		if _, err := Encode(make([]byte, n)); !errors.Is(err, cas.ErrTooLarge) {
			t.Errorf("Encode of %d bytes: %v", n, err)
		}
	}
	noise := make([]byte, cas.PieceSize)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	for _, p := range [][]byte{noise, make([]byte, cas.PieceSize), noise[:1], noise[:65536], noise[:65537]} {
		c, err := Encode(p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(nil, c.Bytes())
		if err != nil || !bytes.Equal(got, p) {
			t.Errorf("piece of %d bytes: %v", len(p), err)
		}
	}
}

// TestDecodeRefuses: every prefix and every single flipped bit of a chunk is
// refused or decodes within the limits; known bad inputs are refused.
func TestDecodeRefuses(t *testing.T) {
	c, err := Encode(bytes.Repeat([]byte("a chunk of some text, and a bit more; "), 30))
	if err != nil {
		t.Fatal(err)
	}
	good := c.Bytes()
	for n := range good {
		if _, err := Decode(nil, good[:n]); err == nil {
			t.Errorf("a prefix of %d of %d bytes was accepted", n, len(good))
		}
	}
	for i := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if got, err := Decode(nil, bad); err == nil && len(got) > cas.PieceSize {
			t.Errorf("bit %d: %d bytes", i, len(got))
		}
	}
	files, err := filepath.Glob("testdata/fail_*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bad inputs: %v", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(nil, b); !errors.Is(err, cas.ErrShape) && !errors.Is(err, cas.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckRefusesOtherEncodings(t *testing.T) {
	p := bytes.Repeat([]byte("canonical "), 500)
	raw, err := cas.Seal(rawForm(p))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Check(nil, raw); !errors.Is(err, cas.ErrNotCanonical) {
		t.Errorf("raw form of a compressible piece: %v", err)
	}
	// Two meta-blocks where br1 makes one: valid, joinable, not canonical.
	noise := make([]byte, 3000)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	a, b := rawForm(noise[:1000]), rawForm(noise[1000:])
	two := append(a[:len(a)-2:len(a)-2], b[2:]...)
	c, err := cas.Seal(two)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Check(nil, c); !errors.Is(err, cas.ErrNotCanonical) {
		t.Errorf("raw form in two blocks: %v", err)
	}
}

// liar is an encoder that gets one byte in a hundred wrong.
type liar struct{ brotli.Encoder }

func (l *liar) Encode(dst, src []byte, matches []matchfinder.Match, last bool) []byte {
	wrong := bytes.Clone(src)
	for i := 5; i < len(wrong); i += 100 {
		wrong[i] ^= 1
	}
	return l.Encoder.Encode(dst, wrong, matches, last)
}

// TestSelfCheck: what the encoder gets wrong is not acknowledged.
func TestSelfCheck(t *testing.T) {
	e := newEncoder()
	e.writer.Encoder = &liar{}
	if _, err := e.encode(bytes.Repeat([]byte("trust nobody "), 100)); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("a wrong encoding passed: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, p := range [][]byte{{0}, []byte("hello, hello, hello, hello, hello"), bytes.Repeat([]byte{7}, 100_000)} {
		stored, err := encode(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(stored)
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		got, err := Decode(nil, stored)
		if err != nil {
			if !errors.Is(err, cas.ErrShape) && !errors.Is(err, cas.ErrTooLarge) {
				t.Fatalf("unexpected error: %v", err)
			}
			return
		}
		if len(got) < 1 || len(got) > cas.PieceSize {
			t.Fatalf("%d bytes", len(got))
		}
		oracle, err := io.ReadAll(brotli.NewReader(bytes.NewReader(stored)))
		if err != nil || !bytes.Equal(oracle, got) {
			t.Fatalf("the general decoder disagrees: %v", err)
		}
	})
}

func FuzzEncode(f *testing.F) {
	f.Add([]byte("abcabcabcabcabcabcabc"), uint16(3000))
	f.Fuzz(func(t *testing.T, seed []byte, times uint16) {
		p := bytes.Repeat(seed, 1+int(times)%200)
		if len(p) == 0 || len(p) > cas.PieceSize {
			return
		}
		c, err := Encode(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Check(nil, c); err != nil {
			t.Fatal(err)
		}
	})
}

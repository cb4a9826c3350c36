package cas_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	reference "lukechampine.com/blake3"
	"pgregory.net/rapid"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/castest"
)

func TestParseHash(t *testing.T) {
	good := strings.Repeat("0123456789abcdef", 4)
	h, err := cas.ParseHash(good)
	if err != nil || h.String() != good {
		t.Fatalf("%q became %q: %v", good, h, err)
	}
	for name, s := range map[string]string{
		"empty": "", "short": good[1:], "long": good + "0", "upper case": strings.ToUpper(good),
		"not hexadecimal": "g" + good[1:], "spaces": " " + good[2:] + " ", "prefix": "0x" + good[2:], "two bytes in one rune": "é" + good[2:],
	} {
		if _, err := cas.ParseHash(s); !errors.Is(err, cas.ErrBadHash) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var back cas.Hash
	if err := json.Unmarshal([]byte(`"`+good+`"`), &back); err != nil || back != h {
		t.Errorf("JSON: %v %v", back, err)
	}
}

// TestHashVectors holds the hash against its authors' vectors.
func TestHashVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/blake3/test_vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		Cases []struct {
			InputLen int    `json:"input_len"`
			Hash     string `json:"hash"`
		}
	}
	if err := json.Unmarshal(b, &vectors); err != nil || len(vectors.Cases) < 30 {
		t.Fatalf("%d vectors: %v", len(vectors.Cases), err)
	}
	for _, c := range vectors.Cases {
		input := make([]byte, c.InputLen)
		for i := range input {
			input[i] = byte(i % 251)
		}
		if got := cas.Sum(input).String(); got != c.Hash[:64] {
			t.Errorf("%d bytes: %s, want %s", c.InputLen, got, c.Hash[:64])
		}
	}
}

// TestHashOracle holds it against a second implementation.
func TestHashOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 10_000).Draw(t, "bytes")
		if cas.Sum(b) != cas.Hash(reference.Sum256(b)) {
			t.Fatal("two BLAKE3 libraries disagree")
		}
	})
}

// TestFrame: the raw form has the documented shape, byte by byte.
func TestFrame(t *testing.T) {
	for n, want := range map[int]string{
		1: "000008", 2: "080008", 65535: "f0ff0f", 65536: "f8ff0f", 65537: "020088", cas.PieceSize: "faffff",
	} {
		header := cas.RawHeader(n)
		if got := hex.EncodeToString(header[:]); got != want {
			t.Errorf("a piece of %d bytes has the header %s, want %s", n, got, want)
		}
	}
	if cas.Head() != [2]byte{0x69, 0x00} || cas.Tail() != 0x03 {
		t.Error("HEAD or TAIL changed: every hash depends on them")
	}
}

func TestVerify(t *testing.T) {
	good := castest.Chunk(t, []byte("a piece of text"))
	if c, err := cas.Verify(good.Hash(), good.Bytes()); err != nil || c.Hash() != good.Hash() {
		t.Fatalf("a good chunk: %v", err)
	}
	change := func(i int, b byte) []byte {
		bad := append([]byte(nil), good.Bytes()...)
		if i < 0 {
			i += len(bad)
		}
		bad[i] = b
		return bad
	}
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"another byte in the piece": {change(8, '!'), cas.ErrHashMismatch},
		"another window":            {change(0, 0x6b), cas.ErrShape},
		"no empty block behind it":  {change(1, 1), cas.ErrShape},
		"no last block":             {change(-1, 0), cas.ErrShape},
		"no closing block":          {change(-2, 0xff), cas.ErrShape},
		"empty":                     {nil, cas.ErrShape},
		"too short":                 {[]byte{0x69, 0, 6, 3}, cas.ErrShape},
		"too long":                  {make([]byte, cas.MaxChunkSize+1), cas.ErrTooLarge},
	} {
		if _, err := cas.Verify(good.Hash(), c.data); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if _, err := cas.Seal(c.data); !errors.Is(c.want, cas.ErrHashMismatch) && !errors.Is(err, c.want) {
			t.Errorf("%s: Seal says %v, want %v", name, err, c.want)
		}
	}
}

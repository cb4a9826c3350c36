package mesh

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
)

var receiptNow = time.UnixMilli(1_790_000_000_123).UTC()

// countersigned is one that both sides have signed.
func countersigned(t *testing.T) Countersigned {
	t.Helper()
	client, server := secret(t, 1), secret(t, 2)
	r, err := client.SignReceipt(Receipt{
		Nonce: Nonce{9}, Server: server.Public(), Bytes: 1000,
		Chunks: Chain(Chain(cas.Hash{}, cas.Sum([]byte("a"))), cas.Sum([]byte("b"))), Time: receiptNow,
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := server.Countersign(Countersigned{Receipt: r, Counted: 1200, Attested: 900, Time: receiptNow.Add(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestReceiptEveryBitCounts(t *testing.T) {
	c := countersigned(t)
	b := c.Append(nil)
	if len(b) != CountersignedSize || len(c.Receipt.Append(nil)) != ReceiptSize {
		t.Fatalf("%d and %d bytes", len(b), len(c.Receipt.Append(nil)))
	}
	if back, err := DecodeCountersigned(b); err != nil || back != c || back.Verify() != nil {
		t.Fatalf("%+v, %v", back, err)
	}
	for i := range b {
		b[i] ^= 1 << (i % 8)
		if got, err := DecodeCountersigned(b); err == nil {
			err = got.Verify()
			if !errors.Is(err, ErrSignature) {
				t.Errorf("byte %d changed: %v", i, err)
			}
		} else if !errors.Is(err, ErrReceipt) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		b[i] ^= 1 << (i % 8)
	}
	for _, bad := range [][]byte{nil, b[:len(b)-1], append(bytes.Clone(b), 0), b[:ReceiptSize]} {
		if _, err := DecodeCountersigned(bad); !errors.Is(err, ErrReceipt) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

func TestReceiptRefuses(t *testing.T) {
	client, server := secret(t, 1), secret(t, 2)
	for name, change := range map[string]func(*Receipt){
		"no nonce":        func(r *Receipt) { r.Nonce = Nonce{} },
		"no server":       func(r *Receipt) { r.Server = Key{} },
		"negative":        func(r *Receipt) { r.Bytes = -1 },
		"too many bytes":  func(r *Receipt) { r.Bytes = 1 << 53 },
		"no time":         func(r *Receipt) { r.Time = time.Time{} },
		"before 1970":     func(r *Receipt) { r.Time = time.UnixMilli(-5) },
		"an absurd time":  func(r *Receipt) { r.Time = time.UnixMilli(1 << 53) },
		"an absurd time²": func(r *Receipt) { r.Time = time.Unix(1<<62, 0) },
	} {
		r := countersigned(t).Receipt
		change(&r)
		if _, err := client.SignReceipt(r); !errors.Is(err, ErrReceipt) {
			t.Errorf("%s: signed, %v", name, err)
		}
		if err := r.Verify(); !errors.Is(err, ErrReceipt) {
			t.Errorf("%s: verified, %v", name, err)
		}
	}
	for name, change := range map[string]func(*Countersigned){
		"more than counted":  func(c *Countersigned) { c.Attested, c.Counted = 901, 900 },
		"more than received": func(c *Countersigned) { c.Attested = c.Receipt.Bytes + 1 },
		"negative":           func(c *Countersigned) { c.Attested = -1 },
		"no time":            func(c *Countersigned) { c.Time = time.Time{} },
		"another server":     func(c *Countersigned) { c.Receipt.Server = client.Public() },
		"no receipt":         func(c *Countersigned) { c.Receipt = Receipt{} },
	} {
		c := countersigned(t)
		change(&c)
		if _, err := server.Countersign(c); !errors.Is(err, ErrReceipt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReceiptKinds: no signature stands in for another.
func TestReceiptKinds(t *testing.T) {
	c := countersigned(t)
	c.Receipt.Signature = c.Signature
	if err := c.Verify(); !errors.Is(err, ErrSignature) {
		t.Errorf("the server's signature as the client's: %v", err)
	}
	c = countersigned(t)
	c.Receipt.Client = secret(t, 3).Public()
	if err := c.Receipt.Verify(); !errors.Is(err, ErrSignature) {
		t.Errorf("as another client's: %v", err)
	}
}

func TestReceiptRoundTrip(t *testing.T) {
	client, server := secret(t, 1), secret(t, 2)
	rapid.Check(t, func(t *rapid.T) {
		r, err := client.SignReceipt(Receipt{
			Nonce: NewNonce(), Server: server.Public(), Bytes: rapid.Int64Range(0, 1<<53-1).Draw(t, "bytes"),
			Chunks: cas.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "chunks")),
			Time:   time.Unix(0, rapid.Int64Range(1e6, 1<<62).Draw(t, "time")),
		})
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeReceipt(r.Append(nil))
		if err != nil || back != r || back.Verify() != nil {
			t.Fatalf("%+v became %+v, %v", r, back, err)
		}
	})
}

func TestNonceText(t *testing.T) {
	for range 100 {
		n := NewNonce()
		if back, err := ParseNonce(n.String()); err != nil || back != n {
			t.Fatalf("%s became %s: %v", n, back, err)
		}
	}
	good := Nonce{1}.String()
	for name, text := range map[string]string{
		"empty": "", "short": good[1:], "long": good + "a", "upper case": strings.ToUpper(good), "digit": "1" + good[1:],
		"spare bits": good[:25] + "b", "zero": strings.Repeat("a", 26), "hash": cas.Sum(nil).String(), "key": secret(t, 1).Public().String(),
	} {
		if _, err := ParseNonce(text); !errors.Is(err, ErrReceipt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestChain: the order counts, and so does every chunk.
func TestChain(t *testing.T) {
	a, b := cas.Sum([]byte("a")), cas.Sum([]byte("b"))
	ab := Chain(Chain(cas.Hash{}, a), b)
	inner := cas.Sum(append(make([]byte, 32), a[:]...))
	if want := cas.Sum(append(inner[:], b[:]...)); ab != want {
		t.Errorf("%s, want %s", ab, want)
	}
	if ba := Chain(Chain(cas.Hash{}, b), a); ba == ab || Chain(ab, b) == ab {
		t.Error("another list has the same hash")
	}
}

// receiptVector is a line of testdata/receipts.json, which is for all
// languages. Numbers are exact in JavaScript; bytes are hexadecimal.
type receiptVector struct {
	Name          string     `json:"name"` // "fail_…" must be refused
	ClientSeed    string     `json:"client_seed,omitempty"`
	ServerSeed    string     `json:"server_seed,omitempty"`
	Nonce         string     `json:"nonce,omitempty"`
	List          []cas.Hash `json:"list,omitempty"`
	Chunks        cas.Hash   `json:"chunks,omitzero"`
	Bytes         int64      `json:"bytes"`
	Time          int64      `json:"time,omitempty"` // milliseconds since 1970
	Counted       int64      `json:"counted"`
	Attested      int64      `json:"attested"`
	TakenAt       int64      `json:"taken_at,omitempty"`
	Receipt       string     `json:"receipt,omitempty"`
	Countersigned string     `json:"countersigned"`
}

func TestReceiptVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/receipts.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []receiptVector
	if err := json.Unmarshal(b, &vectors); err != nil || len(vectors) < 8 {
		t.Fatalf("%d vectors: %v", len(vectors), err)
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			encoded, err := hex.DecodeString(v.Countersigned)
			if err != nil {
				t.Fatal(err)
			}
			got, err := DecodeCountersigned(encoded)
			if err == nil {
				err = got.Verify()
			}
			if strings.HasPrefix(v.Name, "fail_") {
				if !errors.Is(err, ErrReceipt) && !errors.Is(err, ErrSignature) {
					t.Errorf("taken: %v", err)
				}
				return
			}
			if want := v.make(t); err != nil || got != want || hex.EncodeToString(want.Receipt.Append(nil)) != v.Receipt {
				t.Errorf("%v\n%+v\n%+v", err, got, want)
			}
		})
	}
}

// make signs what v says.
func (v receiptVector) make(t *testing.T) Countersigned {
	t.Helper()
	key := func(seed string) Secret {
		b, err := hex.DecodeString(seed)
		if err != nil {
			t.Fatal(err)
		}
		s, err := SecretFromSeed(b)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	nonce, err := ParseNonce(v.Nonce)
	if err != nil {
		t.Fatal(err)
	}
	var list cas.Hash
	for _, h := range v.List {
		list = Chain(list, h)
	}
	if list != v.Chunks {
		t.Fatalf("the list has the hash %s, not %s", list, v.Chunks)
	}
	server := key(v.ServerSeed)
	r, err := key(v.ClientSeed).SignReceipt(Receipt{Nonce: nonce, Server: server.Public(), Bytes: v.Bytes, Chunks: list, Time: time.UnixMilli(v.Time)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := server.Countersign(Countersigned{Receipt: r, Counted: v.Counted, Attested: v.Attested, Time: time.UnixMilli(v.TakenAt)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// FuzzDecodeReceipt: what decodes is written again as it was read, and nothing
// else has its meaning.
func FuzzDecodeReceipt(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeReceipt(b)
		if err != nil {
			if !errors.Is(err, ErrReceipt) || r != (Receipt{}) {
				t.Fatalf("%+v, %v", r, err)
			}
			return
		}
		if !bytes.Equal(r.Append(nil), b) {
			t.Fatal("it is written differently")
		}
		if err := r.Verify(); err != nil && !errors.Is(err, ErrSignature) {
			t.Fatal(err)
		}
	})
}

func FuzzDecodeCountersigned(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeCountersigned(b)
		if err != nil {
			if !errors.Is(err, ErrReceipt) || c != (Countersigned{}) {
				t.Fatalf("%+v, %v", c, err)
			}
			return
		}
		if !bytes.Equal(c.Append(nil), b) {
			t.Fatal("it is written differently")
		}
		if err := c.Verify(); err != nil && !errors.Is(err, ErrSignature) {
			t.Fatal(err)
		}
	})
}

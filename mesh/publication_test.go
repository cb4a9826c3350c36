package mesh

import (
	"bytes"
	"cmp"
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

func drawTime(t *rapid.T, name string) time.Time {
	return time.UnixMicro(rapid.Int64Range(1_000_000, 253_402_300_799_999_999).Draw(t, name)).UTC()
}

func drawPolicy(t *rapid.T) Policy {
	p := Policy{
		RF: rapid.SampledFrom([]int{0, 1, 3, 4, MaxRF}).Draw(t, "rf"), MaxRF: rapid.SampledFrom([]int{0, MaxRF, LimitRF}).Draw(t, "max"),
		Tier: rapid.SampledFrom([]Tier{AnyTier, Hot, Cold}).Draw(t, "tier"), PriceCap: rapid.SampledFrom([]int64{0, 1, LimitPrice}).Draw(t, "cap"),
	}
	if rapid.Bool().Draw(t, "ends") {
		p.Expires = drawTime(t, "expires")
	}
	return p
}

func drawPublication(t *rapid.T) Publication {
	p := Publication{
		Object: cas.Hash{rapid.Byte().Draw(t, "object") | 1}, Owner: rapid.StringN(0, -1, MaxOwner).Draw(t, "owner"),
		Sequence: rapid.Uint64Min(1).Draw(t, "sequence"), Created: drawTime(t, "created"), Withdrawn: rapid.Bool().Draw(t, "withdrawn"),
	}
	if !p.Withdrawn {
		p.Policy = drawPolicy(t)
	}
	return p
}

func TestPublication(t *testing.T) {
	node := secret(t, 1)
	rapid.Check(t, func(t *rapid.T) {
		p, err := drawPublication(t).Sign(node)
		if err != nil {
			t.Fatal(err)
		}
		b := p.Append(nil)
		back, err := ParsePublication(b)
		if err != nil || back != p || len(b) > MaxPublication {
			t.Fatalf("%+v came back as %+v, %v", p, back, err)
		}
		if err := back.Verify(); err != nil {
			t.Fatal(err)
		}
		b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if forged, err := ParsePublication(b); err == nil && forged.Verify() == nil {
			t.Fatalf("forged: %+v", forged)
		}
	})
}

// TestReplaces: of any two words about one thing exactly one stays, and it
// does not matter in which order many of them are heard.
func TestReplaces(t *testing.T) {
	node := secret(t, 1)
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Publication {
			p := drawPublication(t)
			p.Object, p.Owner, p.Sequence = cas.Hash{1}, "a", rapid.Uint64Range(1, 3).Draw(t, "sequence")
			p, err := p.Sign(node)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}), 1, 8).Draw(t, "words")
		stays := func(words []Publication) Publication {
			kept := words[0]
			for _, p := range words[1:] {
				if Replaces(p, kept) == Replaces(kept, p) && p != kept {
					t.Fatalf("%+v and %+v", p, kept)
				}
				if Replaces(p, kept) {
					kept = p
				}
			}
			return kept
		}
		first := stays(words)
		if other := stays(rapid.Permutation(words).Draw(t, "order")); other != first {
			t.Fatalf("%+v or %+v", first, other)
		}
	})
}

func TestReplacesNothingElse(t *testing.T) {
	old := Publication{Object: cas.Hash{1}, Owner: "a", Sequence: 1}
	for name, test := range map[string]struct {
		next Publication
		want bool
	}{
		"later":          {Publication{Object: cas.Hash{1}, Owner: "a", Sequence: 2}, true},
		"earlier":        {Publication{Object: cas.Hash{1}, Owner: "a"}, false},
		"the same":       {old, false},
		"withdrawn":      {Publication{Object: cas.Hash{1}, Owner: "a", Sequence: 1, Withdrawn: true}, true},
		"another object": {Publication{Object: cas.Hash{2}, Owner: "a", Sequence: 2}, false},
		"another owner":  {Publication{Object: cas.Hash{1}, Owner: "b", Sequence: 2}, false},
	} {
		if Replaces(test.next, old) != test.want {
			t.Errorf("%s: want %v", name, test.want)
		}
	}
}

func TestByAge(t *testing.T) {
	at := time.Unix(1, 0)
	list := []Publication{
		{Created: at, Owner: "a"}, {Created: at, Owner: "b", Object: cas.Hash{1}}, {Created: at, Owner: "b", Object: cas.Hash{2}}, {Created: at.Add(1)},
	}
	for i, a := range list {
		for j, b := range list {
			if got := ByAge(a, b); got != cmp.Compare(i, j) {
				t.Errorf("number %d against number %d: %d", i, j, got)
			}
		}
	}
}

func TestSignRefuses(t *testing.T) {
	good := Publication{Object: cas.Hash{1}, Owner: "a", Sequence: 1, Created: time.Unix(1, 0)}
	for name, change := range map[string]func(*Publication){
		"no object":           func(p *Publication) { p.Object = cas.Hash{} },
		"no sequence":         func(p *Publication) { p.Sequence = 0 },
		"long owner":          func(p *Publication) { p.Owner = strings.Repeat("a", MaxOwner+1) },
		"no UTF-8":            func(p *Publication) { p.Owner = "\xff" },
		"no time":             func(p *Publication) { p.Created = time.Time{} },
		"1970":                func(p *Publication) { p.Created = time.Unix(0, 0) },
		"absurd time":         func(p *Publication) { p.Created = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"policy":              func(p *Publication) { p.Policy.RF = MaxRF + 1 },
		"tombstone and terms": func(p *Publication) { p.Withdrawn, p.Policy.RF = true, 4 },
	} {
		p := good
		change(&p)
		if _, err := p.Sign(secret(t, 1)); !errors.Is(err, ErrPublication) && !errors.Is(err, ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
	signed, err := good.Sign(secret(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	signed.Created = time.Unix(1, 1)
	if err := signed.Verify(); !errors.Is(err, ErrPublication) {
		t.Errorf("a time that is not canonical: %v", err)
	}
}

// vector is a publication and its bytes, for other languages. A bad one, whose
// name begins with fail_, has bytes only.
type vector struct {
	Name        string
	Seed        string    `json:",omitempty"` // of the signer
	Publication *readable `json:",omitempty"`
	Bytes       string
}

// readable is a Publication with its signature in hexadecimal.
type readable struct {
	Publication
	Signature string
}

func TestPublicationVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/publications.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(b, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 10 {
		t.Errorf("only %d vectors", len(vectors))
	}
	for _, v := range vectors {
		raw, err := hex.DecodeString(v.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParsePublication(raw)
		if strings.HasPrefix(v.Name, "fail_") {
			if err == nil {
				err = p.Verify()
			}
			if !errors.Is(err, ErrPublication) && !errors.Is(err, ErrPolicy) && !errors.Is(err, ErrSignature) {
				t.Errorf("%s: %v", v.Name, err)
			}
			continue
		}
		want := v.Publication.Publication
		if _, err := hex.Decode(want.Signature[:], []byte(v.Publication.Signature)); err != nil {
			t.Fatal(err)
		}
		if err != nil || p != want || p.Verify() != nil {
			t.Errorf("%s: %+v, %v", v.Name, p, err)
		}
		seed, err := hex.DecodeString(v.Seed)
		if err != nil {
			t.Fatal(err)
		}
		s, err := SecretFromSeed(seed)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := p.Sign(s); err != nil || !bytes.Equal(again.Append(nil), raw) {
			t.Errorf("%s: signed again: %x, %v", v.Name, again.Append(nil), err)
		}
	}
}

// FuzzParsePublication: what parses is what Append writes, byte for byte.
func FuzzParsePublication(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePublication(b)
		if err != nil {
			if !errors.Is(err, ErrPublication) && !errors.Is(err, ErrPolicy) {
				t.Fatal(err)
			}
			return
		}
		if again := p.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

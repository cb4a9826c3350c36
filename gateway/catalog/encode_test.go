package catalog

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
	"inos.dev/edge/mesh"
)

// FuzzDecode: what decodes is what encode writes, byte for byte.
func FuzzDecode(f *testing.F) {
	h := cas.Hash{1}
	f.Fuzz(func(t *testing.T, b []byte) {
		for version, decode := range map[int]func(cas.Hash, []byte) (Record, error){recordVersion: decode, oldVersion: decodeOld} {
			r, err := decode(h, b)
			if err != nil {
				if !errors.Is(err, cas.ErrCorrupt) {
					t.Fatalf("error %v, want ErrCorrupt", err)
				}
				continue
			}
			again, err := encodeVersion(r, version)
			if err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%s became %s, %v", b, again, err)
			}
		}
	})
}

func TestEncodeDecode(t *testing.T) {
	name := rapid.StringN(0, -1, 120)
	moment := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(1, 253_402_300_799).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
	})
	rapid.Check(t, func(t *rapid.T) {
		r := Record{
			Hash: cas.Hash{1}, Kind: rapid.SampledFrom([]cas.Kind{cas.KindFile, cas.KindDirectory}).Draw(t, "kind"),
			Size: rapid.Int64Min(0).Draw(t, "size"), Encoded: rapid.Int64Min(0).Draw(t, "encoded"), Pieces: rapid.Int64Min(0).Draw(t, "pieces"),
			MediaType: name.Draw(t, "type"), Name: name.Draw(t, "name"), Owner: name.Draw(t, "owner"),
			Created: moment.Draw(t, "created"), DigestChecked: rapid.Bool().Draw(t, "checked"),
			Policy: mesh.Policy{RF: rapid.IntRange(0, mesh.MaxRF).Draw(t, "rf"), MaxRF: rapid.SampledFrom([]int{0, mesh.MaxRF, mesh.LimitRF}).Draw(t, "max"),
				Tier: rapid.SampledFrom([]mesh.Tier{mesh.AnyTier, mesh.Hot, mesh.Cold}).Draw(t, "tier"), Expires: moment.Draw(t, "expires"), PriceCap: rapid.Int64Range(0, mesh.LimitPrice).Draw(t, "cap")},
			Owners: rapid.IntRange(1, MaxOwners).Draw(t, "owners"), NextOver: moment.Draw(t, "over"),
		}.normal()
		if err := r.Validate(); err != nil {
			t.Fatal(err)
		}
		b, err := encode(r)
		if err != nil || len(b) > maxValue {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		if got, err := decode(r.Hash, b); err != nil || got != r {
			t.Fatalf("%+v became %+v, %v", r, got, err)
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	r := Record{Hash: cas.Hash{1}, Kind: cas.KindFile, Created: time.Unix(1, 0).UTC(), Owners: 1}
	good, err := encode(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decode(r.Hash, good); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty":         {},
		"newer version": bytes.Replace(good, []byte(`"v":2`), []byte(`"v":3`), 1),
		"older version": bytes.Replace(good, []byte(`"v":2`), []byte(`"v":1`), 1),
		"nobody's":      bytes.Replace(good, []byte(`,"owners":1`), nil, 1),
		"unknown field": bytes.Replace(good, []byte(`"v":2`), []byte(`"v":2,"x":1`), 1),
		"twice":         bytes.Replace(good, []byte(`"v":2`), []byte(`"v":2,"v":2`), 1),
		"spaces":        append([]byte(" "), good...),
		"trailing":      append(bytes.Clone(good), '\n'),
		"negative":      bytes.Replace(good, []byte(`"size":0`), []byte(`"size":-1`), 1),
		"long":          append(bytes.Clone(good), bytes.Repeat([]byte(" "), maxValue)...),
	} {
		if _, err := decode(r.Hash, b); !errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzDecodePublication: what decodes is what encodePublication writes, byte
// for byte.
func FuzzDecodePublication(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePublication(b)
		if err != nil {
			return
		}
		if again := encodePublication(p); !bytes.Equal(again, b) || len(p.Name) > MaxName {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

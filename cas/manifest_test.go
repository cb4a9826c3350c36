package cas_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
)

func anyHash(t *rapid.T) cas.Hash {
	return cas.Sum(rapid.SliceOfN(rapid.Byte(), 1, 8).Draw(t, "hash of"))
}

// file draws the root or an inner node of a file with pieces.
func file(t *rapid.T) *cas.Manifest {
	n := rapid.IntRange(0, 40).Draw(t, "pieces")
	m := &cas.Manifest{Kind: cas.KindFile, Count: int64(n), MediaType: "text/plain; charset=utf-8", Raw: anyHash(t), SHA256: anyHash(t)}
	for i := range n {
		p := cas.Piece{Hash: anyHash(t), Size: cas.PieceSize, Raw: anyHash(t), CV: anyHash(t)}
		if i == n-1 {
			p.Size = rapid.Int64Range(1, cas.PieceSize).Draw(t, "last")
		}
		p.Encoded = rapid.Int64Range(cas.MinChunkSize, p.Size+cas.RawOverhead).Draw(t, "encoded")
		m.Pieces = append(m.Pieces, p)
		m.Size += p.Size
		m.Encoded += p.Encoded
	}
	if n > 0 && rapid.Bool().Draw(t, "inner") {
		m.Kind, m.MediaType, m.Raw, m.SHA256 = cas.KindNode, "", cas.Hash{}, cas.Hash{}
	}
	return m
}

func directory(t *rapid.T) *cas.Manifest {
	m := &cas.Manifest{Kind: cas.KindDirectory}
	names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-zA-Z0-9._ äß-]{1,20}`), 0, 20, rapid.ID).Draw(t, "names")
	for _, name := range names {
		e := cas.Entry{Name: name, Mode: rapid.SampledFrom([]cas.Mode{cas.ModeFile, cas.ModeExecutable, cas.ModeDirectory, cas.ModeSymlink}).Draw(t, "mode")}
		if e.Mode == cas.ModeSymlink {
			e.Target = "a/b"
		} else {
			e.Hash, e.Size = anyHash(t), rapid.Int64Range(0, 1<<40).Draw(t, "size")
		}
		if e.Validate() != nil || len(m.Entries) > 0 && m.Entries[len(m.Entries)-1].Name >= name {
			continue
		}
		m.Entries = append(m.Entries, e)
		m.Size += e.Size
		m.Count++
	}
	return m
}

// TestManifestCanonical: a record reads back as it was written, and no other
// byte string means the same.
func TestManifestCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.OneOf(rapid.Custom(file), rapid.Custom(directory)).Draw(t, "manifest")
		b := m.Append(nil)
		back, err := cas.ParseManifest(b)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(back.Append(nil), b) {
			t.Fatal("it is written differently the second time")
		}
		i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		bad := bytes.Clone(b)
		bad[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if other, err := cas.ParseManifest(bad); err == nil && !bytes.Equal(other.Append(nil), bad) {
			t.Fatal("two byte strings mean one manifest")
		}
	})
}

func TestManifestRefuses(t *testing.T) {
	h := cas.Sum([]byte("x"))
	piece := cas.Piece{Hash: h, Size: 10, Encoded: 17, Raw: h, CV: h}
	good := func() *cas.Manifest {
		return &cas.Manifest{Kind: cas.KindFile, Size: 10, Encoded: 17, Count: 1, MediaType: "text/plain", Raw: h, SHA256: h, Pieces: []cas.Piece{piece}}
	}
	if _, err := cas.ParseManifest(good().Append(nil)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*cas.Manifest){
		"sum of sizes":        func(m *cas.Manifest) { m.Size = 11 },
		"sum of stored bytes": func(m *cas.Manifest) { m.Encoded = 16 },
		"count":               func(m *cas.Manifest) { m.Count = 2 },
		"no digest":           func(m *cas.Manifest) { m.SHA256 = cas.Hash{} },
		"no media type":       func(m *cas.Manifest) { m.MediaType = "" },
		"upper case type":     func(m *cas.Manifest) { m.MediaType = "Text/Plain" },
		"header injection":    func(m *cas.Manifest) { m.MediaType = "text/plain\r\nx: y" },
		"kind":                func(m *cas.Manifest) { m.Kind = 9 },
		"node with a type":    func(m *cas.Manifest) { m.Kind = cas.KindNode },
		"piece too long":      func(m *cas.Manifest) { m.Pieces[0].Encoded, m.Encoded = 18, 18 },
		"short piece inside": func(m *cas.Manifest) {
			m.Pieces = append(m.Pieces, piece)
			m.Size, m.Encoded, m.Count = 20, 34, 2
		},
		"entries in a file": func(m *cas.Manifest) { m.Entries = []cas.Entry{{Name: "a", Mode: cas.ModeFile, Hash: h}} },
		"one node":          func(m *cas.Manifest) { m.Pieces, m.Nodes = nil, []cas.Node{{Hash: h, Count: 1, Size: 10, Encoded: 17}} },
	} {
		m := good()
		change(m)
		if _, err := cas.ParseManifest(m.Append(nil)); !errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := good().Append(nil)
	for name, bad := range map[string][]byte{
		"unknown field":     append(bytes.Clone(b), 14<<3|2, 1, 'x'),
		"long varint":       append(bytes.Clone(b[:2]), append([]byte{0x10, 0x81, 0x00}, b[4:]...)...),
		"field out of turn": append(bytes.Clone(b), 1<<3, 1),
		"zero written out":  append([]byte{1 << 3, 1, 2 << 3, 3, 4 << 3, 0}, 6<<3, 1),
		"truncated":         b[:len(b)-1],
	} {
		if _, err := cas.ParseManifest(bad); !errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "hello", strings.Repeat("\x08\x02\x10\x01", 3)} {
		if _, err := cas.ParseManifest([]byte(text)); !errors.Is(err, cas.ErrNotObject) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestEntryNames(t *testing.T) {
	for _, name := range []string{"a", "..a", "ä", "a b", strings.Repeat("x", 255), "日本"} {
		if err := cas.CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "a/b", "a\x00", "a\nb", "\x7f", "\u0085", "\xff", strings.Repeat("x", 256)} {
		if err := cas.CheckName(name); !errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("%q is accepted", name)
		}
	}
	h := cas.Sum(nil)
	for name, entries := range map[string][]cas.Entry{
		"out of order": {{Name: "b", Mode: cas.ModeFile, Hash: h}, {Name: "a", Mode: cas.ModeFile, Hash: h}},
		"twice":        {{Name: "a", Mode: cas.ModeFile, Hash: h}, {Name: "a", Mode: cas.ModeFile, Hash: h}},
		"no hash":      {{Name: "a", Mode: cas.ModeFile}},
		"no target":    {{Name: "a", Mode: cas.ModeSymlink}},
		"target":       {{Name: "a", Mode: cas.ModeFile, Hash: h, Target: "b"}},
	} {
		m := &cas.Manifest{Kind: cas.KindDirectory, Count: int64(len(entries)), Entries: entries}
		if _, err := cas.ParseManifest(m.Append(nil)); !errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDirectorySums: sums that leave the range are refused, also those that
// come back into it.
func TestDirectorySums(t *testing.T) {
	h := cas.Sum(nil)
	parts := func(n int, size, count int64) *cas.Manifest {
		m := &cas.Manifest{Kind: cas.KindDirectory}
		for i := range n {
			m.Parts = append(m.Parts, cas.Part{Hash: h, First: fmt.Sprintf("%05d", i), Count: count, Size: size})
			m.Size += size
			m.Count += count
		}
		return m
	}
	entries := &cas.Manifest{Kind: cas.KindDirectory, Count: 4}
	for _, name := range []string{"a", "b", "c", "d"} {
		entries.Entries = append(entries.Entries, cas.Entry{Name: name, Mode: cas.ModeFile, Hash: h, Size: 1 << 62})
	}
	for name, m := range map[string]*cas.Manifest{
		"sizes of entries": entries,
		"sizes of parts":   parts(4, 1<<62, 1),
		"counts of parts":  parts(4, 1, 1<<62),
		"too many parts":   parts(cas.MaxParts+1, 1, 1),
	} {
		if _, err := cas.ParseManifest(m.Append(nil)); !errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, m := range map[string]*cas.Manifest{"as many parts as may be": parts(cas.MaxParts, 1, 1), "large parts": parts(2, 1<<61, 1<<61)} {
		if _, err := cas.ParseManifest(m.Append(nil)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzManifest(f *testing.F) {
	h := cas.Sum([]byte("x"))
	f.Add((&cas.Manifest{Kind: cas.KindFile, Size: 10, Encoded: 17, Count: 1, MediaType: "text/plain", Raw: h, SHA256: h,
		Pieces: []cas.Piece{{Hash: h, Size: 10, Encoded: 17, Raw: h, CV: h}}}).Append(nil))
	f.Add((&cas.Manifest{Kind: cas.KindDirectory, Count: 1, Entries: []cas.Entry{{Name: "a", Mode: cas.ModeSymlink, Target: "b"}}}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := cas.ParseManifest(b)
		if err != nil {
			if !errors.Is(err, cas.ErrCorrupt) && !errors.Is(err, cas.ErrNotObject) && !errors.Is(err, cas.ErrTooLarge) {
				t.Fatalf("unexpected error %v", err)
			}
			return
		}
		if !bytes.Equal(m.Append(nil), b) {
			t.Fatal("not canonical")
		}
	})
}

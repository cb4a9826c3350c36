package disk

import (
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
)

func testHash(n uint64) cas.Hash {
	return cas.Sum(binary.LittleEndian.AppendUint64(nil, n))
}

// TestTable compares the table with a map, with few enough hashes that they
// come back and enough that the probes wrap around.
func TestTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := table{seed: rapid.Uint64().Draw(t, "seed") | 1}
		model := map[cas.Hash]entry{}
		for _, op := range rapid.SliceOf(rapid.Uint16Range(0, 900)).Draw(t, "ops") {
			h := testHash(uint64(op / 3))
			_, there := model[h]
			switch op % 3 {
			case 0, 1:
				e := entry{hash: h, meta: 8 + uint32(op), touched: uint32(op), saved: 7}
				if x.put(e) == there {
					t.Fatalf("put: added, but there before: %v", there)
				}
				model[h] = e
			case 2:
				if e, ok := x.remove(h, nil); ok != there || e != model[h] {
					t.Fatalf("remove = %+v, %v; want %+v, %v", e, ok, model[h], there)
				}
				delete(model, h)
			}
		}
		wantTable(t, &x, model)
	})
}

func wantTable(t *rapid.T, x *table, model map[cas.Hash]entry) {
	var bytes int64
	for h, want := range model {
		if e, ok := x.get(h); !ok || e != want {
			t.Fatalf("get = %+v, %v; want %+v", e, ok, want)
		}
		bytes += want.size()
	}
	if n, b := x.count(); n != len(model) || b != bytes {
		t.Fatalf("count = %d, %d; want %d, %d", n, b, len(model), bytes)
	}
	list := x.appendTo(nil)
	for _, e := range list {
		if e != model[e.hash] {
			t.Fatalf("the list has %+v, want %+v", e, model[e.hash])
		}
	}
	if len(list) != len(model) {
		t.Fatalf("the list has %d entries, want %d", len(list), len(model))
	}
}

func TestTableKeeps(t *testing.T) {
	x := table{seed: 1}
	h := testHash(1)
	x.put(entry{hash: h, meta: 100})
	if _, ok := x.remove(h, func(entry) bool { return false }); ok {
		t.Error("remove ignores a no")
	}
	if !x.update(h, func(e *entry) { e.meta |= verified }) {
		t.Error("update does not find the entry")
	}
	if e, ok := x.get(h); !ok || !e.has(verified) || e.has(exact) || e.size() != 100 {
		t.Errorf("get = %+v, %v", e, ok)
	}
	if x.update(testHash(2), func(*entry) { t.Error("called for nothing") }) {
		t.Error("update finds what is not here")
	}
}

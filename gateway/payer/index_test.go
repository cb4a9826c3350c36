package payer

import (
	"testing"

	"pgregory.net/rapid"
)

// key is an entry of the obvious index.
type key struct {
	prefix uint64
	object bool
}

// TestIndex: whatever is added, changed and taken out, an index has what a map
// has. Prefixes are few and close together, so that searches are long.
func TestIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x index
		model := map[key]uint32{}
		draw := func(t *rapid.T) uint64 {
			return rapid.SampledFrom([]uint64{0, 7 << 56, 0xff << 56}).Draw(t, "shard") | rapid.SampledFrom([]uint64{0, 1, 1 << 55, 1<<56 - 9}).Draw(t, "high") + rapid.Uint64Range(0, 8).Draw(t, "low")
		}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			k := key{draw(t), rapid.Bool().Draw(t, "object")}
			n := rapid.Uint32Range(0, 3).Draw(t, "number")
			old, there := model[k]
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1, 2:
				if !k.object {
					x.set(k.prefix, n)
				} else if !there {
					x.add(k.prefix, true, n)
				} else {
					continue
				}
				model[k] = n
			case 3, 4:
				x.remove(k.prefix, k.object, n)
				if there && old == n {
					delete(model, k)
				}
			case 5:
				for i := range x.shards {
					x.keep(i, func(m uint32) bool { return m != n })
				}
				for k, m := range model {
					if !k.object && m == n {
						delete(model, k)
					}
				}
			}
			checkIndex(t, &x, model, draw(t))
		}
	})
}

func checkIndex(t *rapid.T, x *index, model map[key]uint32, other uint64) {
	chunks := 0
	for k, n := range model {
		if !k.object {
			chunks++
			if got, ok := x.get(k.prefix); !ok || got != n {
				t.Fatalf("chunk %x: %d, %v; want %d", k.prefix, got, ok, n)
			}
		}
		if got, ok := x.find(k.prefix, k.object, every); !ok || got != n {
			t.Fatalf("%+v: %d, %v; want %d", k, got, ok, n)
		}
	}
	_, want := model[key{other, false}]
	if _, ok := x.get(other); ok != want {
		t.Fatalf("chunk %x is there: %v", other, ok)
	}
	used := 0
	for i := range x.shards {
		used += x.shards[i].used
	}
	if x.chunks != chunks || used != len(model) {
		t.Fatalf("%d chunks of %d entries; want %d of %d", x.chunks, used, chunks, len(model))
	}
}

// TestIndexTwins: objects whose hashes begin alike are told apart.
func TestIndexTwins(t *testing.T) {
	var x index
	for n := range uint32(20) {
		x.add(42, true, n)
	}
	x.add(42, false, 99)
	for n := range uint32(20) {
		if got, ok := x.find(42, true, func(m uint32) bool { return m == n }); !ok || got != n {
			t.Errorf("%d, %v; want %d", got, ok, n)
		}
	}
	x.remove(42, true, 7)
	if _, ok := x.find(42, true, func(m uint32) bool { return m == 7 }); ok {
		t.Error("it is still there")
	}
	if n, ok := x.get(42); !ok || n != 99 {
		t.Errorf("%d, %v", n, ok)
	}
}

package payer

import (
	"bytes"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/mesh"
)

// FuzzReadSnapshot: whatever is read as a snapshot is a table that works, and
// is written as it was read.
func FuzzReadSnapshot(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		changes, x, o, err := readSnapshot(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		table := &Table{index: *x, objects: *o}
		for n := range o.next {
			if h := o.at(n).hash; o.live(n) {
				table.Object(h)
				table.Chunk(h)
			}
		}
		again := snapshotOf(t, table, changes)
		if len(again) > len(b) {
			t.Errorf("%d bytes became %d", len(b), len(again))
		}
	})
}

func snapshotOf(t *testing.T, table *Table, changes uint64) []byte {
	t.Helper()
	var out bytes.Buffer
	w := &snapshotWriter{w: &out}
	table.writeLocked(w, changes)
	if err := w.finish(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestSnapshotIsStable: written, read and written again it is the same, with
// numbers, owners and policies that nobody has any longer.
func TestSnapshotIsStable(t *testing.T) {
	table := &Table{}
	for i := range 5 {
		r := &catalog.Record{Hash: cas.Hash{byte(i + 1)}, Owner: string(rune('a' + i)), Created: time.Unix(int64(i+1), 0), Policy: mesh.Policy{RF: i, Tier: mesh.Cold, Expires: time.Unix(9, 0)}}
		n, _, err := table.setLocked(r)
		if err != nil {
			t.Fatal(err)
		}
		table.linkLocked(n, 42)
		table.linkLocked(n, uint64(i))
	}
	n, found := table.removeLocked(cas.Hash{2})
	if found != settled || n != 1 {
		t.Errorf("%d, %v", n, found)
	}
	table.sweep(table.dead)
	table.objects.free = append(table.objects.free, n)
	first := snapshotOf(t, table, 7)
	changes, x, o, err := readSnapshot(bytes.NewReader(first), int64(len(first)))
	if err != nil || changes != 7 {
		t.Fatal(changes, err)
	}
	if again := snapshotOf(t, &Table{index: *x, objects: *o}, 7); !bytes.Equal(again, first) {
		t.Errorf("%x became %x", first, again)
	}
}

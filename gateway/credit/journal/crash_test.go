package journal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTornTail cuts the file at every byte of the last record, and replaces
// what is cut by nothing, by zeros, and by other bytes: the record goes, those
// in front of it stay, and the journal goes on.
func TestTornTail(t *testing.T) {
	cfg := config(t.TempDir())
	j, _ := open(t, cfg)
	for range 3 {
		write(t, j)
	}
	third := j.Tip()
	write(t, j)
	end := j.Tip()
	closed(t, j)
	whole := readFile(t, lastSegment(t, cfg.Dir))
	for cut := third.Pos; cut < end.Pos; cut++ {
		for _, filler := range []string{"", "\x00", "\x5a"} {
			torn := append(append([]byte(nil), whole[:cut]...), strings.Repeat(filler, int(end.Pos-cut))...)
			c := config(t.TempDir())
			path := filepath.Join(c.Dir, filepath.Base(lastSegment(t, cfg.Dir)))
			if err := os.WriteFile(path, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			var r reading
			scanned, tail, err := Scan(t.Context(), c.Dir, Mark{}, r.visit)
			if err != nil || scanned != third || tail != int64(len(torn))-int64(third.Pos) {
				t.Fatalf("cut at %d: scan ends at %+v, %d bytes torn, %v", cut, scanned, tail, err)
			}
			if string(readFile(t, path)) != string(torn) {
				t.Fatal("Scan has changed the file")
			}
			j, records := open(t, c)
			wantRecords(t, records, 3)
			if j.Tip() != third || j.Durable() != third {
				t.Fatalf("cut at %d: %+v", cut, j.Tip())
			}
			write(t, j)
			closed(t, j)
			j, records = open(t, c)
			wantRecords(t, records, 4)
			closed(t, j)
		}
	}
}

// TestTornSegment: a crash while a segment was made leaves a part of its
// header; it is removed, or used if it is whole.
func TestTornSegment(t *testing.T) {
	for size := range segmentHeader + 1 {
		for _, records := range []int{0, 5} {
			cfg := config(t.TempDir())
			cfg.SegmentBytes = 1
			j, _ := open(t, cfg)
			for range records {
				write(t, j)
			}
			head := segmentHead{prev: j.Tip().Hash, seq: j.Tip().Seq + 1}
			if records > 0 {
				head.start = j.Tip().Pos
			}
			closed(t, j)
			path := filepath.Join(cfg.Dir, segment{start: head.start}.name())
			if err := os.WriteFile(path, head.bytes()[:size], 0o600); err != nil {
				t.Fatal(err)
			}
			for n := range 3 {
				j, found := open(t, cfg)
				wantRecords(t, found, records+n)
				write(t, j)
				closed(t, j)
			}
		}
	}
}

// TestDamage changes one byte anywhere. In the last batch that is a torn tail;
// in front of it, where everything was durable, it is told with its place, and
// nothing is changed.
func TestDamage(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.SegmentBytes = 600
	j, _ := open(t, cfg)
	for range 6 {
		write(t, j)
	}
	last := j.Tip().Last
	closed(t, j)
	list, err := os.ReadDir(cfg.Dir)
	if err != nil || len(list) < 2 {
		t.Fatal(list, err)
	}
	at := Position(0)
	for _, file := range list {
		whole := readFile(t, filepath.Join(cfg.Dir, file.Name()))
		for i := range whole {
			damageOne(t, cfg.Dir, file.Name(), whole, i, at+Position(i) >= last)
		}
		at += Position(len(whole))
	}
}

// damageOne changes byte i of a file in a copy of a journal.
func damageOne(t *testing.T, dir, name string, whole []byte, i int, torn bool) {
	t.Helper()
	c := config(t.TempDir())
	c.SegmentBytes = 600
	copyDir(t, dir, c.Dir)
	b := append([]byte(nil), whole...)
	b[i] ^= 0x10
	path := filepath.Join(c.Dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var r reading
	j, err := Open(t.Context(), c, Mark{}, r.visit)
	if torn {
		if err != nil {
			t.Fatalf("%s at %d, in the last record: %v", name, i, err)
		}
		wantRecords(t, r.records, 5)
		closed(t, j)
		return
	}
	if !errors.Is(err, ErrDamaged) {
		t.Fatalf("%s at %d: %v", name, i, err)
	}
	if !strings.Contains(err.Error(), name) && i >= segmentHeader {
		t.Fatalf("the place is missing: %v", err)
	}
	if string(readFile(t, path)) != string(b) {
		t.Fatal("a damaged journal was changed")
	}
}

// TestMissingSegment: a file that was taken away is noticed.
func TestMissingSegment(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.SegmentBytes = 300
	j, _ := open(t, cfg)
	for range 8 {
		write(t, j)
	}
	tip := j.Tip()
	closed(t, j)
	list, err := os.ReadDir(cfg.Dir)
	if err != nil || len(list) < 4 {
		t.Fatal(list, err)
	}
	for i := range list {
		c := config(t.TempDir())
		copyDir(t, cfg.Dir, c.Dir)
		if err := os.Remove(filepath.Join(c.Dir, list[i].Name())); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), c, tip, func(*Record) error { return nil }); !errors.Is(err, ErrDamaged) {
			t.Errorf("without %s: %v", list[i].Name(), err)
		}
	}
}

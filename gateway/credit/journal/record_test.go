package journal

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// drawEntry makes an entry at pos, as the journal may have it.
func drawEntry(t *rapid.T, pos Position) Entry {
	link := func(name string) Position {
		if !rapid.Bool().Draw(t, name) {
			return 0
		}
		return Position(rapid.Uint64Range(1, uint64(pos)-1).Draw(t, name))
	}
	e := Entry{
		Pos:      pos,
		Kind:     credit.Kind(rapid.ByteRange(1, 8).Draw(t, "kind")),
		From:     rapid.Uint32Min(1).Draw(t, "from"),
		PrevFrom: link("before"),
		Amount:   credit.Amount(rapid.Int64Range(0, int64(credit.MaxAmount)).Draw(t, "amount")),
		Bytes:    rapid.Int64Min(0).Draw(t, "bytes"),
		Rest:     rapid.Uint32().Draw(t, "rest"),
		Ref:      rapid.StringN(0, -1, credit.MaxRef).Draw(t, "ref"),
	}
	if rapid.Bool().Draw(t, "two") {
		e.To, e.PrevTo = rapid.Uint32Min(1).Draw(t, "to"), link("before")
	}
	if rapid.Bool().Draw(t, "object") {
		e.Object = cas.Sum([]byte(e.Ref))
	}
	if doc := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "doc"); len(doc) > 0 {
		e.Doc = doc
	}
	return e
}

// TestRecord: what is drafted is read again.
func TestRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(rapid.StringMatching(`user:[a-z]{1,128}`), 0, 5).Draw(t, "names")
		want := Record{
			Seq:  rapid.Uint64Min(1).Draw(t, "seq"),
			Time: time.Unix(0, rapid.Int64Min(0).Draw(t, "time")),
			Pos:  Position(rapid.Uint64Range(segmentHeader, 1<<62).Draw(t, "pos")),
			ID:   rapid.StringN(0, -1, MaxID).Draw(t, "id"),
		}
		for _, name := range names {
			want.Accounts, want.First = append(want.Accounts, credit.Account(name)), 7
		}
		want.Batch = want.Pos - Position(rapid.Uint64Range(0, segmentHeader).Draw(t, "batch"))
		d := &Draft{pos: want.Pos, head: header{seq: want.Seq, time: want.Time.UnixNano()}}
		n := rapid.IntRange(1, 20).Draw(t, "entries")
		d.begin(want.ID, want.First, want.Accounts, n)
		for range n {
			e := drawEntry(t, d.Next())
			want.Entries = append(want.Entries, e)
			d.Add(&e)
		}
		d.seal(want.Batch)
		want.Hash, want.size = d.head.chain, len(d.b)
		var got Record
		if err := got.decode(d.b, want.Pos); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

// TestEntrySize: an entry of a charge is small.
func TestEntrySize(t *testing.T) {
	e := Entry{
		Pos: 5 << 30, Kind: credit.KindServe, From: 900_000, To: 2, PrevFrom: 1 << 30, PrevTo: 5<<30 - 60,
		Amount: 70_000, Object: cas.Hash{1}, Bytes: 5 << 20, Rest: 1<<30 - 1,
	}
	if b := appendEntry(nil, e.Pos-5000, &e); len(b) > 70 {
		t.Errorf("%d bytes", len(b))
	}
	e.Object, e.Rest = cas.Hash{}, 0
	if b := appendEntry(nil, e.Pos-5000, &e); len(b) > 40 {
		t.Errorf("%d bytes without an object", len(b))
	}
}

// encode writes a record again.
func encode(r *Record) []byte {
	d := &Draft{pos: r.Pos, head: header{seq: r.Seq, time: r.Time.UnixNano(), prev: r.Prev}}
	d.begin(r.ID, r.First, r.Accounts, len(r.Entries))
	for i := range r.Entries {
		d.Add(&r.Entries[i])
	}
	d.seal(r.Batch)
	return d.b
}

// FuzzRecord reads any body under a header that fits it: what is taken has
// this one form.
func FuzzRecord(f *testing.F) {
	const pos = 4096
	f.Add(uint64(1), int64(1), uint64(pos), []byte{0, 0, 0, 0})
	d := &Draft{pos: pos, head: header{seq: 1}}
	d.begin("id", 1, []credit.Account{credit.Treasury, "user:a"}, 2)
	d.Add(&Entry{Pos: d.Next(), Kind: credit.KindGrant, From: 1, To: 2, Amount: 5, Object: cas.Hash{1}, Bytes: 3, Rest: 2, Ref: "why"})
	d.Add(&Entry{Pos: d.Next(), Kind: credit.KindDoc, From: 2, PrevFrom: 100, Ref: "name", Doc: []byte("{}")})
	f.Add(uint64(1), int64(1), uint64(pos), d.b[headerSize:])
	f.Fuzz(func(t *testing.T, seq uint64, at int64, batch uint64, body []byte) {
		b := append(make([]byte, headerSize), body...)
		h := header{length: uint32(len(b)), seq: seq, time: at, batch: Position(batch)}
		h.put(b)
		h.chain = cas.Sum(b[chained:])
		h.put(b)
		var r Record
		if err := r.decode(b, pos); err != nil {
			return
		}
		if again := encode(&r); !bytes.Equal(again, b) {
			t.Errorf("read from\n%x, written as\n%x", b, again)
		}
		if r.End() != pos+Position(len(b)) || len(r.Entries) > MaxEntries {
			t.Errorf("%+v", r)
		}
	})
}

// FuzzEntry reads any bytes at the place of an entry, as a Reader does.
func FuzzEntry(f *testing.F) {
	e := Entry{Pos: 1000, Kind: credit.KindServe, From: 1, To: 2, PrevFrom: 10, PrevTo: 900, Amount: 5, Object: cas.Hash{1}, Bytes: 3, Rest: 2, Ref: "why", Doc: []byte("x")}
	f.Add(uint64(1000), appendEntry(nil, 900, &e))
	f.Add(uint64(0), []byte{1, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, pos uint64, b []byte) {
		in := input{b: b}
		var e Entry
		rec := in.entry(&e, Position(pos))
		if in.err != nil {
			return
		}
		if e.PrevFrom >= e.Pos && e.PrevFrom != 0 || e.PrevTo >= e.Pos && e.PrevTo != 0 || rec > e.Pos {
			t.Errorf("%+v points into the future", e)
		}
		used := b[:len(b)-len(in.b)]
		if again := appendEntry(nil, rec, &e); !bytes.Equal(again, used) {
			t.Errorf("read from\n%x, written as\n%x", used, again)
		}
	})
}

// FuzzHeaders reads the headers of records and segments.
func FuzzHeaders(f *testing.F) {
	f.Add(segmentHead{start: 5, seq: 6, prev: cas.Hash{7}}.bytes())
	b := make([]byte, headerSize)
	h := header{length: headerSize, seq: 1}
	h.put(b)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := parseHeader(b); err == nil {
			again := make([]byte, headerSize)
			h.put(again)
			if !bytes.Equal(again, b[:headerSize]) {
				t.Errorf("%x became %x", b[:headerSize], again)
			}
		}
		if h, err := parseSegmentHead(b); err == nil && !bytes.Equal(h.bytes(), b[:segmentHeader]) {
			t.Errorf("%x became %x", b[:segmentHeader], h.bytes())
		}
	})
}

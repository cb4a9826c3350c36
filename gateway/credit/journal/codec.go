package journal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// Limits of a record.
const (
	MaxRecord  = 4 << 20 // bytes, with its header
	MaxEntries = 1 << 16
	MaxID      = 128 // bytes
)

// maxAccount is more bytes than the longest name of an account has.
const maxAccount = 160

// Position is a byte's distance from the beginning of the journal, counted
// through all segments and their headers. No entry is at 0, which means none.
type Position uint64

// Entry is a credit.Entry with numbers for accounts, and links to the entries
// that the two accounts had before.
type Entry struct {
	Pos      Position // of the entry itself; it is not written
	Kind     credit.Kind
	From, To uint32   // numbers of accounts; 0 is none
	PrevFrom Position // the entry of From before this one; 0 is none
	PrevTo   Position
	Amount   credit.Amount
	Object   cas.Hash
	Bytes    int64
	Rest     uint32
	Ref      string
	Doc      []byte // decoded: a part of the record's buffer
}

// Flags of what an entry has; what is zero is not written.
const (
	hasTo = 1 << iota
	hasAmount
	hasObject
	hasBytes
	hasRest
	hasRef
	hasDoc
	flagsEnd
)

var errForm = errors.New("not in the form of a record")

func bad(what string) error { return fmt.Errorf("%w: %s", errForm, what) }

// appendEntry writes e, which begins at e.Pos in the record at rec:
//
//	kind, flags            a byte each
//	e.Pos − rec
//	From, e.Pos − PrevFrom or 0
//	To, e.Pos − PrevTo or 0
//	Amount
//	Object                 32 bytes
//	Bytes
//	Rest
//	Ref, Doc               the length, and the bytes
//
// Numbers are uvarints. The fields from To on are there if their flag is.
func appendEntry(b []byte, rec Position, e *Entry) []byte {
	flags := byte(0)
	set := func(flag byte, is bool) {
		if is {
			flags |= flag
		}
	}
	set(hasTo, e.To != 0)
	set(hasAmount, e.Amount != 0)
	set(hasObject, !e.Object.IsZero())
	set(hasBytes, e.Bytes != 0)
	set(hasRest, e.Rest != 0)
	set(hasRef, e.Ref != "")
	set(hasDoc, len(e.Doc) > 0)
	b = append(b, byte(e.Kind), flags)
	b = binary.AppendUvarint(b, uint64(e.Pos-rec))
	b = binary.AppendUvarint(b, uint64(e.From))
	b = binary.AppendUvarint(b, distance(e.Pos, e.PrevFrom))
	if e.To != 0 {
		b = binary.AppendUvarint(b, uint64(e.To))
		b = binary.AppendUvarint(b, distance(e.Pos, e.PrevTo))
	}
	if e.Amount != 0 {
		b = binary.AppendUvarint(b, uint64(e.Amount))
	}
	if !e.Object.IsZero() {
		b = append(b, e.Object[:]...)
	}
	if e.Bytes != 0 {
		b = binary.AppendUvarint(b, uint64(e.Bytes))
	}
	if e.Rest != 0 {
		b = binary.AppendUvarint(b, uint64(e.Rest))
	}
	if e.Ref != "" {
		b = binary.AppendUvarint(b, uint64(len(e.Ref)))
		b = append(b, e.Ref...)
	}
	if len(e.Doc) > 0 {
		b = binary.AppendUvarint(b, uint64(len(e.Doc)))
		b = append(b, e.Doc...)
	}
	return b
}

func distance(pos, prev Position) uint64 {
	if prev == 0 {
		return 0
	}
	return uint64(pos - prev)
}

// input takes fields off the front of a buffer; err is the first that failed.
// Every field has one form: what is read is written again with the same bytes.
type input struct {
	b   []byte
	err error
}

func (in *input) fail(what string) {
	if in.err == nil {
		in.err = bad(what)
	}
}

// bytes takes n bytes, which stay a part of the buffer.
func (in *input) bytes(n uint64, what string) []byte {
	if in.err != nil || n > uint64(len(in.b)) {
		in.fail(what + " is cut off")
		return nil
	}
	b := in.b[:n:n]
	in.b = in.b[n:]
	return b
}

// uvarint takes a number up to limit, in its shortest form.
func (in *input) uvarint(limit uint64, what string) uint64 {
	v, n := binary.Uvarint(in.b)
	if in.err != nil || n <= 0 || v > limit || n > 1 && in.b[n-1] == 0 {
		in.fail(what)
		return 0
	}
	in.b = in.b[n:]
	return v
}

// some is uvarint for a field whose flag says that it is not zero.
func (in *input) some(limit uint64, what string) uint64 {
	v := in.uvarint(limit, what)
	if v == 0 {
		in.fail(what)
	}
	return v
}

// prev takes the distance of a link.
func (in *input) prev(pos Position) Position {
	d := in.uvarint(max(uint64(pos), 1)-1, "a link")
	if d == 0 {
		return 0
	}
	return pos - Position(d)
}

// entry takes an entry at pos. Its record begins at the position that is
// returned: the caller knows whether that can be.
func (in *input) entry(e *Entry, pos Position) (rec Position) {
	head := in.bytes(2, "an entry")
	if in.err != nil {
		return 0
	}
	*e = Entry{Pos: pos, Kind: credit.Kind(head[0])}
	flags := head[1]
	if e.Kind < credit.KindGrant || e.Kind > credit.KindDoc || flags >= flagsEnd {
		in.fail("a kind of entry that this build does not know")
	}
	rec = pos - Position(in.uvarint(min(uint64(pos), MaxRecord), "the place of an entry"))
	e.From = uint32(in.some(1<<32-1, "an account"))
	e.PrevFrom = in.prev(pos)
	if flags&hasTo != 0 {
		e.To = uint32(in.some(1<<32-1, "an account"))
		e.PrevTo = in.prev(pos)
	}
	if flags&hasAmount != 0 {
		e.Amount = credit.Amount(in.some(uint64(credit.MaxAmount), "an amount"))
	}
	if flags&hasObject != 0 {
		copy(e.Object[:], in.bytes(cas.HashSize, "a hash"))
		if e.Object.IsZero() {
			in.fail("a hash")
		}
	}
	if flags&hasBytes != 0 {
		e.Bytes = int64(in.some(1<<63-1, "bytes"))
	}
	if flags&hasRest != 0 {
		e.Rest = uint32(in.some(1<<32-1, "a rest"))
	}
	if flags&hasRef != 0 {
		e.Ref = string(in.bytes(in.some(credit.MaxRef, "a reference"), "a reference"))
	}
	if flags&hasDoc != 0 {
		e.Doc = in.bytes(in.some(credit.MaxDoc, "a document"), "a document")
	}
	return rec
}

package journal

import (
	"encoding/binary"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// Record is what was appended at once.
type Record struct {
	Seq      uint64
	Time     time.Time
	Pos      Position // of its first byte
	Batch    Position // of the first record that went to the disk together with it
	Prev     cas.Hash // the chain hash of the record before
	Hash     cas.Hash // its own
	ID       string
	First    uint32           // the number of Accounts[0]; the others follow; 0 if there are none
	Accounts []credit.Account // that appear for the first time
	Entries  []Entry
	size     int
}

// End is the position behind the record.
func (r *Record) End() Position { return r.Pos + Position(r.size) }

// Mark is the place behind the record.
func (r *Record) Mark() Mark {
	return Mark{Seq: r.Seq, Last: r.Pos, Pos: r.End(), Time: r.Time.UnixNano(), Hash: r.Hash}
}

// The header of a record, in big-endian numbers:
//
//	 0   4  magic
//	 4   4  length of the record with its header
//	 8  32  hash of all that is behind it
//	40  32  prev
//	72   8  seq
//	80   8  time, nanoseconds since 1970
//	88   8  batch
//
// The body: ID (length, bytes), First, the number of Accounts, and each
// (length, bytes), the number of Entries, and the entries. Numbers are
// uvarints.
const (
	headerSize = 96
	chained    = 40 // where the bytes begin that are under the hash
)

// magic has a byte that no text has, so that nobody can write a record into a
// reference or a name.
const magic = "\xffij\x01"

// minEntry is the fewest bytes of an entry.
const minEntry = 5

type header struct {
	length      uint32
	seq         uint64
	time        int64
	batch       Position
	prev, chain cas.Hash
}

func (h *header) put(b []byte) {
	copy(b, magic)
	binary.BigEndian.PutUint32(b[4:], h.length)
	copy(b[8:], h.chain[:])
	copy(b[40:], h.prev[:])
	binary.BigEndian.PutUint64(b[72:], h.seq)
	binary.BigEndian.PutUint64(b[80:], uint64(h.time))
	binary.BigEndian.PutUint64(b[88:], uint64(h.batch))
}

// parseHeader reads what put writes.
func parseHeader(b []byte) (header, error) {
	if len(b) < headerSize || string(b[:4]) != magic {
		return header{}, bad("no header")
	}
	h := header{
		length: binary.BigEndian.Uint32(b[4:]),
		chain:  cas.Hash(b[8:40]),
		prev:   cas.Hash(b[40:72]),
		seq:    binary.BigEndian.Uint64(b[72:]),
		time:   int64(binary.BigEndian.Uint64(b[80:])),
		batch:  Position(binary.BigEndian.Uint64(b[88:])),
	}
	if h.length < headerSize || h.length > MaxRecord || h.seq == 0 || h.time < 0 {
		return header{}, bad("a header with impossible numbers")
	}
	return h, nil
}

// decode reads the record in b, which begins at pos, into r, whose slices it
// uses again. Documents are parts of b.
func (r *Record) decode(b []byte, pos Position) error {
	h, err := parseHeader(b)
	if err != nil {
		return err
	}
	if int(h.length) != len(b) || h.batch > pos {
		return bad("a header with impossible numbers")
	}
	if cas.Sum(b[chained:]) != h.chain {
		return bad("its hash is wrong")
	}
	*r = Record{
		Seq: h.seq, Time: time.Unix(0, h.time), Pos: pos, Batch: h.batch, Prev: h.prev, Hash: h.chain,
		Accounts: r.Accounts[:0], Entries: r.Entries[:0], size: len(b),
	}
	in := input{b: b[headerSize:]}
	r.ID = string(in.bytes(in.uvarint(MaxID, "an id"), "an id"))
	r.decodeAccounts(&in)
	n := in.uvarint(min(MaxEntries, uint64(len(in.b)/minEntry)), "the number of entries")
	for range n {
		r.Entries = append(r.Entries, Entry{})
		at := pos + Position(len(b)-len(in.b))
		if rec := in.entry(&r.Entries[len(r.Entries)-1], at); rec != pos {
			in.fail("an entry in the wrong place")
		}
		if in.err != nil {
			return in.err
		}
	}
	if len(in.b) > 0 {
		in.fail("bytes behind the last entry")
	}
	return in.err
}

func (r *Record) decodeAccounts(in *input) {
	r.First = uint32(in.uvarint(1<<32-1, "the number of an account"))
	n := in.uvarint(min(2*MaxEntries, uint64(len(in.b)/2)), "the number of accounts")
	if (n == 0) != (r.First == 0) || uint64(r.First)+n > 1<<32 {
		in.fail("the numbers of accounts")
	}
	for range n {
		if in.err != nil {
			return
		}
		a := credit.Account(in.bytes(in.some(maxAccount, "an account"), "an account"))
		if in.err == nil && a.Validate() != nil {
			in.fail("an account")
		}
		r.Accounts = append(r.Accounts, a)
	}
}

// Draft is a record under construction; see Journal.Draft.
type Draft struct {
	head    header
	pos     Position
	segment bool // it begins a new segment
	b       []byte
	missing int // entries that have not been added
}

// Seq is the number that the record will have.
func (d *Draft) Seq() uint64 { return d.head.seq }

func (d *Draft) begin(id string, first uint32, accounts []credit.Account, entries int) {
	d.b = append(d.b, make([]byte, headerSize)...)
	d.b = binary.AppendUvarint(d.b, uint64(len(id)))
	d.b = append(d.b, id...)
	if len(accounts) == 0 {
		first = 0
	}
	d.b = binary.AppendUvarint(d.b, uint64(first))
	d.b = binary.AppendUvarint(d.b, uint64(len(accounts)))
	for _, a := range accounts {
		d.b = binary.AppendUvarint(d.b, uint64(len(a)))
		d.b = append(d.b, a...)
	}
	d.b = binary.AppendUvarint(d.b, uint64(entries))
	d.missing = entries
}

// Next is the position of the entry that Add takes next.
func (d *Draft) Next() Position { return d.pos + Position(len(d.b)) }

// Add writes an entry, at Next, where e.Pos must be.
func (d *Draft) Add(e *Entry) {
	d.b = appendEntry(d.b, d.pos, e)
	d.missing--
}

// seal completes the header.
func (d *Draft) seal(batch Position) {
	d.head.batch, d.head.length = batch, uint32(len(d.b))
	d.head.put(d.b)
	d.head.chain = cas.Sum(d.b[chained:])
	copy(d.b[8:], d.head.chain[:])
}

package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// Reader reads single entries, by their positions. It keeps the segment open
// that it has read last. It is for one goroutine, which closes it.
type Reader struct {
	j     *Journal
	file  *os.File
	start Position
	buf   [entryWindow]byte
}

// entryWindow is more bytes than an entry without a document has; those in
// front of it are read along, since the record's header may be there.
const (
	entryWindow = 1024
	entryFront  = 512
	maxEntry    = 4 << 10
)

// Reader returns a Reader of what is durable.
func (j *Journal) Reader() *Reader { return &Reader{j: j} }

// Close closes the segment that is open.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	f := r.file
	r.file = nil
	return f.Close()
}

// Entry reads the entry at pos, which must be a position that a record gave,
// and the seq and time of its record. Errors: ErrDamaged.
func (r *Reader) Entry(pos Position) (e Entry, seq uint64, at time.Time, err error) {
	rec, h, err := r.entry(&e, pos)
	if errors.Is(err, errForm) {
		err = fmt.Errorf("%w: entry at %d in the record at %d: %w", ErrDamaged, pos, rec, err)
	}
	e.Doc = bytes.Clone(e.Doc) // it is in the buffer
	return e, h.seq, time.Unix(0, h.time), err
}

func (r *Reader) entry(e *Entry, pos Position) (rec Position, h header, err error) {
	if err := r.open(pos); err != nil {
		return 0, header{}, err
	}
	front := min(entryFront, pos-r.start)
	b, err := r.read(r.buf[:], pos-front)
	if err != nil {
		return 0, header{}, err
	}
	in := input{b: b[min(int(front), len(b)):]}
	rec = in.entry(e, pos)
	if in.err != nil { // it may have a document
		long, err := r.read(make([]byte, maxEntry), pos)
		if err != nil {
			return 0, header{}, err
		}
		in = input{b: long}
		rec = in.entry(e, pos)
	}
	if in.err != nil {
		return rec, header{}, in.err
	}
	if rec < r.start || rec > pos {
		return rec, header{}, bad("its record begins in another segment")
	}
	var head []byte
	if rec >= pos-front {
		head = b[rec-(pos-front):]
	} else if head, err = r.read(make([]byte, headerSize), rec); err != nil {
		return rec, header{}, err
	}
	h, err = parseHeader(head)
	if err == nil && pos >= rec+Position(h.length) {
		err = bad("it is behind its record")
	}
	return rec, h, err
}

// read fills b from a position in the open segment, or returns what is there.
func (r *Reader) read(b []byte, pos Position) ([]byte, error) {
	n, err := r.file.ReadAt(b, int64(pos-r.start))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return b[:n], nil
}

// open opens the segment of a position.
func (r *Reader) open(pos Position) error {
	r.j.mu.Lock()
	i, found := slices.BinarySearch(r.j.segments, pos)
	if !found {
		i--
	}
	if i < 0 || pos >= r.j.durable.Pos {
		r.j.mu.Unlock()
		return fmt.Errorf("%w: it has no entry at %d", ErrDamaged, pos)
	}
	start := r.j.segments[i]
	r.j.mu.Unlock()
	if r.file != nil && r.start == start {
		return nil
	}
	if err := r.Close(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	f, err := r.j.root.Open(segment{start: start}.name())
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	r.file, r.start = f, start
	return nil
}

package journal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"inos.dev/edge/cas"
)

// ErrDamaged says: the journal is not what was written, in a place where it
// was durable. Nobody mends that but an operator with a copy.
var ErrDamaged = errors.New("the journal is damaged")

// Mark is a place between two records. The zero value is the beginning.
type Mark struct {
	Seq  uint64   // of the record before it
	Last Position // where that one begins
	Pos  Position // where it ends
	Time int64    // when it was written, nanoseconds since 1970
	Hash cas.Hash // its chain hash
}

// tail is what a scan found at the end.
type tail struct {
	Mark
	origin   cas.Hash
	segments []segment
	batch    Position // where the last record's batch begins
	torn     int64    // bytes behind the mark that are no record
	headless bool     // the last segment has no header, and no record
}

// scanner walks through records.
type scanner struct {
	root  *os.Root
	tail  tail
	visit func(*Record) error
	r     *bufio.Reader
	rec   Record
	buf   []byte
}

// readAhead is how much of a segment is read at once.
const readAhead = 256 << 10

// Scan calls visit for each record behind from, in their order, and returns
// the end of the last. It changes nothing. The record and all in it is valid
// until visit returns. What a crash has left behind the last record is told as
// torn bytes. Errors: ErrDamaged, with the place, and those of visit.
func Scan(ctx context.Context, dir string, from Mark, visit func(*Record) error) (end Mark, torn int64, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Mark{}, 0, fmt.Errorf("journal: %w", err)
	}
	defer root.Close()
	t, err := scan(ctx, root, from, visit)
	return t.Mark, t.torn, err
}

func scan(ctx context.Context, root *os.Root, from Mark, visit func(*Record) error) (tail, error) {
	list, err := listSegments(root)
	if err != nil {
		return tail{}, err
	}
	s := &scanner{root: root, visit: visit, tail: tail{Mark: from, segments: list}}
	if n := len(list); n > 0 && list[n-1].end() < from.Pos || n == 0 && from.Pos > 0 {
		return tail{}, fmt.Errorf("%w: %s ends before position %d, where record %d was durable", ErrDamaged, root.Name(), from.Pos, from.Seq)
	}
	for i, seg := range list {
		if seg.end() <= from.Last && i > 0 {
			continue // the first one has the origin in its header
		}
		if err := s.segment(ctx, seg, i == len(list)-1); err != nil {
			return tail{}, err
		}
	}
	return s.tail, nil
}

func (s *scanner) damaged(seg segment, pos Position, why error) error {
	return fmt.Errorf("%w: %s/%s at byte %d, behind record %d: %w", ErrDamaged, s.root.Name(), seg.name(), pos-seg.start, s.tail.Seq, why)
}

// segment reads what is behind the mark in one file.
func (s *scanner) segment(ctx context.Context, seg segment, last bool) error {
	f, err := s.root.Open(seg.name())
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	if err := s.head(f, seg, last); err != nil || s.tail.headless {
		return err
	}
	if seg.end() <= s.tail.Last {
		return nil
	}
	if s.tail.Seq > 0 && s.tail.Last >= seg.start {
		if err := s.confirm(f, seg); err != nil {
			return err
		}
	}
	pos := max(s.tail.Pos, seg.start+segmentHeader)
	section := io.NewSectionReader(f, int64(pos-seg.start), seg.size-int64(pos-seg.start))
	if s.r == nil {
		s.r = bufio.NewReaderSize(section, readAhead)
	}
	s.r.Reset(section)
	for pos < seg.end() {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := s.record(pos)
		switch {
		case errors.Is(err, errForm):
			return s.stop(f, seg, pos, last, err)
		case err != nil:
			return err
		}
		pos = s.tail.Pos
	}
	return nil
}

// head checks the header of a segment.
func (s *scanner) head(f *os.File, seg segment, last bool) error {
	b := make([]byte, segmentHeader)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("journal: %w", err)
	}
	h, err := parseSegmentHead(b)
	if err == nil {
		err = s.follows(h, seg)
	}
	if err != nil && last && seg.size <= segmentHeader {
		s.tail.headless, s.tail.torn = true, seg.size
		return nil
	}
	if err != nil {
		return s.damaged(seg, seg.start, err)
	}
	if s.tail.Pos < seg.start+segmentHeader && s.tail.Pos >= seg.start {
		s.tail.Pos = seg.start + segmentHeader
	}
	return nil
}

// follows checks that a segment's header is the one that belongs here, and
// takes the origin from the first one.
func (s *scanner) follows(h segmentHead, seg segment) error {
	switch {
	case h.start != seg.start:
		return bad("the header is of another segment")
	case seg.start == 0 && h.seq != 1:
		return bad("the first record has another number than 1")
	case seg.start == 0:
		s.tail.origin = h.prev
		if s.tail.Seq == 0 {
			s.tail.Hash = h.prev
		}
	case seg.start >= s.tail.Pos && (h.seq != s.tail.Seq+1 || h.prev != s.tail.Hash):
		return bad("the header does not follow the record before it")
	}
	return nil
}

// confirm checks that the record that the mark is behind is here.
func (s *scanner) confirm(f *os.File, seg segment) error {
	m := s.tail.Mark
	s.buf = grow(s.buf, int(min(m.Pos-m.Last, MaxRecord)))
	if _, err := f.ReadAt(s.buf, int64(m.Last-seg.start)); err != nil {
		return s.damaged(seg, m.Last, err)
	}
	if err := s.rec.decode(s.buf, m.Last); err != nil {
		return s.damaged(seg, m.Last, err)
	}
	if s.rec.Seq != m.Seq || s.rec.Hash != m.Hash {
		return s.damaged(seg, m.Last, fmt.Errorf("record %d with hash %s is expected, it is %d with %s: this is another journal", m.Seq, m.Hash, s.rec.Seq, s.rec.Hash))
	}
	s.tail.batch = s.rec.Batch
	return nil
}

// record reads one record at pos and moves the mark behind it. errForm says
// that there is none.
func (s *scanner) record(pos Position) error {
	b, err := s.r.Peek(headerSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("journal: read: %w", err)
	}
	h, err := parseHeader(b)
	if err != nil {
		return err
	}
	s.buf = grow(s.buf, int(h.length))
	switch _, err := io.ReadFull(s.r, s.buf); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return bad("a record is cut off")
	case err != nil:
		return fmt.Errorf("journal: read: %w", err)
	}
	if err := s.rec.decode(s.buf, pos); err != nil {
		return err
	}
	if s.rec.Seq != s.tail.Seq+1 || s.rec.Prev != s.tail.Hash {
		return bad("a record that does not follow the one before it")
	}
	if err := s.visit(&s.rec); err != nil {
		return err
	}
	s.tail.Mark = Mark{Seq: h.seq, Last: pos, Pos: s.rec.End(), Time: h.time, Hash: h.chain}
	s.tail.batch = h.batch
	return nil
}

// stop decides what it means that there is no record at pos: a write that
// nobody was told of, cut off by a crash; or damage.
func (s *scanner) stop(f *os.File, seg segment, pos Position, last bool, why error) error {
	if !last {
		return s.damaged(seg, pos, why)
	}
	later, err := durableBehind(f, seg, pos)
	if err != nil {
		return err
	}
	if later > 0 {
		return s.damaged(seg, pos, fmt.Errorf("%w, and record %d, written after this place was durable, is behind it", why, later))
	}
	s.tail.torn = int64(seg.end() - pos)
	return nil
}

// durableBehind looks behind pos for a record of a later batch than the one
// at pos, and returns its seq, or 0. A batch is written after the one before
// is durable: where there is such a record, pos was durable.
func durableBehind(f *os.File, seg segment, pos Position) (uint64, error) {
	b := make([]byte, int64(seg.end()-pos))
	if _, err := f.ReadAt(b, int64(pos-seg.start)); err != nil {
		return 0, fmt.Errorf("journal: read: %w", err)
	}
	for at := 1; ; at++ {
		n := bytes.Index(b[at:], []byte(magic))
		if n < 0 {
			return 0, nil
		}
		at += n
		h, err := parseHeader(b[at:])
		here := pos + Position(at)
		if err == nil && h.batch > pos && h.batch <= here && at+int(h.length) <= len(b) && cas.Sum(b[at+chained:at+int(h.length)]) == h.chain {
			return h.seq, nil
		}
	}
}

// grow returns a slice of n bytes, b if it is large enough.
func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n, max(n, 2*cap(b)))
	}
	return b[:n]
}

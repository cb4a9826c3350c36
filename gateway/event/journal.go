package event

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"inos.dev/edge/cas"
)

// journal is a ring of files with records in the order of their numbers:
//
//	size of the body, 4 bytes little-endian; CRC-32C of what follows, 4 bytes;
//	number, 8 bytes; body (JSON)
//
// A record is valid if its checksum fits and its number is greater than the
// one before; what follows the first that is not is cut off. The caller holds
// the bus's lock, but for read and sync.
type journal struct {
	dir      string
	maxBytes int64
	maxCount int
	segments []*segment // ascending; the last one is written to
	kept     uint64     // what is below is no longer kept
}

// segment is one file of the ring, named by its first number.
type segment struct {
	first uint64
	f     *os.File
	size  int64 // of valid records
	count int
	dirty bool // has records that are not synced
}

const (
	headerSize = 16
	suffix     = ".events"
	// ring is how many segments there are: when one more is begun, the oldest
	// goes.
	ring = 16
	// maxRecord is more than any event has, in base64 and with its names.
	maxRecord = 2*MaxPayload + 16<<10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is the body of a record.
type record struct {
	ID      string    `json:"id"`
	Type    string    `json:"type"`
	Time    time.Time `json:"time"`
	User    string    `json:"user,omitempty"`
	Device  string    `json:"device,omitempty"`
	Trace   Trace     `json:"trace,omitzero"`
	For     string    `json:"for,omitempty"`
	Handled bool      `json:"handled,omitempty"`
	Payload []byte    `json:"payload,omitempty"`
}

// appendRecord encodes e.
func appendRecord(buf []byte, e *Event) ([]byte, error) {
	body, err := json.Marshal(record{e.ID, e.Name.String(), e.Time, e.User, e.Device, e.Trace, e.For, e.handled, e.Payload})
	if err != nil {
		return buf, err
	}
	at := len(buf)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(body)))
	buf = append(buf, 0, 0, 0, 0)
	buf = binary.LittleEndian.AppendUint64(buf, e.Sequence)
	buf = append(buf, body...)
	binary.LittleEndian.PutUint32(buf[at+4:], crc32.Checksum(buf[at+8:], castagnoli))
	return buf, nil
}

// errTorn says: here is no whole record.
var errTorn = errors.New("no whole record")

// cutRecord takes the first record off b; its body is not yet decoded.
func cutRecord(b []byte) (seq uint64, body, rest []byte, err error) {
	if len(b) < headerSize {
		return 0, nil, b, errTorn
	}
	size := int64(binary.LittleEndian.Uint32(b))
	if size > maxRecord || int64(len(b)) < headerSize+size {
		return 0, nil, b, errTorn
	}
	end := headerSize + size
	if crc32.Checksum(b[8:end], castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return 0, nil, b, errTorn
	}
	return binary.LittleEndian.Uint64(b[8:]), b[headerSize:end], b[end:], nil
}

// decodeRecord reads a body.
func decodeRecord(seq uint64, body []byte) (Event, error) {
	var r record
	if err := json.Unmarshal(body, &r); err != nil {
		return Event{}, fmt.Errorf("%w: %w", errTorn, err)
	}
	name, err := ParseName(r.Type)
	if err != nil {
		return Event{}, fmt.Errorf("%w: %w", errTorn, err)
	}
	return Event{Sequence: seq, ID: r.ID, Name: name, Time: r.Time, User: r.User, Device: r.Device, Trace: r.Trace, For: r.For, handled: r.Handled, Payload: r.Payload}, nil
}

// openJournal reads what is there and hands each event to f, in order. lost is
// how many bytes behind the last valid records were cut off.
func openJournal(dir string, maxBytes int64, maxCount int, f func(*Event)) (j *journal, lost int64, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, 0, err
	}
	j = &journal{dir: dir, maxBytes: maxBytes, maxCount: maxCount}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, 0, err
	}
	last := uint64(0)
	for _, entry := range entries { // by name, so by number
		first, err := strconv.ParseUint(strings.TrimSuffix(entry.Name(), suffix), 10, 64)
		if err != nil || entry.Name() != segmentName(first) || !entry.Type().IsRegular() {
			continue
		}
		s, cut, err := openSegment(filepath.Join(dir, entry.Name()), first, &last, f)
		if err != nil {
			return nil, 0, errors.Join(err, j.close())
		}
		lost += cut
		j.segments = append(j.segments, s)
	}
	if len(j.segments) > 0 {
		j.kept = j.segments[0].first
	}
	return j, lost, nil
}

// segmentName has as many digits as any number: names sort as numbers do.
func segmentName(first uint64) string { return fmt.Sprintf("%020d%s", first, suffix) }

// openSegment reads a segment whose numbers must be above *last, and cuts off
// what is not whole.
func openSegment(path string, first uint64, last *uint64, f func(*Event)) (s *segment, lost int64, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	data, err := io.ReadAll(file)
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	s = &segment{first: first, f: file}
	for rest := data; ; {
		seq, body, behind, err := cutRecord(rest)
		if err != nil || seq <= *last || seq < first {
			break
		}
		e, err := decodeRecord(seq, body)
		if err != nil {
			break
		}
		f(&e)
		*last, rest = seq, behind
		s.count++
		s.size = int64(len(data) - len(rest))
	}
	if lost = int64(len(data)) - s.size; lost > 0 {
		if err := file.Truncate(s.size); err != nil {
			return nil, 0, errors.Join(err, file.Close())
		}
	}
	return s, lost, nil
}

// append writes whole records, the first of which has the number first. It
// writes all or, as far as readers are concerned, none. dropped is what had to
// go to make room: everything below it.
func (j *journal) append(data []byte, first uint64, count int) (dropped uint64, err error) {
	s, err := j.room(first, int64(len(data)), count)
	if err != nil {
		return 0, diskError(err)
	}
	if _, err := s.f.WriteAt(data, s.size); err != nil {
		return 0, errors.Join(diskError(err), s.f.Truncate(s.size))
	}
	s.size += int64(len(data))
	s.count += count
	s.dirty = true
	return j.trim(), nil
}

// diskError gives a full disk its sentinel.
func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("event journal: %w: %w", cas.ErrNoSpace, err)
	}
	return fmt.Errorf("event journal: %w", err)
}

// room is the segment for the next records: the last one, unless they make it
// too long.
func (j *journal) room(first uint64, size int64, count int) (*segment, error) {
	if len(j.segments) > 0 {
		s := j.segments[len(j.segments)-1]
		if s.size == 0 || s.size+size <= j.maxBytes/ring && s.count+count <= j.maxCount/ring {
			return s, nil
		}
	}
	f, err := os.OpenFile(filepath.Join(j.dir, segmentName(first)), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	s := &segment{first: first, f: f}
	j.segments = append(j.segments, s)
	if j.kept == 0 {
		j.kept = first
	}
	return s, nil
}

// trim removes the oldest segments while there is too much.
func (j *journal) trim() (dropped uint64) {
	size, count := int64(0), 0
	for _, s := range j.segments {
		size, count = size+s.size, count+s.count
	}
	for len(j.segments) > 1 && (size > j.maxBytes || count > j.maxCount || len(j.segments) > ring) {
		s := j.segments[0]
		size, count = size-s.size, count-s.count
		j.segments = j.segments[1:]
		j.kept = j.segments[0].first
		// A file that cannot be removed is read at the next start, and goes then.
		_ = os.Remove(s.f.Name())
		_ = s.f.Close()
		dropped = j.kept
	}
	return dropped
}

// place is where a reader has come to.
type place struct {
	segment *segment
	size    int64  // of what is valid there
	from    uint64 // the first number that is wanted
	offset  int64  // of it, or of one before it
	next    uint64 // first number that is not in the segment
}

// find says in which segment the events from a number on are; end is the number
// of the next event. There must be a segment.
func (j *journal) find(from, end uint64) place {
	at, exact := slices.BinarySearchFunc(j.segments, from, func(s *segment, n uint64) int {
		switch {
		case s.first < n:
			return -1
		case s.first > n:
			return 1
		}
		return 0
	})
	if !exact && at > 0 {
		at--
	}
	p := place{segment: j.segments[at], size: j.segments[at].size, from: from, next: end}
	if at+1 < len(j.segments) {
		p.next = j.segments[at+1].first
	}
	return p
}

// window is how much of a segment is read at once: more than any record.
const window = 256 << 10

// done reports whether a reader has come to the end of what was valid.
func (p place) done() bool { return p.offset == p.size }

// read returns the next events of a place, perhaps none, and the place behind
// them. It needs no lock: of a segment that is dropped meanwhile it answers
// fs.ErrClosed.
func (p place) read() ([]Event, place, error) {
	data := make([]byte, min(p.size-p.offset, window))
	if _, err := p.segment.f.ReadAt(data, p.offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, p, err
	}
	var events []Event
	begin := p.offset
	for len(data) > 0 {
		seq, body, rest, err := cutRecord(data)
		if err == nil && seq >= p.from {
			var e Event
			if e, err = decodeRecord(seq, body); err == nil {
				events = append(events, e)
			}
		}
		switch {
		case err == nil:
		case p.offset > begin: // the next window starts with it
			return events, p, nil
		default:
			return nil, p, fmt.Errorf("%s at %d: %w", p.segment.f.Name(), p.offset, err)
		}
		p.offset += int64(len(data) - len(rest))
		data = rest
	}
	return events, p, nil
}

// unsynced lists the files that have records which are not synced, and counts
// them as synced.
func (j *journal) unsynced() (files []*os.File) {
	for _, s := range j.segments {
		if s.dirty {
			files = append(files, s.f)
			s.dirty = false
		}
	}
	return files
}

// syncFiles makes files and their names durable. One that was dropped
// meanwhile needs it no longer.
func (j *journal) syncFiles(files []*os.File) error {
	var errs []error
	for _, f := range files {
		if err := f.Sync(); err != nil && !errors.Is(err, fs.ErrClosed) {
			errs = append(errs, err)
		}
	}
	d, err := os.Open(j.dir)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	return errors.Join(append(errs, d.Sync(), d.Close())...)
}

func (j *journal) close() error {
	var errs []error
	for _, s := range j.segments {
		errs = append(errs, s.f.Close())
	}
	return errors.Join(errs...)
}

package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"inos.dev/edge/cas"
)

// segmentHeader is the length of what is in front of a segment's records, in
// big-endian numbers:
//
//	 0  16  "inos journal 1" and two zeros
//	16   8  position of the segment's first byte
//	24   8  seq of its first record
//	32  32  chain hash of the record before that; of the first segment, random
//	        bytes, by which two journals never share a hash
const segmentHeader = 64

const (
	segmentMagic  = "inos journal 1\x00\x00"
	segmentSuffix = ".log"
)

// segment is a file: its name is its position in 16 hexadecimal digits.
type segment struct {
	start Position
	size  int64
}

func (s segment) name() string  { return fmt.Sprintf("%016x", uint64(s.start)) + segmentSuffix }
func (s segment) end() Position { return s.start + Position(s.size) }

type segmentHead struct {
	start Position
	seq   uint64
	prev  cas.Hash
}

func (h segmentHead) bytes() []byte {
	b := make([]byte, 0, segmentHeader)
	b = append(b, segmentMagic...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.start))
	b = binary.BigEndian.AppendUint64(b, h.seq)
	return append(b, h.prev[:]...)
}

func parseSegmentHead(b []byte) (segmentHead, error) {
	if len(b) < segmentHeader || string(b[:16]) != segmentMagic {
		return segmentHead{}, bad("no header of a segment, or one of a newer format")
	}
	return segmentHead{
		start: Position(binary.BigEndian.Uint64(b[16:])),
		seq:   binary.BigEndian.Uint64(b[24:]),
		prev:  cas.Hash(b[32:64]),
	}, nil
}

// listSegments returns the segments of a directory by position: each begins
// where the one before ends.
func listSegments(root *os.Root) ([]segment, error) {
	d, err := root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("journal: list %s: %w", root.Name(), err)
	}
	var list []segment
	for _, name := range names {
		digits, ok := strings.CutSuffix(name, segmentSuffix)
		if !ok {
			continue
		}
		start, err := strconv.ParseUint(digits, 16, 63)
		s := segment{start: Position(start)}
		if err != nil || s.name() != name {
			return nil, fmt.Errorf("journal: %s/%s is no name of a segment: move it away", root.Name(), name)
		}
		info, err := root.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		s.size = info.Size()
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b segment) int { return int(a.start - b.start) })
	for i := 1; i < len(list); i++ {
		if list[i-1].end() != list[i].start {
			return nil, fmt.Errorf("%w: %s/%s ends at %d, and the next segment begins at %d",
				ErrDamaged, root.Name(), list[i-1].name(), list[i-1].end(), list[i].start)
		}
	}
	if len(list) > 0 && list[0].start != 0 {
		return nil, fmt.Errorf("%w: %s begins at %d: its first segments are missing", ErrDamaged, root.Name(), list[0].start)
	}
	return list, nil
}

// createSegment makes a segment's file, durably.
func createSegment(root *os.Root, h segmentHead, disk Disk) (*os.File, error) {
	name := segment{start: h.start}.name()
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: make a segment: %w", err)
	}
	_, err = disk.WriteAt(f, h.bytes(), 0)
	if err == nil {
		err = disk.Sync(f)
	}
	if err == nil {
		err = syncDir(root, disk)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal: write the header of %s: %w", name, err), f.Close(), root.Remove(name))
	}
	return f, nil
}

// syncDir makes the names in root durable.
func syncDir(root *os.Root, disk Disk) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(disk.Sync(d), d.Close())
}

package cas

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	// MaxName is the longest name of a directory entry in bytes.
	MaxName = 255
	// MaxTarget is the longest target of a symbolic link in bytes.
	MaxTarget = 4096
	// MaxEntries is the most entries in one bottom record of a directory; it
	// is closed earlier if the next entry would take it over PieceSize bytes.
	MaxEntries = 2048
	// MaxParts is the most parts in one record of a directory. A part is its
	// longest name and less than 64 bytes, so that so many fit into a piece.
	MaxParts = 2048
)

// Mode is what a directory entry is.
type Mode uint8

const (
	ModeFile       Mode = 1
	ModeExecutable Mode = 2
	ModeDirectory  Mode = 3
	ModeSymlink    Mode = 4
)

func (m Mode) String() string {
	switch m {
	case ModeFile:
		return "file"
	case ModeExecutable:
		return "executable"
	case ModeDirectory:
		return "directory"
	case ModeSymlink:
		return "symlink"
	}
	return fmt.Sprintf("mode %d", uint8(m))
}

// Entry is a name in a directory. Names are sorted bytewise and are unique.
type Entry struct {
	Name   string
	Mode   Mode
	Target string // of a symbolic link, else empty
	Hash   Hash   // of the object; zero for a symbolic link
	Size   int64  // raw bytes of the object
}

// Part is a link to a part of a large directory.
type Part struct {
	Hash  Hash
	First string // the first name in it
	Count int64  // entries below
	Size  int64  // raw bytes below
}

const (
	eName, eMode, eTarget, eHash, eSize = 1, 2, 3, 4, 5
	dHash, dFirst, dCount, dSize        = 1, 2, 3, 4
)

func (e *Entry) append(b []byte) []byte {
	b = appendString(b, eName, e.Name)
	b = appendUint(b, eMode, uint64(e.Mode))
	b = appendString(b, eTarget, e.Target)
	b = appendHash(b, eHash, e.Hash)
	return appendUint(b, eSize, uint64(e.Size))
}

func (p *Part) append(b []byte) []byte {
	b = appendHash(b, dHash, p.Hash)
	b = appendString(b, dFirst, p.First)
	b = appendUint(b, dCount, uint64(p.Count))
	return appendUint(b, dSize, uint64(p.Size))
}

func parseEntry(b []byte) (e Entry, err error) {
	err = eachField(b, func(f recordField) error {
		switch f.number {
		case eName:
			return f.text(&e.Name, MaxName)
		case eMode:
			e.Mode = Mode(min(f.num, 255))
			return nil
		case eTarget:
			return f.text(&e.Target, MaxTarget)
		case eHash:
			return f.hash(&e.Hash)
		case eSize:
			return f.size(&e.Size)
		}
		return f.unknown()
	})
	return e, err
}

func parsePart(b []byte) (p Part, err error) {
	err = eachField(b, func(f recordField) error {
		switch f.number {
		case dHash:
			return f.hash(&p.Hash)
		case dFirst:
			return f.text(&p.First, MaxName)
		case dCount:
			return f.size(&p.Count)
		case dSize:
			return f.size(&p.Size)
		}
		return f.unknown()
	})
	return p, err
}

// EncodedSize is how many bytes e adds to a directory record.
func (e *Entry) EncodedSize() int {
	return len(appendBytes(nil, fEntries, e.append(nil)))
}

// Validate checks one entry: its name, and that its fields fit its mode.
func (e *Entry) Validate() error {
	if err := CheckName(e.Name); err != nil {
		return err
	}
	link := e.Mode == ModeSymlink
	switch {
	case e.Mode < ModeFile || e.Mode > ModeSymlink:
		return fmt.Errorf("%w: entry %q: %v", ErrCorrupt, e.Name, e.Mode)
	case link != (e.Target != ""), link && strings.ContainsRune(e.Target, 0), link && !utf8.ValidString(e.Target):
		return fmt.Errorf("%w: entry %q: bad link target", ErrCorrupt, e.Name)
	case len(e.Target) > MaxTarget:
		return fmt.Errorf("%w: entry %q: link target of %d bytes, at most %d", ErrTooLarge, e.Name, len(e.Target), MaxTarget)
	case link != e.Hash.IsZero() || link && e.Size != 0 || e.Size < 0:
		return fmt.Errorf("%w: entry %q: fields do not fit its mode", ErrCorrupt, e.Name)
	}
	return nil
}

// CheckName accepts what a directory entry may be called: 1 to MaxName bytes
// of UTF-8 without slash and control characters, and not "." or "..".
func CheckName(name string) error {
	if name == "" || len(name) > MaxName || name == "." || name == ".." || !utf8.ValidString(name) {
		return fmt.Errorf("%w: %q is no name for a directory entry", ErrCorrupt, name)
	}
	for _, r := range name {
		if r == '/' || r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return fmt.Errorf("%w: %q has a slash or a control character", ErrCorrupt, name)
		}
	}
	return nil
}

func (m *Manifest) validateDirectory() error {
	if len(m.Pieces) > 0 || len(m.Nodes) > 0 || m.MediaType != "" || !m.Raw.IsZero() || !m.SHA256.IsZero() || m.Encoded != 0 {
		return fmt.Errorf("%w: a directory has fields of a file", ErrCorrupt)
	}
	if len(m.Entries) > 0 && len(m.Parts) > 0 {
		return fmt.Errorf("%w: entries and parts in one record", ErrCorrupt)
	}
	if len(m.Entries) > MaxEntries || len(m.Parts) > MaxParts || len(m.Parts) == 1 {
		return fmt.Errorf("%w: a directory record of the wrong shape", ErrCorrupt)
	}
	size, count, err := m.sumEntries()
	if err == nil && len(m.Parts) > 0 {
		size, count, err = m.sumParts()
	}
	if err != nil {
		return err
	}
	if size != m.Size || count != m.Count {
		return fmt.Errorf("%w: the entries do not add up to the sizes of the record", ErrCorrupt)
	}
	return nil
}

var errOverflow = fmt.Errorf("%w: sizes overflow", ErrCorrupt)

func (m *Manifest) sumEntries() (size, count int64, err error) {
	prev := ""
	for i := range m.Entries {
		e := &m.Entries[i]
		if err := e.Validate(); err != nil {
			return 0, 0, err
		}
		if e.Name <= prev {
			return 0, 0, fmt.Errorf("%w: entry %q is out of order", ErrCorrupt, e.Name)
		}
		prev = e.Name
		if e.Size > maxSize-size {
			return 0, 0, errOverflow
		}
		size += e.Size
	}
	return size, int64(len(m.Entries)), nil
}

func (m *Manifest) sumParts() (size, count int64, err error) {
	prev := ""
	for i := range m.Parts {
		p := &m.Parts[i]
		if p.Hash.IsZero() || p.Count < 1 || p.First <= prev || CheckName(p.First) != nil {
			return 0, 0, fmt.Errorf("%w: directory part %d", ErrCorrupt, i)
		}
		prev = p.First
		if p.Size > maxSize-size || p.Count > maxSize-count {
			return 0, 0, errOverflow
		}
		size += p.Size
		count += p.Count
	}
	return size, count, nil
}

package cas

import (
	"bytes"
	"fmt"
	"mime"
	"strings"
)

const (
	// ManifestVersion is the version that this package writes and reads.
	ManifestVersion = 1
	// ProfileBr1 is the only chunk profile so far.
	ProfileBr1 = 1
	// Fanout is the most links in one node.
	Fanout = 4096
	// MaxDepth bounds the walk from a root to a piece: 4096^4 pieces of 1 MiB
	// are more than an int64 counts in bytes.
	MaxDepth = 5
	// MaxMediaType is the longest media type in bytes.
	MaxMediaType = 127
)

// Kind is what a manifest describes.
type Kind uint8

const (
	KindFile      Kind = 1 // the root of a file
	KindDirectory Kind = 2 // a directory, or a part of a large one
	KindNode      Kind = 3 // an inner node of a large file
)

func (k Kind) String() string {
	switch k {
	case KindFile:
		return "file"
	case KindDirectory:
		return "directory"
	case KindNode:
		return "node"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Manifest is one record of the Merkle DAG. It is itself stored as a chunk;
// the hash of the root's chunk names the object.
//
// A file or node has either Pieces or Nodes, a directory has either Entries
// or Parts. Sizes and digests are the publisher's claim until somebody has
// decoded the pieces.
type Manifest struct {
	Kind      Kind
	Size      int64  // raw bytes below this record; of a directory, of all its files
	Encoded   int64  // stored bytes of the pieces below (not of manifests); 0 in a directory
	Count     int64  // pieces below; of a directory, entries below
	MediaType string // root of a file only
	Raw       Hash   // raw BLAKE3 of the whole, what b3sum prints; root of a file only
	SHA256    Hash   // SHA-256 of the whole; root of a file only

	Pieces  []Piece
	Nodes   []Node
	Entries []Entry
	Parts   []Part
}

// Piece is a link to a chunk of a file.
type Piece struct {
	Hash    Hash  // of the chunk
	Size    int64 // raw bytes: PieceSize, but for the object's last piece
	Encoded int64 // stored bytes
	Raw     Hash  // BLAKE3 of the raw bytes: checks decoded bytes with any library
	CV      Hash  // BLAKE3 chaining value of the raw bytes at their offset in the object
}

// Node is a link to an inner node of a large file.
type Node struct {
	Hash    Hash
	Count   int64 // pieces below
	Size    int64 // raw bytes below
	Encoded int64 // stored bytes of the pieces below
}

// Field numbers of the records.
const (
	fVersion, fKind, fSize, fEncoded, fCount, fProfile = 1, 2, 3, 4, 5, 6
	fMediaType, fRaw, fSHA256                          = 7, 8, 9
	fPieces, fNodes, fEntries, fParts                  = 10, 11, 12, 13

	pHash, pSize, pEncoded, pRaw, pCV = 1, 2, 3, 4, 5
	nHash, nCount, nSize, nEncoded    = 1, 2, 3, 4
)

// JoinedSize is the length of the object's pieces joined into one Brotli
// stream: HEAD, the BODYs, TAIL.
func (m *Manifest) JoinedSize() int64 {
	return FrameOverhead + m.Encoded - FrameOverhead*m.Count
}

// Append appends the canonical bytes of m to b.
func (m *Manifest) Append(b []byte) []byte {
	b = appendUint(b, fVersion, ManifestVersion)
	b = appendUint(b, fKind, uint64(m.Kind))
	b = appendUint(b, fSize, uint64(m.Size))
	b = appendUint(b, fEncoded, uint64(m.Encoded))
	b = appendUint(b, fCount, uint64(m.Count))
	b = appendUint(b, fProfile, ProfileBr1)
	b = appendString(b, fMediaType, m.MediaType)
	b = appendHash(b, fRaw, m.Raw)
	b = appendHash(b, fSHA256, m.SHA256)
	var link []byte
	for i := range m.Pieces {
		link = m.Pieces[i].append(link[:0])
		b = appendBytes(b, fPieces, link)
	}
	for i := range m.Nodes {
		link = m.Nodes[i].append(link[:0])
		b = appendBytes(b, fNodes, link)
	}
	for i := range m.Entries {
		link = m.Entries[i].append(link[:0])
		b = appendBytes(b, fEntries, link)
	}
	for i := range m.Parts {
		link = m.Parts[i].append(link[:0])
		b = appendBytes(b, fParts, link)
	}
	return b
}

func (p *Piece) append(b []byte) []byte {
	b = appendHash(b, pHash, p.Hash)
	b = appendUint(b, pSize, uint64(p.Size))
	b = appendUint(b, pEncoded, uint64(p.Encoded))
	b = appendHash(b, pRaw, p.Raw)
	return appendHash(b, pCV, p.CV)
}

func (n *Node) append(b []byte) []byte {
	b = appendHash(b, nHash, n.Hash)
	b = appendUint(b, nCount, uint64(n.Count))
	b = appendUint(b, nSize, uint64(n.Size))
	return appendUint(b, nEncoded, uint64(n.Encoded))
}

// ParseManifest reads the canonical bytes of one record and checks all that
// can be checked without other chunks: order, sums, limits, names. It
// re-encodes what it read, so that two different byte strings never mean the
// same manifest. Errors: ErrNotObject if b is no manifest at all, ErrCorrupt
// if it is a wrong one.
func ParseManifest(b []byte) (*Manifest, error) {
	if len(b) < 4 || b[0] != fVersion<<3 || b[2] != fKind<<3 {
		return nil, ErrNotObject
	}
	if b[1] != ManifestVersion {
		return nil, fmt.Errorf("%w: manifest version %d; this program reads version %d", ErrNotObject, b[1], ManifestVersion)
	}
	m, err := parseFields(b)
	if err != nil {
		return nil, err
	}
	if err := m.validate(); err != nil {
		return nil, err
	}
	if !bytes.Equal(m.Append(make([]byte, 0, len(b))), b) {
		return nil, fmt.Errorf("%w: manifest is not canonical", ErrCorrupt)
	}
	return m, nil
}

func parseFields(b []byte) (*Manifest, error) {
	m := &Manifest{}
	err := eachField(b, func(f recordField) (err error) {
		switch f.number {
		case fVersion, fProfile: // fixed values: the comparison with the re-encoded bytes checks them
			return nil
		case fKind:
			m.Kind = Kind(min(f.num, 255))
			return nil
		case fSize:
			return f.size(&m.Size)
		case fEncoded:
			return f.size(&m.Encoded)
		case fCount:
			return f.size(&m.Count)
		case fMediaType:
			return f.text(&m.MediaType, MaxMediaType)
		case fRaw:
			return f.hash(&m.Raw)
		case fSHA256:
			return f.hash(&m.SHA256)
		case fPieces:
			m.Pieces, err = parseLink(m.Pieces, f, parsePiece)
		case fNodes:
			m.Nodes, err = parseLink(m.Nodes, f, parseNode)
		case fEntries:
			m.Entries, err = parseLink(m.Entries, f, parseEntry)
		case fParts:
			m.Parts, err = parseLink(m.Parts, f, parsePart)
		default:
			return f.unknown()
		}
		return err
	})
	return m, err
}

func parseLink[T any](list []T, f recordField, parse func([]byte) (T, error)) ([]T, error) {
	if f.isNum || len(list) == Fanout {
		return nil, fmt.Errorf("%w: field %d: at most %d links", ErrCorrupt, f.number, Fanout)
	}
	v, err := parse(f.raw)
	return append(list, v), err
}

func parsePiece(b []byte) (p Piece, err error) {
	err = eachField(b, func(f recordField) error {
		switch f.number {
		case pHash:
			return f.hash(&p.Hash)
		case pSize:
			return f.size(&p.Size)
		case pEncoded:
			return f.size(&p.Encoded)
		case pRaw:
			return f.hash(&p.Raw)
		case pCV:
			return f.hash(&p.CV)
		}
		return f.unknown()
	})
	return p, err
}

func parseNode(b []byte) (n Node, err error) {
	err = eachField(b, func(f recordField) error {
		switch f.number {
		case nHash:
			return f.hash(&n.Hash)
		case nCount:
			return f.size(&n.Count)
		case nSize:
			return f.size(&n.Size)
		case nEncoded:
			return f.size(&n.Encoded)
		}
		return f.unknown()
	})
	return n, err
}

// validate checks what one record says of itself.
func (m *Manifest) validate() error {
	switch m.Kind {
	case KindFile, KindNode:
		return m.validateFile()
	case KindDirectory:
		return m.validateDirectory()
	}
	return fmt.Errorf("%w: %v", ErrCorrupt, m.Kind)
}

func (m *Manifest) validateFile() error {
	switch {
	case len(m.Entries) > 0 || len(m.Parts) > 0:
		return fmt.Errorf("%w: directory entries in a file", ErrCorrupt)
	case len(m.Pieces) > 0 && len(m.Nodes) > 0:
		return fmt.Errorf("%w: pieces and nodes in one record", ErrCorrupt)
	case m.Size > 0 && m.Count != (m.Size-1)/PieceSize+1, m.Size == 0 && m.Count != 0:
		return fmt.Errorf("%w: %d pieces cannot hold %d bytes", ErrCorrupt, m.Count, m.Size)
	}
	if err := m.validateHead(); err != nil {
		return err
	}
	if len(m.Nodes) > 0 {
		return m.validateNodes()
	}
	return m.validatePieces()
}

// validateHead checks the fields that a root has and an inner node has not.
func (m *Manifest) validateHead() error {
	if m.Kind == KindFile {
		if m.Raw.IsZero() || m.SHA256.IsZero() {
			return fmt.Errorf("%w: a file without digests", ErrCorrupt)
		}
		return CheckMediaType(m.MediaType)
	}
	if m.MediaType != "" || !m.Raw.IsZero() || !m.SHA256.IsZero() || m.Count == 0 {
		return fmt.Errorf("%w: an inner node with fields of a root, or empty", ErrCorrupt)
	}
	return nil
}

func (m *Manifest) validatePieces() error {
	var size, encoded int64
	for i, p := range m.Pieces {
		full := i < len(m.Pieces)-1
		if p.Size < 1 || p.Size > PieceSize || full && p.Size != PieceSize ||
			p.Encoded < MinChunkSize || p.Encoded > p.Size+RawOverhead ||
			p.Hash.IsZero() || p.Raw.IsZero() || p.CV.IsZero() {
			return fmt.Errorf("%w: link %d", ErrCorrupt, i)
		}
		size += p.Size
		encoded += p.Encoded
	}
	if size != m.Size || encoded != m.Encoded || int64(len(m.Pieces)) != m.Count {
		return fmt.Errorf("%w: the links do not add up to the sizes of the record", ErrCorrupt)
	}
	return nil
}

// validateNodes: every node but the last is full to the same depth, and there
// are at least two, so that one object has one tree.
func (m *Manifest) validateNodes() error {
	each := SubtreePieces(m.Count)
	if len(m.Nodes) < 2 || each == 1 {
		return fmt.Errorf("%w: a tree deeper than it has to be", ErrCorrupt)
	}
	var size, encoded, count int64
	for i, n := range m.Nodes {
		last := i == len(m.Nodes)-1
		if n.Hash.IsZero() || n.Count < 1 || n.Count > each || !last && n.Count != each ||
			n.Size < 1 || !last && n.Size != each*PieceSize || n.Size > n.Count*PieceSize ||
			n.Size <= (n.Count-1)*PieceSize ||
			n.Encoded < n.Count*MinChunkSize || n.Encoded > n.Size+n.Count*RawOverhead {
			return fmt.Errorf("%w: node link %d", ErrCorrupt, i)
		}
		size += n.Size
		encoded += n.Encoded
		count += n.Count
	}
	if size != m.Size || encoded != m.Encoded || count != m.Count {
		return fmt.Errorf("%w: the node links do not add up to the sizes of the record", ErrCorrupt)
	}
	return nil
}

// SubtreePieces is the number of pieces below each full child of a record
// with count pieces: 1 if its links are pieces, else a power of Fanout.
func SubtreePieces(count int64) int64 {
	each := int64(1)
	for each*Fanout < count {
		each *= Fanout
	}
	return each
}

// CheckMediaType accepts type/subtype with optional parameters as RFC 9110,
// section 8.3.1 has it, in lower case, of at most MaxMediaType bytes.
func CheckMediaType(s string) error {
	if len(s) > MaxMediaType {
		return fmt.Errorf("%w: media type of %d bytes, at most %d", ErrCorrupt, len(s), MaxMediaType)
	}
	t, _, err := mime.ParseMediaType(s)
	if err != nil || !strings.Contains(t, "/") || s != strings.ToLower(s) {
		return fmt.Errorf("%w: media type %q", ErrCorrupt, s)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return fmt.Errorf("%w: media type %q", ErrCorrupt, s)
		}
	}
	return nil
}

package dag

import (
	"fmt"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/brotli"
)

// Object is what was written, or what a root manifest says.
type Object struct {
	Hash      cas.Hash
	Kind      cas.Kind
	Size      int64 // raw bytes
	Encoded   int64 // stored bytes of the pieces (each once per place it stands in)
	Pieces    int64 // of a directory, of all its files
	MediaType string
	Raw       cas.Hash // BLAKE3 of the whole; zero for a directory
	SHA256    cas.Hash // zero for a directory
}

// emit takes a manifest's chunk; it may store it later.
type emit func(cas.Chunk) error

// builder collects the links of one file in order and emits a node whenever
// one is full and more follows.
type builder struct {
	emit   emit
	tree   rawTree
	size   int64
	total  int64 // stored bytes of all pieces
	pieces []cas.Piece
	levels [][]cas.Node // levels[0] are nodes of pieces, levels[1] nodes of those, …
}

// add takes the next piece's link.
func (b *builder) add(p cas.Piece) error {
	if len(b.pieces) == cas.Fanout {
		n, err := b.pieceNode()
		if err != nil {
			return err
		}
		if err := b.push(0, n); err != nil {
			return err
		}
	}
	b.tree.add(p)
	b.pieces = append(b.pieces, p)
	b.size += p.Size
	b.total += p.Encoded
	return nil
}

// push adds a node to a level, closing the level first if it is full.
func (b *builder) push(level int, n cas.Node) error {
	if level == len(b.levels) {
		b.levels = append(b.levels, nil)
	}
	if len(b.levels[level]) == cas.Fanout {
		up, err := b.nodeNode(level)
		if err != nil {
			return err
		}
		if err := b.push(level+1, up); err != nil {
			return err
		}
	}
	b.levels[level] = append(b.levels[level], n)
	return nil
}

// pieceNode emits the collected pieces as a node and empties the list.
func (b *builder) pieceNode() (cas.Node, error) {
	m := cas.Manifest{Kind: cas.KindNode, Count: int64(len(b.pieces)), Pieces: b.pieces}
	for _, p := range b.pieces {
		m.Size += p.Size
		m.Encoded += p.Encoded
	}
	n, err := b.node(&m)
	b.pieces = b.pieces[:0]
	return n, err
}

// nodeNode does the same with a level of nodes.
func (b *builder) nodeNode(level int) (cas.Node, error) {
	nodes := b.levels[level]
	b.levels[level] = nil
	if len(nodes) == 1 {
		return nodes[0], nil
	}
	m := cas.Manifest{Kind: cas.KindNode, Nodes: nodes}
	for _, n := range nodes {
		m.Count += n.Count
		m.Size += n.Size
		m.Encoded += n.Encoded
	}
	return b.node(&m)
}

func (b *builder) node(m *cas.Manifest) (cas.Node, error) {
	h, err := b.put(m)
	return cas.Node{Hash: h, Count: m.Count, Size: m.Size, Encoded: m.Encoded}, err
}

// put encodes a manifest and emits its chunk.
func (b *builder) put(m *cas.Manifest) (cas.Hash, error) { return emitManifest(b.emit, m) }

func emitManifest(e emit, m *cas.Manifest) (cas.Hash, error) {
	c, err := EncodeManifest(m)
	if err != nil {
		return cas.Hash{}, err
	}
	return c.Hash(), e(c)
}

// finish emits what is left and the root.
func (b *builder) finish(mediaType string, sha256 cas.Hash) (Object, error) {
	root := cas.Manifest{Kind: cas.KindFile, MediaType: mediaType, Raw: b.tree.root(), SHA256: sha256,
		Size: b.size, Encoded: b.total, Count: b.tree.count}
	if len(b.levels) == 0 {
		root.Pieces = b.pieces
	} else {
		n, err := b.pieceNode()
		if err != nil {
			return Object{}, err
		}
		if err := b.push(0, n); err != nil {
			return Object{}, err
		}
		for level := 0; level < len(b.levels)-1; level++ { //nolint:intrange // push may add a level
			up, err := b.nodeNode(level)
			if err != nil {
				return Object{}, err
			}
			if err := b.push(level+1, up); err != nil {
				return Object{}, err
			}
		}
		root.Nodes = b.levels[len(b.levels)-1]
	}
	h, err := b.put(&root)
	return ObjectOf(h, &root), err
}

// ObjectOf describes the object that a root manifest stands for. A directory's
// Encoded and Pieces are not in its manifest and stay 0.
func ObjectOf(h cas.Hash, m *cas.Manifest) Object {
	o := Object{Hash: h, Kind: m.Kind, Size: m.Size, MediaType: m.MediaType, Raw: m.Raw, SHA256: m.SHA256}
	if m.Kind != cas.KindDirectory {
		o.Encoded, o.Pieces = m.Encoded, m.Count
	}
	return o
}

// EncodeManifest makes the chunk of a manifest. Errors: cas.ErrTooLarge if the
// record is longer than a piece.
func EncodeManifest(m *cas.Manifest) (cas.Chunk, error) {
	record := m.Append(nil)
	if len(record) > cas.PieceSize {
		return cas.Chunk{}, fmt.Errorf("%w: a manifest of %d bytes", cas.ErrTooLarge, len(record))
	}
	return brotli.Encode(record)
}

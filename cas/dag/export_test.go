package dag

import (
	"testing"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/brotli"
)

// TestEncoded is the stored size of every piece of BuildForTest.
const TestEncoded = 1000

// BuildForTest builds the tree over count full pieces that do not exist, keeps
// its nodes in source and returns the root.
func BuildForTest(t *testing.T, source map[cas.Hash]*cas.Manifest, count int64) *cas.Manifest {
	t.Helper()
	b := builder{emit: func(c cas.Chunk) error {
		record, err := brotli.Decode(nil, c.Bytes())
		if err != nil {
			return err
		}
		m, err := cas.ParseManifest(record)
		source[c.Hash()] = m
		return err
	}}
	link := cas.Piece{Hash: cas.Sum([]byte("h")), Size: cas.PieceSize, Encoded: TestEncoded, Raw: cas.Sum([]byte("r")), CV: cas.Sum([]byte("c"))}
	for range min(count, cas.Fanout) {
		if err := b.add(link); err != nil {
			t.Fatal(err)
		}
	}
	if count > cas.Fanout {
		addNodes(t, &b, link, count-cas.Fanout)
	}
	o, err := b.finish("text/plain", cas.Sum([]byte("s")))
	if err != nil {
		t.Fatal(err)
	}
	return source[o.Hash]
}

// addNodes adds count more pieces to a builder with one full list: whole nodes
// at a time, since they are all the same. The chaining values are left out.
func addNodes(t *testing.T, b *builder, link cas.Piece, count int64) {
	t.Helper()
	full, err := b.pieceNode()
	for ; err == nil && count > 0; count -= cas.Fanout {
		if err = b.push(0, full); err != nil {
			break
		}
		n := min(count, cas.Fanout)
		b.pieces = b.pieces[:0]
		for range n {
			b.pieces = append(b.pieces, link)
		}
		b.tree.count += n
		b.size += n * link.Size
		b.total += n * link.Encoded
	}
	if err != nil {
		t.Fatal(err)
	}
}

package dag

import (
	"encoding/binary"
	"math/bits"

	"lukechampine.com/blake3/guts"

	"inos.dev/edge/cas"
)

// leavesPerPiece is how many BLAKE3 leaves a full piece has.
const leavesPerPiece = cas.PieceSize / guts.ChunkSize

// chainingValue is the BLAKE3 chaining value of a piece as the index-th full
// subtree of an object.
func chainingValue(piece []byte, index int64) cas.Hash {
	return pack(guts.ChainingValue(subtree(piece, uint64(index)*leavesPerPiece)))
}

// subtree hashes 1 byte to 1 MiB whose first leaf has the number counter: the
// left child is the largest power of two of leaves that leaves something for
// the right one.
func subtree(b []byte, counter uint64) guts.Node {
	const batch = guts.MaxSIMD * guts.ChunkSize
	switch {
	case len(b) <= guts.ChunkSize:
		return guts.CompressChunk(b, &guts.IV, counter, 0)
	case len(b) == batch:
		return guts.CompressBuffer((*[batch]byte)(b), batch, &guts.IV, counter, 0)
	case len(b) < batch:
		var buf [batch]byte
		return guts.CompressBuffer(&buf, copy(buf[:], b), &guts.IV, counter, 0)
	}
	leaves := uint(len(b)-1)/guts.ChunkSize + 1
	left := 1 << (bits.Len(leaves-1) - 1)
	return guts.ParentNode(
		guts.ChainingValue(subtree(b[:left*guts.ChunkSize], counter)),
		guts.ChainingValue(subtree(b[left*guts.ChunkSize:], counter+uint64(left))),
		&guts.IV, 0)
}

// RawSum computes the BLAKE3 of an object whose raw pieces come in order. The
// zero value is ready.
type RawSum struct{ tree rawTree }

// Add takes the next piece: cas.PieceSize bytes, but for the last one.
func (s *RawSum) Add(piece []byte) {
	s.tree.add(cas.Piece{Raw: cas.Sum(piece), CV: chainingValue(piece, s.tree.count)})
}

// Sum returns the BLAKE3 of all pieces so far.
func (s *RawSum) Sum() cas.Hash { return s.tree.root() }

// rawTree merges the chaining values of pieces into the BLAKE3 of the whole.
// It keeps one value per complete subtree: bit i of count is set if there is
// one of 2^i pieces, as the BLAKE3 hasher does with leaves.
type rawTree struct {
	stack []cas.Hash
	count int64
	only  cas.Hash // the BLAKE3 of the first piece, which is the whole's if it stays alone
}

// add takes the next piece. Subtrees are merged only when another piece
// follows, since the last merge is the root and is done differently.
func (t *rawTree) add(p cas.Piece) {
	if t.count == 0 {
		t.only = p.Raw
	}
	for n := t.count; n > 0 && len(t.stack) > bits.OnesCount64(uint64(n)); {
		t.merge()
	}
	t.stack = append(t.stack, p.CV)
	t.count++
}

func (t *rawTree) merge() {
	n := len(t.stack)
	t.stack[n-2] = pack(guts.ChainingValue(parent(t.stack[n-2], t.stack[n-1])))
	t.stack = t.stack[:n-1]
}

// root returns the BLAKE3 of all pieces so far. It changes nothing.
func (t *rawTree) root() cas.Hash {
	switch t.count {
	case 0:
		return cas.Sum(nil)
	case 1:
		return t.only
	}
	right := t.stack[len(t.stack)-1]
	for i := len(t.stack) - 2; i > 0; i-- {
		right = pack(guts.ChainingValue(parent(t.stack[i], right)))
	}
	top := parent(t.stack[0], right)
	top.Flags |= guts.FlagRoot
	words := guts.CompressNode(top)
	return pack([8]uint32(words[:8]))
}

func parent(left, right cas.Hash) guts.Node {
	return guts.ParentNode(unpack(left), unpack(right), &guts.IV, 0)
}

func pack(words [8]uint32) (h cas.Hash) {
	for i, w := range words {
		binary.LittleEndian.PutUint32(h[4*i:], w)
	}
	return h
}

func unpack(h cas.Hash) (words [8]uint32) {
	for i := range words {
		words[i] = binary.LittleEndian.Uint32(h[4*i:])
	}
	return words
}

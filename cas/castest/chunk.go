package castest

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"inos.dev/edge/cas"
)

// rawClose is the closing block of a raw-form chunk.
const rawClose = 0x06

// Raw returns the bytes of the raw-form chunk of piece, which has 1 byte to
// cas.PieceSize bytes. It is a valid chunk but not always the canonical one:
// br1 takes the raw form only for pieces that do not compress.
func Raw(piece []byte) []byte {
	head, meta := cas.Head(), cas.RawHeader(len(piece))
	b := make([]byte, 0, len(piece)+cas.RawOverhead)
	b = append(b, head[:]...)
	b = append(b, meta[:]...)
	b = append(b, piece...)
	return append(b, rawClose, cas.Tail())
}

// Chunk seals the raw form of piece.
func Chunk(t testing.TB, piece []byte) cas.Chunk {
	t.Helper()
	c, err := cas.Seal(Raw(piece))
	if err != nil {
		t.Fatalf("seal a piece of %d bytes: %v", len(piece), err)
	}
	return c
}

// Random returns a chunk of exactly size stored bytes (cas.MinChunkSize to
// cas.PieceSize + cas.RawOverhead) that depends on seed alone. Chunks of 16
// bytes and more with different seeds are different.
func Random(t testing.TB, seed uint64, size int) cas.Chunk {
	t.Helper()
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	piece := make([]byte, size-cas.RawOverhead)
	r := rand.NewChaCha8(key)
	if _, err := r.Read(piece); err != nil {
		t.Fatalf("random piece: %v", err)
	}
	if len(piece) > 8 {
		binary.LittleEndian.PutUint64(piece, seed)
	}
	return Chunk(t, piece)
}

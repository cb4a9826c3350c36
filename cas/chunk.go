package cas

import (
	"fmt"
	"math/bits"
)

const (
	// PieceSize is the number of raw bytes in every piece of an object but
	// the last one, and the most that a chunk decodes to.
	PieceSize = 1 << 20
	// MaxChunkSize is the most bytes that are read in as one chunk. The
	// profile itself needs PieceSize + RawOverhead.
	MaxChunkSize = PieceSize + 4096
	// RawOverhead is what the raw form adds to a piece.
	RawOverhead = 7
	// MinChunkSize is the length of the shortest chunk: the raw form of one
	// byte.
	MinChunkSize = 1 + RawOverhead

	// BodyOffset is where the BODY of a chunk starts (behind HEAD), and
	// FrameOverhead is HEAD and TAIL together: a chunk's BODY is its bytes
	// [BodyOffset, len-1).
	BodyOffset    = 2
	FrameOverhead = 3
	// RawPieceOffset is where the piece lies in a raw-form chunk.
	RawPieceOffset = 5
)

// The frame of every chunk: see "br1" in the format description,
// docs/format.md.
const (
	head0 = 0x69 // WBITS 21 (1001), then 0 11 0: an empty metadata meta-block
	head1 = 0x00 // its MSKIPBYTES and the padding to a byte border
	tail  = 0x03 // ISLAST, ISLASTEMPTY
)

// Head and Tail are the bytes that stand before and after the joined BODYs.
func Head() [2]byte { return [2]byte{head0, head1} }

// Tail is the last byte of every chunk and of every joined stream.
func Tail() byte { return tail }

// Chunk is stored bytes whose hash is known to fit. Only Seal and Verify make
// one, so whoever holds a Chunk need not check it again. The zero Chunk is
// empty and no store takes it. The bytes are shared and must not be changed.
type Chunk struct {
	hash Hash
	data []byte
}

// Hash returns the chunk's name.
func (c Chunk) Hash() Hash { return c.hash }

// Bytes returns the stored bytes; they must not be changed.
func (c Chunk) Bytes() []byte { return c.data }

// Size returns the number of stored bytes.
func (c Chunk) Size() int64 { return int64(len(c.data)) }

// Seal names bytes that this process encoded itself. It checks their frame
// and keeps data, which must not be changed afterwards. Errors: ErrShape,
// ErrTooLarge.
func Seal(data []byte) (Chunk, error) {
	if err := checkFrame(data); err != nil {
		return Chunk{}, err
	}
	return Chunk{Sum(data), data}, nil
}

// Verify is the one gate for foreign bytes, wherever they come from: it
// checks that data has the frame of a br1 chunk and the hash want. It does not
// decode: brotli.Check does that for bytes that have to be canonical. Verify
// keeps data, which must not be changed afterwards. Errors: ErrTooLarge,
// ErrShape, ErrHashMismatch.
func Verify(want Hash, data []byte) (Chunk, error) {
	if err := checkFrame(data); err != nil {
		return Chunk{}, err
	}
	if got := Sum(data); got != want {
		return Chunk{}, fmt.Errorf("%w: want %s, have %s", ErrHashMismatch, want, got)
	}
	return Chunk{want, data}, nil
}

// checkFrame accepts HEAD … closing block TAIL within the size limits.
func checkFrame(data []byte) error {
	n := len(data)
	switch {
	case n > MaxChunkSize:
		return fmt.Errorf("%w: a chunk has at most %d bytes", ErrTooLarge, MaxChunkSize)
	case n < MinChunkSize:
		return fmt.Errorf("%w: %d bytes are too few", ErrShape, n)
	case data[0] != head0 || data[1] != head1:
		return fmt.Errorf("%w: it does not start with 69 00", ErrShape)
	case data[n-1] != tail:
		return fmt.Errorf("%w: it does not end with 03", ErrShape)
	}
	// The closing block is the bits 0 11 0 00 and at most 7 zero bits: in the
	// last 16 bits before TAIL the highest one is the second of the pair.
	last := uint16(data[n-3]) | uint16(data[n-2])<<8
	high := bits.Len16(last) - 1
	if high < 5 || high > 12 || last>>(high-2) != 0b110 {
		return fmt.Errorf("%w: no empty metadata block closes it", ErrShape)
	}
	return nil
}

// RawForm reports whether stored bytes are in the raw form, and then the
// length of the piece, which lies at RawPieceOffset. prefix is the chunk's
// first RawPieceOffset bytes or more, size its full length.
func RawForm(prefix []byte, size int64) (piece int64, ok bool) {
	if len(prefix) < RawPieceOffset || size < MinChunkSize || size > PieceSize+RawOverhead {
		return 0, false
	}
	return size - RawOverhead, [3]byte(prefix[2:5]) == RawHeader(int(size-RawOverhead))
}

// RawHeader is the uncompressed meta-block header of a raw-form chunk:
// ISLAST 0, MNIBBLES 4 (up to 65,536 bytes) or 5, MLEN − 1, ISUNCOMPRESSED 1
// (RFC 7932, section 9.2). n is the piece's length, 1 … PieceSize.
func RawHeader(n int) [3]byte {
	m := uint32(n - 1)
	var v uint32
	if n <= 1<<16 {
		v = m<<3 | 1<<19
	} else {
		v = 1<<1 | m<<3 | 1<<23
	}
	return [3]byte{byte(v), byte(v >> 8), byte(v >> 16)}
}

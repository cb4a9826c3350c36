// Package brotli has br1, the profile by which a piece of up to 1 MiB becomes
// a chunk: a complete RFC 7932 stream of a fixed shape,
//
//	chunk = HEAD BODY TAIL
//	HEAD  = 69 00   window of 21 bits, an empty metadata meta-block
//	BODY  = meta-blocks, byte aligned at both ends; an empty metadata
//	        meta-block always closes it
//	TAIL  = 03      ISLAST, ISLASTEMPTY
//
// The BODY refers to nothing outside of its own piece: no static dictionary,
// no earlier distance, no context that depends on what came before. So BODYs
// can be joined: HEAD BODY0 BODY1 … TAIL is a valid stream of the whole
// object, which is what lets a node send gigabytes as Content-Encoding: br
// without any work for compression.
//
// The encoded form comes from github.com/andybalholm/brotli's level 2 match
// finder, whose output is a pure function of the piece. It is not trusted:
// Encode decodes what it wrote and compares. The raw form (one uncompressed
// meta-block) is taken if and only if the encoded form is not shorter than the
// piece itself.
package brotli

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/andybalholm/brotli/matchfinder"

	"inos.dev/edge/cas"
)

// Encode makes the one br1 chunk of a piece of 1 … cas.PieceSize bytes. The
// result does not share memory with piece. Errors: cas.ErrTooLarge for a piece
// of another length, cas.ErrCorrupt if the encoder's output does not decode to
// the piece (a fault of the program or the machine; nothing may be stored
// then).
func Encode(piece []byte) (cas.Chunk, error) {
	stored, err := encode(piece)
	if err != nil {
		return cas.Chunk{}, err
	}
	return cas.Seal(stored)
}

// encode returns the stored bytes of the piece.
func encode(piece []byte) ([]byte, error) {
	if len(piece) < 1 || len(piece) > cas.PieceSize {
		return nil, fmt.Errorf("%w: a piece has 1 to %d bytes, this one %d", cas.ErrTooLarge, cas.PieceSize, len(piece))
	}
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	return e.encode(piece)
}

// encode makes the stored bytes and checks them.
func (e *encoder) encode(piece []byte) ([]byte, error) {
	stored, ok, err := e.encoded(piece)
	if err != nil {
		return nil, err
	}
	if !ok {
		return rawForm(piece), nil
	}
	e.check, err = Decode(e.check[:0], stored)
	if err == nil && !bytes.Equal(e.check, piece) {
		err = errors.New("other bytes came back")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the encoder's output does not decode to its input: %w", cas.ErrCorrupt, err)
	}
	return bytes.Clone(stored), nil
}

// Check decodes a foreign chunk and encodes it again: it returns the piece if
// the bytes are exactly what Encode makes of it. The piece is appended to dst.
// Errors: those of Decode, cas.ErrNotCanonical.
func Check(dst []byte, c cas.Chunk) ([]byte, error) {
	start := len(dst)
	dst, err := Decode(dst, c.Bytes())
	if err != nil {
		return nil, err
	}
	piece := dst[start:]
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	stored, ok, err := e.encoded(piece)
	if err != nil {
		return nil, err
	}
	if !ok {
		if !isRawForm(c.Bytes(), piece) {
			return nil, fmt.Errorf("%w: this piece has to be in the raw form; encode it with br1", cas.ErrNotCanonical)
		}
		return dst, nil
	}
	if !bytes.Equal(stored, c.Bytes()) {
		return nil, fmt.Errorf("%w; encode the piece with br1", cas.ErrNotCanonical)
	}
	return dst, nil
}

// encoders holds idle *encoder: their tables (1.3 MB) are what an encode
// would otherwise allocate.
var encoders = sync.Pool{New: func() any { return newEncoder() }}

type encoder struct {
	writer *matchfinder.Writer
	out    bytes.Buffer
	stored []byte
	check  []byte
}

func newEncoder() *encoder {
	return &encoder{writer: &matchfinder.Writer{
		MatchFinder: &matchfinder.ZDFast{MaxDistance: 1 << 20},
		Encoder:     &brotli.Encoder{},
		BlockSize:   1 << 16,
	}}
}

// encoded returns the encoded form, valid until e is used again; ok is false
// if it is at least as long as the piece.
func (e *encoder) encoded(piece []byte) (stored []byte, ok bool, err error) {
	e.out.Reset()
	e.writer.Reset(&e.out)
	if _, err := e.writer.Write(piece); err != nil {
		return nil, false, err
	}
	if err := e.writer.Close(); err != nil {
		return nil, false, err
	}
	// The closing block is as long as what realign takes away, so that HEAD
	// and TAIL are what the chunk has more than the encoder's stream.
	if e.out.Len()+cas.FrameOverhead >= len(piece) {
		return nil, false, nil
	}
	e.stored, err = realign(e.stored[:0], e.out.Bytes())
	return e.stored, true, err
}

// realign takes the encoder's stream apart (4 header bits, meta-blocks, the 2
// bits of the last block, padding) and appends HEAD, the meta-blocks shifted
// to a byte border, the closing block and TAIL.
func realign(dst, stream []byte) ([]byte, error) {
	n := len(stream)
	if n == 0 || stream[0]&15 != 15 || stream[n-1] == 0 {
		return nil, fmt.Errorf("%w: the encoder's stream has an unknown frame", cas.ErrCorrupt)
	}
	end := (n-1)*8 + bits.Len8(stream[n-1]) // behind the last set bit, the second of the two
	end -= 2
	if end < 4 || bitAt(stream, end) == 0 {
		return nil, fmt.Errorf("%w: the encoder's stream has an unknown end", cas.ErrCorrupt)
	}
	head := cas.Head()
	dst = append(dst, head[0], head[1])
	start := len(dst)
	for i := range n {
		b := stream[i] >> 4
		if i+1 < n {
			b |= stream[i+1] << 4
		}
		dst = append(dst, b)
	}
	// end-4 bits are meta-blocks; the rest of dst is what has to give way to
	// the closing block, 0 11 0 00 from the low bit up.
	body := end - 4
	dst = dst[:start+body/8+1]
	last := &dst[len(dst)-1]
	*last &= 1<<(body%8) - 1
	closing := uint16(0b000110) << (body % 8)
	*last |= byte(closing)
	if body%8 > 2 {
		dst = append(dst, byte(closing>>8))
	}
	return append(dst, cas.Tail()), nil
}

func bitAt(b []byte, i int) byte { return b[i/8] >> (i % 8) & 1 }

// rawForm wraps the piece in one uncompressed meta-block.
func rawForm(piece []byte) []byte {
	head, block := cas.Head(), cas.RawHeader(len(piece))
	dst := make([]byte, 0, len(piece)+cas.RawOverhead)
	dst = append(dst, head[0], head[1], block[0], block[1], block[2])
	dst = append(dst, piece...)
	return append(dst, closingBlock, cas.Tail())
}

// closingBlock is the empty metadata meta-block at a byte border.
const closingBlock = 0b000110

func isRawForm(stored, piece []byte) bool {
	n, ok := cas.RawForm(stored, int64(len(stored)))
	return ok && n == int64(len(piece)) && stored[len(stored)-2] == closingBlock
}

package brotli

import "encoding/binary"

// bitReader reads bits from the low end of each byte up (RFC 7932, section
// 1.5.1). Behind the end it reads zeros; overrun tells.
type bitReader struct {
	src  []byte
	pos  int    // of the next byte to load, may lie behind the end
	acc  uint64 // loaded bits, the next one lowest
	have uint   // how many of them count
}

// fill loads until at least 56 bits are there.
func (r *bitReader) fill() {
	if r.pos+8 <= len(r.src) {
		r.acc |= binary.LittleEndian.Uint64(r.src[r.pos:]) << (r.have & 63)
		r.pos += int((63 - r.have) >> 3)
		r.have |= 56
		return
	}
	r.pos, r.acc, r.have = fillEnd(r.src, r.pos, r.acc, r.have)
}

// fillEnd loads byte by byte near the end, and zeros behind it.
func fillEnd(src []byte, pos int, acc uint64, have uint) (int, uint64, uint) {
	for have <= 56 {
		if pos < len(src) {
			acc |= uint64(src[pos]) << have
		}
		pos++
		have += 8
	}
	return pos, acc, have
}

// take reads n bits, of which at least n must be loaded.
func (r *bitReader) take(n uint) uint64 {
	v := r.acc & (1<<(n&63) - 1)
	r.acc >>= n & 63
	r.have -= n
	return v
}

// used is the number of bits read.
func (r *bitReader) used() int { return r.pos*8 - int(r.have) }

// overrun reports whether bits were read behind the end.
func (r *bitReader) overrun() bool { return r.used() > len(r.src)*8 }

// atEnd reports whether exactly all bits were read.
func (r *bitReader) atEnd() bool { return r.used() == len(r.src)*8 }

// align skips to the next byte border and reports whether only zeros were
// skipped.
func (r *bitReader) align() bool { return r.take(uint(-r.used())&7) == 0 }

// bytes reads n whole bytes at a byte border.
func (r *bitReader) bytes(n int) ([]byte, bool) {
	start := r.used() / 8
	if start > len(r.src) || n > len(r.src)-start {
		return nil, false
	}
	r.pos, r.acc, r.have = start+n, 0, 0
	return r.src[start : start+n], true
}

package brotli

import (
	"encoding/binary"
	"fmt"

	"inos.dev/edge/cas"
)

// Decode appends the piece of one br1 chunk to dst. It reads br1 and nothing
// else of Brotli: no block types, no contexts, no dictionary, no reference
// before the piece, nothing behind TAIL; whatever else a stream asks for is
// cas.ErrShape. Time and memory are bounded by the piece's limit: every
// command makes output, and a chunk that would decode to more than
// cas.PieceSize bytes is cut off with cas.ErrTooLarge before they are written.
//
// Decode may use all of dst's capacity as scratch; give it a buffer with
// DecodeRoom(n) free bytes, and it allocates nothing.
func Decode(dst, stored []byte) ([]byte, error) {
	n := len(stored)
	head := cas.Head()
	if n < cas.MinChunkSize || stored[0] != head[0] || stored[1] != head[1] || stored[n-1] != cas.Tail() {
		return nil, fmt.Errorf("%w: no br1 frame", cas.ErrShape)
	}
	if n > cas.MaxChunkSize {
		return nil, fmt.Errorf("%w: a chunk has at most %d bytes", cas.ErrTooLarge, cas.MaxChunkSize)
	}
	d := decoders.Get().(*decoder)
	defer decoders.Put(d)
	d.start(dst, stored[cas.BodyOffset:n-1])
	if err := d.run(); err != nil {
		return nil, err
	}
	return d.out[:d.pos], nil
}

// DecodeRoom is the free capacity that Decode wants for a piece of n bytes.
func DecodeRoom(n int) int { return n + slack }

// slack lets copies store whole words beyond their end.
const slack = 16

// decoder is the state of one Decode.
type decoder struct {
	in  bitReader
	out []byte // everything up to its capacity; the first pos bytes are valid
	pos int
	min int // where the piece starts in out

	// ring is the last four distances, the latest first. br1 never uses a
	// distance before it has set one, so it starts with impossible ones.
	ring [4]int

	lit, cmd, dist prefixTable
	lengths        [maxAlphabet]uint8
}

func (d *decoder) start(dst, body []byte) {
	d.in = bitReader{src: body}
	d.out, d.pos, d.min = dst[:cap(dst)], len(dst), len(dst)
	d.ring = [4]int{}
}

// run reads meta-blocks up to the closing one (RFC 7932, section 9.2).
func (d *decoder) run() error {
	for {
		d.in.fill()
		if d.in.take(1) != 0 {
			return shapeErr("a last block before the end")
		}
		nibbles := d.in.take(2) + 4
		if nibbles == 7 {
			return d.closing()
		}
		mlen := int(d.in.take(uint(4*nibbles))) + 1
		if nibbles > 4 && mlen <= 1<<(4*(nibbles-1)) {
			return shapeErr("a block length with leading zeros")
		}
		if d.pos-d.min+mlen > cas.PieceSize {
			return fmt.Errorf("%w: the chunk decodes to more than %d bytes", cas.ErrTooLarge, cas.PieceSize)
		}
		d.room(mlen)
		var err error
		if d.in.take(1) == 1 {
			err = d.uncompressed(mlen)
		} else {
			err = d.compressed(mlen)
		}
		if err != nil {
			return err
		}
		if d.in.overrun() {
			return shapeErr("it is truncated")
		}
	}
}

// closing reads the rest of the empty metadata meta-block, which ends BODY.
func (d *decoder) closing() error {
	if d.in.take(3) != 0 {
		return shapeErr("a metadata block that is not empty")
	}
	if !d.in.align() || !d.in.atEnd() {
		return shapeErr("bytes behind the closing block, or it is truncated")
	}
	if d.pos == d.min {
		return shapeErr("it holds no byte")
	}
	return nil
}

// room makes d.out long enough for n more bytes.
func (d *decoder) room(n int) {
	if need := d.pos + n + slack; need > len(d.out) {
		grown := make([]byte, max(need, min(2*need, d.min+cas.PieceSize+slack)))
		copy(grown, d.out[:d.pos])
		d.out = grown
	}
}

func (d *decoder) uncompressed(n int) error {
	if !d.in.align() {
		return shapeErr("padding that is not zero")
	}
	src, ok := d.in.bytes(n)
	if !ok {
		return shapeErr("it is truncated")
	}
	d.pos += copy(d.out[d.pos:], src)
	return nil
}

// compressed reads one meta-block: 13 zero bits (one block type each, no
// postfix, no direct distances, context mode 0, one tree each), three prefix
// codes, commands.
func (d *decoder) compressed(mlen int) error {
	d.in.fill()
	if d.in.take(13) != 0 {
		return shapeErr("block types, contexts or distance parameters")
	}
	for _, code := range []struct {
		table    *prefixTable
		alphabet int
	}{{&d.lit, 256}, {&d.cmd, 704}, {&d.dist, 64}} {
		lengths := d.lengths[:code.alphabet]
		if err := readPrefixCode(&d.in, lengths); err != nil {
			return err
		}
		if err := code.table.build(lengths); err != nil {
			return err
		}
	}
	return d.commands(mlen)
}

// commands writes mlen bytes. This is the inner loop: the bit reader's fields
// live in local variables, so that they stay in registers, and its refill is
// written out. 56 loaded bits are enough for a command symbol (15), for both
// of its lengths (24 + 24), for three literals (15 each), and for a distance
// (15 + 24).
func (d *decoder) commands(mlen int) error { //nolint:funlen // cut apart, it is half as fast
	src, ip, acc, have := d.in.src, d.in.pos, d.in.acc, d.in.have
	out, pos, end := d.out, d.pos, d.pos+mlen
	lit := &d.lit.entries
	for pos < end {
		if ip+8 <= len(src) {
			acc |= binary.LittleEndian.Uint64(src[ip:]) << (have & 63)
			ip += int((63 - have) >> 3)
			have |= 56
		} else {
			ip, acc, have = fillEnd(src, ip, acc, have)
		}
		e := d.cmd.entries[acc&rootMask]
		if e&longCode != 0 {
			e = d.cmd.second(e, acc)
		}
		acc >>= e & 0x3f
		have -= uint(e & 0x3f)
		c := &commandTable[e>>8&1023]
		if c.insertBits+c.copyBits > 0 {
			if ip+8 <= len(src) {
				acc |= binary.LittleEndian.Uint64(src[ip:]) << (have & 63)
				ip += int((63 - have) >> 3)
				have |= 56
			} else {
				ip, acc, have = fillEnd(src, ip, acc, have)
			}
		}
		insert := int(c.insertBase) + int(acc&(1<<(c.insertBits&63)-1))
		acc >>= c.insertBits & 63
		length := int(c.copyBase) + int(acc&(1<<(c.copyBits&63)-1))
		acc >>= c.copyBits & 63
		have -= uint(c.insertBits) + uint(c.copyBits)

		if insert > end-pos {
			return shapeErr("literals beyond the block's length")
		}
		dst := out[pos : pos+insert]
		pos += insert
		for len(dst) > 0 {
			if ip+8 <= len(src) {
				acc |= binary.LittleEndian.Uint64(src[ip:]) << (have & 63)
				ip += int((63 - have) >> 3)
				have |= 56
			} else {
				ip, acc, have = fillEnd(src, ip, acc, have)
			}
			n := min(3, len(dst))
			for i := range dst[:n] {
				e := lit[acc&rootMask]
				if e&longCode != 0 {
					e = d.lit.second(e, acc)
				}
				acc >>= e & 0x3f
				have -= uint(e & 0x3f)
				dst[i] = byte(e >> 8)
			}
			dst = dst[n:]
		}
		if pos == end {
			break // the copy of a last command is not carried out
		}
		dist := d.ring[0]
		if !c.sameDistance {
			if ip+8 <= len(src) {
				acc |= binary.LittleEndian.Uint64(src[ip:]) << (have & 63)
				ip += int((63 - have) >> 3)
				have |= 56
			} else {
				ip, acc, have = fillEnd(src, ip, acc, have)
			}
			e := d.dist.entries[acc&rootMask]
			if e&longCode != 0 {
				e = d.dist.second(e, acc)
			}
			acc >>= e & 0x3f
			sym := e >> 8
			var extra uint
			if sym >= 16 {
				extra = uint(sym-16)>>1 + 1
			}
			dist = d.distance(int(sym), int(acc&(1<<(extra&63)-1)))
			acc >>= extra & 63
			have -= uint(e&0x3f) + extra
		}
		if dist < 1 || dist > pos-d.min {
			return shapeErr("a distance before the piece")
		}
		if length > end-pos {
			return shapeErr("a copy beyond the block's length")
		}
		copyWithin(out, pos, dist, length)
		pos += length
	}
	d.in.pos, d.in.acc, d.in.have = ip, acc, have
	d.pos = pos
	return nil
}

// distance returns the distance that a code and its extra bits stand for, or
// something below 1 if it refers to one from before the piece, and updates the
// ring (RFC 7932, section 4).
func (d *decoder) distance(sym, extra int) int {
	var dist int
	switch {
	case sym >= 16:
		dist = (2+(sym&1))<<(uint(sym-16)/2+1) - 4 + extra + 1
	case sym == 0:
		return d.ring[0]
	case sym < 4:
		dist = d.ring[sym]
	default:
		last := d.ring[(sym-4)/6]
		if last == 0 {
			return 0
		}
		dist = (sym-4)%6/2 + 1
		if sym&1 == 0 {
			dist = -dist
		}
		dist += last
	}
	d.ring = [4]int{dist, d.ring[0], d.ring[1], d.ring[2]}
	return dist
}

// copyWithin copies n bytes from dist before pos to pos; they may overlap.
// out has slack bytes behind the last one that is valid.
func copyWithin(out []byte, pos, dist, n int) {
	if dist >= 8 {
		src, dst := out[pos-dist:pos+n+8-dist], out[pos:pos+n+8]
		for len(src) >= 16 {
			binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(src))
			src, dst = src[8:], dst[8:]
		}
		binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(src))
		return
	}
	for ; n > 0; n-- {
		out[pos] = out[pos-dist]
		pos++
	}
}

func shapeErr(what string) error { return fmt.Errorf("%w: %s", cas.ErrShape, what) }

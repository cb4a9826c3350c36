package brotli

import (
	"math/bits"
	"slices"
	"sync"
)

const (
	maxAlphabet   = 704
	maxCodeLength = 15
	rootBits      = 10
	rootMask      = 1<<rootBits - 1
	// tableSize holds the root and every second-level table: a table of 2^k
	// entries has at least k+1 symbols, so 704 of them fill less than 4,800.
	tableSize = 1 << 13
)

var decoders = sync.Pool{New: func() any { return new(decoder) }}

// prefixTable decodes one prefix code by look-up: rootBits at once, longer
// codes in a second step. An entry is symbol<<8 | length; in the root, an
// entry of a longer code is offset<<8 | 0x80 | bits of its second table.
type prefixTable struct {
	entries [tableSize]uint32
}

const longCode = 0x80

// second looks a long code up: e is its entry in the root.
func (t *prefixTable) second(e uint32, acc uint64) uint32 {
	i := e>>8 + uint32(acc>>rootBits)&(1<<(e&0x1f)-1)
	return t.entries[i&(tableSize-1)]
}

// build makes the table of the canonical code with these lengths (RFC 7932,
// section 3.2). A code with a single symbol has length 0 everywhere: it is
// given as one length of 0x80.
func (t *prefixTable) build(lengths []uint8) error {
	var count [maxCodeLength + 1]int
	for sym, l := range lengths {
		if l == onlySymbol {
			for i := range t.entries[:1<<rootBits] {
				t.entries[i] = uint32(sym) << 8
			}
			return nil
		}
		count[l]++
	}
	count[0] = 0
	var next [maxCodeLength + 2]int
	space := 0
	for l := 1; l <= maxCodeLength; l++ {
		next[l+1] = (next[l] + count[l]) << 1
		space += count[l] << (maxCodeLength - l)
	}
	if space != 1<<maxCodeLength {
		return shapeErr("a prefix code that is not complete")
	}
	return t.fill(lengths, &count, &next)
}

// fill enters each symbol. Codes longer than rootBits that share a prefix are
// consecutive in canonical order, but symbols come in alphabet order, so the
// second tables are made first, each as long as its longest code.
func (t *prefixTable) fill(lengths []uint8, count *[maxCodeLength + 1]int, next *[maxCodeLength + 2]int) error {
	if err := t.layOut(count, next); err != nil {
		return err
	}
	for sym, l := range lengths {
		if l == 0 {
			continue
		}
		code := bits.Reverse16(uint16(next[l])) >> (16 - l)
		next[l]++
		entry := uint32(sym)<<8 | uint32(l)
		if l <= rootBits {
			for i := int(code); i < 1<<rootBits; i += 1 << l {
				t.entries[i] = entry
			}
			continue
		}
		root := t.entries[code&rootMask]
		table := t.entries[root>>8:][:1<<(root&0x1f)]
		for i := int(code >> rootBits); i < len(table); i += 1 << (l - rootBits) {
			table[i] = entry
		}
	}
	return nil
}

// layOut makes the root's entries that point to second tables. In canonical
// order the codes of length l with one root prefix fill 2^(l−rootBits) places
// each; walking the lengths upwards tells how long each prefix's codes get.
func (t *prefixTable) layOut(count *[maxCodeLength + 1]int, next *[maxCodeLength + 2]int) error {
	offset := 1 << rootBits
	for l := rootBits + 1; l <= maxCodeLength; l++ {
		for code := next[l]; code < next[l]+count[l]; code++ {
			prefix := code >> (l - rootBits)
			root := bits.Reverse16(uint16(prefix)) >> (16 - rootBits)
			// Later, longer codes of the same prefix overwrite the size: the
			// table is laid out again behind the shorter one's place.
			t.entries[root] = uint32(offset)<<8 | longCode | uint32(l-rootBits)
			lastOfPrefix := code == next[l]+count[l]-1 || (code+1)>>(l-rootBits) != prefix
			if lastOfPrefix {
				offset += 1 << (l - rootBits)
			}
			if offset > tableSize {
				return shapeErr("a prefix code that is too deep")
			}
		}
	}
	return nil
}

// onlySymbol marks the one symbol of a code that takes no bits.
const onlySymbol = 0x80

// readPrefixCode reads the description of a prefix code and sets the length of
// every symbol (RFC 7932, sections 3.4 and 3.5).
func readPrefixCode(r *bitReader, lengths []uint8) error {
	clear(lengths)
	r.fill()
	skip := r.take(2)
	if skip == 1 {
		return readSimpleCode(r, lengths)
	}
	return readComplexCode(r, lengths, int(skip))
}

func readSimpleCode(r *bitReader, lengths []uint8) error {
	n := int(r.take(2)) + 1
	width := uint(bits.Len(uint(len(lengths) - 1)))
	var syms [4]int
	for i := range n {
		syms[i] = int(r.take(width))
		if syms[i] >= len(lengths) || slices.Contains(syms[:i], syms[i]) {
			return shapeErr("a simple prefix code with a bad symbol")
		}
	}
	var depth [4]uint8
	switch n {
	case 1:
		depth[0] = onlySymbol
	case 2:
		depth = [4]uint8{1, 1}
	case 3:
		depth = [4]uint8{1, 2, 2}
	default:
		depth = [4]uint8{2, 2, 2, 2}
		if r.take(1) == 1 {
			depth = [4]uint8{1, 2, 3, 3}
		}
	}
	for i := range n {
		lengths[syms[i]] = depth[i]
	}
	return nil
}

// codeLengthOrder is the order in which the lengths of the code-length code
// are stored.
var codeLengthOrder = [18]uint8{1, 2, 3, 4, 0, 5, 17, 6, 16, 7, 8, 9, 10, 11, 12, 13, 14, 15}

func readComplexCode(r *bitReader, lengths []uint8, skip int) error {
	var codeLengths [18]uint8
	space, codes := 32, 0
	for _, sym := range codeLengthOrder[skip:] {
		if space <= 0 {
			break
		}
		r.fill()
		l := readCodeLengthLength(r)
		codeLengths[sym] = l
		if l > 0 {
			space -= 32 >> l
			codes++
		}
	}
	if space != 0 && codes != 1 {
		return shapeErr("a code-length code that is not complete")
	}
	table := codeLengthTable(&codeLengths, codes)
	return readLengths(r, lengths, &table)
}

// readCodeLengthLength reads a length of 0 to 5 by its fixed code.
func readCodeLengthLength(r *bitReader) uint8 {
	switch {
	case r.acc&3 == 0:
		r.take(2)
		return 0
	case r.acc&3 == 1:
		r.take(2)
		return 4
	case r.acc&3 == 2:
		r.take(2)
		return 3
	case r.acc&7 == 3:
		r.take(3)
		return 2
	case r.acc&15 == 7:
		r.take(4)
		return 1
	}
	r.take(4)
	return 5
}

// codeLengthTable makes a 32-entry look-up of symbol<<8 | length.
func codeLengthTable(lengths *[18]uint8, codes int) (table [32]uint16) {
	code := 0
	for l := uint8(1); l <= 5; l++ {
		for sym, have := range lengths {
			if have != l {
				continue
			}
			if codes == 1 {
				for i := range table {
					table[i] = uint16(sym) << 8
				}
				return table
			}
			rev := int(bits.Reverse8(uint8(code)) >> (8 - l))
			for i := rev; i < 32; i += 1 << l {
				table[i] = uint16(sym)<<8 | uint16(l)
			}
			code++
		}
		code <<= 1
	}
	return table
}

// readLengths reads the lengths of the symbols themselves, with their repeats.
func readLengths(r *bitReader, lengths []uint8, table *[32]uint16) error {
	prev := uint8(8)
	space := 1 << maxCodeLength
	repeat, repeated := 0, uint8(0)
	for i := 0; i < len(lengths) && space > 0; {
		r.fill()
		e := table[r.acc&31]
		r.take(uint(e & 0xff))
		sym := uint8(e >> 8)
		if sym < 16 {
			lengths[i] = sym
			i++
			repeat = 0
			if sym != 0 {
				prev = sym
				space -= 1 << (maxCodeLength - sym)
			}
			continue
		}
		extra, value := uint(2), prev
		if sym == 17 {
			extra, value = 3, 0
		}
		if repeated != value {
			repeat, repeated = 0, value
		}
		// A repeat that follows a repeat of the same value multiplies it.
		old := repeat
		if repeat > 0 {
			repeat = (repeat - 2) << extra
		}
		repeat += int(r.take(extra)) + 3
		n := repeat - old
		if n > len(lengths)-i {
			return shapeErr("more code lengths than symbols")
		}
		for range n {
			lengths[i] = value
			i++
		}
		if value != 0 {
			space -= n << (maxCodeLength - value)
		}
	}
	if space != 0 {
		return shapeErr("code lengths that do not add up")
	}
	return nil
}

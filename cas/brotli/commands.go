package brotli

// command is one of the 704 insert-and-copy symbols (RFC 7932, section 5).
type command struct {
	insertBase   uint32
	copyBase     uint32
	insertBits   uint8
	copyBits     uint8
	sameDistance bool // the last distance, without a distance code
}

// commandTable has room for every 10-bit index, so that a look-up needs no
// bounds check; places behind the 704th are never reached.
var commandTable = makeCommandTable()

// lengthCode is a base value and a number of extra bits.
type lengthCode struct {
	base uint32
	bits uint8
}

func lengthCodes(base uint32, bits ...uint8) (codes [24]lengthCode) {
	for i, b := range bits {
		codes[i] = lengthCode{base, b}
		base += 1 << b
	}
	return codes
}

func makeCommandTable() (table [1024]command) {
	insert := lengthCodes(0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8, 9, 10, 12, 14, 24)
	copies := lengthCodes(2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 8, 9, 10, 24)
	// The cells of 64 symbols: which eight insert codes, which eight copy codes.
	cells := [11][2]int{
		{0, 0}, {0, 8}, // with the last distance
		{0, 0}, {0, 8}, {8, 0}, {8, 8}, {0, 16}, {16, 0}, {8, 16}, {16, 8}, {16, 16},
	}
	for sym := range 704 {
		cell := cells[sym/64]
		in, cp := insert[cell[0]+sym>>3&7], copies[cell[1]+sym&7]
		table[sym] = command{in.base, cp.base, in.bits, cp.bits, sym < 128}
	}
	return table
}

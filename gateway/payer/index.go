package payer

import (
	"encoding/binary"
	"math/bits"

	"inos.dev/edge/cas"
)

// slot is an entry of a shard: the first 8 bytes of a hash, in two halves so
// that no room is lost, and the number of an object plus one, with a flag. A
// number of zero is an empty slot.
type slot struct{ high, low, number uint32 }

const (
	// slotSize is the bytes of a slot.
	slotSize = 12
	// objectFlag marks the entry of an object by its own hash; the others are of
	// chunks that an object links.
	objectFlag = 1 << 31
	// maxNumber is the greatest number of an object.
	maxNumber = objectFlag - 2
)

// prefix is what the table knows of a hash.
func prefix(h *cas.Hash) uint64 { return binary.BigEndian.Uint64(h[:8]) }

func (s slot) prefix() uint64 { return uint64(s.high)<<32 | uint64(s.low) }

// index maps prefixes to numbers. There may be an entry of an object and one
// of a chunk with the same prefix, and, if somebody has gone to the trouble,
// several of objects. Not safe for use at the same time.
type index struct {
	shards [256]shard // by the first byte of the hash
	chunks int        // entries that are not of objects
}

// shard is a hash table with open addressing and linear probing. Entries stand
// in the order of their hashes, as far as that is possible, so that home needs
// no power of two and a shard can grow by a quarter.
type shard struct {
	slots []slot
	used  int
}

// home is where an entry would stand if it were alone.
func (s *shard) home(p uint64) int {
	at, _ := bits.Mul64(p<<8, uint64(len(s.slots)))
	return int(at)
}

func (s *shard) next(i int) int {
	if i++; i == len(s.slots) {
		return 0
	}
	return i
}

// get returns the number of a chunk's entry.
func (x *index) get(p uint64) (n uint32, ok bool) {
	s := &x.shards[p>>56]
	if s.used == 0 {
		return 0, false
	}
	high, low := uint32(p>>32), uint32(p)
	for i := s.home(p); ; i = s.next(i) {
		switch e := &s.slots[i]; {
		case e.number == 0:
			return 0, false
		case e.low == low && e.high == high && e.number < objectFlag:
			return e.number - 1, true
		}
	}
}

// find returns the number of the first entry that fits.
func (x *index) find(p uint64, object bool, fits func(n uint32) bool) (n uint32, ok bool) {
	s := &x.shards[p>>56]
	if i := s.find(p, object, fits); i >= 0 {
		return s.slots[i].number&^objectFlag - 1, true
	}
	return 0, false
}

func (s *shard) find(p uint64, object bool, fits func(n uint32) bool) int {
	if s.used == 0 {
		return -1
	}
	for i := s.home(p); s.slots[i].number != 0; i = s.next(i) {
		if e := s.slots[i]; e.prefix() == p && e.number >= objectFlag == object && fits(e.number&^objectFlag-1) {
			return i
		}
	}
	return -1
}

// every lets every number stay, or fit.
func every(uint32) bool { return true }

// add makes an entry, beside others that there may be.
func (x *index) add(p uint64, object bool, n uint32) {
	s := &x.shards[p>>56]
	if 5*(s.used+1) > 4*len(s.slots) {
		s.resize(len(s.slots)*5/4+8, every)
	}
	number := n + 1
	if object {
		number |= objectFlag
	} else {
		x.chunks++
	}
	s.put(slot{uint32(p >> 32), uint32(p), number})
}

// put writes an entry into a free slot, of which there is one.
func (s *shard) put(e slot) {
	i := s.home(e.prefix())
	for s.slots[i].number != 0 {
		i = s.next(i)
	}
	s.slots[i] = e
	s.used++
}

// set gives the entry of a chunk another number, or makes one.
func (x *index) set(p uint64, n uint32) {
	s := &x.shards[p>>56]
	if i := s.find(p, false, every); i >= 0 {
		s.slots[i].number = n + 1
		return
	}
	x.add(p, false, n)
}

// remove takes out the entry with a number, if there is one.
func (x *index) remove(p uint64, object bool, n uint32) {
	s := &x.shards[p>>56]
	i := s.find(p, object, func(m uint32) bool { return m == n })
	if i < 0 {
		return
	}
	if !object {
		x.chunks--
	}
	s.used--
	// What was pushed past the hole moves up, so that no search ends there.
	for j := s.next(i); s.slots[j].number != 0; j = s.next(j) {
		if s.distance(s.home(s.slots[j].prefix()), j) >= s.distance(i, j) {
			s.slots[i] = s.slots[j]
			i = j
		}
	}
	s.slots[i] = slot{}
}

// distance is how many steps of next lead from i to j.
func (s *shard) distance(i, j int) int {
	if j < i {
		j += len(s.slots)
	}
	return j - i
}

// keep takes all entries of chunks out of one shard whose numbers do not stay,
// and gives back the room.
func (x *index) keep(shard int, stays func(n uint32) bool) {
	s := &x.shards[shard]
	before := s.used
	left := 0
	for _, e := range s.slots {
		if e.number >= objectFlag || e.number != 0 && stays(e.number-1) {
			left++
		}
	}
	if left == before {
		return
	}
	s.resize(left*5/4+8, stays)
	x.chunks -= before - s.used
}

// resize moves the entries that stay into a new table; those of objects do.
func (s *shard) resize(size int, stays func(n uint32) bool) {
	old := s.slots
	s.slots, s.used = make([]slot, size), 0
	for _, e := range old {
		if e.number >= objectFlag || e.number != 0 && stays(e.number-1) {
			s.put(e)
		}
	}
}

// bytes is the memory of the tables.
func (x *index) bytes() (n int64) {
	for i := range x.shards {
		n += int64(cap(x.shards[i].slots)) * slotSize
	}
	return n
}

package heat

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"runtime"
	"sync"

	"inos.dev/edge/cas"
)

// CounterConfig bounds a Counter. The zero value of a field is its default.
type CounterConfig struct {
	// Chunks that a shard tells apart: a power of two, 8 … 65,536. Default
	// 1,024, which is 41 KiB of memory per shard.
	Chunks int
	// Shards: a power of two, 1 … 256. Default: twice the number of processors
	// at least, within 8 … 32.
	Shards int
}

func (c CounterConfig) withDefaults() CounterConfig {
	if c.Chunks == 0 {
		c.Chunks = 1 << 10
	}
	if c.Shards == 0 {
		c.Shards = min(max(1<<bits.Len(uint(2*runtime.GOMAXPROCS(0)-1)), 8), 32)
	}
	return c
}

func (c CounterConfig) validate() error {
	if c.Chunks < ways || c.Chunks > 1<<16 || bits.OnesCount(uint(c.Chunks)) != 1 {
		return errors.New("heat: Chunks of a counter must be a power of two, 8 to 65,536")
	}
	if c.Shards < 1 || c.Shards > 256 || bits.OnesCount(uint(c.Shards)) != 1 {
		return errors.New("heat: Shards of a counter must be a power of two, 1 to 256")
	}
	return nil
}

// Counter adds up bytes per chunk in bounded memory. It is exact for a chunk
// that is never the smallest of its set when another one needs the place: a
// chunk gives way only to a newcomer, and only if the ways−1 others of its set
// have as many bytes at least. What a chunk lacks is in the tail, so all
// entries and the tail together are all the bytes that were counted.
type Counter struct {
	shards []shard

	drainMu sync.Mutex // guards spare: one drain at a time
	spare   *table     // empty
}

// A chunk is at home in one shard, but whoever finds that one busy goes to the
// next: the readers of one viral chunk do not wait for each other.
type shard struct {
	mu    sync.Mutex // guards the fields below
	table *table
	_     [48]byte // a cache line of its own
}

// ways is how many chunks a set holds.
const ways = 8

// table is a set-associative table: a chunk may only be in the set that its
// hash names.
type table struct {
	sets []set
	tail int64 // bytes of the entries that gave way
	used int   // entries
}

// set holds its chunks in front. A byte of tags says of each entry that it is
// used (bit 7), and seven bits of its hash, so that a look at one word finds
// the entry, or that there is none.
type set struct {
	tags  uint64
	bytes [ways]int64
	chunk [ways]cas.Hash
}

// NewCounter returns an empty Counter.
func NewCounter(cfg CounterConfig) (*Counter, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Counter{shards: make([]shard, cfg.Shards), spare: newTable(cfg.Chunks)}
	for i := range c.shards {
		c.shards[i].table = newTable(cfg.Chunks)
	}
	return c, nil
}

func newTable(chunks int) *table { return &table{sets: make([]set, chunks/ways)} }

// Count adds n bytes that were read of chunk h; n < 1 adds nothing. It
// allocates nothing and may be called at the same time by all readers.
func (c *Counter) Count(h cas.Hash, n int64) {
	if n < 1 {
		return
	}
	word := binary.LittleEndian.Uint64(h[:])
	s := c.lock(uint(word))
	s.table.add(&h, word>>8, n)
	s.mu.Unlock()
}

// lock returns a shard that the caller has locked: home, or the first one
// after it that nobody is in.
func (c *Counter) lock(home uint) *shard {
	last := uint(len(c.shards) - 1)
	for i := range uint(len(c.shards)) {
		if s := &c.shards[(home+i)&last]; s.mu.TryLock() {
			return s
		}
	}
	s := &c.shards[home&last]
	s.mu.Lock()
	return s
}

const (
	low  = 0x0101010101010101 // the lowest bit of each byte
	high = low << 7           // the highest one
)

// add is the only way into a table. where are bits of the hash that did not
// choose the shard. The entry with the fewest bytes of a full set gives way.
func (t *table) add(h *cas.Hash, where uint64, n int64) {
	s := &t.sets[where&uint64(len(t.sets)-1)]
	tag := where>>48 | 0x80
	// A byte of same is zero where the tag fits; the lowest such byte is found
	// surely, those above it may be mistaken, and the hash decides anyway.
	same := s.tags ^ tag*low
	for found := (same - low) &^ same & high; found != 0; found &= found - 1 {
		if i := bits.TrailingZeros64(found) / 8 % ways; s.chunk[i] == *h {
			s.bytes[i] += n
			return
		}
	}
	i := bits.TrailingZeros64(^s.tags&high) / 8
	if i < ways {
		t.used++
	} else {
		i = s.least()
		t.tail += s.bytes[i]
	}
	s.tags = s.tags&^(0xff<<(8*i)) | tag<<(8*i)
	s.chunk[i%ways], s.bytes[i%ways] = *h, n
}

// least is the entry of a full set with the fewest bytes.
func (s *set) least() int {
	i, fewest := 0, s.bytes[0]
	for j, n := range s.bytes {
		if n < fewest {
			i, fewest = j, n
		}
	}
	return i
}

// Delta is the bytes of a chunk in a window.
type Delta struct {
	Chunk cas.Hash
	Bytes int64
}

// drain adds what was counted since the last drain to sums and empties the
// counter. It holds up each shard for the moment in which its table is
// exchanged.
func (c *Counter) drain(sums map[cas.Hash]int64) (tail int64) {
	c.drainMu.Lock()
	defer c.drainMu.Unlock()
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		if s.table.used == 0 {
			s.mu.Unlock()
			continue
		}
		full := s.table
		s.table = c.spare
		s.mu.Unlock()
		tail += full.empty(sums)
		c.spare = full
	}
	return tail
}

// empty moves all entries to sums.
func (t *table) empty(sums map[cas.Hash]int64) (tail int64) {
	for i := range t.sets {
		s := &t.sets[i]
		for j := 0; j < ways && s.bytes[j] != 0; j++ {
			sums[s.chunk[j]] += s.bytes[j]
			s.bytes[j] = 0
		}
		s.tags = 0
	}
	tail, t.tail, t.used = t.tail, 0, 0
	return tail
}

package heat

import (
	"errors"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"sync"

	"inos.dev/edge/cas"
)

// CounterConfig bounds a Counter. The zero value of a field is its default.
type CounterConfig struct {
	// Chunks that a shard tells apart: a power of two, 8 … 65,536. Default
	// 1,024, which is 40 KiB of memory per shard.
	Chunks int
	// Shards: a power of two, 1 … 256. Every shard may hold every chunk, so
	// more of them do not remember more; they wait less. Default: at least
	// twice the number of processors.
	Shards int
}

func (c CounterConfig) withDefaults() CounterConfig {
	if c.Chunks == 0 {
		c.Chunks = 1 << 10
	}
	if c.Shards == 0 {
		c.Shards = min(1<<bits.Len(uint(2*runtime.GOMAXPROCS(0)-1)), 256)
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

// A shard is chosen at random, and passed by if somebody is in it: the readers
// of one viral chunk do not wait for each other.
type shard struct {
	mu    sync.Mutex // guards the fields below
	table *table
	_     [40]byte // a cache line of its own
}

// ways is how many chunks a set holds.
const ways = 8

// table is a set-associative table: a chunk may only be in the set that the
// first bytes of its hash name.
type table struct {
	sets []set
	tail int64 // bytes of the entries that gave way
	used int   // entries
}

// set holds its chunks in front: an entry is free if it has no bytes.
type set struct {
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
	s := c.lock()
	s.table.add(&h, n)
	s.mu.Unlock()
}

// lock returns a shard that the caller has locked.
func (c *Counter) lock() *shard {
	mask := uint32(len(c.shards) - 1)
	first := rand.Uint32()
	for i := range uint32(len(c.shards)) {
		if s := &c.shards[(first+i)&mask]; s.mu.TryLock() {
			return s
		}
	}
	s := &c.shards[first&mask]
	s.mu.Lock()
	return s
}

// add is the only way into a table. The entry with the fewest bytes of a full
// set gives way.
func (t *table) add(h *cas.Hash, n int64) {
	s := &t.sets[(uint(h[0])|uint(h[1])<<8)&uint(len(t.sets)-1)]
	least := 0
	for i := range ways {
		if s.bytes[i] == 0 {
			s.chunk[i], s.bytes[i] = *h, n
			t.used++
			return
		}
		if s.chunk[i] == *h {
			s.bytes[i] += n
			return
		}
		if s.bytes[i] < s.bytes[least] {
			least = i
		}
	}
	t.tail += s.bytes[least]
	s.chunk[least], s.bytes[least] = *h, n
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
	}
	tail, t.tail, t.used = t.tail, 0, 0
	return tail
}

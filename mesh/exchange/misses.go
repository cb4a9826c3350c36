package exchange

import "time"

// misses remembers hashes that every source denied to have. Entries live
// equally long, so the oldest is the next to expire, and the one that goes
// when there are too many: a queue, where use does not prolong a life. Its
// user holds a lock.
type misses struct {
	ttl     time.Duration
	max     int
	entries map[key]missEntry
	queue   []missEnd // the oldest first; at most max, also of dropped entries
}

type missEntry struct {
	until time.Time
	miss  *MissError
}

type missEnd struct {
	key   key
	until time.Time
}

func newMisses(limit int, ttl time.Duration) misses {
	return misses{ttl: ttl, max: limit, entries: make(map[key]missEntry)}
}

func (m *misses) len() int { return len(m.entries) }

// get returns what is remembered, or nil.
func (m *misses) get(k key, now time.Time) *MissError {
	if e := m.entries[k]; now.Before(e.until) {
		return e.miss
	}
	return nil
}

// add remembers k from now on, and lets go of what is over.
func (m *misses) add(k key, now time.Time, miss *MissError) {
	until := now.Add(m.ttl)
	m.entries[k] = missEntry{until, miss}
	m.queue = append(m.queue, missEnd{k, until})
	for len(m.queue) > 0 && (len(m.queue) > m.max || !now.Before(m.queue[0].until)) {
		oldest := m.queue[0]
		m.queue = m.queue[1:]
		if m.entries[oldest.key].until.Equal(oldest.until) { // else it was dropped and came again
			delete(m.entries, oldest.key)
		}
	}
}

func (m *misses) drop(k key) { delete(m.entries, k) }

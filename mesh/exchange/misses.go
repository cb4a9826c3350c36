package exchange

import (
	"container/list"
	"time"
)

// misses remembers hashes that every source denied to have. Entries live
// equally long, so the oldest is the next to expire, and the one that goes
// when there are too many: a queue, where use does not prolong a life. Its
// user holds a lock.
type misses struct {
	ttl     time.Duration
	max     int
	entries map[key]*list.Element
	oldest  *list.List // of missEntry, the oldest in front
}

type missEntry struct {
	key   key
	until time.Time
	miss  *MissError
}

func newMisses(limit int, ttl time.Duration) misses {
	return misses{ttl, limit, make(map[key]*list.Element), list.New()}
}

func (m *misses) len() int { return len(m.entries) }

// get returns what is remembered, or nil.
func (m *misses) get(k key, now time.Time) *MissError {
	el := m.entries[k]
	if el == nil {
		return nil
	}
	e := el.Value.(missEntry)
	if !now.Before(e.until) {
		m.drop(k)
		return nil
	}
	return e.miss
}

// add remembers k from now on, and lets go of what is over.
func (m *misses) add(k key, now time.Time, miss *MissError) {
	m.drop(k)
	m.entries[k] = m.oldest.PushBack(missEntry{k, now.Add(m.ttl), miss})
	for el := m.oldest.Front(); el != nil; el = m.oldest.Front() {
		e := el.Value.(missEntry)
		if len(m.entries) <= m.max && now.Before(e.until) {
			return
		}
		m.drop(e.key)
	}
}

func (m *misses) drop(k key) {
	if el := m.entries[k]; el != nil {
		m.oldest.Remove(el)
		delete(m.entries, k)
	}
}

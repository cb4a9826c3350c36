package delivery

import (
	"container/heap"
	"time"

	"inos.dev/edge/mesh"
)

// evictable is how long a delivery must have been idle to give way to a new
// one.
const evictable = time.Minute

// clock is the time since New, which no change of the wall clock moves.
func (s *Sessions) clock() time.Duration { return time.Since(s.start) }

// find returns an open delivery, nil if there is none.
func (s *Sessions) find(nonce mesh.Nonce) *session {
	s.mu.RLock()
	e := s.byNonce[nonce]
	s.mu.RUnlock()
	if e == nil || s.over(e, s.clock()) {
		return nil
	}
	return e
}

// use starts e's idle time anew. The queue hears of it when e comes to its
// front.
func (s *Sessions) use(e *session) { e.used.Store(int64(s.clock())) }

// over reports whether e has expired.
func (s *Sessions) over(e *session, now time.Duration) bool {
	return now-time.Duration(e.used.Load()) >= s.cfg.Idle || now-e.opened >= s.cfg.Life
}

// Len is the number of open deliveries. One that is at the end of its life
// counts until it was idle for a while.
func (s *Sessions) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked(s.clock())
	return len(s.queue)
}

func (s *Sessions) addLocked(e *session) {
	heap.Push(&s.queue, e)
	s.byNonce[e.nonce] = e
	s.quotas[e.who.Quota]++
}

func (s *Sessions) removeLocked(e *session) {
	heap.Remove(&s.queue, e.index)
	delete(s.byNonce, e.nonce)
	if s.quotas[e.who.Quota]--; s.quotas[e.who.Quota] == 0 {
		delete(s.quotas, e.who.Quota)
	}
}

// sweepLocked takes out what has expired.
func (s *Sessions) sweepLocked(now time.Duration) {
	for e := s.idlestLocked(); e != nil && s.over(e, now); e = s.idlestLocked() {
		s.removeLocked(e)
	}
}

// evictLocked makes room if somebody's delivery is not in use, and reports
// whether it did.
func (s *Sessions) evictLocked(now time.Duration) bool {
	e := s.idlestLocked()
	if e == nil || now-e.seen < evictable {
		return false
	}
	s.removeLocked(e)
	return true
}

// idlestLocked is the delivery that nobody has used for longest. Uses do not
// touch the queue: whatever comes to its front is put right first, at most once
// for each use.
func (s *Sessions) idlestLocked() *session {
	for len(s.queue) > 0 {
		e := s.queue[0]
		used := time.Duration(e.used.Load())
		if e.seen == used {
			return e
		}
		e.seen = used
		heap.Fix(&s.queue, 0)
	}
	return nil
}

// idleQueue is a heap: in front is what was not used for longest.
type idleQueue []*session

func (q idleQueue) Len() int           { return len(q) }
func (q idleQueue) Less(i, j int) bool { return q[i].seen < q[j].seen }
func (q idleQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *idleQueue) Push(x any) {
	e := x.(*session)
	e.index = len(*q)
	*q = append(*q, e)
}

// Pop implements heap.Interface.
func (q *idleQueue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return e
}

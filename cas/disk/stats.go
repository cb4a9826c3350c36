package disk

import (
	"sync/atomic"
	"time"
)

// Stats is the state of a Store and what it has counted since Open.
type Stats struct {
	Chunks int
	Bytes  int64 // stored

	Free     int64 // bytes free on the file system
	Headroom int64 // bytes of them that writes leave free
	Full     bool  // a Put of a large chunk would answer cas.ErrNoSpace

	Batches      int64 // group commits
	FileSyncs    int64 // fsyncs of chunk files
	DirSyncs     int64 // fsyncs of directories
	SyncFailures int64 // fsyncs that failed
	PutFailures  int64 // chunks that could not be stored

	Checked     int64 // files found right: on first read, on a report, by the scrubber
	Quarantined int64 // files found wrong
	Lost        int64 // files that had disappeared
	Foreign     int64 // names in the chunk directories, seen at Open, that are no chunks

	ScrubPasses   int64         // full passes of the scrubber
	ScrubbedBytes int64         // bytes that it has read
	ScrubTime     time.Duration // time that it spent reading
	ScrubbedAt    time.Time     // end of the last full pass, or zero

	IdleHandles int // open files that wait for the next reader
}

// counters is what Stats is made of.
type counters struct {
	changes, saved                                          atomic.Int64 // of the index; of it at the last snapshot
	batches, fileSyncs, dirSyncs, syncFailures, putFailures atomic.Int64
	checked, quarantined, lost, foreign                     atomic.Int64
	scrubPasses, scrubbed, scrubNanos, scrubbedAt/* Unix */ atomic.Int64
}

// Stats returns the current numbers. It answers after Close as well, from what
// it knew.
func (s *Store) Stats() Stats {
	c := &s.counts
	st := Stats{
		Batches:       c.batches.Load(),
		FileSyncs:     c.fileSyncs.Load(),
		DirSyncs:      c.dirSyncs.Load(),
		SyncFailures:  c.syncFailures.Load(),
		PutFailures:   c.putFailures.Load(),
		Checked:       c.checked.Load(),
		Quarantined:   c.quarantined.Load(),
		Lost:          c.lost.Load(),
		Foreign:       c.foreign.Load(),
		ScrubPasses:   c.scrubPasses.Load(),
		ScrubbedBytes: c.scrubbed.Load(),
		ScrubTime:     time.Duration(c.scrubNanos.Load()),
		IdleHandles:   s.idle.idleCount(),
	}
	if at := c.scrubbedAt.Load(); at != 0 {
		st.ScrubbedAt = time.Unix(at, 0)
	}
	st.Chunks, st.Bytes = s.count()
	room, err := s.room.stats()
	if err != nil {
		s.log.Warn("cannot see how full the file system is", "error", err)
	}
	st.Free, st.Headroom, st.Full = room.free, room.headroom, room.full
	return st
}

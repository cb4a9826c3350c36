package disk

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"inos.dev/edge/cas"
)

const (
	// block is what a file takes on the disk, rounded up, for the accounting
	// between two looks at the file system.
	block = 4096
	// lookEvery is how old the file system's answer may be.
	lookEvery = time.Second
)

// statfs returns the bytes that are free for this process, and all bytes.
func statfs(dir *os.File) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return 0, 0, fmt.Errorf("statfs %s: %w", dir.Name(), err)
	}
	size := int64(uint64(st.Bsize)) // its type differs between systems
	return int64(st.Bavail) * size, int64(st.Blocks) * size, nil
}

// room decides whether a chunk may be written: below the cap, and with the
// headroom left free. It asks the file system once per second, when it is
// asked itself, and counts in between what is written; so it recovers by
// itself when room is made, by whomever.
type room struct {
	dir      *os.File
	statfs   func(*os.File) (free, total int64, err error)
	log      *slog.Logger
	maxBytes int64
	asked    int64 // Config.Headroom

	mu       sync.Mutex
	used     int64     // guarded by mu: stored and reserved bytes
	free     int64     // guarded by mu: estimate
	headroom int64     // guarded by mu
	looked   time.Time // guarded by mu
	full     bool      // guarded by mu: what the log said last
}

// headroomOf returns the bytes to leave free on a file system of total bytes.
func headroomOf(asked, total int64) int64 {
	switch {
	case asked < 0:
		return 0
	case asked > 0:
		return asked
	}
	return min(max(256<<20, total/50), 16<<30, total/10)
}

// lookLocked refreshes the file system's answer if it is old, and logs a change.
func (r *room) lookLocked(now time.Time) error {
	if age := now.Sub(r.looked); !r.looked.IsZero() && age >= 0 && age < lookEvery {
		return nil
	}
	free, total, err := r.statfs(r.dir)
	if err != nil {
		return err
	}
	r.free, r.headroom, r.looked = free, headroomOf(r.asked, total), now
	if full := r.refusalLocked(cas.MaxChunkSize) != nil; full != r.full {
		r.full = full
		if full {
			r.log.Warn("no room for writes; reads go on", "free", r.free, "headroom", r.headroom, "stored", r.used, "max", r.maxBytes)
		} else {
			r.log.Info("there is room for writes again", "free", r.free, "headroom", r.headroom)
		}
	}
	return nil
}

// refusalLocked returns why n more bytes may not be written, or nil.
func (r *room) refusalLocked(n int64) error {
	if r.maxBytes > 0 && r.used+n > r.maxBytes {
		return fmt.Errorf("%w: %d of at most %d bytes are stored; delete objects or raise the cap", cas.ErrNoSpace, r.used, r.maxBytes)
	}
	if r.free-onDisk(n) < r.headroom {
		return fmt.Errorf("%w: %d bytes are free on the file system, and %d have to stay so; make room on it", cas.ErrNoSpace, r.free, r.headroom)
	}
	return nil
}

func onDisk(n int64) int64 { return (n + block - 1) / block * block }

// reserve takes n bytes, or answers cas.ErrNoSpace.
func (r *room) reserve(n int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.lookLocked(time.Now()); err != nil {
		return err
	}
	if err := r.refusalLocked(n); err != nil {
		return err
	}
	r.used += n
	r.free -= onDisk(n)
	return nil
}

// add counts bytes that are on the disk already.
func (r *room) add(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used += n
}

// release gives n bytes back: a write failed, or a chunk is gone.
func (r *room) release(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used -= n
	r.free += onDisk(n)
}

// roomStats is a copy for Stats.
type roomStats struct {
	free, headroom int64
	full           bool
}

func (r *room) stats() (roomStats, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.lookLocked(time.Now())
	return roomStats{r.free, r.headroom, r.refusalLocked(cas.MaxChunkSize) != nil}, err
}

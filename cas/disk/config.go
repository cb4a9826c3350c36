package disk

import (
	"errors"
	"log/slog"
	"math"
	"os"
	"time"
)

// Config says where a Store lives and what it may use. All fields but Dir may
// be zero. A Store has up to 520 + Handles + Writers files open, beside those
// of open bodies.
type Config struct {
	// Dir is the data directory; it is made if it is missing.
	Dir string
	// MaxBytes caps the stored bytes; Put answers cas.ErrNoSpace beyond it.
	// 0 means no cap.
	MaxBytes int64
	// Headroom is how many bytes of the file system a Put leaves free. 0 means
	// 2 % of it, at least 256 MiB and at most 16 GiB, but never more than a
	// tenth. Negative means none.
	Headroom int64
	// Handles is how many idle file handles are kept for the next reader of
	// the same chunk. 0 means 1024; negative means none.
	Handles int
	// Writers bounds how many Puts write or wait for the disk at once; more
	// wait for their turn. Each holds an open file. 0 means 512.
	Writers int
	// Syncs is how many fsyncs are under way at once. 0 means 16.
	Syncs int
	// ScrubRate is how many bytes per second the scrubber reads. 0 means 8 MiB;
	// negative means that it does not run.
	ScrubRate int64
	// ScrubEvery is the least time from the start of one pass of the scrubber
	// to the start of the next. 0 means 24 hours.
	ScrubEvery time.Duration
	// SnapshotEvery is the time between snapshots of the index, which spare
	// the next start from listing directories. 0 means 5 minutes.
	SnapshotEvery time.Duration
	// Logger takes what an operator wants to know: rot, a rebuilt index, a
	// full disk. nil means slog.Default.
	Logger *slog.Logger

	// fsync and statfs stand in for the disk in tests.
	fsync  func(*os.File) error
	statfs func(*os.File) (free, total int64, err error)
}

func (c Config) validate() error {
	switch {
	case c.Dir == "":
		return errors.New("disk: Dir is empty; name the data directory")
	case c.MaxBytes < 0:
		return errors.New("disk: MaxBytes is negative; 0 means no cap")
	case c.Writers < 0 || c.Syncs < 0:
		return errors.New("disk: Writers and Syncs are not negative; 0 means the default")
	case c.ScrubEvery < 0 || c.SnapshotEvery < 0:
		return errors.New("disk: ScrubEvery and SnapshotEvery are not negative; 0 means the default")
	case c.ScrubRate > math.MaxInt32:
		return errors.New("disk: ScrubRate is above 2 GiB per second")
	}
	return nil
}

// withDefaults fills the zero fields in.
func (c Config) withDefaults() Config {
	def(&c.Handles, 1024)
	def(&c.Writers, 512)
	def(&c.Syncs, 16)
	def(&c.ScrubRate, 8<<20)
	def(&c.ScrubEvery, 24*time.Hour)
	def(&c.SnapshotEvery, 5*time.Minute)
	def(&c.Logger, slog.Default())
	if c.fsync == nil {
		c.fsync = (*os.File).Sync
	}
	if c.statfs == nil {
		c.statfs = statfs
	}
	return c
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

package journal

import (
	"errors"
	"log/slog"
	"os"
)

// Config says where a journal lives. All fields but Dir may be zero.
type Config struct {
	// Dir has the segments and nothing else; it is made if it is missing.
	Dir string
	// SegmentBytes is the size from which on a segment is followed by the next
	// one. 0 means 64 MiB.
	SegmentBytes int64
	// Disk stands in for the disk in tests; nil is the real one.
	Disk Disk
	// Logger takes what an operator wants to know: a tail that was cut off. nil
	// means slog.Default.
	Logger *slog.Logger
}

func (c Config) validate() error {
	switch {
	case c.Dir == "":
		return errors.New("journal: Dir is empty; name a directory")
	case c.SegmentBytes < 0:
		return errors.New("journal: SegmentBytes is negative; 0 means the default")
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.SegmentBytes == 0 {
		c.SegmentBytes = 64 << 20
	}
	if c.Disk == nil {
		c.Disk = realDisk{}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// Disk is the part of a disk that can fail.
type Disk interface {
	WriteAt(f *os.File, b []byte, off int64) (int, error)
	Truncate(f *os.File, size int64) error
	Sync(f *os.File) error
}

type realDisk struct{}

func (realDisk) WriteAt(f *os.File, b []byte, off int64) (int, error) { return f.WriteAt(b, off) }
func (realDisk) Truncate(f *os.File, size int64) error                { return f.Truncate(size) }
func (realDisk) Sync(f *os.File) error                                { return f.Sync() }

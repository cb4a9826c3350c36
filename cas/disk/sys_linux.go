package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// dropCache asks the kernel to forget the file's pages, so that the next read
// is one of the disk. It is a wish: if it is not granted, the scrubber reads
// from memory what it would have read from the disk.
func dropCache(f *os.File) {
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // only advice
}

// startWrite has the kernel begin to write the file's pages, without waiting.
// If it fails, the fsync that follows does all of it and tells.
func startWrite(f *os.File) {
	_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE) // only a head start
}

package disk

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrLocked: another process uses the data directory.
var ErrLocked = errors.New("data directory is in use")

// lockDir takes the data directory's LOCK for this process, until the file is
// closed: the kernel frees it however the process ends.
func lockDir(root *os.Root) (*os.File, error) {
	f, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("disk: open %s: %w", lockName, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer func() { _ = f.Close() }() // nothing was written
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("disk: %w: %s is held by process %s; stop it, or choose another data directory",
				ErrLocked, path.Join(root.Name(), lockName), holder(f))
		}
		return nil, fmt.Errorf("disk: lock %s: %w", lockName, err)
	}
	return f, nil
}

// holder returns the process id that claim wrote, or "unknown".
func holder(lock *os.File) string {
	buf := make([]byte, 20)
	n, _ := lock.ReadAt(buf, 0) // short by nature; a failure reads as unknown
	if pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n]))); err == nil {
		return strconv.Itoa(pid)
	}
	return "unknown"
}

// claim writes this process's id into the LOCK that it holds, for the message
// that others get.
func claim(lock *os.File) error {
	if err := lock.Truncate(0); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	if _, err := lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	return nil
}

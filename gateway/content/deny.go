package content

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"inos.dev/edge/cas"
)

// DeniedError is cas.ErrDenied with what the list says.
type DeniedError struct {
	Hash  cas.Hash
	Legal bool // HTTP 451 instead of 410
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("%v: %s is on the deny list", cas.ErrDenied, e.Hash)
}

// Unwrap implements errors.Is.
func (e *DeniedError) Unwrap() error { return cas.ErrDenied }

// maxDenied bounds the entries of a list: about 40 MB.
const maxDenied = 1 << 20

// Deny is a deny list: hashes of chunks or objects that are never served. The
// list is a text file with one hash per line, then optionally the word
// "legal", then anything; # starts a comment. A nil Deny is empty. Look-ups
// come from memory and may be made at any time.
type Deny struct {
	path string
	log  *slog.Logger
	list atomic.Pointer[map[cas.Hash]bool] // the value is "legal"
	read fileState                         // of the list in force; Run's after OpenDeny
}

// OpenDeny reads a deny list. A file that is missing or damaged is an error
// here; later, the last good list stays in force.
func OpenDeny(path string, log *slog.Logger) (*Deny, error) {
	d := &Deny{path: path, log: log}
	if err := d.load(); err != nil {
		return nil, err
	}
	return d, nil
}

// Check is a *DeniedError if the list names h.
func (d *Deny) Check(h cas.Hash) error {
	if d == nil {
		return nil
	}
	if legal, denied := (*d.list.Load())[h]; denied {
		return &DeniedError{Hash: h, Legal: legal}
	}
	return nil
}

// Has reports whether the list names h.
func (d *Deny) Has(h cas.Hash) bool { return d.Check(h) != nil }

// Len is the number of hashes on the list.
func (d *Deny) Len() int {
	if d == nil {
		return 0
	}
	return len(*d.list.Load())
}

// Run reads the list again whenever the file has changed, until ctx is done.
func (d *Deny) Run(ctx context.Context) error {
	if d == nil {
		return nil
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	seen := d.read
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := d.state()
		if err == nil && now == seen {
			continue
		}
		if err == nil {
			err = d.load()
		}
		if err != nil && now != seen {
			d.log.Error("the deny list cannot be read: the last one stays in force", "path", d.path, "error", err)
		}
		seen = now
	}
}

// fileState changes when a file does.
type fileState struct {
	size  int64
	mtime time.Time
}

func (d *Deny) state() (fileState, error) {
	info, err := os.Stat(d.path)
	if err != nil {
		return fileState{}, err
	}
	return fileState{info.Size(), info.ModTime()}, nil
}

func (d *Deny) load() error {
	f, err := os.Open(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the deny list %s is not there: make it, even if empty, or leave the option out: %w", d.path, err)
	}
	if err != nil {
		return err
	}
	info, err := f.Stat() // before reading: what is written meanwhile is a change
	var list map[cas.Hash]bool
	if err == nil {
		list, err = parseDeny(f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("deny list %s: %w", d.path, err)
	}
	d.list.Store(&list)
	d.read = fileState{info.Size(), info.ModTime()}
	return nil
}

func parseDeny(r io.Reader) (map[cas.Hash]bool, error) {
	list := make(map[cas.Hash]bool)
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		h, err := cas.ParseHash(words[0])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if len(list) == maxDenied {
			return nil, fmt.Errorf("%w: more than %d hashes", cas.ErrTooLarge, maxDenied)
		}
		list[h] = len(words) > 1 && words[1] == "legal"
	}
	return list, lines.Err()
}

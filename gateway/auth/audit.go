package auth

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// audit writes what was decided to a file, a line of JSON each. Records wait in
// a bounded queue for its goroutine; when that is full they are dropped and
// counted: no request waits for a disk. A file that has grown to maxAudit
// becomes FILE.1, in place of the one before.
type audit struct {
	path    string
	log     *slog.Logger
	queue   chan record
	dropped atomic.Uint64

	f      *os.File // run's, from here on
	size   int64
	limit  int64 // of size
	failed bool  // the last write failed, and that is in the log
}

// record is a line of the audit.
type record struct {
	Time     time.Time `json:"time"`
	Subject  string    `json:"subject"` // empty: anybody
	Token    string    `json:"token"`   // the token's id, which opens nothing
	Action   string    `json:"action"`
	Door     string    `json:"door"`
	Object   string    `json:"object,omitempty"` // own, others
	Resource string    `json:"resource"`
	Rule     string    `json:"rule"` // empty: none fitted
	Allow    bool      `json:"allow"`
	Why      string    `json:"why,omitempty"` // of a denial
}

const (
	maxAudit    = 16 << 20
	auditQueue  = 4096
	maxResource = 256
)

// openAudit opens the file, so that a path that cannot be written is an error
// at the start.
func openAudit(path string, log *slog.Logger) (*audit, error) {
	a := &audit{path: path, log: log, limit: maxAudit, queue: make(chan record, auditQueue)}
	return a, a.open()
}

func (a *audit) open() error {
	f, err := os.OpenFile(a.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	a.f, a.size = f, info.Size()
	return nil
}

// add queues a record, or drops it.
func (a *audit) add(req *Request, d Decision, now time.Time) {
	r := record{
		Time: now.UTC(), Subject: req.Identity.Subject, Token: req.Identity.TokenID, Action: req.Action.String(), Door: req.Doors.String(),
		Resource: req.Resource, Rule: d.Rule, Allow: d.Allow, Why: d.Why,
	}
	if req.Object != ObjectNone && req.Object < numObjects {
		r.Object = objectNames[req.Object]
	}
	if len(r.Resource) > maxResource {
		r.Resource = r.Resource[:maxResource]
	}
	select {
	case a.queue <- r:
	default:
		a.dropped.Add(1)
	}
}

// run writes what is queued until ctx is done, and then what is left.
func (a *audit) run(ctx context.Context) error {
	for {
		select {
		case r := <-a.queue:
			a.write(r)
		case <-ctx.Done():
			for {
				select {
				case r := <-a.queue:
					a.write(r)
				default:
					return nil
				}
			}
		}
	}
}

// write writes a record and those behind it that are there already, at most
// what one line of the queue holds.
func (a *audit) write(r record) {
	var buf []byte
	n := uint64(0)
	for more := true; more && n < auditQueue; {
		line, err := json.Marshal(r)
		if err != nil { // it has nothing that JSON cannot say
			line = []byte(`{"why":"this record cannot be encoded"}`)
		}
		buf = append(append(buf, line...), '\n')
		n++
		select {
		case r = <-a.queue:
		default:
			more = false
		}
	}
	if err := a.append(buf); err != nil {
		a.dropped.Add(n)
		if !a.failed {
			a.log.Error("the audit cannot be written: its records are dropped and counted until it can", "path", a.path, "error", err)
		}
		a.failed = true
		return
	}
	a.failed = false
}

func (a *audit) append(buf []byte) error {
	if a.failed { // whatever came of the last line is one of its own
		buf = append([]byte{'\n'}, buf...)
	}
	if a.size > 0 && a.size+int64(len(buf)) > a.limit {
		if err := a.rotate(); err != nil {
			return err
		}
	}
	n, err := a.f.Write(buf)
	a.size += int64(n)
	return err
}

func (a *audit) rotate() error {
	if err := os.Rename(a.path, a.path+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	old := a.f
	if err := a.open(); err != nil {
		return err
	}
	return old.Close()
}

func (a *audit) close() error { return errors.Join(a.f.Sync(), a.f.Close()) }

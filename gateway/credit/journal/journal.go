package journal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// ErrFailed says: the disk did not take what was to be written. The journal
// takes nothing more until it is opened again.
var ErrFailed = errors.New("the journal cannot be written")

// maxBatch is how many bytes wait for the disk before Room lets writers wait.
const maxBatch = 8 << 20

// Journal appends records. One goroutine at a time makes and stages drafts;
// everything else may be called at the same time.
type Journal struct {
	cfg    Config
	root   *os.Root
	origin cas.Hash

	// Of the committer, and of Close when there is none.
	file  *os.File
	start Position // of the file's segment

	commits sync.WaitGroup // the committer, if it is at work

	mu         sync.Mutex // guards all below
	next       Mark       // behind what is staged
	last       Position   // the segment that the next record is in, or begins behind
	durable    Mark       // behind what is acknowledged
	queue      []*batch   // the first one is being written if committing
	committing bool
	queued     int64 // bytes in queue
	segments   []Position
	failed     error // why nothing can be appended any more
	broken     error // why nothing can be written any more
	doubt      bool  // what failed may be in the file
}

// batch is what goes to the disk with one write and one fsync.
type batch struct {
	pos     Position // of its first record
	segment *segmentHead
	buf     []byte
	end     Mark
	done    chan struct{} // closed when the batch is durable, or has failed
	err     error         // set before done is closed
}

// Open reads what is behind from, as Scan does, cuts off what a crash has left
// at the end, makes sure that all the rest is durable, and takes appends from
// then on. The caller closes the journal, and sees to it that no other process
// has it open.
func Open(ctx context.Context, cfg Config, from Mark, visit func(*Record) error) (*Journal, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &Journal{cfg: cfg, root: root}
	t, err := scan(ctx, root, from, visit)
	if err == nil {
		err = j.resume(t)
	}
	if err == nil {
		err = j.syncParent()
	}
	if err != nil {
		return nil, errors.Join(err, j.closeFiles())
	}
	return j, nil
}

// resume cuts the tail, makes durable what is in front of it, and takes up
// the last segment.
func (j *Journal) resume(t tail) error {
	n := len(t.segments)
	if t.headless {
		n--
		if err := j.root.Remove(t.segments[n].name()); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	for _, s := range t.segments[:n] {
		j.segments = append(j.segments, s.start)
	}
	if t.torn > 0 {
		j.cfg.Logger.Warn("journal: a crash has left the beginning of a write that nobody was told of; it is cut off", "dir", j.cfg.Dir, "bytes", t.torn, "behind_record", t.Seq)
	}
	if n == 0 {
		return j.found()
	}
	j.origin, j.start = t.origin, t.segments[n-1].start
	j.next, j.durable, j.last = t.Mark, t.Mark, j.start
	f, err := j.root.OpenFile(t.segments[n-1].name(), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.file = f
	err = j.cut(t.Pos)
	if err == nil && t.batch >= j.start {
		err = j.rewrite(t.batch, t.Pos)
	}
	if err == nil {
		err = j.cfg.Disk.Sync(f)
	}
	if err == nil {
		err = syncDir(j.root, j.cfg.Disk)
	}
	if err != nil {
		return fmt.Errorf("journal: make the end of %s durable: %w", f.Name(), err)
	}
	return nil
}

// syncParent makes the name of the journal's directory durable.
func (j *Journal) syncParent() error {
	parent, err := os.OpenRoot(filepath.Dir(j.cfg.Dir))
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := errors.Join(syncDir(parent, j.cfg.Disk), parent.Close()); err != nil {
		return fmt.Errorf("journal: make %s durable: %w", j.cfg.Dir, err)
	}
	return nil
}

// found makes the first segment.
func (j *Journal) found() error {
	if _, err := rand.Read(j.origin[:]); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	f, err := createSegment(j.root, segmentHead{seq: 1, prev: j.origin}, j.cfg.Disk)
	if err != nil {
		return err
	}
	j.file, j.segments = f, []Position{0}
	j.next = Mark{Pos: segmentHeader, Hash: j.origin}
	j.durable = j.next
	return nil
}

// cut ends the last segment at a position.
func (j *Journal) cut(end Position) error {
	info, err := j.file.Stat()
	if err != nil || info.Size() == int64(end-j.start) {
		return err
	}
	return j.cfg.Disk.Truncate(j.file, int64(end-j.start))
}

// rewrite writes the last batch again, with the same bytes. If its fsync had
// failed, its pages may be in memory and not on the disk, and pass as clean:
// now they are dirty again.
func (j *Journal) rewrite(from, to Position) error {
	b := make([]byte, to-from)
	if _, err := j.file.ReadAt(b, int64(from-j.start)); err != nil {
		return err
	}
	_, err := j.cfg.Disk.WriteAt(j.file, b, int64(from-j.start))
	return err
}

// Origin is the hash that the chain begins with: random, and so another one
// for each journal.
func (j *Journal) Origin() cas.Hash { return j.origin }

// Tip is the end of what is staged; Durable, of what is durable.
func (j *Journal) Tip() Mark {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.next
}

// Durable is the end of what a crash does not take away.
func (j *Journal) Durable() Mark {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.durable
}

// Draft begins the record behind all that is staged. Accounts are those that
// the record defines, with the numbers from first on. The caller adds exactly
// as many entries as it says, and stages the draft before it makes another,
// or drops it. Errors: credit.ErrEntry, if the record would be too large.
func (j *Journal) Draft(now time.Time, id string, first uint32, accounts []credit.Account, entries int) (*Draft, error) {
	if len(id) > MaxID || entries > MaxEntries || entries < 1 {
		return nil, fmt.Errorf("%w: a record has 1 to %d entries, and an id of at most %d bytes", credit.ErrEntry, MaxEntries, MaxID)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	d := &Draft{pos: j.next.Pos}
	if int64(j.next.Pos-j.last) >= j.cfg.SegmentBytes {
		d.segment = true
		d.pos += segmentHeader
	}
	d.head = header{seq: j.next.Seq + 1, time: max(now.UnixNano(), j.next.Time), prev: j.next.Hash}
	d.begin(id, first, accounts, entries)
	return d, nil
}

// Stage queues a draft for the disk and returns the end of its record, which
// becomes durable soon: Sync waits for it. Errors: ErrFailed; credit.ErrEntry,
// if the record is too large.
func (j *Journal) Stage(d *Draft) (Mark, error) {
	if d.missing != 0 || len(d.b) > MaxRecord {
		return Mark{}, fmt.Errorf("%w: a record of %d bytes, more than %d: use several", credit.ErrEntry, len(d.b), MaxRecord)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return Mark{}, j.failed
	}
	b := j.batchLocked(d)
	d.seal(b.pos)
	b.buf = append(b.buf, d.b...)
	j.queued += int64(len(d.b))
	j.next = Mark{Seq: d.head.seq, Last: d.pos, Pos: d.pos + Position(len(d.b)), Time: d.head.time, Hash: d.head.chain}
	b.end = j.next
	if !j.committing {
		j.committing = true
		j.commits.Go(j.commitQueue)
	}
	return j.next, nil
}

// batchLocked returns the batch that a draft goes to: one that waits, if there
// is one and it has room.
func (j *Journal) batchLocked(d *Draft) *batch {
	waits := len(j.queue) > 1 || len(j.queue) == 1 && !j.committing
	if waits && !d.segment {
		if b := j.queue[len(j.queue)-1]; len(b.buf)+len(d.b) <= maxBatch {
			return b
		}
	}
	b := &batch{pos: d.pos, done: make(chan struct{})}
	if d.segment {
		j.last = j.next.Pos
		b.segment = &segmentHead{start: j.next.Pos, seq: d.head.seq, prev: d.head.prev}
	}
	j.queue = append(j.queue, b)
	return b
}

// Close waits for what is staged and closes the files. Appends and reads fail
// from then on.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.failed == nil {
		j.failed = fmt.Errorf("journal: %w", os.ErrClosed)
	}
	j.mu.Unlock()
	j.commits.Wait()
	return j.closeFiles()
}

func (j *Journal) closeFiles() error {
	err := j.root.Close()
	if j.file != nil {
		err = errors.Join(err, j.file.Close())
		j.file = nil
	}
	return err
}

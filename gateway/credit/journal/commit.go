package journal

import (
	"context"
	"errors"
	"fmt"
)

// commitQueue makes batches durable until the queue is empty.
func (j *Journal) commitQueue() {
	for {
		j.mu.Lock()
		if len(j.queue) == 0 {
			j.committing = false
			j.mu.Unlock()
			return
		}
		b, failed, durable := j.queue[0], j.broken, j.durable
		j.mu.Unlock()
		if failed == nil {
			failed = j.write(b, durable)
		}
		j.finish(b, failed)
	}
}

// finish tells those who wait for a batch how it went.
func (j *Journal) finish(b *batch, err error) {
	j.mu.Lock()
	j.queue = j.queue[1:]
	j.queued -= int64(len(b.buf))
	if err == nil {
		j.durable = b.end
	} else {
		j.broken, j.failed = err, err
	}
	b.err = err
	j.mu.Unlock()
	close(b.done)
}

// write makes a batch durable. If it fails, the bytes that reached the file
// are cut off, so that the records are not there when the journal is opened
// again; if that fails too, they may be.
func (j *Journal) write(b *batch, durable Mark) error {
	if b.segment != nil {
		if err := j.nextSegment(*b.segment); err != nil {
			return errors.Join(ErrFailed, err)
		}
	}
	_, err := j.cfg.Disk.WriteAt(j.file, b.buf, int64(b.pos-j.start))
	if err == nil {
		err = j.cfg.Disk.Sync(j.file)
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%w: records %d to %d: %w", ErrFailed, durable.Seq+1, b.end.Seq, err)
	if cutErr := j.cut(b.pos); cutErr != nil {
		j.mu.Lock()
		j.doubt = true
		j.mu.Unlock()
		err = fmt.Errorf("%w; they may be there after the next start, since they cannot be cut off: %w", err, cutErr)
	}
	return err
}

// nextSegment turns to a new file. The one before is durable to its end.
func (j *Journal) nextSegment(h segmentHead) error {
	f, err := createSegment(j.root, h, j.cfg.Disk)
	if err != nil {
		return err
	}
	err = j.file.Close()
	j.file, j.start = f, h.start
	j.mu.Lock()
	j.segments = append(j.segments, h.start)
	j.mu.Unlock()
	return err
}

// Sync waits until record seq is durable. If ctx ends before, it may become
// so later. Errors: ErrFailed, the record is not durable.
func (j *Journal) Sync(ctx context.Context, seq uint64) error {
	j.mu.Lock()
	if seq <= j.durable.Seq {
		j.mu.Unlock()
		return nil
	}
	for _, b := range j.queue {
		if b.end.Seq < seq {
			continue
		}
		j.mu.Unlock()
		select {
		case <-b.done:
			return b.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer j.mu.Unlock()
	return j.failed
}

// Room waits until fewer bytes are staged than a batch holds, so that writers
// who are faster than the disk wait for it.
func (j *Journal) Room(ctx context.Context) error {
	for {
		j.mu.Lock()
		if failed := j.failed; failed != nil || j.queued < maxBatch {
			j.mu.Unlock()
			return failed
		}
		done := j.queue[0].done
		j.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Failed says why the journal takes nothing more, or is nil.
func (j *Journal) Failed() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed
}

// Clean reports whether the journal may be opened again in this process: what
// has failed is not in it.
func (j *Journal) Clean() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.doubt
}

// HasRoom reports whether Room would return at once.
func (j *Journal) HasRoom() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failed == nil && j.queued < maxBatch
}

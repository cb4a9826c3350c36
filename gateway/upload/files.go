package upload

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
)

// Layout of a log record: the link, the state of SHA-256 as crypto/sha256
// marshals it, and the first bytes of the BLAKE3 of both.
const (
	stateSize  = 108
	linkSize   = 3*cas.HashSize + 16
	sumSize    = 8
	recordSize = linkSize + stateSize + sumSize
)

func encodeRecord(link cas.Piece, state []byte) ([]byte, error) {
	if len(state) != stateSize {
		return nil, fmt.Errorf("upload: a SHA-256 state of %d bytes", len(state))
	}
	b := make([]byte, 0, recordSize)
	b = append(b, link.Hash[:]...)
	b = append(b, link.Raw[:]...)
	b = append(b, link.CV[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(link.Size))
	b = binary.LittleEndian.AppendUint64(b, uint64(link.Encoded))
	b = append(b, state...)
	sum := cas.Sum(b)
	return append(b, sum[:sumSize]...), nil
}

// decodeRecord reads a record; ok is false if it is torn.
func decodeRecord(b []byte) (link cas.Piece, state []byte, ok bool) {
	if len(b) < recordSize {
		return link, nil, false
	}
	body := b[:recordSize-sumSize]
	sum := cas.Sum(body)
	if !bytes.Equal(sum[:sumSize], b[recordSize-sumSize:recordSize]) {
		return link, nil, false
	}
	link.Hash, link.Raw, link.CV = cas.Hash(b[:32]), cas.Hash(b[32:64]), cas.Hash(b[64:96])
	link.Size = int64(binary.LittleEndian.Uint64(b[96:]))
	link.Encoded = int64(binary.LittleEndian.Uint64(b[104:]))
	return link, body[linkSize:], true
}

// sessionLog is what a log says.
type sessionLog struct {
	links []cas.Piece
	state []byte // behind the last link
}

func (s *Sessions) readLog(id string) (l sessionLog, err error) {
	b, err := s.root.ReadFile(id + ".log")
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return l, err
	}
	for len(b) > 0 {
		link, state, ok := decodeRecord(b)
		if !ok {
			break // torn: everything from here on was not acknowledged
		}
		l.links, l.state = append(l.links, link), state
		b = b[recordSize:]
	}
	return l, nil
}

// syncLog makes a log durable as it was read: the process that wrote it may
// have been killed before its fsync.
func (s *Sessions) syncLog(id string) error {
	f, err := s.root.OpenFile(id+".log", os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(s.cfg.fsync(f), f.Close(), s.syncDir())
}

// tailHead is the number of pieces in front of a tail, little endian.
const tailHead = 8

// tailSize returns how many bytes readTail would return.
func (s *Sessions) tailSize(id string, pieces int64) (n int64, err error) {
	f, err := s.root.Open(id + ".tail")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil || info.Size() < tailHead {
		return 0, err
	}
	var head [tailHead]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return 0, err
	}
	if int64(binary.LittleEndian.Uint64(head[:])) != pieces {
		return 0, nil
	}
	return info.Size() - tailHead, nil
}

// readTail returns the bytes behind the given number of pieces.
func (s *Sessions) readTail(id string, pieces int64) ([]byte, error) {
	b, err := s.root.ReadFile(id + ".tail")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(b) < tailHead || int64(binary.LittleEndian.Uint64(b)) != pieces {
		return nil, nil
	}
	return b[tailHead:], nil
}

// replace writes a file so that after a crash there is the old or the new one.
func (s *Sessions) replace(name string, b []byte) error {
	f, err := s.root.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = s.cfg.fsync(f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := s.root.Rename(name+".new", name); err != nil {
		return err
	}
	return s.syncDir()
}

// syncDir makes the names in the directory durable.
func (s *Sessions) syncDir() error {
	dir, err := s.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(s.cfg.fsync(dir), dir.Close())
}

// part is a session at work.
type part struct {
	s       *Sessions
	session Session
	file    *dag.Partial
	tail    []byte
}

func (p *part) offset() int64 {
	if p.session.Object != nil {
		return p.session.Length
	}
	return p.file.Pieces()*cas.PieceSize + int64(len(p.tail))
}

func (s *Sessions) resume(id string) (*part, error) {
	in, err := s.load(id)
	if err != nil {
		return nil, err
	}
	l, err := s.readLog(id)
	if err != nil {
		return nil, err
	}
	tail, err := s.readTail(id, int64(len(l.links)))
	if err != nil {
		return nil, err
	}
	file, err := s.cfg.Writer.Resume(func(yield func(cas.Piece, error) bool) {
		for _, link := range l.links {
			if !yield(link, nil) {
				return
			}
		}
	}, l.state)
	return &part{s: s, session: in, file: file, tail: tail}, err
}

// append stores what r has and records it.
func (p *part) append(ctx context.Context, r io.Reader) error {
	log, err := p.openLog()
	if err != nil {
		return err
	}
	left := p.session.Length - p.offset()
	limited := &limitedReader{r: r, left: left}
	before := p.file.Pieces()
	tail, err := p.file.Append(ctx, io.MultiReader(bytes.NewReader(p.tail), limited), func(link cas.Piece, state []byte) error {
		record, err := encodeRecord(link, state)
		if err == nil {
			_, err = log.Write(record)
		}
		return err
	})
	synced := errors.Join(p.s.cfg.fsync(log), log.Close())
	switch {
	case err == nil:
		p.tail = tail
		if synced == nil && len(tail) > 0 && p.offset() < p.session.Length {
			head := binary.LittleEndian.AppendUint64(nil, uint64(p.file.Pieces()))
			synced = p.s.replace(p.session.ID+".tail", append(head, tail...))
		}
	case p.file.Pieces() > before:
		p.tail = nil // it is part of a piece now, and what came after it is lost
	}
	return errors.Join(err, synced)
}

// openLog opens the log behind its last whole record. A log without a record
// may be new: its name is made durable before anything in it counts.
func (p *part) openLog() (*os.File, error) {
	f, err := p.s.root.OpenFile(p.session.ID+".log", os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	end := p.file.Pieces() * recordSize
	if end == 0 {
		err = p.s.syncDir()
	}
	if err == nil {
		err = f.Truncate(end)
	}
	if err == nil {
		_, err = f.Seek(end, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// finish writes the manifests and records the object.
func (p *part) finish(ctx context.Context) error {
	o, err := p.file.Finish(ctx, p.tail, p.session.MediaType)
	if err != nil {
		return err
	}
	p.session.Object = &o
	return p.s.save(p.session)
}

// limitedReader refuses bytes beyond the announced length.
type limitedReader struct {
	r    io.Reader
	left int64
}

func (l *limitedReader) Read(b []byte) (int, error) {
	if l.left == 0 {
		var one [1]byte
		n, err := io.ReadFull(l.r, one[:])
		if n > 0 {
			return 0, fmt.Errorf("%w: more bytes than Upload-Length announced", cas.ErrTooLarge)
		}
		return 0, err
	}
	if int64(len(b)) > l.left {
		b = b[:l.left]
	}
	n, err := l.r.Read(b)
	l.left -= int64(n)
	return n, err
}

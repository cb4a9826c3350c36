package payer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// snapshotWriter writes numbers and their checksum, and keeps its first error.
type snapshotWriter struct {
	w   io.Writer
	buf []byte
	sum uint32
	err error
}

// flushAbove is how many bytes are written at once.
const flushAbove = 1 << 16

func (w *snapshotWriter) bytes(b []byte)  { w.add(append(w.buf, b...)) }
func (w *snapshotWriter) byte(b byte)     { w.add(append(w.buf, b)) }
func (w *snapshotWriter) uint32(n uint32) { w.add(binary.BigEndian.AppendUint32(w.buf, n)) }
func (w *snapshotWriter) uint64(n uint64) { w.add(binary.BigEndian.AppendUint64(w.buf, n)) }

func (w *snapshotWriter) add(buf []byte) {
	if w.buf = buf; len(buf) >= flushAbove {
		w.flush()
	}
}

func (w *snapshotWriter) flush() {
	w.sum = crc32.Update(w.sum, castagnoli(), w.buf)
	if w.err == nil {
		_, w.err = w.w.Write(w.buf)
	}
	w.buf = w.buf[:0]
}

// finish writes the checksum.
func (w *snapshotWriter) finish() error {
	w.flush()
	w.uint32(w.sum)
	w.flush()
	return w.err
}

// snapshotReader reads what a snapshotWriter wrote. After an error everything
// is zero; finish tells.
type snapshotReader struct {
	r    *bufio.Reader
	left int64 // bytes of the file
	buf  [256]byte
	sum  uint32
	err  error
}

// bytes reads up to 255 bytes, which are there until the next call.
func (r *snapshotReader) bytes(n int) []byte {
	b := r.buf[:n]
	if r.err == nil {
		_, r.err = io.ReadFull(r.r, b)
	}
	if r.err != nil {
		clear(b)
	}
	r.left -= int64(n)
	r.sum = crc32.Update(r.sum, castagnoli(), b)
	return b
}

func (r *snapshotReader) byte() byte     { return r.bytes(1)[0] }
func (r *snapshotReader) uint32() uint32 { return binary.BigEndian.Uint32(r.bytes(4)) }
func (r *snapshotReader) uint64() uint64 { return binary.BigEndian.Uint64(r.bytes(8)) }

// count returns how many entries follow, of so many bytes at least: none, if
// the file has no room for n.
func (r *snapshotReader) count(n uint64, each int64) uint64 {
	if r.left < 0 || n > uint64(r.left/each) {
		r.err = errSnapshot
		return 0
	}
	return n
}

// finish checks the checksum and that nothing follows.
func (r *snapshotReader) finish() error {
	want := r.sum
	got := r.uint32()
	if r.err == nil && (got != want || r.left != 0) {
		r.err = errSnapshot
	}
	if errors.Is(r.err, io.EOF) || errors.Is(r.err, io.ErrUnexpectedEOF) {
		r.err = errSnapshot
	}
	return r.err
}

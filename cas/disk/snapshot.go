package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"inos.dev/edge/cas"
)

// The index file, little endian:
//
//	header   "inosidx" 01 | taken int64 | 256 × (mtime int64, count uint32) | BLAKE3 of the header so far
//	shard    count × (hash 32, size uint32, touched uint32, saved uint32) | BLAKE3 of the shard's entries
//	         … 256 times
//
// taken and mtime are nanoseconds since 1970; mtime is that of the shard's
// directory before its entries were copied, or 0 if it must not be trusted.
const (
	indexMagic   = "inosidx\x01"
	shardHead    = 8 + 4
	headerSize   = len(indexMagic) + 8 + shardCount*shardHead + cas.HashSize
	entrySize    = cas.HashSize + 12
	maxIndexSize = 1 << 36
)

// tick is how coarse the mtime of a directory may be: one that is younger than
// that, seen from the snapshot, may have changed again without a trace.
const tick = 2 * time.Second

var errIndex = errors.New("damaged index file")

// indexFile is an index file whose header was right.
type indexFile struct {
	r      io.ReaderAt
	taken  int64
	mtime  [shardCount]int64
	count  [shardCount]int
	offset [shardCount]int64
}

// readIndex reads the header of an index file of size bytes.
func readIndex(r io.ReaderAt, size int64) (*indexFile, error) {
	var head [headerSize]byte
	if size < int64(headerSize) || size > maxIndexSize {
		return nil, fmt.Errorf("%w: %d bytes long", errIndex, size)
	}
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("%w: %w", errIndex, err)
	}
	if string(head[:len(indexMagic)]) != indexMagic {
		return nil, fmt.Errorf("%w: of another version", errIndex)
	}
	body := head[:headerSize-cas.HashSize]
	if cas.Sum(body) != cas.Hash(head[len(body):]) {
		return nil, fmt.Errorf("%w: checksum of the header", errIndex)
	}
	x := &indexFile{r: r}
	x.taken = int64(binary.LittleEndian.Uint64(head[len(indexMagic):]))
	at := int64(headerSize)
	for i, p := 0, head[len(indexMagic)+8:]; i < shardCount; i, p = i+1, p[shardHead:] {
		x.mtime[i] = int64(binary.LittleEndian.Uint64(p))
		x.count[i] = int(binary.LittleEndian.Uint32(p[8:]))
		x.offset[i] = at
		at += int64(x.count[i])*entrySize + cas.HashSize
	}
	if at != size {
		return nil, fmt.Errorf("%w: %d bytes long instead of %d", errIndex, size, at)
	}
	return x, nil
}

// trusts reports whether a directory that has this mtime now holds exactly the
// entries of the shard.
func (x *indexFile) trusts(i int, mtime int64) bool {
	return x.mtime[i] == mtime && mtime != 0 && mtime < x.taken-int64(tick)
}

// shard reads the entries of shard i into t. An error leaves t in any state.
func (x *indexFile) shard(i int, t *table) error {
	buf := make([]byte, x.count[i]*entrySize+cas.HashSize)
	if _, err := x.r.ReadAt(buf, x.offset[i]); err != nil {
		return fmt.Errorf("%w: %w", errIndex, err)
	}
	list, sum := buf[:len(buf)-cas.HashSize], buf[len(buf)-cas.HashSize:]
	if cas.Sum(list) != cas.Hash(sum) {
		return fmt.Errorf("%w: checksum of shard %02x", errIndex, i)
	}
	t.reserve(x.count[i])
	for p := list; len(p) > 0; p = p[entrySize:] {
		e := entry{
			hash:    cas.Hash(p[:cas.HashSize]),
			meta:    binary.LittleEndian.Uint32(p[cas.HashSize:]),
			touched: binary.LittleEndian.Uint32(p[cas.HashSize+4:]),
			saved:   binary.LittleEndian.Uint32(p[cas.HashSize+8:]),
		}
		if int(e.hash[0]) != i || !goodSize(int64(e.meta)) || !t.put(e) {
			return fmt.Errorf("%w: entry of shard %02x", errIndex, i)
		}
	}
	return nil
}

func appendEntry(b []byte, e entry) []byte {
	b = append(b, e.hash[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(e.size()))
	b = binary.LittleEndian.AppendUint32(b, e.touched)
	return binary.LittleEndian.AppendUint32(b, e.saved)
}

func goodSize(n int64) bool { return n >= cas.MinChunkSize && n <= cas.MaxChunkSize }

// saveIndex writes the index file.
func (s *Store) saveIndex() error {
	changes := s.counts.changes.Load()
	if err := writeDurably(s.root, indexName, indexTempName, s.writeIndex); err != nil {
		return err
	}
	s.counts.saved.Store(changes)
	return nil
}

// writeIndex writes shard after shard, and the header at last.
func (s *Store) writeIndex(f *os.File) error {
	head := make([]byte, 0, headerSize)
	head = append(head, indexMagic...)
	head = binary.LittleEndian.AppendUint64(head, uint64(time.Now().UnixNano()))
	if _, err := f.Seek(int64(headerSize), io.SeekStart); err != nil {
		return err
	}
	var list []entry
	var buf []byte
	for i := range s.shards {
		var mtime int64
		var err error
		if list, mtime, err = s.shards[i].copy(list[:0]); err != nil {
			return err
		}
		head = binary.LittleEndian.AppendUint64(head, uint64(mtime))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(list)))
		buf = buf[:0]
		for _, e := range list {
			buf = appendEntry(buf, e)
		}
		sum := cas.Sum(buf)
		if _, err := f.Write(append(buf, sum[:]...)); err != nil {
			return err
		}
	}
	sum := cas.Sum(head)
	_, err := f.WriteAt(append(head, sum[:]...), 0)
	return err
}

// copy appends the entries to list, and returns the directory's mtime from
// before. While files are in the directory that are not yet in the index the
// mtime is 0: the snapshot must not stand for the directory.
func (sh *shard) copy(list []entry) ([]entry, int64, error) {
	sh.names.Lock()
	defer sh.names.Unlock()
	var mtime int64
	if sh.moving == 0 {
		dir, err := sh.root.Stat(".")
		if err != nil {
			return nil, 0, err
		}
		mtime = dir.ModTime().UnixNano()
	}
	return sh.index.appendTo(list), mtime, nil
}

// openIndex opens the snapshot of the last run; no snapshot is nil.
func openIndex(root *os.Root) (*indexFile, *os.File, error) {
	f, err := root.Open(indexName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("disk: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("disk: %w", err), f.Close())
	}
	x, err := readIndex(f, info.Size())
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return x, f, nil
}

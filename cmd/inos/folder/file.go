package folder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path"

	"github.com/zeebo/blake3"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cmd/inos/remote"
)

// ErrExists: the target is there already.
var ErrExists = errors.New("already exists")

// Writer writes objects to disk.
type Writer struct {
	// Reader fetches pieces, Source manifests.
	Reader *remote.Reader
	Source dag.Source
	// Replace lets a file take the place of another one. A folder is never
	// replaced.
	Replace bool
	// Progress is told of raw bytes as they are written, or found to be there;
	// nil tells nobody. It is called by several goroutines.
	Progress func(n int)
}

// Object writes what was found to target: a file or a folder, by what it is.
func (w *Writer) Object(ctx context.Context, found dag.Found, target string) error {
	root, name, err := w.place(found, target)
	if err != nil {
		return err
	}
	defer root.Close()
	part := partName(name, found.Hash)
	if found.Manifest.Kind == cas.KindDirectory {
		err = w.directory(ctx, root, part, found)
	} else {
		err = w.file(ctx, root, part, found.Manifest, found.Entry.Mode == cas.ModeExecutable, true)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", target, err)
	}
	return root.Rename(part, name)
}

// place opens the target's folder and looks whether the target may be written.
func (w *Writer) place(found dag.Found, target string) (root *os.Root, name string, err error) {
	dir, name := splitTarget(target)
	if name == "" {
		return nil, "", fmt.Errorf("%q is no name for a file or folder", target)
	}
	if root, err = os.OpenRoot(dir); err != nil {
		return nil, "", err
	}
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return root, name, nil
	case err != nil:
	case found.Manifest.Kind == cas.KindDirectory || info.IsDir():
		err = fmt.Errorf("%s %w; remove it, or choose another name with --output", target, ErrExists)
	case !w.Replace:
		err = fmt.Errorf("%s %w; choose another name with --output, or replace it with --force", target, ErrExists)
	default:
		return root, name, nil
	}
	return nil, "", errors.Join(err, root.Close())
}

func splitTarget(target string) (dir, name string) {
	target = path.Clean(target)
	dir, name = path.Split(target)
	if name == "." || name == ".." {
		return target, ""
	}
	if dir == "" {
		dir = "."
	}
	return dir, name
}

// partName is where an object is written until it is whole. It has the hash in
// it, so that a part is never taken up for another object.
func partName(name string, h cas.Hash) string { return name + "." + h.String()[:12] + ".part" }

// file writes one file under name, which may hold a part of it. durable files
// are synced.
func (w *Writer) file(ctx context.Context, root *os.Root, name string, m *cas.Manifest, executable, durable bool) (err error) {
	f, err := openPart(root, name, executable)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := w.pieces(ctx, f, m); err != nil {
		return err
	}
	if err := f.Truncate(m.Size); err != nil {
		return err
	}
	if durable {
		return f.Sync()
	}
	return nil
}

// openPart opens a regular file for reading and writing, and makes it if it is
// not there. Anything else under this name is in the way.
func openPart(root *os.Root, name string, executable bool) (*os.File, error) {
	perm := fs.FileMode(0o666)
	if executable {
		perm = 0o777
	}
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is in the way and no file; remove it", name)
	}
	return root.OpenFile(name, os.O_RDWR, 0)
}

// pieces writes what f lacks and checks the whole.
func (w *Writer) pieces(ctx context.Context, f *os.File, m *cas.Manifest) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var keep remote.Keep
	if had := info.Size(); had > 0 {
		keep = func(span *dag.Span, dst []byte) ([]byte, bool) {
			if span.Offset+span.Size > had {
				return nil, false
			}
			dst = dst[:span.Size]
			_, err := f.ReadAt(dst, span.Offset)
			return dst, err == nil // what cannot be read is fetched
		}
	}
	sums := newDigests()
	for piece, err := range w.Reader.Pieces(ctx, m, 0, m.Size, keep) {
		if err != nil {
			return err
		}
		if !piece.Kept {
			if _, err := f.WriteAt(piece.Raw, piece.Offset); err != nil {
				return err
			}
		}
		sums.write(piece.Raw)
		if w.Progress != nil {
			w.Progress(len(piece.Raw))
		}
	}
	return sums.check(m)
}

// digests hashes a whole file on its way.
type digests struct {
	raw *blake3.Hasher
	sha hash.Hash
	n   int64
}

func newDigests() *digests { return &digests{raw: blake3.New(), sha: sha256.New()} }

// write never fails: hashes take everything.
func (d *digests) write(b []byte) {
	_, _ = d.raw.Write(b)
	_, _ = d.sha.Write(b)
	d.n += int64(len(b))
}

// check compares the whole with what the manifest claims. Errors:
// cas.ErrCorrupt.
func (d *digests) check(m *cas.Manifest) error {
	switch {
	case d.n != m.Size:
		return fmt.Errorf("%w: the pieces make %d bytes, the manifest says %d", cas.ErrCorrupt, d.n, m.Size)
	case !bytes.Equal(d.raw.Sum(nil), m.Raw[:]):
		return fmt.Errorf("%w: the BLAKE3 of the whole is not what the manifest says", cas.ErrCorrupt)
	case !bytes.Equal(d.sha.Sum(nil), m.SHA256[:]):
		return fmt.Errorf("%w: the SHA-256 of the whole is not what the manifest says", cas.ErrCorrupt)
	}
	return nil
}

package dag

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"inos.dev/edge/cas"
)

// maxWarnings bounds what one archive can make the answer grow by.
const maxWarnings = 100

// Unpack writes the files of a tar stream as one directory object. Devices,
// FIFOs and sockets are left out with a warning each. Sparse files are refused:
// a few bytes of header would become any number of zeros. Errors:
// cas.ErrCorrupt for paths and links that lead out of the root, for sparse
// files and for a broken archive, cas.ErrTooLarge for its limits, r's, the
// store's.
func (w *Writer) Unpack(ctx context.Context, r io.Reader) (Object, []string, error) {
	t := w.Tree(ctx)
	var warnings []string
	source := &tarSource{r: r}
	for archive := tar.NewReader(source); ; {
		h, err := archive.Next()
		if err == io.EOF { //nolint:errorlint // whoever wraps it means a failure
			break
		}
		if err != nil {
			return Object{}, nil, t.Abort(source.blame(err))
		}
		skipped, err := t.member(h, archive)
		if err != nil {
			return Object{}, nil, t.Abort(tarError(err))
		}
		if skipped != "" && len(warnings) < maxWarnings {
			warnings = append(warnings, skipped)
		}
	}
	o, err := t.Finish(ctx)
	return o, warnings, err
}

func (t *Tree) member(h *tar.Header, r io.Reader) (skipped string, err error) {
	if sparse(h) {
		return "", fmt.Errorf("%w: %q is a sparse file; make the archive without --sparse", cas.ErrCorrupt, h.Name)
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return "", t.File(h.Name, r, h.Size, h.Mode&0o111 != 0)
	case tar.TypeDir:
		return "", t.Dir(h.Name)
	case tar.TypeSymlink:
		return "", t.Link(h.Name, h.Linkname)
	case tar.TypeLink:
		return "", t.Copy(h.Name, h.Linkname)
	case tar.TypeXGlobalHeader:
		return "", nil
	}
	return fmt.Sprintf("%q is a device or another special file: left out", h.Name), nil
}

// sparse reports whether package tar would fill holes of the file with zeros:
// an old GNU header says so by its type, a PAX header by its records.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// tarSource is the stream below an archive. It keeps the stream's own error
// apart from what package tar finds wrong with the bytes.
type tarSource struct {
	r   io.Reader
	err error
}

func (s *tarSource) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// blame gives an error of Next its sentinel: unless the stream failed, it is
// the archive's fault, whatever package tar calls it.
func (s *tarSource) blame(err error) error {
	if s.err != nil {
		return s.err
	}
	return fmt.Errorf("%w: the tar archive is broken or truncated: %w", cas.ErrCorrupt, err)
}

// tarError gives an archive that ends in the middle of a file the sentinel
// that a client's fault has.
func tarError(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the tar archive is broken or truncated: %w", cas.ErrCorrupt, err)
	}
	return err
}

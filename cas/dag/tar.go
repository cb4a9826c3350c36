package dag

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"

	"inos.dev/edge/cas"
)

// maxWarnings bounds what one archive can make the answer grow by.
const maxWarnings = 100

// Unpack writes the files of a tar stream as one directory object. Devices,
// FIFOs and sockets are left out with a warning each. Errors: cas.ErrCorrupt
// for paths and links that lead out of the root and for a broken archive,
// cas.ErrTooLarge for its limits, r's, the store's.
func (w *Writer) Unpack(ctx context.Context, r io.Reader) (Object, []string, error) {
	t := w.Tree(ctx)
	var warnings []string
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Object{}, nil, t.Abort(tarError(err))
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

// tarError gives the archive's own faults the sentinel that a client's fault
// has.
func tarError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the tar archive is broken or truncated: %w", cas.ErrCorrupt, err)
	}
	return err
}

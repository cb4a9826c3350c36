package folder

import (
	"context"
	"errors"
	"fmt"
	"io"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cmd/inos/remote"
)

// Copy writes the raw bytes [from, to) of a file to w, each piece verified
// before its first byte is written. Of a whole file it checks the digests, too,
// after the last byte. Errors: w's, cas.ErrCorrupt, those of the fetch.
func Copy(ctx context.Context, w io.Writer, r *remote.Reader, m *cas.Manifest, from, to int64) error {
	whole := from == 0 && to == m.Size
	sums := newDigests()
	for piece, err := range r.Pieces(ctx, m, from, to, nil) {
		if err != nil {
			return err
		}
		raw := piece.Raw[:min(piece.Size, to-piece.Offset)]
		if _, err := w.Write(raw[max(0, from-piece.Offset):]); err != nil {
			return err
		}
		if whole {
			sums.write(raw)
		}
	}
	if !whole {
		return nil
	}
	return sums.check(m)
}

// Section writes the raw bytes [from, to) of a file to target. An interrupted
// one starts over.
func (w *Writer) Section(ctx context.Context, found dag.Found, target string, from, to int64) (err error) {
	root, name, err := w.place(found, target)
	if err != nil {
		return err
	}
	defer root.Close()
	part := partName(fmt.Sprintf("%s.%d-%d", name, from, to), found.Hash)
	f, err := openPart(root, part, found.Entry.Mode == cas.ModeExecutable)
	if err != nil {
		return err
	}
	err = f.Truncate(0)
	if err == nil {
		err = Copy(ctx, f, w.Reader, found.Manifest, from, to)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", target, errors.Join(err, root.Remove(part)))
	}
	return root.Rename(part, name)
}

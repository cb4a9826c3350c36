package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sync/errgroup"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
)

// files is how many files are written at once. Each takes two questions to
// the node if it is small: its manifest and its piece.
const files = 16

// building is one folder on its way.
type building struct {
	w     *Writer
	root  *os.Root
	g     *errgroup.Group
	links map[string]string // path → target
	count int
}

// directory builds a folder under name, which may hold a part of it.
func (w *Writer) directory(ctx context.Context, parent *os.Root, name string, found dag.Found) (err error) {
	if err := makeDir(parent, name); err != nil {
		return err
	}
	root, err := parent.OpenRoot(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	b := &building{w: w, root: root, links: map[string]string{}}
	b.g, ctx = errgroup.WithContext(ctx)
	b.g.SetLimit(files)
	err = b.entries(ctx, found.Manifest, "", 0)
	if werr := b.g.Wait(); werr != nil {
		return werr // what failed first also ended the walk
	}
	if err != nil {
		return err
	}
	return b.makeLinks()
}

// entries writes one directory; its files are written in the background.
func (b *building) entries(ctx context.Context, dir *cas.Manifest, at string, depth int) error {
	if depth > dag.MaxTreeDepth {
		return fmt.Errorf("%w: %d directories inside each other, at most %d", cas.ErrTooLarge, depth, dag.MaxTreeDepth)
	}
	for e, err := range dag.Entries(ctx, b.w.Source, dir, "") {
		if err != nil {
			return err
		}
		if b.count++; b.count > dag.MaxTreeEntries {
			return fmt.Errorf("%w: more than %d entries in one folder", cas.ErrTooLarge, dag.MaxTreeEntries)
		}
		if err := b.entry(ctx, e, path.Join(at, e.Name), depth); err != nil {
			return err
		}
	}
	return nil
}

func (b *building) entry(ctx context.Context, e cas.Entry, name string, depth int) error {
	switch e.Mode {
	case cas.ModeSymlink:
		b.links[name] = e.Target
		return nil
	case cas.ModeDirectory:
		m, err := b.manifest(ctx, e, name)
		if err != nil {
			return err
		}
		if err := makeDir(b.root, name); err != nil {
			return err
		}
		return b.entries(ctx, m, name, depth+1)
	case cas.ModeFile, cas.ModeExecutable:
		b.g.Go(func() error {
			m, err := b.manifest(ctx, e, name)
			if err != nil {
				return err
			}
			if err := b.w.file(ctx, b.root, name, m, e.Mode == cas.ModeExecutable, false); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
		return nil
	}
	return fmt.Errorf("%w: %s has %v", cas.ErrCorrupt, name, e.Mode)
}

// manifest reads an entry's manifest and compares it with the entry.
func (b *building) manifest(ctx context.Context, e cas.Entry, name string) (*cas.Manifest, error) {
	m, err := dag.Root(ctx, b.w.Source, e.Hash)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if (m.Kind == cas.KindDirectory) != (e.Mode == cas.ModeDirectory) || m.Size != e.Size {
		return nil, fmt.Errorf("%w: %s is not what its directory says", cas.ErrCorrupt, name)
	}
	return m, nil
}

// makeDir makes a directory, unless it is there.
func makeDir(root *os.Root, name string) error {
	err := root.Mkdir(name, 0o777)
	if err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := root.Lstat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is in the way and no directory; remove it", name)
	}
	return nil
}

// makeLinks makes the symbolic links, after all files.
func (b *building) makeLinks() error {
	for name, target := range b.links {
		if leaves(b.links, name) {
			return fmt.Errorf("%w: link %s leads out of the folder, to %q", cas.ErrCorrupt, name, target)
		}
	}
	for name, target := range b.links {
		err := b.root.Symlink(target, name)
		if errors.Is(err, fs.ErrExist) {
			var there string
			if there, err = b.root.Readlink(name); err == nil && there != target {
				err = fmt.Errorf("%s is in the way; remove it", name)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

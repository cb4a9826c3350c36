package folder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"inos.dev/edge/cas/dag"
)

// Adder puts folders into trees.
type Adder struct {
	// SkipLinks leaves out symbolic links that lead out of the folder, with a
	// warning, instead of failing.
	SkipLinks bool
	// Warn is told what is left out and why; nil tells nobody.
	Warn func(text string)
	// Progress is told of raw bytes as they are read; nil tells nobody.
	Progress func(n int)
}

// Add puts everything below dir into tree. The caller ends the tree.
func (a *Adder) Add(ctx context.Context, tree *dag.Tree, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		return a.entry(tree, root, name, d)
	})
}

func (a *Adder) entry(tree *dag.Tree, root *os.Root, name string, d fs.DirEntry) error {
	switch mode := d.Type(); {
	case name == ".":
		return nil
	case mode.IsDir():
		return tree.Dir(name)
	case mode.IsRegular():
		return a.file(tree, root, name)
	case mode&fs.ModeSymlink != 0:
		return a.link(tree, root, name)
	}
	a.warn(name + " is a device or another special file: left out")
	return nil
}

func (a *Adder) file(tree *dag.Tree, root *os.Root, name string) (err error) {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s was replaced while it was read; try again", name)
	}
	err = tree.File(name, a.Read(f), info.Size(), info.Mode()&0o111 != 0)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s became shorter while it was read; try again", name)
	}
	return err
}

func (a *Adder) link(tree *dag.Tree, root *os.Root, name string) error {
	target, err := root.Readlink(name)
	if err != nil {
		return err
	}
	if leaves(map[string]string{name: target}, name) {
		if !a.SkipLinks {
			return fmt.Errorf("%s leads out of the folder, to %q; remove the link, or leave such links out with --skip-links", name, target)
		}
		a.warn(fmt.Sprintf("%s leads out of the folder, to %q: left out", name, target))
		return nil
	}
	return tree.Link(name, target)
}

func (a *Adder) warn(text string) {
	if a.Warn != nil {
		a.Warn(text)
	}
}

// Read tells Progress of what is read from r.
func (a *Adder) Read(r io.Reader) io.Reader {
	if a.Progress == nil {
		return r
	}
	return &counted{r, a.Progress}
}

type counted struct {
	r        io.Reader
	progress func(n int)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.progress(n)
	return n, err
}

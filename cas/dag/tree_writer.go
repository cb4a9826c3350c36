package dag

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"inos.dev/edge/cas"
)

// Limits of one tree.
const (
	// MaxTreeEntries is the most files, directories and links in one tree.
	MaxTreeEntries = 1 << 20
	// MaxTreeDepth is the most directories inside each other.
	MaxTreeDepth = 128
	// smallFile is what is read whole, so that many small files are written at
	// once; a larger one is streamed on its own.
	smallFile = cas.PieceSize
	// minWeight is what a small file counts at least against the bytes in
	// flight: it bounds how many are written at once.
	minWeight = 128 << 10
)

// Tree collects files into a directory object. Paths are slash-separated and
// relative; "..", absolute paths and links that lead out of the root are
// refused. The methods are for one goroutine; the writing itself happens in
// others.
type Tree struct {
	w      *Writer
	g      *errgroup.Group
	ctx    context.Context //nolint:containedctx // the group's own: it ends with the group
	mu     sync.Mutex      // guards the fields of every node that a file fills in later
	root   *treeNode
	count  int
	pieces int64
	stored int64
}

// treeNode is a directory if children is set, else a file or a link.
type treeNode struct {
	children map[string]*treeNode
	mode     cas.Mode
	target   string
	object   Object
}

// Tree begins a directory object. The caller ends it with Finish, or with
// Abort after an error.
func (w *Writer) Tree(ctx context.Context) *Tree {
	t := &Tree{w: w, root: &treeNode{children: map[string]*treeNode{}}}
	t.g, t.ctx = errgroup.WithContext(ctx)
	return t
}

// Dir makes sure that a directory is there.
func (t *Tree) Dir(name string) error {
	names, err := splitName(name)
	if err != nil {
		return err
	}
	_, err = t.dir(names, name)
	return err
}

// Link adds a symbolic link. One that leads out of the root is refused.
func (t *Tree) Link(name, target string) error {
	names, err := splitName(name)
	if err != nil {
		return err
	}
	if leavesRoot(names, target) {
		return linkOut(name, target)
	}
	return t.add(names, name, &treeNode{mode: cas.ModeSymlink, target: target})
}

func linkOut(name, target string) error {
	return fmt.Errorf("%w: link %q leads out of the folder, to %q; leave it out or make it relative", cas.ErrCorrupt, name, target)
}

// Copy adds a second name for a file or link that was added before: hard links
// become files. A link that would lead out of the root from its new place is
// refused.
func (t *Tree) Copy(name, from string) error {
	names, err := splitName(name)
	if err != nil {
		return err
	}
	source, err := splitName(from)
	if err != nil {
		return err
	}
	n := t.root
	for _, s := range source {
		if n = n.children[s]; n == nil {
			return fmt.Errorf("%w: hard link %q to %q, which did not come before it", cas.ErrCorrupt, name, from)
		}
	}
	if n.children != nil {
		return fmt.Errorf("%w: hard link %q to a directory", cas.ErrCorrupt, name)
	}
	if n.mode == cas.ModeSymlink && leavesRoot(names, n.target) {
		return linkOut(name, n.target)
	}
	return t.add(names, name, n)
}

// File adds a file of size bytes. A small one is read at once and written in
// the background, so that its errors come with a later call or with Finish; a
// large one is durable on return.
func (t *Tree) File(name string, r io.Reader, size int64, executable bool) error {
	names, err := splitName(name)
	if err != nil {
		return err
	}
	n := &treeNode{mode: cas.ModeFile}
	if executable {
		n.mode = cas.ModeExecutable
	}
	if err := t.add(names, name, n); err != nil {
		return err
	}
	mediaType := MediaType("", name)
	if size > smallFile {
		o, err := t.w.File(t.ctx, io.LimitReader(r, size), mediaType)
		if err == nil && o.Size != size {
			err = io.ErrUnexpectedEOF
		}
		return t.done(n, o, name, err)
	}
	return t.small(n, name, mediaType, r, int(size))
}

func (t *Tree) small(n *treeNode, name, mediaType string, r io.Reader, size int) error {
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	weight := int64(max(size, minWeight))
	if err := t.w.flight.Acquire(t.ctx, weight); err != nil { // read first, as in cut
		return t.cause(err)
	}
	t.g.Go(func() error {
		defer t.w.flight.Release(weight)
		o, err := t.w.Small(t.ctx, b, mediaType)
		return t.done(n, o, name, err)
	})
	return nil
}

// Small writes a file of at most one piece.
func (w *Writer) Small(ctx context.Context, b []byte, mediaType string) (Object, error) {
	u := w.begin(ctx)
	sum := sha256.Sum256(b)
	build := &u.build
	if len(b) > 0 {
		c, link, err := w.encodePiece(ctx, b, 0)
		if err != nil {
			return Object{}, u.fail(err)
		}
		if err := errors.Join(u.put(c), build.add(link)); err != nil {
			return Object{}, u.fail(err)
		}
	}
	o, err := build.finish(mediaType, sum)
	if err != nil {
		return Object{}, u.fail(err)
	}
	return o, u.g.Wait()
}

func (t *Tree) done(n *treeNode, o Object, name string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n.object = o
	t.pieces += o.Pieces
	t.stored += o.Encoded
	return nil
}

// cause prefers the error of a background write to the cancellation that it
// caused.
func (t *Tree) cause(err error) error {
	if c := context.Cause(t.ctx); c != nil {
		return c
	}
	return err
}

// Abort waits for what is under way and returns the first error.
func (t *Tree) Abort(err error) error {
	t.g.Go(func() error { return err })
	return t.g.Wait()
}

// Finish waits for all files, writes the directories from the leaves up, and
// returns the root when everything is durable.
func (t *Tree) Finish(ctx context.Context) (Object, error) {
	if err := t.g.Wait(); err != nil {
		return Object{}, err
	}
	u := t.w.begin(ctx)
	o, err := t.write(u.put, t.root)
	if err != nil {
		return Object{}, u.fail(err)
	}
	o.Pieces, o.Encoded = t.pieces, t.stored
	return o, u.g.Wait()
}

func (t *Tree) write(e emit, dir *treeNode) (Object, error) {
	entries := make([]cas.Entry, 0, len(dir.children))
	for name, n := range dir.children {
		entry := cas.Entry{Name: name, Mode: n.mode, Target: n.target}
		if n.children != nil {
			o, err := t.write(e, n)
			if err != nil {
				return Object{}, err
			}
			n.object, entry.Mode = o, cas.ModeDirectory
		}
		entry.Hash, entry.Size = n.object.Hash, n.object.Size
		entries = append(entries, entry)
	}
	return buildDirectory(e, entries)
}

// dir walks to a directory and makes what is missing.
func (t *Tree) dir(names []string, full string) (*treeNode, error) {
	at := t.root
	for _, s := range names {
		next := at.children[s]
		if next == nil {
			if err := t.room(); err != nil {
				return nil, err
			}
			next = &treeNode{children: map[string]*treeNode{}}
			at.children[s] = next
		}
		if next.children == nil {
			return nil, fmt.Errorf("%w: %q is below %q, which is no directory", cas.ErrCorrupt, full, s)
		}
		at = next
	}
	return at, nil
}

// add puts a node in its place; as in tar, a later one of the same name wins,
// but never over a directory.
func (t *Tree) add(names []string, full string, n *treeNode) error {
	if len(names) == 0 {
		return fmt.Errorf("%w: %q is no name for a file", cas.ErrCorrupt, full)
	}
	dir, err := t.dir(names[:len(names)-1], full)
	if err != nil {
		return err
	}
	last := names[len(names)-1]
	if old := dir.children[last]; old != nil && old.children != nil {
		return fmt.Errorf("%w: %q is a directory already", cas.ErrCorrupt, full)
	}
	if err := t.room(); err != nil {
		return err
	}
	dir.children[last] = n
	return nil
}

func (t *Tree) room() error {
	if t.count++; t.count > MaxTreeEntries {
		return fmt.Errorf("%w: more than %d entries in one tree", cas.ErrTooLarge, MaxTreeEntries)
	}
	return nil
}

// splitName takes a relative path apart. "." segments and slashes at the end
// are passed over, as tar writes them.
func splitName(name string) ([]string, error) {
	if len(name) > MaxPath {
		return nil, fmt.Errorf("%w: a path of %d bytes, at most %d", cas.ErrTooLarge, len(name), MaxPath)
	}
	if path.IsAbs(name) {
		return nil, fmt.Errorf("%w: %q is an absolute path; make it relative", cas.ErrCorrupt, name)
	}
	names := segments(name)
	if len(names) > MaxTreeDepth {
		return nil, fmt.Errorf("%w: %d directories inside each other, at most %d", cas.ErrTooLarge, len(names), MaxTreeDepth)
	}
	for _, s := range names {
		if err := cas.CheckName(s); err != nil {
			return nil, fmt.Errorf("path %q: %w", name, err)
		}
	}
	return names, nil
}

// leavesRoot reports whether a link's target, taken from the link's own place,
// climbs above the root.
func leavesRoot(names []string, target string) bool {
	if path.IsAbs(target) || target == "" {
		return true
	}
	depth := len(names) - 1
	for s := range strings.SplitSeq(target, "/") {
		switch s {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}

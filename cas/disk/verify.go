package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"inos.dev/edge/cas"
)

// VerifyConfig says what VerifyAll does. The zero value only counts.
type VerifyConfig struct {
	// Quarantine moves bad files to the quarantine; else nothing is changed.
	Quarantine bool
	// Progress is called after every directory, by one goroutine at a time.
	Progress func(VerifyStats)
	// Bad is called for every bad file, by one goroutine at a time.
	Bad func(BadFile)
}

// BadFile is a file whose bytes are not those of the chunk that it is named
// after.
type BadFile struct {
	Path string // in the data directory
	Err  error  // why; wraps cas.ErrCorrupt
}

// VerifyStats is what VerifyAll has seen.
type VerifyStats struct {
	Dirs    int   // directories done, of 256
	Chunks  int   // files hashed
	Bytes   int64 // in them
	Bad     int   // of them, wrong
	Foreign int   // names that are no chunks; ignored
}

// VerifyAll hashes every chunk of the data directory dir, which it locks
// meanwhile; ErrLocked says that a process uses it. It trusts neither the index
// nor any earlier check. Bad files are no error: see VerifyStats.Bad.
func VerifyAll(ctx context.Context, dir string, cfg VerifyConfig) (st VerifyStats, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return st, fmt.Errorf("disk: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	v, err := readFormat(root)
	if err != nil {
		return st, err
	}
	if v != format {
		return st, fmt.Errorf("disk: %w: %s has format %d, and this program verifies %d; start a node on it once, or use its program", ErrFormat, dir, v, format)
	}
	lock, err := lockDir(root)
	if err != nil {
		return st, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	x := &verifying{root: root, cfg: cfg}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range shardCount {
		g.Go(func() error { return x.dir(ctx, i) })
	}
	err = g.Wait()
	return x.st, err
}

type verifying struct {
	root *os.Root
	cfg  VerifyConfig

	mu sync.Mutex
	st VerifyStats // guarded by mu, which is held in the callbacks too
}

func (x *verifying) dir(ctx context.Context, i int) (err error) {
	sub, err := x.root.OpenRoot(path.Join(chunksName, shardName(i)))
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	defer func() { err = errors.Join(err, sub.Close()) }()
	names, err := readNames(sub)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := x.file(sub, i, name); err != nil {
			return err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.st.Dirs++
	if x.cfg.Progress != nil {
		x.cfg.Progress(x.st)
	}
	return nil
}

func (x *verifying) file(sub *os.Root, i int, name string) error {
	h, err := cas.ParseHash(name)
	info, statErr := sub.Lstat(name)
	if errors.Is(statErr, fs.ErrNotExist) {
		return nil
	}
	if err != nil || int(h[0]) != i || statErr == nil && !info.Mode().IsRegular() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.st.Foreign++
		return nil
	}
	wrong, size := statErr, int64(0)
	if wrong == nil {
		size = info.Size()
		wrong, err = hashNamed(sub, name, h)
		if err != nil {
			return err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.st.Chunks++
	x.st.Bytes += size
	if wrong == nil {
		return nil
	}
	x.st.Bad++
	if x.cfg.Bad != nil {
		x.cfg.Bad(BadFile{Path: chunkPath(h), Err: wrong})
	}
	if !x.cfg.Quarantine {
		return nil
	}
	if err := x.root.Rename(chunkPath(h), path.Join(quarantineName, name)); err != nil {
		return fmt.Errorf("disk: quarantine: %w", err)
	}
	return nil
}

// hashNamed returns why the file is not the chunk h, or nil.
func hashNamed(sub *os.Root, name string, h cas.Hash) (wrong, err error) {
	f, err := sub.Open(name)
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	wrong = hashFile(f, h)
	return wrong, f.Close()
}

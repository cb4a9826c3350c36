package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"inos.dev/edge/cas"
)

// Names in the data directory.
const (
	lockName       = "LOCK"
	formatName     = "FORMAT"
	chunksName     = "chunks"
	tempName       = "tmp"
	quarantineName = "quarantine"
	indexName      = "index"
	indexTempName  = "index.tmp"
)

const shardCount = 256

func shardName(i int) string { return fmt.Sprintf("%02x", i) }

// chunkPath returns the path of a chunk's file in the data directory.
func chunkPath(h cas.Hash) string {
	s := h.String()
	return path.Join(chunksName, s[:2], s)
}

// writeDurably replaces the file name in root: write temp, fsync, rename,
// fsync of the directory. On failure temp is removed.
func writeDurably(root *os.Root, name, temp string, write func(*os.File) error) error {
	f, err := root.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(temp, name)
	}
	if err != nil {
		return fmt.Errorf("disk: write %s: %w", name, errors.Join(err, root.Remove(temp)))
	}
	return syncDir(root)
}

// syncDir makes the names in a directory durable.
func syncDir(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("disk: fsync of directory %s: %w", root.Name(), err)
	}
	return nil
}

// makeDirs makes the directories that are missing. They are made durable even
// if none is missing: an earlier process may have died in between.
func makeDirs(root *os.Root) error {
	for _, name := range []string{tempName, quarantineName, chunksName} {
		if err := mkdir(root, name); err != nil {
			return err
		}
	}
	chunks, err := root.OpenRoot(chunksName)
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	defer func() { _ = chunks.Close() }() // a directory; its fsync tells
	for i := range shardCount {
		if err := mkdir(chunks, shardName(i)); err != nil {
			return err
		}
	}
	return errors.Join(syncDir(chunks), syncDir(root))
}

func mkdir(root *os.Root, name string) error {
	if err := root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("disk: %w", err)
	}
	return nil
}

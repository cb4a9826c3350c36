package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// format is the newest layout of the data directory that this package knows.
const format = 1

// migrations has, for each older format, what makes the next one of it. A
// migration may be cut off at any point and starts over then.
var migrations = map[int]func(*os.Root) error{}

// ErrFormat: the data directory is of a format that this program cannot use.
var ErrFormat = errors.New("format of the data directory")

// readFormat returns the format of the data directory, or 0 if it is new.
func readFormat(root *os.Root) (int, error) {
	text, err := root.ReadFile(formatName)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := root.Stat(chunksName); err == nil {
			return 0, fmt.Errorf("disk: %w: %s has chunks but no %s file; if it is a data directory, write %q into %s",
				ErrFormat, root.Name(), formatName, formatText(format), formatName)
		}
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("disk: %w", err)
	}
	var v int
	if _, err := fmt.Sscanf(string(text), "inos-data %d\n", &v); err != nil || formatText(v) != string(text) || v < 1 {
		return 0, fmt.Errorf("disk: %w: %s/%s is not understood; it should read %q", ErrFormat, root.Name(), formatName, formatText(format))
	}
	return v, nil
}

func formatText(v int) string { return fmt.Sprintf("inos-data %d\n", v) }

// ensureFormat makes a new data directory's FORMAT file, refuses a newer
// format and migrates an older one, step by step.
func ensureFormat(root *os.Root, newest int, steps map[int]func(*os.Root) error) error {
	v, err := readFormat(root)
	if err != nil {
		return err
	}
	if v > newest {
		return fmt.Errorf("disk: %w: %s has format %d, and this program knows %d; use a newer program", ErrFormat, root.Name(), v, newest)
	}
	if v == 0 {
		return writeFormat(root, newest)
	}
	for ; v < newest; v++ {
		step := steps[v]
		if step == nil {
			return fmt.Errorf("disk: %w: %s has format %d, which this program cannot migrate; use an older one in between", ErrFormat, root.Name(), v)
		}
		if err := step(root); err != nil {
			return fmt.Errorf("disk: migrate %s from format %d: %w", root.Name(), v, err)
		}
		if err := writeFormat(root, v+1); err != nil {
			return err
		}
	}
	return nil
}

func writeFormat(root *os.Root, v int) error {
	return writeDurably(root, formatName, formatName+".tmp", func(f *os.File) error {
		_, err := f.WriteString(formatText(v))
		return err
	})
}

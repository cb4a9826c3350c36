package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cmd/inos/folder"
)

type catCmd struct {
	clientFlags
	Objects []string `arg:"" name:"object" help:"HASH, HASH/path, or the URL of a file."`
	Range   string   `help:"Only these bytes of each file, the last one included: A-B, A- or, as --range=-N, the last N." env:"-" placeholder:"A-B"`
}

func (catCmd) Help() string {
	return "Each piece is verified before its first byte is written. If the whole turns out wrong, the exit code says so after the last byte.\n\n" + examples(
		"inos cat 5d9f…e1/README.md",
		"inos cat 5d9f…e1 | tar t",
		"inos cat 5d9f…e1 --range=-100",
	)
}

func (k *catCmd) Run(ctx context.Context, c *console) error {
	for _, object := range k.Objects {
		if err := k.one(ctx, c.out, object); err != nil {
			return err
		}
	}
	return nil
}

func (k *catCmd) one(ctx context.Context, w io.Writer, object string) error {
	t, err := k.resolve(object)
	if err != nil {
		return err
	}
	defer t.node.Close()
	found, err := t.look(ctx)
	if err != nil {
		return err
	}
	return writeFile(ctx, w, t, found, k.Range)
}

// writeFile writes a file, or a range of it, to w.
func writeFile(ctx context.Context, w io.Writer, t *target, found dag.Found, section string) error {
	if found.Manifest.Kind == cas.KindDirectory {
		return fmt.Errorf("%w: %s is a folder; name a file in it, or write it to a folder with inos get", errUsage, t.ref)
	}
	from, to, err := parseRange(section, found.Manifest.Size)
	if err != nil {
		return err
	}
	return folder.Copy(ctx, w, t.reader(), found.Manifest, from, to)
}

// parseRange reads A-B, A- or -N, and "" as everything. to is behind the last
// byte. As in HTTP, a range that ends behind the file ends with it, and one
// that begins there is an error.
func parseRange(text string, size int64) (from, to int64, err error) {
	if text == "" {
		return 0, size, nil
	}
	first, last, ok := strings.Cut(text, "-")
	wrong := fmt.Errorf("%w: --range %q; it is A-B, A- or -N", errUsage, text)
	if !ok || first == "" && last == "" {
		return 0, 0, wrong
	}
	a, b := int64(0), size-1
	if first != "" {
		if a, err = parseOffset(first); err != nil {
			return 0, 0, wrong
		}
	}
	if last != "" {
		if b, err = parseOffset(last); err != nil {
			return 0, 0, wrong
		}
	}
	if first == "" {
		a, b = max(0, size-b), size-1
	}
	if a > b || a >= size {
		return 0, 0, fmt.Errorf("%w: --range %s holds no byte of a file of %d bytes", errUsage, text, size)
	}
	return a, min(b+1, size), nil
}

func parseOffset(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 62)
	return int64(n), err
}

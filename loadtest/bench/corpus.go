package main

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// Real bytes: Go's own source and binaries, which every machine that builds
// the project has, and random ones. Where more is asked for than there is, the
// files come again with their letters exchanged, so that they compress as
// before and no chunk is the same.

// corpus knows where the real bytes are.
type corpus struct {
	goroot string
}

func newCorpus(ctx context.Context) (corpus, error) {
	root, err := output(ctx, "go", "env", "GOROOT")
	return corpus{strings.TrimSpace(root)}, err
}

// errFull ends a walk when enough was written.
var errFull = errors.New("enough bytes")

// source writes n bytes of a tar of GOROOT/src.
func (c corpus) source(w io.Writer, n int64) error {
	limited := &limitWriter{w, n}
	archive := tar.NewWriter(limited)
	for round := uint64(0); ; round++ {
		swap := letters(round)
		err := walk(filepath.Join(c.goroot, "src"), func(name string, data []byte) error {
			swap.apply(data)
			head := &tar.Header{Name: fmt.Sprintf("%d/%s", round, name), Mode: 0o644, Size: int64(len(data))}
			if err := archive.WriteHeader(head); err != nil {
				return err
			}
			_, err := archive.Write(data)
			return err
		})
		if limited.n == 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// binaries writes n bytes of the Go tool chain's own programs.
func (c corpus) binaries(w io.Writer, n int64) error {
	limited := &limitWriter{w, n}
	for round := uint64(0); ; round++ {
		swap := bytesButZero(round)
		for _, dir := range []string{"bin", "pkg/tool"} {
			err := walk(filepath.Join(c.goroot, dir), func(_ string, data []byte) error {
				swap.apply(data)
				_, err := limited.Write(data)
				return err
			})
			if limited.n == 0 {
				return nil
			}
			if err != nil {
				return err
			}
		}
	}
}

// random writes n bytes that do not compress: always the same ones.
func random(w io.Writer, n int64) error {
	_, err := io.CopyN(w, rand.NewChaCha8([32]byte{'b', 'e', 'n', 'c', 'h'}), n)
	return err
}

// mix writes a file of n bytes: in every 16 MiB, half source text, a quarter
// binaries, a quarter random bytes.
func (c corpus) mix(ctx context.Context, file string, n int64) error {
	text, bin := stream(ctx, func(w io.Writer) error { return c.source(w, n/2) }), stream(ctx, func(w io.Writer) error { return c.binaries(w, n/4) })
	defer text.Close()
	defer bin.Close()
	noise := rand.NewChaCha8([32]byte{'m', 'i', 'x'})
	return writeFile(file, func(w io.Writer) error {
		const block = 16 << 20
		for left := n; left > 0; left -= block {
			part := min(block, left)
			for _, from := range []io.Reader{io.LimitReader(text, part/2), io.LimitReader(bin, part/4), io.LimitReader(noise, part/4)} {
				if _, err := io.Copy(w, from); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// stream turns a writing function into a reader. Closing it ends the function.
func stream(ctx context.Context, write func(io.Writer) error) io.ReadCloser {
	r, w := io.Pipe()
	stop := context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	go func() {
		defer stop()
		w.CloseWithError(write(w))
	}()
	return r
}

// writeFile creates a file and lets write fill it.
func writeFile(name string, write func(io.Writer) error) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := write(w); err != nil {
		return err
	}
	return w.Flush()
}

// walk calls visit for each regular file below dir, in lexical order.
func walk(dir string, visit func(name string, data []byte) error) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return visit(name, data)
	})
}

// limitWriter takes n bytes and then answers errFull.
type limitWriter struct {
	w io.Writer
	n int64
}

func (l *limitWriter) Write(p []byte) (int, error) {
	if int64(len(p)) < l.n {
		n, err := l.w.Write(p)
		l.n -= int64(n)
		return n, err
	}
	n, err := l.w.Write(p[:l.n])
	l.n -= int64(n)
	return n, errors.Join(err, errFull)
}

// exchange is a permutation of the byte values.
type exchange [256]byte

func (x *exchange) apply(data []byte) {
	for i, b := range data {
		data[i] = x[b]
	}
}

// letters exchanges lower-case letters; round 0 changes nothing.
func letters(round uint64) *exchange { return permutation(round, 'a', 'z') }

// bytesButZero exchanges all bytes but 0; round 0 changes nothing.
func bytesButZero(round uint64) *exchange { return permutation(round, 1, 255) }

func permutation(round uint64, first, last int) *exchange {
	var x exchange
	for i := range x {
		x[i] = byte(i)
	}
	if round > 0 {
		part := x[first : last+1]
		rand.New(rand.NewPCG(round, 0)).Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
	}
	return &x
}

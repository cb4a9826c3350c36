package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// transfer is what moving some bytes in or out cost.
type transfer struct {
	What       string
	Bytes      int64
	Files      int
	Wall       time.Duration
	ServerCPU  time.Duration
	ClientCPU  time.Duration
	ServerPeak int64 // bytes resident
	ClientPeak int64
	Bars       []bar
}

// bar is something that a transfer has to show.
type bar struct {
	What string
	Met  bool
}

// PerSecond is bytes per second of wall time.
func (t transfer) PerSecond() float64 { return float64(t.Bytes) / t.Wall.Seconds() }

// FilesPerSecond is files per second of wall time.
func (t transfer) FilesPerSecond() float64 { return float64(t.Files) / t.Wall.Seconds() }

// Many says whether there is more than one file to count.
func (t transfer) Many() bool { return t.Files > 1 }

// The bars of the write path.
const (
	uploadPeakBar   = 200 * mib
	uploadShareBar  = 0.75
	smallPerSecond  = 1500
	smallestOfSmall = 1 * kib
	largestOfSmall  = 8 * kib
)

// bench is one write measurement's node and directory.
type bench struct {
	c      Config
	size   sizes
	dir    string
	out    io.Writer
	encode inProcess
	all    []transfer
}

// measureIngest puts and gets a large file and many small ones, each against
// a fresh node on all cores.
func measureIngest(ctx context.Context, c Config, size sizes, dir string, out io.Writer) (inProcess, []transfer, error) {
	b := &bench{c: c, size: size, dir: dir, out: out}
	if err := b.run(ctx); err != nil {
		return inProcess{}, nil, err
	}
	return b.encode, b.all, nil
}

func (b *bench) run(ctx context.Context) error {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	bytes, err := newCorpus(ctx)
	if err != nil {
		return err
	}
	large, small := filepath.Join(b.dir, "mix"), filepath.Join(b.dir, "small")
	if err := bytes.mix(ctx, large, b.size.mix); err != nil {
		return err
	}
	total, err := writeSmallFiles(ctx, bytes, small, b.size.small)
	if err != nil {
		return err
	}
	if b.encode, err = measureInProcess(ctx, large); err != nil {
		return err
	}
	if err := b.post(ctx, large); err != nil {
		return err
	}
	if err := b.putAndGet(ctx, large); err != nil {
		return err
	}
	return b.smallFiles(ctx, small, total)
}

// post streams the file into POST /object as curl does, and reads it back.
func (b *bench) post(ctx context.Context, file string) error {
	return b.withNode(ctx, "post", func(n *node) error {
		var object stored
		auth, err := n.authorization()
		if err != nil {
			return err
		}
		err = b.transfer(n, transfer{What: "POST /object", Bytes: b.size.mix, Files: 1}, func(t *transfer) error {
			out, u, err := command(ctx, "curl", "--silent", "--show-error", "--fail-with-body", "--noproxy", "*",
				"--header", auth, "--header", "Content-Type: application/octet-stream", "--request", "POST", "--upload-file", file, n.plain+"/object")
			if err != nil {
				return err
			}
			t.ClientCPU, t.ClientPeak = u.cpu, u.peak
			return json.Unmarshal([]byte(out), &object)
		})
		if err != nil {
			return err
		}
		last := &b.all[len(b.all)-1]
		last.Bars = []bar{
			{"≥ 75 % of what encoding allows", last.PerSecond() >= uploadShareBar*b.encode.Allowed()},
			{"node ≤ 200 MiB", last.ServerPeak <= uploadPeakBar},
		}
		for _, header := range []string{acceptBrotli, acceptIdentity} {
			err := b.transfer(n, transfer{What: "GET /object, " + header, Bytes: b.size.mix, Files: 1}, func(*transfer) error {
				_, err := curl(n.plain+"/object/"+object.Hash, header, 1, 0)(ctx)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// putAndGet moves the file in and out with the command, which verifies it.
func (b *bench) putAndGet(ctx context.Context, file string) error {
	return b.withNode(ctx, "put", func(n *node) error {
		return b.roundTrip(ctx, n, file, transfer{Bytes: b.size.mix, Files: 1}, "a file")
	})
}

// smallFiles does the same with a directory.
func (b *bench) smallFiles(ctx context.Context, dir string, total int64) error {
	return b.withNode(ctx, "many", func(n *node) error {
		first := len(b.all)
		what := fmt.Sprintf("a directory of %d files", b.size.small)
		if err := b.roundTrip(ctx, n, dir, transfer{Bytes: total, Files: b.size.small}, what); err != nil {
			return err
		}
		put := &b.all[first]
		put.Bars = []bar{{fmt.Sprintf("≥ %d files/s", smallPerSecond), put.FilesPerSecond() >= smallPerSecond}}
		return nil
	})
}

// roundTrip puts a path and gets it again.
func (b *bench) roundTrip(ctx context.Context, n *node, path string, size transfer, what string) error {
	var object stored
	t := size
	t.What = "inos put of " + what
	err := b.transfer(n, t, func(t *transfer) error {
		objects, u, err := n.put(ctx, path)
		if err != nil {
			return err
		}
		object, t.ClientCPU, t.ClientPeak = objects[0], u.cpu, u.peak
		return nil
	})
	if err != nil {
		return err
	}
	t = size
	t.What = "inos get of " + what
	return b.transfer(n, t, func(t *transfer) error {
		_, u, err := n.client(ctx, "get", "--quiet", "--output", filepath.Join(n.data, "..", "copy"), object.Hash)
		t.ClientCPU, t.ClientPeak = u.cpu, u.peak
		return err
	})
}

// withNode runs a step against a fresh node whose files go afterwards.
func (b *bench) withNode(ctx context.Context, name string, step func(*node) error) error {
	dir := filepath.Join(b.dir, name)
	n, err := startNode(ctx, b.c, dir, allCores, certificate{})
	if err != nil {
		return err
	}
	err = step(n)
	n.stop()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.RemoveAll(dir)
}

// transfer measures one step and notes it.
func (b *bench) transfer(n *node, t transfer, step func(*transfer) error) error {
	before, err := n.cpu()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := step(&t); err != nil {
		return fmt.Errorf("%s: %w", t.What, err)
	}
	t.Wall = time.Since(began)
	after, err := n.cpu()
	if err != nil {
		return err
	}
	t.ServerCPU = after - before
	if t.ServerPeak, err = peakRSS(n.cmd.Process.Pid); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "%-44s %8.1f MB/s  %6.2f s, node %6.2f s CPU, %d MiB\n", t.What,
		t.PerSecond()/1e6, t.Wall.Seconds(), t.ServerCPU.Seconds(), t.ServerPeak/mib)
	b.all = append(b.all, t)
	return nil
}

// writeSmallFiles fills a directory with pieces of source text of 1 to 8 KiB,
// 100 files to a folder, and returns their total size.
func writeSmallFiles(ctx context.Context, bytes corpus, dir string, files int) (total int64, err error) {
	text := stream(ctx, func(w io.Writer) error { return bytes.source(w, int64(files)*largestOfSmall) })
	defer text.Close()
	length := rand.New(rand.NewPCG(1, 1))
	for i := range files {
		folder := filepath.Join(dir, fmt.Sprintf("%03d", i/100))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return 0, err
		}
		n := smallestOfSmall + length.Int64N(largestOfSmall-smallestOfSmall+1)
		err := writeFile(filepath.Join(folder, fmt.Sprintf("%02d.txt", i%100)), func(w io.Writer) error {
			_, err := io.CopyN(w, text, n)
			return err
		})
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

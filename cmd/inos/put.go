package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cmd/inos/folder"
	"inos.dev/edge/cmd/inos/remote"
)

// Limits of one put. A piece in flight takes up to 2 MiB; small files count
// as an eighth of one, so that some hundred of them are under way at once and
// travel in large batches.
const (
	putInFlight = 32
	putPaths    = 4
)

type putCmd struct {
	clientFlags
	Paths     []string      `arg:"" name:"path" help:"Files, folders, or - for standard input."`
	MediaType string        `help:"Media type of the files that are named; default: by extension." env:"-" placeholder:"TYPE"`
	RF        int           `name:"rf" help:"Durable copies at least; default: the node's." env:"-" placeholder:"N"`
	MaxRF     int           `name:"max-rf" help:"Copies at most, however great the demand; default: the node's." env:"-" placeholder:"N"`
	Tier      string        `help:"Where the durable copies live: hot or cold; default: the node decides." enum:",hot,cold" default:"" env:"-" placeholder:"TIER"`
	Expires   time.Duration `help:"How long the objects are to be kept; default: for good." env:"-" placeholder:"DURATION"`
	SkipLinks bool          `help:"Leave out links that lead out of a folder, instead of failing." env:"-"`
	JSON      bool          `help:"Print one line of JSON per path." env:"-"`
	Quiet     bool          `short:"q" help:"No progress, no summary." env:"-"`
}

func (putCmd) Help() string {
	return "Only chunks that the node lacks are sent: a second run takes up where the first one ended.\n\n" + examples(
		"inos put video.mp4",
		"inos put --json site/ | jq -r .url",
		"tar c . | inos put - --media-type application/x-tar",
		"inos put --node https://edge.example --token-file token --expires 720h backup/",
	)
}

// putResult is one line of --json.
type putResult struct {
	Path      string `json:"path"`
	Hash      string `json:"hash"`
	Kind      string `json:"kind"`
	Size      int64  `json:"size"`
	Encoded   int64  `json:"encoded"`
	Chunks    int64  `json:"chunks"`
	MediaType string `json:"media_type,omitempty"`
	URL       string `json:"url"`
	Created   bool   `json:"created"` // false if the node had the object
}

// putting is one call of put.
type putting struct {
	*putCmd
	c      *console
	node   *remote.Node
	writer *dag.Writer
	adder  *folder.Adder
	policy remote.Policy
}

func (p *putCmd) Run(ctx context.Context, c *console) error {
	node, err := p.connect()
	if err != nil {
		return err
	}
	defer node.Close()
	bar := newProgress(ctx, c, "put", p.total(), p.Quiet)
	job := &putting{putCmd: p, c: c, node: node, policy: p.keep(time.Now())}
	job.adder = &folder.Adder{SkipLinks: p.SkipLinks, Progress: bar.add, Warn: func(text string) { fmt.Fprintln(c.err, "inos:", text) }}
	results := make([]putResult, len(p.Paths))
	stats, err := node.Upload(ctx, func(ctx context.Context, u *remote.Upload) error {
		job.writer = dag.NewWriter(u, dag.WriterConfig{InFlight: putInFlight})
		return job.all(ctx, results)
	})
	bar.end()
	err = errors.Join(job.print(results), err)
	if err == nil && !p.Quiet && !p.JSON {
		fmt.Fprintf(c.err, "sent %d chunks, %s; the node had %d, %s\n",
			stats.Sent, bytesText(stats.SentBytes), stats.Present, bytesText(stats.PresentBytes))
	}
	return err
}

// total is how many bytes there are to read, 0 if that cannot be said
// beforehand without looking at everything twice.
func (p *putCmd) total() (total int64) {
	for _, path := range p.Paths {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			return 0
		}
		total += info.Size()
	}
	return total
}

func (p *putCmd) keep(now time.Time) remote.Policy {
	policy := remote.Policy{RF: p.RF, MaxRF: p.MaxRF, Tier: remote.Tier(p.Tier)}
	if p.Expires > 0 {
		policy.Expires = now.Add(p.Expires)
	}
	return policy
}

// all puts a few paths at a time. A path that failed ends the others; those
// that are done by then keep their results.
func (p *putting) all(ctx context.Context, results []putResult) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(putPaths)
	for i, path := range p.Paths {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			o, err := p.write(ctx, path)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			done, created, err := p.node.Commit(ctx, o.Hash, objectName(path), p.policy)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			results[i] = putResult{Path: path, Hash: o.Hash.String(), Kind: done.Kind.String(), Size: done.Size,
				Encoded: done.Encoded, Chunks: done.Chunks, MediaType: done.MediaType, URL: p.node.URL(o.Hash), Created: created}
			return nil
		})
	}
	return g.Wait()
}

// objectName is what the node's list calls the object: a hint for people.
func objectName(path string) string {
	name := filepath.Base(path)
	if abs, err := filepath.Abs(path); err == nil && path != "-" {
		name = filepath.Base(abs)
	}
	if path == "-" || cas.CheckName(name) != nil {
		return ""
	}
	return name
}

// write makes the chunks of one path durable at the node.
func (p *putting) write(ctx context.Context, path string) (o dag.Object, err error) {
	if path == "-" {
		return p.writer.File(ctx, p.adder.Read(p.c.in), dag.MediaType(p.MediaType, ""))
	}
	info, err := os.Stat(path)
	if err != nil {
		return dag.Object{}, err
	}
	if info.IsDir() {
		tree := p.writer.Tree(ctx)
		if err := p.adder.Add(ctx, tree, path); err != nil {
			return dag.Object{}, tree.Abort(err)
		}
		return tree.Finish(ctx)
	}
	f, err := os.Open(path)
	if err != nil {
		return dag.Object{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return p.writer.File(ctx, p.adder.Read(f), dag.MediaType(p.MediaType, filepath.Base(path)))
}

// print writes the results that there are, in the order of the paths.
func (p *putting) print(results []putResult) error {
	for _, r := range results {
		if r.Hash == "" {
			continue
		}
		if p.JSON {
			if err := printJSON(p.c.out, r); err != nil {
				return err
			}
		} else if _, err := fmt.Fprintf(p.c.out, "%s  %s\n", r.Hash, r.URL); err != nil {
			return err
		}
	}
	return nil
}

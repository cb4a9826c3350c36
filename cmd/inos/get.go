package main

import (
	"context"
	"fmt"
	"path"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cmd/inos/folder"
)

type getCmd struct {
	clientFlags
	Object string `arg:"" help:"HASH, HASH/path, or the URL of an object."`
	Output string `short:"o" help:"File or folder to write, - for standard output; default: the last name of the path, or the hash." env:"-" placeholder:"PATH"`
	Range  string `help:"Only these bytes of a file, the last one included: A-B, A- or, as --range=-N, the last N." env:"-" placeholder:"A-B"`
	Force  bool   `help:"Replace a file that is there." env:"-"`
	Attest bool   `help:"Confirm to the node what came from it, by a receipt that is signed with this user's key."`
	Quiet  bool   `short:"q" help:"No progress." env:"-"`
}

func (getCmd) Help() string {
	return "Every chunk, every piece and the whole are verified. What was fetched before an interruption is kept beside the target (.part) and used by the next run.\n\n" + examples(
		"inos get 5d9f…e1",
		"inos get 5d9f…e1/docs/index.html -o index.html",
		"inos get http://edge.example/object/5d9f…e1 -o site",
		"inos get 5d9f…e1 --range 0-1023 -o -",
		"inos get 5d9f…e1 --attest",
	)
}

func (g *getCmd) Run(ctx context.Context, c *console) error {
	t, err := g.resolve(g.Object)
	if err != nil {
		return err
	}
	defer t.node.Close()
	if !g.Attest {
		return g.fetch(ctx, c, t)
	}
	return attested(ctx, c, t.node, g.Quiet, func() error { return g.fetch(ctx, c, t) })
}

func (g *getCmd) fetch(ctx context.Context, c *console, t *target) error {
	found, err := t.look(ctx)
	if err != nil {
		return err
	}
	if g.Output == "-" {
		return writeFile(ctx, c.out, t, found, g.Range)
	}
	bar := newProgress(ctx, c, "get", found.Manifest.Size, g.Quiet)
	defer bar.end()
	w := &folder.Writer{Reader: t.reader(), Source: t.source(), Replace: g.Force, Progress: bar.add}
	name := g.name(t, found)
	if g.Range != "" {
		return g.part(ctx, w, found, name)
	}
	return w.Object(ctx, found, name)
}

func (g *getCmd) part(ctx context.Context, w *folder.Writer, found dag.Found, name string) error {
	if found.Manifest.Kind == cas.KindDirectory {
		return fmt.Errorf("%w: a folder has no --range; name a file in it", errUsage)
	}
	from, to, err := parseRange(g.Range, found.Manifest.Size)
	if err != nil {
		return err
	}
	return w.Section(ctx, found, name, from, to)
}

// name is where the object goes.
func (g *getCmd) name(t *target, found dag.Found) string {
	switch {
	case g.Output != "":
		return g.Output
	case t.ref.Path != "":
		return path.Base(t.ref.Path)
	}
	return found.Hash.String()
}

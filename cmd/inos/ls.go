package main

import (
	"context"
	"fmt"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cmd/inos/remote"
)

type lsCmd struct {
	clientFlags
	Object string `arg:"" optional:"" help:"HASH, HASH/path, or the URL of a folder; without one, the node's objects."`
	Limit  int    `help:"List no more than so many; 0: all." default:"0" env:"-" placeholder:"N"`
	Long   bool   `short:"l" help:"Show sizes and kinds." env:"-"`
	JSON   bool   `help:"Print one line of JSON per object or entry." env:"-"`
}

func (lsCmd) Help() string {
	return examples(
		"inos ls --long",
		"inos ls 5d9f…e1/docs",
		"inos ls --json | jq -r 'select(.size > 1e9) | .hash'",
	)
}

// listedObject is one line of --json without an object.
type listedObject struct {
	Hash      string    `json:"hash"`
	Name      string    `json:"name,omitempty"`
	Kind      string    `json:"kind"`
	Size      int64     `json:"size"`
	Encoded   int64     `json:"encoded"`
	Chunks    int64     `json:"chunks"`
	MediaType string    `json:"media_type,omitempty"`
	Committed time.Time `json:"committed,omitzero"`
	Owner     string    `json:"owner,omitempty"` // the oldest one
	Owners    int       `json:"owners,omitempty"`
	URL       string    `json:"url"`
}

// listedEntry is one line of --json for a folder.
type listedEntry struct {
	Name   string `json:"name"`
	Mode   string `json:"mode"`
	Hash   string `json:"hash,omitempty"`
	Size   int64  `json:"size"`
	Target string `json:"target,omitempty"`
}

func entryLine(e cas.Entry) listedEntry {
	line := listedEntry{Name: e.Name, Mode: e.Mode.String(), Size: e.Size, Target: e.Target}
	if !e.Hash.IsZero() {
		line.Hash = e.Hash.String()
	}
	return line
}

func (l *lsCmd) Run(ctx context.Context, c *console) error {
	if l.Object == "" {
		return l.objects(ctx, c)
	}
	t, err := l.resolve(l.Object)
	if err != nil {
		return err
	}
	defer t.node.Close()
	found, err := t.look(ctx)
	if err != nil {
		return err
	}
	if found.Manifest.Kind != cas.KindDirectory {
		return fmt.Errorf("%w: %s is a file; inos stat tells of it", errUsage, t.ref)
	}
	count := 0
	for e, err := range dag.Entries(ctx, t.source(), found.Manifest, "") {
		if err != nil {
			return err
		}
		if count++; l.Limit > 0 && count > l.Limit {
			return nil
		}
		if err := l.entry(c, e); err != nil {
			return err
		}
	}
	return nil
}

func (l *lsCmd) entry(c *console, e cas.Entry) error {
	if l.JSON {
		return printJSON(c.out, entryLine(e))
	}
	name := e.Name
	switch e.Mode {
	case cas.ModeDirectory:
		name += "/"
	case cas.ModeSymlink:
		if l.Long {
			name += " -> " + fmt.Sprintf("%q", e.Target)
		}
	case cas.ModeExecutable, cas.ModeFile:
	}
	var err error
	if l.Long {
		_, err = fmt.Fprintf(c.out, "%-10s %14d  %-64s  %s\n", e.Mode, e.Size, entryLine(e).Hash, name)
	} else {
		_, err = fmt.Fprintln(c.out, name)
	}
	return err
}

func (l *lsCmd) objects(ctx context.Context, c *console) error {
	node, err := l.connect()
	if err != nil {
		return err
	}
	defer node.Close()
	count := 0
	for o, err := range node.Objects(ctx) {
		if err != nil {
			return err
		}
		if count++; l.Limit > 0 && count > l.Limit {
			return nil
		}
		if err := l.object(c, node, o); err != nil {
			return err
		}
	}
	return nil
}

func (l *lsCmd) object(c *console, node *remote.Node, o remote.Object) (err error) {
	switch {
	case l.JSON:
		return printJSON(c.out, listedObject{Hash: o.Hash.String(), Name: o.Name, Kind: o.Kind.String(), Size: o.Size, Encoded: o.Encoded,
			Chunks: o.Chunks, MediaType: o.MediaType, Committed: o.Committed,
			Owner: o.Owner, Owners: o.Owners, URL: node.URL(o.Hash)})
	case l.Long:
		_, err = fmt.Fprintf(c.out, "%s  %-9s %14d %14d  %s  %s\n", o.Hash, o.Kind, o.Size, o.Encoded, o.Committed.UTC().Format(time.DateTime), o.Name)
	default:
		_, err = fmt.Fprintln(c.out, o.Hash)
	}
	return err
}

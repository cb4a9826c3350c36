package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cmd/inos/remote"
)

type statCmd struct {
	clientFlags
	Object string `arg:"" help:"HASH, HASH/path, or the URL of an object."`
	JSON   bool   `help:"Print one line of JSON, with all links." env:"-"`
}

func (statCmd) Help() string {
	return examples(
		"inos stat 5d9f…e1",
		"inos stat --json 5d9f…e1 | jq -r '.links[].hash'",
	)
}

// objectStat is the line of --json.
type objectStat struct {
	Hash      string        `json:"hash"`
	Kind      string        `json:"kind"`
	Size      int64         `json:"size"`
	Encoded   int64         `json:"encoded"` // of a directory that is not on the node's list: 0
	Chunks    int64         `json:"chunks"`  // as encoded
	MediaType string        `json:"media_type,omitempty"`
	BLAKE3    string        `json:"blake3,omitempty"`
	SHA256    string        `json:"sha256,omitempty"`
	URL       string        `json:"url"`
	Listed    bool          `json:"listed"` // on the node's list of objects
	Policy    *policyStat   `json:"policy,omitempty"`
	Links     []linkStat    `json:"links"` // pieces of a file
	Entries   []listedEntry `json:"entries,omitempty"`
}

type linkStat struct {
	Hash    string `json:"hash"`
	Offset  int64  `json:"offset"`
	Size    int64  `json:"size"`
	Encoded int64  `json:"encoded"`
	BLAKE3  string `json:"blake3"`
}

type policyStat struct {
	RF      int       `json:"rf"`
	MaxRF   int       `json:"max_rf"`
	Tier    string    `json:"tier,omitempty"`
	Expires time.Time `json:"expires,omitzero"`
}

func (s *statCmd) Run(ctx context.Context, c *console) error {
	t, err := s.resolve(s.Object)
	if err != nil {
		return err
	}
	defer t.node.Close()
	found, err := t.look(ctx)
	if err != nil {
		return err
	}
	o, err := describe(ctx, t, found)
	if err != nil {
		return err
	}
	if s.JSON {
		if err := o.addLinks(ctx, t.source(), found.Manifest); err != nil {
			return err
		}
		return printJSON(c.out, o)
	}
	return o.print(c)
}

// describe tells of the object itself, and of its place on the node's list if
// it has one.
func describe(ctx context.Context, t *target, found dag.Found) (*objectStat, error) {
	m := found.Manifest
	o := &objectStat{Hash: found.Hash.String(), Kind: m.Kind.String(), Size: m.Size, URL: t.node.URL(found.Hash), Links: []linkStat{}}
	if m.Kind == cas.KindFile {
		o.Encoded, o.Chunks, o.MediaType = m.Encoded, m.Count, m.MediaType
		o.BLAKE3, o.SHA256 = m.Raw.String(), m.SHA256.String()
	}
	listed, err := t.node.Object(ctx, found.Hash)
	switch {
	case errors.Is(err, cas.ErrNotFound):
		return o, nil
	case err != nil:
		return nil, err
	}
	o.Listed, o.Encoded, o.Chunks = true, listed.Encoded, listed.Chunks
	o.Policy = policyOf(listed.Policy)
	return o, nil
}

func policyOf(p remote.Policy) *policyStat {
	return &policyStat{RF: p.RF, MaxRF: p.MaxRF, Tier: string(p.Tier), Expires: p.Expires}
}

// addLinks lists all pieces of a file, through its nodes, or all entries of a
// directory.
func (o *objectStat) addLinks(ctx context.Context, s dag.Source, m *cas.Manifest) error {
	if m.Kind == cas.KindDirectory {
		for e, err := range dag.Entries(ctx, s, m, "") {
			if err != nil {
				return err
			}
			o.Entries = append(o.Entries, entryLine(e))
		}
		return nil
	}
	for span, err := range dag.Spans(ctx, s, m, dag.At(0)) {
		if err != nil {
			return err
		}
		o.Links = append(o.Links, linkStat{Hash: span.Hash.String(), Offset: span.Offset, Size: span.Size, Encoded: span.Encoded, BLAKE3: span.Raw.String()})
	}
	return nil
}

// print writes the object for people.
func (o *objectStat) print(c *console) error {
	rows := [][2]string{
		{"hash", o.Hash}, {"kind", o.Kind}, {"size", fmt.Sprintf("%d (%s)", o.Size, bytesText(o.Size))},
	}
	if o.Chunks > 0 {
		rows = append(rows, [2]string{"stored", fmt.Sprintf("%d (%s) in %d chunks", o.Encoded, bytesText(o.Encoded), o.Chunks)})
	}
	if o.Kind == cas.KindFile.String() {
		rows = append(rows, [2]string{"media type", o.MediaType}, [2]string{"blake3", o.BLAKE3}, [2]string{"sha256", o.SHA256})
	}
	if p := o.Policy; p != nil && *p != (policyStat{}) {
		rows = append(rows, [2]string{"policy", fmt.Sprintf("rf %d, at most %d, tier %q", p.RF, p.MaxRF, p.Tier)})
		if !p.Expires.IsZero() {
			rows = append(rows, [2]string{"expires", p.Expires.UTC().Format(time.RFC3339)})
		}
	}
	return printRows(c.out, append(rows, [2]string{"url", o.URL}))
}

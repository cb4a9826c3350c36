package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"inos.dev/edge/cmd/inos/remote"
)

// collectPath is where the admin listener of a node takes a POST that starts a
// collection, and answers a collection in JSON when it is done.
const collectPath = "/gc"

// collection is what one collection did.
type collection struct {
	Objects int   `json:"objects"` // on the list
	Expired int   `json:"expired"` // taken off the list, since their time was over
	Live    int   `json:"live"`    // chunks that the objects hold
	Chunks  int   `json:"chunks"`  // chunks deleted
	Bytes   int64 `json:"bytes"`   // their stored bytes
}

type gcCmd struct {
	adminFlag
	JSON bool `help:"Print one line of JSON." env:"-"`
}

// adminFlag is where a node's admin listener is.
type adminFlag struct {
	Admin string `help:"Address of the node's admin listener: metrics, profiles, collection." default:"127.0.0.1:8081"`
}

func (gcCmd) Help() string {
	return "A node collects by itself from time to time; this makes it do so now. Chunks that were sent or asked for lately stay.\n\n" + examples(
		"inos gc",
		"inos gc --admin 127.0.0.1:8081 --json",
	)
}

func (g *gcCmd) Run(ctx context.Context, c *console) error {
	done, err := g.collect(ctx)
	if err != nil {
		return err
	}
	if g.JSON {
		return printJSON(c.out, done)
	}
	_, err = fmt.Fprintf(c.out, "removed %d chunks, %s, and %d expired objects; %d objects hold %d chunks\n",
		done.Chunks, bytesText(done.Bytes), done.Expired, done.Objects, done.Live)
	return err
}

// collect asks the node and waits as long as it takes.
func (g *gcCmd) collect(ctx context.Context) (done collection, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+g.Admin+collectPath, nil)
	if err != nil {
		return done, fmt.Errorf("%w: --admin %s: %w", errUsage, g.Admin, err)
	}
	resp, err := (&http.Client{}).Do(req)
	if err != nil {
		return done, fmt.Errorf("%w: its admin listener: %w", remote.ErrUnavailable, err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return done, fmt.Errorf("%w: the answer broke off: %w", remote.ErrUnavailable, err)
	}
	if resp.StatusCode != http.StatusOK {
		return done, fmt.Errorf("the admin listener answered %s: %.200q", resp.Status, body)
	}
	return done, json.Unmarshal(body, &done)
}

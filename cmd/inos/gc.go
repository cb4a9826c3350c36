package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"

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
	Admin string `help:"Address for metrics, and with the right admin profiles and collection; empty for none." default:"127.0.0.1:8081"`
	tokenFlags
	Grace   duration `help:"How long a chunk that no object names lives." default:"24h"`
	Offline bool     `help:"Work on the data directory itself, while no node uses it." env:"-"`
	JSON    bool     `help:"Print one line of JSON." env:"-"`
}

func (gcCmd) Help() string {
	return "A node collects by itself from time to time; this makes the one behind --admin do so now. Chunks that were sent or asked for lately stay.\n\n" + examples(
		"inos gc",
		"inos gc --admin https://admin.edge.example --token-file admin.token --json",
		"inos gc --offline --data /var/lib/inos",
	)
}

func (g *gcCmd) Run(ctx context.Context, c *console) error {
	collect := g.ask
	if g.Offline {
		collect = g.offline
	}
	done, err := collect(ctx, c)
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

// offline opens as much of a node as a collection needs.
func (g *gcCmd) offline(ctx context.Context, c *console) (done collection, err error) {
	if _, err := issuer(g.Data); err != nil {
		return done, err // and no data directory is made by mistake
	}
	log := slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	n := &node{cfg: &serveCmd{Data: g.Data, Grace: g.Grace}, log: log}
	defer func() { err = errors.Join(err, n.close()) }()
	for _, open := range []func() error{n.openStore, n.openCatalog, n.openFills, n.openContent, n.openUploads} {
		if err := open(); err != nil {
			return done, err
		}
	}
	collected, err := n.content.Collect(ctx)
	return collection(collected), err
}

// ask lets the node do it and waits as long as it takes.
func (g *gcCmd) ask(ctx context.Context, _ *console) (done collection, err error) {
	address := g.address()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address+collectPath, nil)
	if err != nil || g.Admin == "" || req.URL.Host == "" {
		return done, fmt.Errorf("%w: --admin %q is no address", errUsage, g.Admin)
	}
	token, err := g.token(onLoopback(address))
	if err != nil {
		return done, err
	}
	if token != "" {
		if req.URL.Scheme != "https" && !onLoopback(address) {
			return done, fmt.Errorf("%w: the token would go to %s in clear text; name an https:// address with --admin, or run inos gc on that machine", errUsage, g.Admin)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := (&http.Client{}).Do(req)
	if err != nil {
		return done, fmt.Errorf("%w: its admin listener: %w", remote.ErrUnavailable, err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	switch {
	case err != nil:
		return done, fmt.Errorf("%w: the answer broke off: %w", remote.ErrUnavailable, err)
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		return done, fmt.Errorf("%w: a collection needs the right admin", remote.ErrNoRight)
	case resp.StatusCode != http.StatusOK:
		return done, fmt.Errorf("the admin listener answered %s: %.200q", resp.Status, body)
	}
	return done, json.Unmarshal(body, &done)
}

// address is the URL of the admin listener. An address to listen on names all
// interfaces or one; from here, "all" is this machine.
func (g *gcCmd) address() string {
	if strings.Contains(g.Admin, "://") {
		return strings.TrimRight(g.Admin, "/")
	}
	host, port, err := net.SplitHostPort(g.Admin)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return "http://" + net.JoinHostPort("localhost", port)
	}
	return "http://" + g.Admin
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"inos.dev/edge/cas"
)

// node is a running bin/inos and the directory that it keeps.
type node struct {
	*process
	bin        string
	plain, tls string // base URLs
	data       string
}

// startNode runs a node over dir/data. On a core it gets one processor, as
// nginx gets one worker; on allCores it takes what it finds. It has the flags of
// the node as it comes, and those given.
func startNode(ctx context.Context, c Config, dir string, core int, cert certificate, flags ...string) (*node, error) {
	n := &node{bin: c.Inos, data: filepath.Join(dir, "data")}
	var addr [3]string
	for i := range addr {
		var err error
		if addr[i], err = freeAddress(ctx); err != nil {
			return nil, err
		}
	}
	n.plain, n.tls = "http://"+addr[0], "https://"+addr[2]
	argv := append([]string{c.Inos, "serve", "--data", n.data, "--listen", addr[0], "--admin", addr[1]}, flags...)
	if cert.cert != "" {
		argv = append(argv, "--tls-listen", addr[2], "--tls-cert", cert.cert, "--tls-key", cert.key)
	}
	var env []string
	if core != allCores {
		env = []string{"GOMAXPROCS=1"}
	}
	var err error
	if n.process, err = start(ctx, "inos", core, env, argv...); err != nil {
		return nil, err
	}
	if err := n.ready(ctx, n.plain+"/health/ready"); err != nil {
		n.stop()
		return nil, err
	}
	return n, nil
}

// stored is what `inos put --json` says of one path.
type stored struct {
	Hash    string `json:"hash"`
	Size    int64  `json:"size"`
	Encoded int64  `json:"encoded"`
	Chunks  int64  `json:"chunks"`
	URL     string `json:"url"`
}

// link is one chunk of an object, as `inos stat --json` lists it.
type link struct {
	Hash    cas.Hash `json:"hash"`
	Size    int64    `json:"size"`
	Encoded int64    `json:"encoded"`
}

// put stores paths and returns what was stored for each, with what the client
// itself cost.
func (n *node) put(ctx context.Context, paths ...string) ([]stored, usage, error) {
	out, u, err := n.client(ctx, "put", append([]string{"--json", "--quiet"}, paths...)...)
	if err != nil {
		return nil, usage{}, err
	}
	var all []stored
	for dec := json.NewDecoder(strings.NewReader(out)); ; {
		var s stored
		switch err := dec.Decode(&s); {
		case errors.Is(err, io.EOF) && len(all) == len(paths):
			return all, u, nil
		case err != nil:
			return nil, usage{}, fmt.Errorf("inos put printed %d of %d lines: %w", len(all), len(paths), err)
		}
		all = append(all, s)
	}
}

// links lists the chunks of an object.
func (n *node) links(ctx context.Context, object string) ([]link, error) {
	out, _, err := n.client(ctx, "stat", "--json", object)
	if err != nil {
		return nil, err
	}
	var s struct {
		Links []link `json:"links"`
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return nil, fmt.Errorf("inos stat %s: %w", object, err)
	}
	return s.Links, nil
}

// client runs a verb of bin/inos against the node, with the operator's token
// out of its data directory.
func (n *node) client(ctx context.Context, verb string, args ...string) (string, usage, error) {
	return command(ctx, append([]string{n.bin, verb, "--node", n.plain, "--data", n.data}, args...)...)
}

// authorization is the header that writes need.
func (n *node) authorization() (string, error) {
	token, err := os.ReadFile(filepath.Join(n.data, "token"))
	return "Authorization: Bearer " + strings.TrimSpace(string(token)), err
}

// fetch reads a whole answer into memory, as the given Accept-Encoding has it.
func fetch(ctx context.Context, url, header string) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	if name, value, ok := strings.Cut(header, ": "); ok {
		req.Header.Set(name, value)
	}
	resp, err := httpClient().Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s: %s: %.200s", url, resp.Status, body)
	}
	return body, resp.Header, nil
}

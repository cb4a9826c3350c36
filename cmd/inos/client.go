package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"

	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cmd/inos/remote"
	"inos.dev/edge/gateway/auth"
)

// clientFlags is what every command has that talks to a node.
type clientFlags struct {
	Node string `help:"Address of the node that client commands talk to." default:"http://127.0.0.1:8080"`
	tokenFlags
}

// tokenFlags say which token to send.
type tokenFlags struct {
	TokenFile string `help:"File with the token that client commands send. INOS_TOKEN may hold the token itself; for a node on this machine, the one in its --data is the default." type:"path" placeholder:"FILE"`
	dataFlag
}

// dataFlag names a data directory.
type dataFlag struct {
	Data string `help:"Data directory." default:"data" type:"path"`
}

// tokenVariable holds a token. There is no flag for it: other users of the
// machine see command lines.
const tokenVariable = "INOS_TOKEN"

// connect returns the node that --node names.
func (f *clientFlags) connect() (*remote.Node, error) {
	token, err := f.token(onLoopback(f.Node))
	if err != nil {
		return nil, err
	}
	return dial(remote.Config{Node: f.Node, Token: token, TokenFound: !f.named()})
}

func dial(cfg remote.Config) (*remote.Node, error) {
	cfg.UserAgent = "inos/" + version
	n, err := remote.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return n, nil
}

// token finds the token to send: the file of --token-file, INOS_TOKEN, or for a
// node on this machine the one that it left in its data directory, if this user
// may read it. "" is none.
func (f *tokenFlags) token(here bool) (string, error) {
	if f.TokenFile != "" {
		text, err := os.ReadFile(f.TokenFile)
		if err != nil {
			return "", fmt.Errorf("token file: %w", err)
		}
		return checkToken(string(text), f.TokenFile)
	}
	if text := os.Getenv(tokenVariable); text != "" {
		return checkToken(text, tokenVariable)
	}
	if !here {
		return "", nil
	}
	token, err := auth.ReadOperatorToken(f.Data)
	switch {
	case err == nil:
		return checkToken(token.Reveal(), f.Data)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return "", nil // reading needs none, and writing says so
	}
	return "", err
}

// named reports whether somebody said which token to send. One that is found in
// the data directory may be that of another node.
func (f *tokenFlags) named() bool { return f.TokenFile != "" || os.Getenv(tokenVariable) != "" }

// checkToken refuses what cannot be a header. The error does not repeat it.
func checkToken(text, where string) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%w: %s holds no token", errUsage, where)
	}
	return text, nil
}

// onLoopback reports whether an address is one of this machine's own.
func onLoopback(node string) bool {
	u, err := url.Parse(node)
	if err != nil {
		return false
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// target is an object that a command line names, and the node to ask.
type target struct {
	ref  remote.Ref
	node *remote.Node
}

// resolve reads HASH, HASH/path or a URL. A URL names its node, too; that one
// gets no token unless it is the node of --node.
func (f *clientFlags) resolve(text string) (*target, error) {
	ref, err := remote.ParseRef(text)
	if err != nil {
		return nil, err
	}
	var node *remote.Node
	if ref.Node == "" || ref.Node == strings.TrimRight(f.Node, "/") {
		node, err = f.connect()
	} else {
		node, err = dial(remote.Config{Node: ref.Node})
	}
	if err != nil {
		return nil, err
	}
	return &target{ref, node}, nil
}

// look walks to what the target's path leads to.
func (t *target) look(ctx context.Context) (dag.Found, error) {
	found, err := dag.Lookup(ctx, t.source(), t.ref.Hash, t.ref.Path)
	if err != nil {
		return dag.Found{}, fmt.Errorf("%s: %w", t.ref, err)
	}
	return found, nil
}

func (t *target) source() dag.Source { return dag.Manifests{Getter: t.node} }

// reader reads pieces from the target's node.
func (t *target) reader() *remote.Reader { return remote.NewReader(t.node, t.source(), 0) }

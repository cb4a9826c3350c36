package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"inos.dev/edge/gateway/auth"
)

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Make a token and print it."`
	Show   tokenShowCmd   `cmd:"" help:"Tell whose token one is and what it may do, without printing it."`
}

type tokenCreateCmd struct {
	dataFlag
	Subject string        `help:"Who the token is for: the owner of what is uploaded with it." required:"" env:"-" placeholder:"NAME"`
	Rights  string        `help:"What it allows: read, write, admin, with commas between them." default:"read,write" env:"-"`
	Expires time.Duration `help:"How long it holds." default:"24h" env:"-"`
}

func (tokenCreateCmd) Help() string {
	return examples(
		"inos token create --data data --subject ci --rights write --expires 720h > ci.token",
		`curl -H "Authorization: Bearer $(inos token create --subject me)" --data-binary @file http://127.0.0.1:8080/object`,
	)
}

func (t *tokenCreateCmd) Run(c *console) error {
	rights, err := auth.ParseRights(t.Rights)
	if err != nil {
		return fmt.Errorf("%w: --rights: %w", errUsage, err)
	}
	if t.Expires <= 0 {
		return fmt.Errorf("%w: --expires has to be more than 0", errUsage)
	}
	key, err := issuer(t.Data)
	if err != nil {
		return err
	}
	now := time.Now()
	token, err := key.Issue(t.Subject, rights, now, now.Add(t.Expires))
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	_, err = fmt.Fprintln(c.out, token.Reveal())
	return err
}

// issuer opens the issuer key of a node's data directory; it makes none in
// other places.
func issuer(dir string) (auth.SecretKey, error) {
	if _, err := os.Stat(filepath.Join(dir, auth.KeyFile)); errors.Is(err, fs.ErrNotExist) {
		return auth.SecretKey{}, fmt.Errorf("%s is no node's data directory: %w; start inos serve --data %s once, or name another with --data", dir, err, dir)
	}
	return auth.OpenIssuer(dir)
}

type tokenShowCmd struct {
	tokenFlags
	JSON bool `help:"Print one line of JSON." env:"-"`
}

func (tokenShowCmd) Help() string {
	return "The token is the one that client commands would send.\n\n" + examples(
		"inos token show",
		"inos token show --token-file ci.token --data data",
	)
}

// tokenInfo is the line of --json.
type tokenInfo struct {
	Subject  string    `json:"subject"`
	Rights   string    `json:"rights"`
	ID       string    `json:"id"`
	Operator bool      `json:"operator"`
	Expires  time.Time `json:"expires"`
}

func (t *tokenShowCmd) Run(c *console) error {
	text, err := t.token(true)
	if err != nil {
		return err
	}
	if text == "" {
		return fmt.Errorf("there is no token: name one with --token-file, INOS_TOKEN or --data: %w", fs.ErrNotExist)
	}
	key, err := issuer(t.Data)
	if err != nil {
		return err
	}
	verifier, err := auth.NewVerifier(auth.Config{Own: key.Public()})
	if err != nil {
		return err
	}
	id, err := verifier.Verify(auth.Token(text), time.Now())
	if err != nil {
		return fmt.Errorf("%s did not issue it, or it does not hold any more: %w", t.Data, err)
	}
	if t.JSON {
		return printJSON(c.out, tokenInfo{id.Subject, id.Rights.String(), id.TokenID, id.Operator, id.Expires.UTC()})
	}
	_, err = fmt.Fprintf(c.out, "subject  %s\nrights   %s\nid       %s\nexpires  %s\n", id.Subject, id.Rights, id.TokenID, id.Expires.UTC().Format(time.RFC3339))
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"inos.dev/edge/cmd/inos/remote"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/ledger"
)

// errAudit: the books do not add up.
var errAudit = errors.New("the books do not add up")

type creditsAuditCmd struct {
	clientFlags
	Offline bool `help:"Read the data directory itself, while no node uses it; nothing is changed." env:"-"`
	JSON    bool `help:"Print one line of JSON; amounts in micro-credits." env:"-"`
}

func (creditsAuditCmd) Help() string {
	return "The whole journal is read again: its chain of hashes, and what its entries add up to, which has to be what the balances say. The exit code is 1 if it is not. A running node needs the right admin.\n\n" + examples(
		"inos credits audit",
		"inos credits audit --json | jq .ok",
		"inos credits audit --offline --data /var/lib/inos",
	)
}

// auditResult is the line of --json.
type auditResult struct {
	OK       bool          `json:"ok"`
	Problems []string      `json:"problems"`
	Records  uint64        `json:"records"`
	Entries  uint64        `json:"entries"`
	Accounts int64         `json:"accounts"`
	Sum      credit.Amount `json:"sum"`
	Leased   int64         `json:"leased_bytes"`
	Head     string        `json:"head"`
}

func (k *creditsAuditCmd) Run(ctx context.Context, c *console) error {
	audit := k.ask
	if k.Offline {
		audit = k.offline
	}
	r, err := audit(ctx)
	if err != nil {
		return err
	}
	if err := k.print(c, r); err != nil {
		return err
	}
	if !r.OK {
		return fmt.Errorf("%w: %d problems", errAudit, len(r.Problems))
	}
	return nil
}

// ask lets the node do it.
func (k *creditsAuditCmd) ask(ctx context.Context) (remote.Audit, error) {
	node, err := k.connect()
	if err != nil {
		return remote.Audit{}, err
	}
	defer node.Close()
	return node.Audit(ctx)
}

func (k *creditsAuditCmd) offline(ctx context.Context) (remote.Audit, error) {
	r, err := ledger.AuditDir(ctx, filepath.Join(k.Data, creditDir), nil)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return remote.Audit{}, fmt.Errorf("%s has no books: %w; name a node's data directory with --data", k.Data, err)
	case errors.Is(err, ledger.ErrInUse):
		return remote.Audit{}, fmt.Errorf("%s: %w, or leave --offline out and ask the node", k.Data, err)
	case err != nil:
		return remote.Audit{}, fmt.Errorf("%s: %w", k.Data, err)
	}
	return remote.Audit{
		OK: r.OK, Problems: r.Problems, Records: r.Records, Entries: r.Entries, Accounts: int64(r.Accounts),
		Sum: r.Sum, Leased: r.Leased, Head: r.Head.String(),
	}, nil
}

func (k *creditsAuditCmd) print(c *console, r remote.Audit) error {
	if k.JSON {
		if r.Problems == nil {
			r.Problems = []string{}
		}
		return printJSON(c.out, auditResult(r))
	}
	for _, p := range r.Problems {
		if _, err := fmt.Fprintln(c.out, p); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(c.out, "%d records, %d entries, %d accounts: the sum is %s, %s are leased\nhead %s\n",
		r.Records, r.Entries, r.Accounts, r.Sum, bytesText(r.Leased), r.Head)
	return err
}

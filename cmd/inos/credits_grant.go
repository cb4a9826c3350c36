package main

import (
	"context"
	"fmt"

	"inos.dev/edge/gateway/credit"
)

type creditsGrantCmd struct {
	clientFlags
	onceFlag
	Account string `arg:"" help:"The account that gets them, or the subject of a token alone."`
	Credits amount `arg:"" help:"Credits, with at most six decimals."`
	Note    string `help:"Why, for the statement." env:"-" placeholder:"TEXT"`
	JSON    bool   `help:"Print one line of JSON; amounts in micro-credits." env:"-"`
}

func (creditsGrantCmd) Help() string {
	return "Credits come from the treasury, whose balance is minus what was issued. This needs the right admin.\n\n" + examples(
		"inos credits grant ci 100",
		"inos credits grant user:ci 0.25 --note 'bug bounty'",
		"inos credits grant ci 100 --once allowance-ci-2026-01",
	)
}

// grantResult is the line of --json.
type grantResult struct {
	accountLine
	Again bool `json:"again"` // it was made before, and nothing now
}

func (k *creditsGrantCmd) Run(ctx context.Context, c *console) error {
	to, err := parseAccount(k.Account)
	if err != nil {
		return err
	}
	if to == "" || k.Credits <= 0 {
		return fmt.Errorf("%w: name an account, and more than 0 credits", errUsage)
	}
	node, err := k.connect()
	if err != nil {
		return err
	}
	defer node.Close()
	a, again, err := node.Grant(ctx, to, credit.Amount(k.Credits), k.Note, onceKey(k.Once))
	if err != nil {
		return err
	}
	if k.JSON {
		return printJSON(c.out, grantResult{accountOf(a), again})
	}
	if again {
		fmt.Fprintf(c.err, "the grant %s was made before; nothing was issued\n", k.Once)
	}
	return printAccount(c, a)
}

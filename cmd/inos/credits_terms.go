package main

import (
	"context"
	"fmt"

	"inos.dev/edge/cmd/inos/remote"
	"inos.dev/edge/gateway/credit"
)

type creditsTermsCmd struct {
	clientFlags
	Account   string       `arg:"" optional:"" help:"The account, or the subject of a token alone; without one, that of the token."`
	WhenEmpty credit.Empty `help:"What happens to reads when it runs dry: serve, throttle or refuse." enum:",serve,throttle,refuse" default:"" env:"-" placeholder:"WHAT"`
	Debt      *amount      `help:"How far below zero it may go. Needs the right admin." env:"-" placeholder:"CREDITS"`
	JSON      bool         `help:"Print one line of JSON; amounts in micro-credits." env:"-"`
}

func (creditsTermsCmd) Help() string {
	return "Reads of what an account published are at its cost. When it has run dry, they are served on debt and then at the node's cost (serve), slowly on debt (throttle), or not at all (refuse).\n\n" + examples(
		"inos credits terms",
		"inos credits terms --when-empty refuse",
		"inos credits terms ci --debt 50",
	)
}

func (k *creditsTermsCmd) Run(ctx context.Context, c *console) error {
	a, err := k.ask(ctx)
	if err != nil {
		return err
	}
	if k.JSON {
		return printJSON(c.out, accountOf(a))
	}
	return printAccount(c, a)
}

func (k *creditsTermsCmd) ask(ctx context.Context) (remote.Account, error) {
	name, err := parseAccount(k.Account)
	if err != nil {
		return remote.Account{}, err
	}
	node, err := k.connect()
	if err != nil {
		return remote.Account{}, err
	}
	defer node.Close()
	if k.WhenEmpty == "" && k.Debt == nil {
		return node.Balance(ctx, name)
	}
	return node.SetTerms(ctx, name, k.WhenEmpty, (*credit.Amount)(k.Debt))
}

type creditsPricesCmd struct {
	clientFlags
	JSON bool `help:"Print one line of JSON; amounts in micro-credits." env:"-"`
}

func (creditsPricesCmd) Help() string {
	return examples("inos credits prices", "inos credits prices --json | jq .serve_gib")
}

// priceLine is the line of --json: micro-credits for 2^30 bytes.
type priceLine struct {
	Serve  credit.Price `json:"serve_gib"`
	Retain credit.Price `json:"retain_gib_hour"`
}

func (k *creditsPricesCmd) Run(ctx context.Context, c *console) error {
	node, err := k.connect()
	if err != nil {
		return err
	}
	defer node.Close()
	serve, retain, err := node.Prices(ctx)
	if err != nil {
		return err
	}
	if k.JSON {
		return printJSON(c.out, priceLine{serve, retain})
	}
	return printRows(c.out, [][2]string{
		{"serving", fmt.Sprintf("%s credits for a GiB", credit.Amount(serve))},
		{"keeping", fmt.Sprintf("%s credits for a GiB and hour, and holder", credit.Amount(retain))},
	})
}

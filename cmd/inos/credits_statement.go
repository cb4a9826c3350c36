package main

import (
	"context"
	"fmt"
	"time"

	"inos.dev/edge/cmd/inos/remote"
	"inos.dev/edge/gateway/credit"
)

type creditsStatementCmd struct {
	clientFlags
	Account string `arg:"" optional:"" help:"The account, or the subject of a token alone; without one, that of the token."`
	Limit   int    `help:"List no more than so many lines; 0: all." default:"100" env:"-" placeholder:"N"`
	Before  string `help:"Go on where a statement ended that said so." env:"-" placeholder:"CURSOR"`
	JSON    bool   `help:"Print one line of JSON per line; amounts in micro-credits." env:"-"`
}

func (creditsStatementCmd) Help() string {
	return "Bytes that readers confirmed by receipts are attested; the others rest on the node's word.\n\n" + examples(
		"inos credits statement",
		"inos credits statement ci --limit 20",
		"inos credits statement --limit 0 --json | jq -s 'map(select(.kind == \"serve\").bytes) | add'",
	)
}

// statementLine is one line of --json.
type statementLine struct {
	Seq     uint64         `json:"seq"`
	Time    time.Time      `json:"time"`
	Kind    string         `json:"kind"`
	From    credit.Account `json:"from"`
	To      credit.Account `json:"to,omitempty"`
	Amount  credit.Amount  `json:"amount"`
	Bytes   int64          `json:"bytes"`
	Object  string         `json:"object,omitempty"`
	Ref     string         `json:"ref,omitempty"`
	Balance credit.Amount  `json:"balance"`
}

// statementPage is how many lines are asked for at once.
const statementPage = 1000

func (k *creditsStatementCmd) Run(ctx context.Context, c *console) error {
	name, err := parseAccount(k.Account)
	if err != nil {
		return err
	}
	if k.Limit < 0 {
		return fmt.Errorf("%w: --limit is not negative", errUsage)
	}
	node, err := k.connect()
	if err != nil {
		return err
	}
	defer node.Close()
	left, cursor := k.Limit, k.Before
	for {
		page := statementPage
		if k.Limit > 0 {
			page = min(page, left)
		}
		s, err := node.Statement(ctx, name, cursor, page)
		if err != nil {
			return err
		}
		if err := k.print(c, s); err != nil {
			return err
		}
		left, cursor = left-len(s.Lines), s.Next
		if cursor == "" || k.Limit > 0 && left <= 0 {
			return k.end(c, s)
		}
	}
}

func (k *creditsStatementCmd) print(c *console, s remote.Statement) error {
	for _, l := range s.Lines {
		line := statementLine{Seq: l.Seq, Time: l.Time, Kind: l.Kind, From: l.From, To: l.To, Amount: l.Amount, Bytes: l.Bytes, Ref: l.Ref, Balance: l.Balance}
		if !l.Object.IsZero() {
			line.Object = l.Object.String()
		}
		if err := k.line(c, s.Account, line); err != nil {
			return err
		}
	}
	return nil
}

func (k *creditsStatementCmd) line(c *console, account credit.Account, l statementLine) error {
	if k.JSON {
		return printJSON(c.out, l)
	}
	sum := l.Amount
	if l.From == account {
		sum = -sum
	}
	about := l.Ref
	if l.Object != "" {
		about = l.Object
	}
	_, err := fmt.Fprintf(c.out, "%s  %-8s %20s %20s %14d  %s\n", l.Time.UTC().Format(time.DateTime), l.Kind, sum, l.Balance, l.Bytes, about)
	return err
}

// end says what stands below a statement: beside it, so that the lines stay
// alone on standard output.
func (k *creditsStatementCmd) end(c *console, s remote.Statement) error {
	if s.Next != "" {
		fmt.Fprintf(c.err, "there are older lines: --before %s\n", s.Next)
	}
	if !k.JSON {
		fmt.Fprintf(c.err, "%s attested, %s not attested\n", bytesText(s.Attested), bytesText(s.Unattested))
	}
	return nil
}

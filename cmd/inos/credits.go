package main

import (
	"context"
	"crypto/rand"
	"fmt"

	"inos.dev/edge/cmd/inos/remote"
	"inos.dev/edge/gateway/credit"
)

type creditsCmd struct {
	Balance   creditsBalanceCmd   `cmd:"" help:"Show what an account has."`
	Statement creditsStatementCmd `cmd:"" help:"List what happened on an account, newest first."`
	Accounts  creditsAccountsCmd  `cmd:"" help:"List all accounts."`
	Grant     creditsGrantCmd     `cmd:"" help:"Issue credits to an account."`
	Terms     creditsTermsCmd     `cmd:"" help:"Show or change what happens when an account runs dry."`
	Prices    creditsPricesCmd    `cmd:"" help:"Show what serving and keeping bytes costs."`
	Pledge    creditsPledgeCmd    `cmd:"" help:"Lock credits to hold an object at more replicas."`
	Pledges   creditsPledgesCmd   `cmd:"" help:"List pledges."`
	TopUp     creditsTopUpCmd     `cmd:"" name:"top-up" help:"Lock more credits in a pledge."`
	Release   creditsReleaseCmd   `cmd:"" help:"End pledges and get back what is left."`
	Audit     creditsAuditCmd     `cmd:"" help:"Check that the books add up."`
}

// parseAccount reads an account of the command line; "" is that of the token.
func parseAccount(text string) (credit.Account, error) {
	if text == "" {
		return "", nil
	}
	a, err := credit.ParseAccount(text)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errUsage, err)
	}
	return a, nil
}

// onceKey is the name of one payment: the one that the user chose, or a new
// one, so that a request that is sent again does not pay again.
func onceKey(chosen string) string {
	if chosen != "" {
		return chosen
	}
	return rand.Text()
}

// onceFlag lets a script repeat a payment safely.
type onceFlag struct {
	Once string `help:"Name of this payment, 8 to 64 letters, digits, - and _: a second one with the same name pays nothing." env:"-" placeholder:"NAME"`
}

// accountLine is an account in --json. Amounts are micro-credits.
type accountLine struct {
	Account   credit.Account `json:"account"`
	Balance   credit.Amount  `json:"balance"`
	Local     credit.Amount  `json:"local"`
	Shared    bool           `json:"shared"`
	Stale     bool           `json:"stale"`
	WhenEmpty credit.Empty   `json:"when_empty"`
	Debt      credit.Amount  `json:"debt"`
	Served    int64          `json:"served_bytes"`
	Attested  int64          `json:"attested_bytes"`
	Earned    int64          `json:"earned_bytes"`
	Proven    int64          `json:"proven_bytes"`
	Leased    int64          `json:"leased_bytes"`
	Lines     int64          `json:"lines"`
}

func accountOf(a remote.Account) accountLine {
	return accountLine{
		Account: a.Name, Balance: a.Balance, Local: a.Local, Shared: a.Shared, Stale: a.Stale, WhenEmpty: a.Terms.WhenEmpty, Debt: a.Terms.Debt,
		Served: a.Served, Attested: a.Attested, Earned: a.Earned, Proven: a.Proven, Leased: a.Leased, Lines: a.Lines,
	}
}

type creditsBalanceCmd struct {
	clientFlags
	Account string `arg:"" optional:"" help:"The account, or the subject of a token alone; without one, that of the token."`
	JSON    bool   `help:"Print one line of JSON; amounts in micro-credits." env:"-"`
}

func (creditsBalanceCmd) Help() string {
	return "Everybody sees his own account, an administrator all.\n\n" + examples(
		"inos credits balance",
		"inos credits balance ci",
		"inos credits balance treasury --json | jq .balance",
	)
}

func (k *creditsBalanceCmd) Run(ctx context.Context, c *console) error {
	a, err := k.ask(ctx)
	if err != nil {
		return err
	}
	if k.JSON {
		return printJSON(c.out, accountOf(a))
	}
	return printAccount(c, a)
}

func (k *creditsBalanceCmd) ask(ctx context.Context) (remote.Account, error) {
	name, err := parseAccount(k.Account)
	if err != nil {
		return remote.Account{}, err
	}
	node, err := k.connect()
	if err != nil {
		return remote.Account{}, err
	}
	defer node.Close()
	return node.Balance(ctx, name)
}

// printAccount writes an account for people.
func printAccount(c *console, a remote.Account) error {
	rows := [][2]string{{"account", string(a.Name)}, {"balance", a.Balance.String() + " credits"}}
	if a.Stale {
		rows = append(rows, [2]string{"", "the other gateways are out of reach: this may be out of date"})
	}
	if a.Shared {
		rows = append(rows, [2]string{"here", a.Local.String() + " credits by this node's journal"})
	}
	rows = append(rows,
		[2]string{"when empty", fmt.Sprintf("%s, up to %s credits of debt", a.Terms.WhenEmpty, a.Terms.Debt)},
		[2]string{"served", fmt.Sprintf("%d (%s), %d attested", a.Served, bytesText(a.Served), a.Attested)})
	if a.Earned > 0 {
		rows = append(rows, [2]string{"earned", fmt.Sprintf("%d (%s), %d attested", a.Earned, bytesText(a.Earned), a.Proven)})
	}
	if a.Leased > 0 {
		rows = append(rows, [2]string{"leased", fmt.Sprintf("%d (%s)", a.Leased, bytesText(a.Leased))})
	}
	return printRows(c.out, rows)
}

type creditsAccountsCmd struct {
	clientFlags
	Limit int  `help:"List no more than so many; 0: all." default:"0" env:"-" placeholder:"N"`
	JSON  bool `help:"Print one line of JSON per account; amounts in micro-credits." env:"-"`
}

func (creditsAccountsCmd) Help() string {
	return "This needs the right admin.\n\n" + examples(
		"inos credits accounts",
		"inos credits accounts --json | jq -r 'select(.balance < 0) | .account'",
	)
}

func (k *creditsAccountsCmd) Run(ctx context.Context, c *console) error {
	node, err := k.connect()
	if err != nil {
		return err
	}
	defer node.Close()
	count := 0
	for a, err := range node.Accounts(ctx) {
		if err != nil {
			return err
		}
		if count++; k.Limit > 0 && count > k.Limit {
			return nil
		}
		if k.JSON {
			err = printJSON(c.out, accountOf(a))
		} else {
			_, err = fmt.Fprintf(c.out, "%20s  %s\n", a.Balance, a.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

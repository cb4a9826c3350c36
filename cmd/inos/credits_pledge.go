package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"inos.dev/edge/cmd/inos/remote"
	"inos.dev/edge/gateway/credit"
)

type creditsPledgeCmd struct {
	clientFlags
	Object   string        `arg:"" help:"HASH or URL of an object on the node's list."`
	RF       int           `name:"rf" help:"Replicas to hold it at." required:"" env:"-" placeholder:"N"`
	For      time.Duration `help:"How long; or give --credits." env:"-" placeholder:"DURATION"`
	Credits  amount        `help:"How much to lock; or give --for." env:"-" placeholder:"CREDITS"`
	PriceCap amount        `help:"Most credits for a GiB kept for an hour; default: the node's price." env:"-" placeholder:"CREDITS"`
	Name     string        `help:"What to call it, 1 to 64 letters, digits, - and _; the same pledge again with the same name locks nothing. Default: random." env:"-" placeholder:"NAME"`
	Quote    bool          `help:"Only tell what it costs." env:"-"`
	JSON     bool          `help:"Print one line of JSON; amounts in micro-credits." env:"-"`
}

func (creditsPledgeCmd) Help() string {
	return "Holders are paid from the locked credits, epoch by epoch, for what they kept; the rest comes back at the end.\n\n" + examples(
		"inos credits pledge 5d9f…e1 --rf 10 --for 24h --quote",
		"inos credits pledge 5d9f…e1 --rf 10 --for 24h",
		"inos credits pledge 5d9f…e1 --rf 5 --credits 2.5",
	)
}

// quoteLine is the line of --quote --json.
type quoteLine struct {
	Object  string        `json:"object"`
	RF      int           `json:"rf"`
	Size    int64         `json:"size"`
	Seconds int64         `json:"seconds"`
	Amount  credit.Amount `json:"amount"`
	Price   credit.Price  `json:"price_gib_hour"`
	Epoch   int64         `json:"epoch_seconds"`
}

// pledgeLine is a pledge in --json.
type pledgeLine struct {
	Pledge   string         `json:"pledge"`
	Object   string         `json:"object"`
	Account  credit.Account `json:"account"`
	RF       int            `json:"rf"`
	State    string         `json:"state"`
	Locked   credit.Amount  `json:"locked"`
	Paid     credit.Amount  `json:"paid"`
	Escrow   credit.Amount  `json:"escrow"`
	Returned credit.Amount  `json:"returned"`
	Size     int64          `json:"size"`
	PriceCap credit.Price   `json:"price_cap_gib_hour"`
	Created  time.Time      `json:"created,omitzero"`
	Ends     time.Time      `json:"ends,omitzero"` // at the price cap, if until_dry
	UntilDry bool           `json:"until_dry"`
	Over     time.Time      `json:"over,omitzero"`
	Epochs   int64          `json:"epochs"`
}

func pledgeOf(p remote.Pledge) pledgeLine {
	return pledgeLine{
		Pledge: p.ID, Object: p.Object.String(), Account: p.Account, RF: p.RF, State: p.State,
		Locked: p.Locked, Paid: p.Paid, Escrow: p.Escrow, Returned: p.Returned,
		Size: p.Size, PriceCap: p.PriceCap, Created: p.Created, Ends: p.Ends, UntilDry: p.UntilDry, Over: p.Over, Epochs: p.Epochs,
	}
}

func (k *creditsPledgeCmd) Run(ctx context.Context, c *console) error {
	if (k.For > 0) == (k.Credits > 0) || k.For < 0 || k.RF < 1 {
		return fmt.Errorf("%w: give --rf, and either --for or --credits", errUsage)
	}
	t, err := k.resolve(k.Object)
	if err != nil {
		return err
	}
	defer t.node.Close()
	if t.ref.Path != "" {
		return fmt.Errorf("%w: %s is a part of an object; pledges hold whole objects", errUsage, t.ref)
	}
	wish := remote.Wish{Object: t.ref.Hash, RF: k.RF, For: k.For, Amount: credit.Amount(k.Credits), PriceCap: credit.Price(k.PriceCap)}
	if k.Quote {
		q, err := t.node.Quote(ctx, wish)
		if err != nil {
			return err
		}
		return k.printQuote(c, q)
	}
	p, err := t.node.CreatePledge(ctx, wish, onceKey(k.Name))
	if err != nil {
		return err
	}
	return printPledge(c, p, k.JSON)
}

func (k *creditsPledgeCmd) printQuote(c *console, q remote.Quote) error {
	if k.JSON {
		return printJSON(c.out, quoteLine{q.Object.String(), q.RF, q.Size, int64(q.Duration / time.Second), q.Amount, q.Price, int64(q.Epoch / time.Second)})
	}
	return printRows(c.out, [][2]string{
		{"object", q.Object.String()},
		{"replicas", fmt.Sprintf("%d, of %s each", q.RF, bytesText(q.Size))},
		{"lasts", fmt.Sprintf("%v, in epochs of %v", q.Duration, q.Epoch)},
		{"costs", q.Amount.String() + " credits at most"},
		{"price", credit.Amount(q.Price).String() + " credits for a GiB and hour, and holder"},
	})
}

// printPledge writes one pledge.
func printPledge(c *console, p remote.Pledge, asJSON bool) error {
	if asJSON {
		return printJSON(c.out, pledgeOf(p))
	}
	return printRows(c.out, [][2]string{
		{"pledge", p.ID},
		{"object", p.Object.String()},
		{"account", string(p.Account)},
		{"replicas", strconv.Itoa(p.RF)},
		{"state", p.State},
		{"locked", fmt.Sprintf("%s credits: %s paid, %s in escrow, %s returned", p.Locked, p.Paid, p.Escrow, p.Returned)},
		{"ends", endText(p)},
	})
}

func endText(p remote.Pledge) string {
	text := p.Ends.UTC().Format(time.RFC3339)
	if p.UntilDry && p.Over.IsZero() {
		text += ", when it is dry"
	}
	return text
}

type creditsPledgesCmd struct {
	clientFlags
	Account string `arg:"" optional:"" help:"The account, or the subject of a token alone; without one, that of the token."`
	All     bool   `help:"The pledges of all accounts. Needs the right admin." env:"-"`
	Limit   int    `help:"List no more than so many; 0: all." default:"0" env:"-" placeholder:"N"`
	JSON    bool   `help:"Print one line of JSON per pledge; amounts in micro-credits." env:"-"`
}

func (creditsPledgesCmd) Help() string {
	return examples(
		"inos credits pledges",
		"inos credits pledges --all",
		"inos credits pledges --json | jq -r 'select(.state == \"low\") | .pledge'",
	)
}

func (k *creditsPledgesCmd) Run(ctx context.Context, c *console) error {
	name, err := parseAccount(k.Account)
	if err != nil {
		return err
	}
	node, err := k.connect()
	if err != nil {
		return err
	}
	defer node.Close()
	count := 0
	for p, err := range node.Pledges(ctx, name, k.All) {
		if err != nil {
			return err
		}
		if count++; k.Limit > 0 && count > k.Limit {
			return nil
		}
		if k.JSON {
			err = printJSON(c.out, pledgeOf(p))
		} else {
			_, err = fmt.Fprintf(c.out, "%s  %-8s  %s  %4d %20s  %s\n", p.ID, p.State, p.Object, p.RF, p.Escrow, p.Ends.UTC().Format(time.DateTime))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

type creditsTopUpCmd struct {
	clientFlags
	onceFlag
	Pledge  string `arg:"" help:"Name of the pledge."`
	Credits amount `arg:"" help:"Credits to lock, with at most six decimals."`
	JSON    bool   `help:"Print one line of JSON; amounts in micro-credits." env:"-"`
}

func (creditsTopUpCmd) Help() string {
	return "The pledge ends later, by as much as the credits last.\n\n" + examples("inos credits top-up k3v…q2 1.5")
}

func (k *creditsTopUpCmd) Run(ctx context.Context, c *console) error {
	if k.Credits <= 0 {
		return fmt.Errorf("%w: give more than 0 credits", errUsage)
	}
	node, err := k.connect()
	if err != nil {
		return err
	}
	defer node.Close()
	p, err := node.TopUpPledge(ctx, k.Pledge, credit.Amount(k.Credits), onceKey(k.Once))
	if err != nil {
		return err
	}
	return printPledge(c, p, k.JSON)
}

type creditsReleaseCmd struct {
	clientFlags
	Pledges []string `arg:"" name:"pledge" help:"Names of pledges."`
	JSON    bool     `help:"Print one line of JSON per pledge; amounts in micro-credits." env:"-"`
}

func (creditsReleaseCmd) Help() string {
	return "The object's replicas fall back to its own rf.\n\n" + examples(
		"inos credits release k3v…q2",
		"inos credits pledges --json | jq -r .pledge | xargs inos credits release",
	)
}

func (k *creditsReleaseCmd) Run(ctx context.Context, c *console) error {
	node, err := k.connect()
	if err != nil {
		return err
	}
	defer node.Close()
	for _, id := range k.Pledges {
		p, err := node.ReleasePledge(ctx, id)
		if err != nil {
			return err
		}
		if k.JSON {
			err = printJSON(c.out, pledgeOf(p))
		} else {
			_, err = fmt.Fprintf(c.out, "%s  %s credits came back\n", p.ID, p.Returned)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

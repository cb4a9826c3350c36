package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/books"
	"inos.dev/edge/gateway/credit/delivery"
	"inos.dev/edge/gateway/credit/ledger"
	"inos.dev/edge/gateway/credit/pledge"
	"inos.dev/edge/gateway/event"
	"inos.dev/edge/gateway/heat"
	"inos.dev/edge/gateway/payer"
	"inos.dev/edge/gateway/rpc"
	"inos.dev/edge/mesh"
)

// accountFlags configure heat and credits.
type accountFlags struct {
	Redis string `help:"Redis by which several nodes share heat, balances and leases." placeholder:"URL"`

	Heat         bool     `help:"Count which chunks are hot, and decide how many replicas they should have." default:"true" negatable:""`
	ReplicaBytes byteSize `help:"Bytes per second that one replica serves." default:"8MiB"`
	HeatCoolDown duration `help:"How long fewer replicas must have been enough before one is taken away." default:"60s"`
	HeatBudget   byteSize `help:"Most bytes per minute that the cluster moves for hot chunks." default:"4GiB"`
	MaxRF        int      `name:"max-rf" help:"Most replicas of a hot chunk where its policy says nothing." default:"16"`

	Credits        bool     `help:"Charge every byte that leaves to somebody." default:"true" negatable:""`
	PriceRetrieval amount   `help:"Credits for reading a GiB; 0 counts and costs nothing." default:"1"`
	PriceRetention amount   `help:"Credits for keeping a GiB for an hour, where a pledge has no price cap." default:"0.001"`
	Lease          byteSize `help:"Bytes that are reserved from a payer before they are charged, at least: what a crash leaves in doubt." default:"64MiB"`
	Epoch          duration `help:"How often the holders of a pledge are paid." default:"10m"`
}

func (f *accountFlags) validate() error {
	if f.MaxRF < 1 || f.MaxRF > mesh.LimitRF {
		return fmt.Errorf("--max-rf %d: choose 1 to %d", f.MaxRF, mesh.LimitRF)
	}
	for name, price := range map[string]amount{"--price-retrieval": f.PriceRetrieval, "--price-retention": f.PriceRetention} {
		if err := credit.Price(price).Validate(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if f.PriceRetention == 0 {
		return errors.New("--price-retention 0: a pledge needs a price; 0.000001 is the least")
	}
	if f.Redis != "" {
		// What is wrong with it is not said: it may have a password.
		if u, err := url.Parse(f.Redis); err != nil || !slices.Contains([]string{"redis", "rediss", "unix"}, u.Scheme) {
			return errors.New("--redis is no URL of Redis: write redis://USER:PASSWORD@HOST:PORT/DB, rediss:// for TLS, or unix:///PATH")
		}
	}
	if f.Lease < 1<<20 {
		return errors.New("--lease: at least 1MiB, which is what the largest chunk needs")
	}
	if e := time.Duration(f.Epoch); e < time.Second || e > 24*time.Hour || e%time.Second != 0 {
		return fmt.Errorf("--epoch %v: choose whole seconds, 1s to 24h", e)
	}
	return nil
}

// creditDir and eventDir are below the data directory.
const (
	creditDir = "credit"
	eventDir  = "events"
)

// accounts is what counts and charges: the parts of a node that are there only
// if heat or credits are on.
type accounts struct {
	bus        *event.Bus
	payers     *payer.Table
	ledger     *ledger.Ledger
	books      *books.Books
	pledges    *pledge.Pledges
	deliveries *delivery.Sessions
	heat       *heat.Heat
}

// openEvents opens the bus, before whoever publishes on it.
func (n *node) openEvents() (err error) {
	n.bus, err = event.Open(event.Config{Dir: filepath.Join(n.cfg.Data, eventDir), Registry: n.registry, Logger: n.log})
	if err != nil {
		return err
	}
	n.onClose(n.bus.Close)
	return nil
}

// openPayers makes the table of who pays for what, which follows the catalog.
func (n *node) openPayers(ctx context.Context) (err error) {
	n.payers, err = payer.New(ctx, payer.Config{
		Catalog: n.catalog, Dir: n.cfg.Data, Logger: n.log,
		Walk: func(ctx context.Context, root cas.Hash, visit func(cas.Hash) error) error {
			return n.content.Walk(ctx, root, visit)
		},
	})
	if err != nil {
		return err
	}
	n.onClose(n.payers.Close)
	return nil
}

// openBooks opens the ledger and those who write into it.
func (n *node) openBooks(ctx context.Context) (err error) {
	if !n.cfg.Credits {
		return nil
	}
	n.ledger, err = ledger.Open(ledger.Config{Dir: filepath.Join(n.cfg.Data, creditDir), Logger: n.log}) //nolint:contextcheck // it replays as much as a checkpoint lets it
	if err != nil {
		return err
	}
	n.onClose(n.ledger.Close)
	var share books.Share
	if n.cfg.Redis != "" {
		redis, err := books.OpenRedis(n.cfg.Redis)
		if err != nil {
			return fmt.Errorf("--redis: %w", err)
		}
		n.onClose(redis.Close)
		share = redis
	}
	n.books, err = books.New(ctx, books.Config{
		Ledger: n.ledger, Key: n.key.Public(), Retrieval: credit.Price(n.cfg.PriceRetrieval), Free: n.cfg.PriceRetrieval == 0, Share: share,
		Operators: []string{auth.OperatorSubject}, Lease: int64(n.cfg.Lease), Registry: n.registry, Logger: n.log,
	})
	if err != nil {
		return err
	}
	n.onClose(func() error {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
		defer cancel()
		return n.books.Close(late)
	})
	if n.pledges, err = pledge.Open(ctx, pledge.Config{
		Ledger: n.books.Ledger(), Spend: n.books.Spend, Holders: holders{n}, Notice: n.pledgeNotice,
		Retention: credit.Price(n.cfg.PriceRetention), Epoch: time.Duration(n.cfg.Epoch), Registry: n.registry, Logger: n.log,
	}); err != nil {
		return err
	}
	n.deliveries, err = delivery.New(delivery.Config{
		Key: n.key, Ledger: n.books.Ledger(), Owners: []string{auth.OperatorSubject}, Registry: n.registry,
	})
	return err
}

// lastFlush is how long the last charges may take when the node goes down.
const lastFlush = 5 * time.Second

// openHeat makes the thermometer.
func (n *node) openHeat() (err error) {
	if !n.cfg.Heat {
		return nil
	}
	var store heat.Store
	if n.cfg.Redis != "" {
		redis, err := heat.OpenRedis(n.cfg.Redis)
		if err != nil {
			return fmt.Errorf("--redis: %w", err)
		}
		n.onClose(redis.Close)
		store = redis
	}
	n.heat, err = heat.New(heat.Config{
		Rules: heat.Rules{ReplicaBytes: int64(n.cfg.ReplicaBytes), CoolDown: time.Duration(n.cfg.HeatCoolDown),
			BytesPerMinute: int64(n.cfg.HeatBudget), DefaultMaxRF: n.cfg.MaxRF},
		Node: n.key.Public().String(), Store: store, Policy: n.heatPolicy, Decided: n.decided, Registry: n.registry, Logger: n.log,
	})
	return err
}

// heatPolicy is what bounds the replicas of a chunk: the policy of the object
// that pays for it, and the pledges for that.
func (n *node) heatPolicy(ctx context.Context, h cas.Hash) (heat.Policy, bool) {
	ref, ok := n.payers.Chunk(h)
	if !ok {
		return heat.Policy{}, false
	}
	info, err := n.store.Stat(ctx, h)
	if err != nil {
		return heat.Policy{}, false // it is not here: whoever has it decides
	}
	p := heat.Policy{RF: ref.Policy.RF, MaxRF: ref.Policy.MaxRF, Size: info.Size}
	if p.RF == 0 {
		p.RF = mesh.DefaultRF
	}
	if p.MaxRF == 0 {
		p.MaxRF = n.cfg.MaxRF
	}
	if n.pledges != nil {
		if floor, ok := n.pledges.Floor(ref.Object); ok {
			p.RF = max(p.RF, floor)
		}
	}
	p.MaxRF = max(p.RF, p.MaxRF)
	return p, true
}

// decided asks whoever replicates for what was decided.
func (n *node) decided(_ context.Context, d heat.Decision) error {
	id := fmt.Sprintf("%s/%d", d.Chunk, d.Epoch)
	return n.bus.Emit(event.ReplicateChunkRequested, id, "", event.ReplicateChunk{
		Hash: d.Chunk.String(), Epoch: d.Epoch, Target: d.Target, Previous: d.Previous, Reason: string(d.Reason),
		Rate: d.Rate, Moves: d.Moves, Node: d.Node, Expires: d.Expires,
	})
}

// published tells of a publication that this node has signed.
func (n *node) published(p mesh.Publication) {
	name, id := event.PublishObjectCompleted, fmt.Sprintf("%s/%s/%d", p.Object, p.Owner, p.Sequence)
	var payload any = event.ObjectPublished{Hash: p.Object.String(), Owner: p.Owner, Sequence: p.Sequence, RF: p.Policy.RF, MaxRF: p.Policy.MaxRF}
	if p.Withdrawn {
		name, payload = event.WithdrawObjectCompleted, event.ObjectWithdrawn{Hash: p.Object.String(), Owner: p.Owner, Sequence: p.Sequence}
	}
	n.emit(name, id, p.Owner, payload)
}

// pledgeNotice tells the owner of a pledge what happened to it.
func (n *node) pledgeNotice(_ context.Context, e pledge.Event) {
	n.emit(event.ChangePledgeCompleted, "", e.Pledge.Owner.Subject(), event.PledgeChanged{
		Pledge: e.Pledge.ID, Account: string(e.Pledge.Owner), Hash: e.Pledge.Request.Object.String(), RF: e.Pledge.Request.RF,
		Change: string(e.Kind), Escrow: int64(e.Pledge.Escrow()), Until: e.Pledge.Until(),
	})
}

// emit publishes a notice: what it is about has happened already, so that a
// failure is the log's alone.
func (n *node) emit(name, id, subject string, payload any) {
	if n.bus == nil {
		return // a collection offline has none
	}
	if err := n.bus.Emit(name, id, subject, payload); err != nil {
		n.log.Warn("an event could not be published", "event", name, "error", err)
	}
}

// holders says who held an object: as long as nobody else keeps chunks for
// this node, the node itself, if the object is on its list.
type holders struct{ n *node }

// Holders implements pledge.Holders.
func (h holders) Holders(ctx context.Context, object cas.Hash, _ pledge.Epoch) ([]pledge.Holding, error) {
	r, err := h.n.content.Object(ctx, object)
	if errors.Is(err, cas.ErrNotFound) || errors.Is(err, cas.ErrDenied) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []pledge.Holding{{Account: credit.Node(h.n.key.Public()), Bytes: r.Encoded, Ask: credit.Price(h.n.cfg.PriceRetention)}}, nil
}

// accounting is what the gateway needs to know of all this.
func (n *node) accounting() gateway.Accounts {
	a := gateway.Accounts{Books: n.books, Payer: n.payerOf}
	if n.heat != nil { // an interface that holds nil is not nil
		a.Heat = n.heat
	}
	if n.deliveries != nil {
		a.Deliveries = n.deliveries
	}
	return a
}

func (n *node) payerOf(h cas.Hash, whole bool) (owner string, object cas.Hash) {
	find := n.payers.Chunk
	if whole {
		find = n.payers.Object
	}
	ref, _ := find(h) // nobody's is the house's
	return ref.Owner, ref.Object
}

// creditService is what the API works with; nil without books.
func (n *node) creditService() *rpc.Credits {
	if n.books == nil {
		return nil
	}
	return &rpc.Credits{
		Books: grantor{n.books, n}, Ledger: n.ledger, Pledges: n.pledges, Deliveries: n.deliveries,
		Serve: credit.Price(n.cfg.PriceRetrieval), Retain: credit.Price(n.cfg.PriceRetention), Epoch: time.Duration(n.cfg.Epoch), Shared: n.cfg.Redis != "",
	}
}

func (n *node) heatService() rpc.Heat {
	if n.heat == nil {
		return nil
	}
	return n.heat
}

// grantor is the books, and tells whom credits were granted to.
type grantor struct {
	*books.Books
	n *node
}

// Grant implements rpc.Books.
func (g grantor) Grant(ctx context.Context, id string, to credit.Account, amount credit.Amount, note string) (seq uint64, again bool, err error) {
	seq, again, err = g.Books.Grant(ctx, id, to, amount, note)
	if err == nil && !again {
		g.n.emit(event.GrantCreditsCompleted, "", to.Subject(), event.CreditsGranted{Account: string(to), Amount: int64(amount), Seq: seq})
	}
	return seq, again, err
}

// runs are the goroutines of what is on.
func (n *node) accountRuns() []func(context.Context) error {
	runs := []func(context.Context) error{n.bus.Run, n.payers.Run}
	if n.books != nil {
		runs = append(runs, n.ledger.Run, n.books.Run, n.pledges.Run)
	}
	if n.heat != nil {
		runs = append(runs, n.heat.Run)
	}
	return runs
}

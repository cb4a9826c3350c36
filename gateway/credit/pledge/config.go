package pledge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// Config says whose books pledges are in, and what bounds them.
type Config struct {
	// Ledger keeps escrows and documents. Required.
	Ledger credit.Ledger
	// Spend writes entries that take amount from an account, as one record with
	// an id, if the account has as much: else credit.ErrUnderfunded. A record
	// whose id was written before is not written again, and no error. Gateways
	// with shared balances give one that looks at these. The entries are in
	// Ledger when it returns; with an error perhaps, and then they do not come
	// later. Default: the balance by Ledger alone.
	Spend func(ctx context.Context, id string, from credit.Account, amount credit.Amount, entries []credit.Entry) error
	// Holders knows who is to be paid. Default: nobody holds anything.
	Holders Holders
	// Notice is told what happens to pledges, in order for each. It must not
	// block, nor call Create, TopUp, Release or Settle. A crash can have the
	// notice that one runs low told twice, and others not at all. Default: nobody
	// is told.
	Notice func(ctx context.Context, e Event)
	// Retention is the price cap of those who give none: for 2³⁰ bytes and an
	// hour. Default 1,000 micro-credits.
	Retention credit.Price
	// Epoch is how often holders are paid: whole seconds, 1 s to 24 h. Default
	// 10 min.
	Epoch time.Duration
	// NoticeEpochs is how many epochs before its end a pledge gives notice, at
	// least 2. Default 6.
	NoticeEpochs int
	// MaxPerOwner bounds the live pledges of an owner. Default 100.
	MaxPerOwner int
	// MaxPledges bounds the live pledges of all, and those that are over and
	// still kept. Default 10,000 of each (about 10 MB).
	MaxPledges int
	// Keep is how long a pledge is kept after it is over. Default 7 days.
	Keep time.Duration
	// MaxEpochs bounds the epochs that one Settle settles for one pledge, when
	// the node was down. Default 144.
	MaxEpochs int
	Logger    *slog.Logger // nil: slog.Default
	// Registry gets the metrics. Default: none does.
	Registry prometheus.Registerer
}

// workers is how many pledges are settled at once: records of the same moment
// share a sync.
const workers = 8

func (c Config) withDefaults() (Config, error) {
	if c.Ledger == nil {
		return Config{}, errors.New("pledge: Ledger is required")
	}
	setDefault(&c.Retention, 1000)
	setDefault(&c.Epoch, 10*time.Minute)
	setDefault(&c.NoticeEpochs, 6)
	setDefault(&c.MaxPerOwner, 100)
	setDefault(&c.MaxPledges, 10_000)
	setDefault(&c.Keep, 7*24*time.Hour)
	setDefault(&c.MaxEpochs, 144)
	if err := c.Retention.Validate(); err != nil {
		return Config{}, fmt.Errorf("pledge: Retention: %w", err)
	}
	if c.Epoch < time.Second || c.Epoch > 24*time.Hour || c.Epoch%time.Second != 0 {
		return Config{}, fmt.Errorf("pledge: Epoch is %v, it must be 1 s to 24 h in whole seconds", c.Epoch)
	}
	if c.NoticeEpochs < 2 || c.MaxPerOwner < 0 || c.MaxPledges < 0 || c.Keep < 0 || c.MaxEpochs < 0 {
		return Config{}, errors.New("pledge: NoticeEpochs must be at least 2, and no limit negative")
	}
	if c.Spend == nil {
		c.Spend = localSpend(c.Ledger)
	}
	if c.Holders == nil {
		c.Holders = nobody{}
	}
	if c.Notice == nil {
		c.Notice = func(context.Context, Event) {}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

func setDefault[T int | time.Duration | credit.Price](v *T, value T) {
	if *v == 0 {
		*v = value
	}
}

// nobody holds anything.
type nobody struct{}

func (nobody) Holders(context.Context, cas.Hash, Epoch) ([]Holding, error) { return nil, nil }

// localSpend spends by the balance of one node's ledger.
func localSpend(ledger credit.Ledger) func(context.Context, string, credit.Account, credit.Amount, []credit.Entry) error {
	return func(ctx context.Context, id string, from credit.Account, amount credit.Amount, entries []credit.Entry) error {
		_, _, err := ledger.Decide(ctx, id, func(v credit.View) ([]credit.Entry, error) {
			state, err := v.State(ctx, from)
			if err != nil {
				return nil, err
			}
			if state.Balance < amount && !from.IsHouse() {
				return nil, fmt.Errorf("%w: %s has %s", credit.ErrUnderfunded, from, state.Balance)
			}
			return entries, nil
		})
		return err
	}
}

// metrics count what pledges do. Their names are fixed.
type metrics struct {
	paid, epochs, failed prometheus.Counter
}

func newMetrics(registry prometheus.Registerer, s *Pledges) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		paid:   counter("inos_pledge_paid_microcredits_total", "Micro-credits that pledges paid to holders."),
		epochs: counter("inos_pledge_epochs_total", "Epochs of pledges that were settled."),
		failed: counter("inos_pledge_failed_total", "Epochs of pledges that could not be settled and are tried again."),
	}
	if registry == nil {
		return m, nil
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.paid, m.epochs, m.failed,
		gauge("inos_pledge_live", "Pledges that hold an object now.", func() float64 { live, _ := s.totals(); return float64(live) }),
		gauge("inos_pledge_escrow_microcredits", "Micro-credits that are locked in pledges.", func() float64 { _, sum := s.totals(); return float64(sum) }),
	} {
		errs = append(errs, registry.Register(c))
	}
	return m, errors.Join(errs...)
}

package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// PolicyConfig says how a Policy works. The zero value has the default rules
// and no record.
type PolicyConfig struct {
	Rules    string                // file of rules, read again when it changes; empty: DefaultRules
	Audit    string                // file of the record; empty: none
	Registry prometheus.Registerer // nil: decisions are counted and not shown
	Logger   *slog.Logger          // nil: slog.Default
}

// Policy has the rules in force, counts what they decide, and keeps the record:
// a line for every denial, and for every action other than read that was
// allowed. Its methods may be called at the same time.
type Policy struct {
	path      string
	log       *slog.Logger
	rules     atomic.Pointer[Rules]
	audit     *audit                            // nil: no record
	decisions [numActions][2]prometheus.Counter // by action, and denied or allowed
	read      fileState                         // of the rules in force; Run's after OpenPolicy
}

// The second index of decisions.
const (
	refused = 0
	allowed = 1
)

// fileState changes when a file does.
type fileState struct {
	size  int64
	mtime time.Time
}

// OpenPolicy reads the rules and opens the record. Rules that are missing or
// wrong are an error here; later, the last good ones stay in force. It starts
// nothing.
func OpenPolicy(cfg PolicyConfig) (*Policy, error) {
	p := &Policy{path: cfg.Rules, log: cfg.Logger}
	if p.log == nil {
		p.log = slog.Default()
	}
	if err := p.load(); err != nil {
		return nil, err
	}
	if cfg.Audit != "" {
		var err error
		if p.audit, err = openAudit(cfg.Audit, p.log); err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
	}
	if err := p.count(cfg.Registry); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// count makes the counters.
func (p *Policy) count(r prometheus.Registerer) error {
	decisions := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "inos_policy_decisions_total", Help: "Decisions of the policy, by action and effect."}, []string{"action", "effect"})
	for a := range Action(numActions) {
		p.decisions[a] = [2]prometheus.Counter{refused: decisions.WithLabelValues(a.String(), "deny"), allowed: decisions.WithLabelValues(a.String(), "allow")}
	}
	dropped := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "inos_audit_dropped_total", Help: "Audit records that were not written."}, func() float64 {
		if p.audit == nil {
			return 0
		}
		return float64(p.audit.dropped.Load())
	})
	if r == nil {
		return nil
	}
	if err := r.Register(decisions); err != nil {
		return err
	}
	return r.Register(dropped)
}

// Decide says what the rules in force say, and keeps no record of it.
func (p *Policy) Decide(req *Request, now time.Time) Decision { return p.rules.Load().Decide(req, now) }

// OpenRead reports whether everybody may read who comes in by some doors, and
// counts a read if so. It is what a read by a stranger costs.
func (p *Policy) OpenRead(doors Door) bool {
	open := p.rules.Load().Open(ActionRead, doors)
	if open {
		p.decisions[ActionRead][allowed].Inc()
	}
	return open
}

// Check decides about a request and records it: nil, ErrUnauthenticated or
// ErrForbidden.
func (p *Policy) Check(req *Request, now time.Time) error {
	d := p.Decide(req, now)
	p.record(req, d, now)
	if d.Allow {
		return nil
	}
	return d.Err(req)
}

// Refuse records a request that was denied before the rules were asked: its
// token does not hold. It returns err.
func (p *Policy) Refuse(req *Request, now time.Time, err error) error {
	p.record(req, Decision{Why: err.Error()}, now)
	return err
}

func (p *Policy) record(req *Request, d Decision, now time.Time) {
	effect, action := refused, req.Action
	if d.Allow {
		effect = allowed
	}
	if action >= numActions {
		action = 0
	}
	p.decisions[action][effect].Inc()
	if p.audit != nil && (!d.Allow || action != ActionRead) {
		p.audit.add(req, d, now)
	}
}

// Run reads the rules again whenever the file has changed, and writes the
// record, until ctx is done.
func (p *Policy) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if p.path != "" {
		g.Go(func() error { return p.watch(ctx) })
	}
	if p.audit != nil {
		g.Go(func() error { return p.audit.run(ctx) })
	}
	return g.Wait()
}

// Close closes the record, once Run has returned.
func (p *Policy) Close() error {
	if p.audit == nil {
		return nil
	}
	return p.audit.close()
}

func (p *Policy) watch(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	seen := p.read
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		info, err := os.Stat(p.path)
		now := fileState{}
		if err == nil {
			now = fileState{info.Size(), info.ModTime()}
		}
		if now == seen {
			continue
		}
		if err == nil {
			err = p.load()
		}
		if err != nil {
			p.log.Error("the rules cannot be read: the last ones stay in force", "path", p.path, "error", err)
		} else {
			p.log.Info("the rules were read again", "path", p.path)
		}
		seen = now
	}
}

// load puts the rules of the file in force.
func (p *Policy) load() error {
	text := []byte(DefaultRules)
	if p.path != "" {
		var err error
		if text, err = p.readFile(); err != nil {
			return fmt.Errorf("rules: %w", err)
		}
	}
	rules, err := ParseRules(text)
	if err != nil {
		return fmt.Errorf("rules %s: %w", p.path, err)
	}
	p.rules.Store(rules)
	return nil
}

func (p *Policy) readFile() (text []byte, err error) {
	f, err := os.Open(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not there: make it, or leave the option out: %w", p.path, err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat() // before reading: what is written meanwhile is a change
	if err != nil {
		return nil, err
	}
	p.read = fileState{info.Size(), info.ModTime()}
	return io.ReadAll(io.LimitReader(f, maxRulesText+1))
}

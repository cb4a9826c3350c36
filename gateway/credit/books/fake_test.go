package books

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/ledger"
	"inos.dev/edge/mesh"
)

// memLedger is a Ledger in memory that a test can look into at the moment
// when a record becomes durable, and make fail.
type memLedger struct {
	before, after func() // around that moment; nil: nothing

	mu      sync.Mutex // guards the fields below
	fail    error
	seq     uint64
	states  map[credit.Account]credit.State
	docs    map[string][]byte
	ids     map[string]uint64
	records [][]credit.Entry
}

func newMemLedger() *memLedger {
	return &memLedger{states: make(map[credit.Account]credit.State), docs: make(map[string][]byte), ids: make(map[string]uint64)}
}

func (l *memLedger) Append(ctx context.Context, id string, entries []credit.Entry) (uint64, bool, error) {
	return l.Decide(ctx, id, func(credit.View) ([]credit.Entry, error) { return entries, nil })
}

func (l *memLedger) Decide(_ context.Context, id string, f func(credit.View) ([]credit.Entry, error)) (uint64, bool, error) {
	if l.before != nil {
		l.before()
	}
	seq, again, err := l.decide(id, f)
	if l.after != nil {
		l.after()
	}
	return seq, again, err
}

func (l *memLedger) decide(id string, f func(credit.View) ([]credit.Entry, error)) (uint64, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq := l.ids[id]; id != "" && seq > 0 {
		return seq, true, nil
	}
	entries, err := f(memView{l})
	if err != nil || len(entries) == 0 {
		return 0, false, err
	}
	for i := range entries {
		if err := entries[i].Validate(); err != nil {
			return 0, false, err
		}
	}
	if l.fail != nil {
		return 0, false, l.fail
	}
	l.seq++
	l.ids[id] = l.seq
	l.records = append(l.records, slices.Clone(entries))
	for _, e := range entries {
		l.apply(e)
	}
	return l.seq, false, nil
}

func (l *memLedger) apply(e credit.Entry) {
	from := l.states[e.From]
	from.Entries++
	switch e.Kind {
	case credit.KindLease:
		from.Leased = e.Bytes
	case credit.KindServe:
		from.Served, from.Rest = from.Served+e.Bytes, e.Rest
	case credit.KindDoc:
		l.docs[e.Ref] = e.Doc
	}
	from.Balance -= e.Amount
	l.states[e.From] = from
	if e.To != "" {
		to := l.states[e.To]
		to.Balance, to.Entries = to.Balance+e.Amount, to.Entries+1
		if e.Kind == credit.KindServe {
			to.Earned += e.Bytes
		}
		l.states[e.To] = to
	}
}

func (l *memLedger) setFail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}

// since returns the records behind the first n.
func (l *memLedger) since(n int) [][]credit.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.records[n:])
}

// covered is what a crash now would leave: bytes charged, and open leases.
func (l *memLedger) covered() (charged, leased int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.states {
		charged += s.Served
		leased += s.Leased
	}
	return charged, leased
}

func (l *memLedger) State(ctx context.Context, a credit.Account) (credit.State, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return memView{l}.State(ctx, a)
}

func (l *memLedger) Doc(ctx context.Context, name string) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return memView{l}.Doc(ctx, name)
}

func (l *memLedger) Docs(ctx context.Context, prefix, after string, limit int) ([]credit.Doc, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return memView{l}.Docs(ctx, prefix, after, limit)
}

func (l *memLedger) Accounts(_ context.Context, after credit.Account, limit int) (list []ledger.AccountState, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range slices.Sorted(maps.Keys(l.states)) {
		if a > after && len(list) < limit {
			list = append(list, ledger.AccountState{Account: a, State: l.states[a]})
		}
	}
	return list, nil
}

func (l *memLedger) Leases(context.Context) (list []ledger.AccountState, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range slices.Sorted(maps.Keys(l.states)) {
		if l.states[a].Leased > 0 {
			list = append(list, ledger.AccountState{Account: a, State: l.states[a]})
		}
	}
	return list, nil
}

// memView is a memLedger whose lock is held.
type memView struct{ l *memLedger }

func (v memView) State(_ context.Context, a credit.Account) (credit.State, error) {
	return v.l.states[a], nil
}

func (v memView) Doc(_ context.Context, name string) ([]byte, error) {
	return bytes.Clone(v.l.docs[name]), nil
}

func (v memView) Docs(_ context.Context, prefix, after string, limit int) (list []credit.Doc, err error) {
	for _, name := range slices.Sorted(maps.Keys(v.l.docs)) {
		if strings.HasPrefix(name, prefix) && name > after && len(list) < limit {
			list = append(list, credit.Doc{Name: name, Data: v.l.docs[name]})
		}
	}
	return list, nil
}

func key(first byte) mesh.Key { return mesh.Key{first, 1} }

const mib = 1 << 20

// config has small leases, so that tests meet their ends.
func config(l Ledger) Config {
	return Config{
		Ledger: l, Key: key(1), Lease: mib, MaxLease: 16 * mib, Float: mib, Unbooked: 4 * mib, Operators: []string{"op"},
		Logger: slog.New(slog.DiscardHandler),
	}
}

func open(t testing.TB, cfg Config) *Books {
	t.Helper()
	b, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// run runs books until the test ends.
func run(t testing.TB, b *Books) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// give grants credits without the books' help, as another process would have.
func give(t testing.TB, l credit.Ledger, subject string, amount credit.Amount) {
	t.Helper()
	_, _, err := l.Append(t.Context(), "", []credit.Entry{{Kind: credit.KindGrant, From: credit.Treasury, To: credit.User(subject), Amount: amount}})
	if err != nil {
		t.Fatal(err)
	}
}

func state(t testing.TB, l credit.Ledger, a credit.Account) credit.State {
	t.Helper()
	s, err := l.State(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ended is a context that has ended: with it, Take never waits.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

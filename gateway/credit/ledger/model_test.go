package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// model is what the books must say: every entry is kept, and added up the
// plain way.
type model struct {
	states map[credit.Account]credit.State
	lines  map[credit.Account][]credit.Line // the oldest first
	docs   map[string]string
	seq    uint64
	ids    map[string]uint64
}

func (m *model) append(entries []credit.Entry) {
	m.seq++
	for _, e := range entries {
		from, to := m.states[e.From], m.states[e.To]
		from.Balance -= e.Amount
		to.Balance += e.Amount
		from.Entries++
		to.Entries++
		switch e.Kind {
		case credit.KindServe:
			from.Served += e.Bytes
			from.Rest = e.Rest
			to.Earned += e.Bytes
		case credit.KindLease:
			from.Leased = e.Bytes
		case credit.KindAttest:
			from.Attested += e.Bytes
			to.Proven += e.Bytes
		case credit.KindDoc:
			m.docs[e.Ref] = string(e.Doc)
			if len(e.Doc) == 0 {
				delete(m.docs, e.Ref)
			}
		}
		m.states[e.From] = from
		m.line(e.From, e)
		if e.To != "" {
			m.states[e.To] = to
			m.line(e.To, e)
		}
	}
	for a, lines := range m.lines {
		for i := range lines {
			if lines[i].Seq == m.seq {
				lines[i].Balance = m.states[a].Balance
			}
		}
	}
}

func (m *model) line(a credit.Account, e credit.Entry) {
	m.lines[a] = append(m.lines[a], credit.Line{Seq: m.seq, Entry: e})
}

func drawEntries(t *rapid.T) []credit.Entry {
	user := rapid.Custom(func(t *rapid.T) credit.Account {
		return credit.User(fmt.Sprint("u", rapid.IntRange(0, 12).Draw(t, "user")))
	})
	entry := rapid.Custom(func(t *rapid.T) credit.Entry {
		e := credit.Entry{Kind: credit.Kind(rapid.IntRange(1, 8).Draw(t, "kind")), From: user.Draw(t, "from")}
		amount := credit.Amount(rapid.Int64Range(0, int64(credit.MaxAmount)).Draw(t, "amount"))
		bytes := rapid.Int64Range(0, 1<<45).Draw(t, "bytes")
		switch e.Kind {
		case credit.KindGrant:
			e.From, e.To, e.Amount = credit.Treasury, user.Draw(t, "to"), amount
		case credit.KindServe:
			e.To, e.Amount, e.Bytes, e.Rest, e.Object = node, amount, bytes, rapid.Uint32Max(1<<30-1).Draw(t, "rest"), cas.Sum([]byte(e.From))
		case credit.KindLease:
			e.Bytes = bytes
		case credit.KindAttest:
			e.To, e.Bytes = node, bytes
		case credit.KindDoc:
			e.Ref = fmt.Sprint("d/", rapid.IntRange(0, 20).Draw(t, "doc"))
			if text := rapid.StringN(0, 10, 40).Draw(t, "text"); text != "" {
				e.Doc = []byte(text)
			}
		default:
			e.To, e.Amount, e.Ref = credit.Escrow("e"), amount, "why"
		}
		return e
	})
	return rapid.SliceOfN(entry, 1, 12).Draw(t, "entries")
}

// quickDisk does not sync: no disk dies in these tests.
type quickDisk struct{}

func (quickDisk) WriteAt(f *os.File, b []byte, off int64) (int, error) { return f.WriteAt(b, off) }
func (quickDisk) Truncate(f *os.File, size int64) error                { return f.Truncate(size) }
func (quickDisk) Sync(*os.File) error                                  { return nil }

// quick opens a ledger that does not sync.
func quick(t testing.TB, cfg Config) *Ledger {
	t.Helper()
	l := open(t, cfg)
	l.db.NoSync = true
	return l
}

// TestModel: random entries, with checkpoints, restarts and crashes at random
// moments. The books say what the plain sums say, and pass their audit.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := config(t.TempDir())
		cfg.MaxDirty = rapid.SampledFrom([]int{0, 7}).Draw(rt, "dirty")
		cfg.SegmentBytes = rapid.SampledFrom([]int64{0, 500}).Draw(rt, "segment")
		cfg.Disk = quickDisk{}
		l := quick(t, cfg)
		m := &model{states: map[credit.Account]credit.State{}, lines: map[credit.Account][]credit.Line{}, docs: map[string]string{}, ids: map[string]uint64{}}
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				id := fmt.Sprint("id", rapid.IntRange(0, 30).Draw(rt, "id"))
				entries := drawEntries(rt)
				seq, again, err := l.Append(t.Context(), id, entries)
				if want, known := m.ids[id]; err != nil || known != again || known && seq != want {
					rt.Fatalf("append %s: %d, %v, %v", id, seq, again, err)
				}
				if !again {
					m.append(entries)
					m.ids[id] = seq
				}
			},
			"checkpoint": func(rt *rapid.T) {
				if err := l.Checkpoint(t.Context()); err != nil {
					rt.Fatal(err)
				}
			},
			"audit": func(rt *rapid.T) {
				r, err := l.Audit(t.Context())
				if err != nil || !r.OK || r.Sum != 0 || r.Records != m.seq || r.Accounts != len(m.states) || r.Documents != len(m.docs) {
					rt.Fatalf("audit: %+v, %v", r, err)
				}
			},
			"restart": func(*rapid.T) { closed(t, l); l = quick(t, cfg) },
			"crash":   func(*rapid.T) { drop(t, l); l = quick(t, cfg) },
			"look":    func(rt *rapid.T) { m.check(t, rt, l) },
		})
		m.check(t, rt, l)
		drop(t, l)
		states := map[credit.Account]credit.State{}
		r, err := AuditDir(t.Context(), cfg.Dir, func(a credit.Account, s credit.State) error { states[a] = s; return nil })
		if err != nil || !r.OK || r.Records != m.seq || !maps.Equal(states, m.states) {
			rt.Fatalf("offline: %+v, %v\n%v\n%v", r, err, states, m.states)
		}
	})
}

// check compares all that the ledger says with the model.
func (m *model) check(t *testing.T, rt *rapid.T, l *Ledger) {
	t.Helper()
	ctx := t.Context()
	var accounts, leases []AccountState
	for _, a := range slices.Sorted(maps.Keys(m.states)) {
		s, err := l.State(ctx, a)
		if err != nil || s != m.states[a] {
			rt.Fatalf("%s: %+v, %v; want %+v", a, s, err, m.states[a])
		}
		accounts = append(accounts, AccountState{a, s})
		if s.Leased > 0 {
			leases = append(leases, AccountState{a, s})
		}
		m.checkStatement(t, rt, l, a)
	}
	if list, err := l.Leases(ctx); err != nil || !reflect.DeepEqual(list, leases) {
		rt.Fatalf("leases: %v, %v; want %v", list, err, leases)
	}
	limit := rapid.IntRange(1, 8).Draw(rt, "page")
	pages(rt, accounts, limit, func(a AccountState) credit.Account { return a.Account }, func(after credit.Account) ([]AccountState, error) {
		return l.Accounts(ctx, after, limit)
	})
	var docs []credit.Doc
	for _, name := range slices.Sorted(maps.Keys(m.docs)) {
		docs = append(docs, credit.Doc{Name: name, Data: []byte(m.docs[name])})
		if data, err := l.Doc(ctx, name); err != nil || string(data) != m.docs[name] {
			rt.Fatalf("document %s: %q, %v", name, data, err)
		}
	}
	prefix := rapid.SampledFrom([]string{"", "d/", "d/1", "e"}).Draw(rt, "prefix")
	docs = slices.DeleteFunc(docs, func(d credit.Doc) bool { return !strings.HasPrefix(d.Name, prefix) })
	pages(rt, docs, limit, func(d credit.Doc) string { return d.Name }, func(after string) ([]credit.Doc, error) {
		return l.Docs(ctx, prefix, after, limit)
	})
}

// pages lists all, page by page.
func pages[T any, K cmp.Ordered](rt *rapid.T, want []T, limit int, key func(T) K, page func(after K) ([]T, error)) {
	var got []T
	var after K
	for {
		list, err := page(after)
		if err != nil {
			rt.Fatal(err)
		}
		got = append(got, list...)
		if len(list) < limit {
			break
		}
		after = key(list[len(list)-1])
	}
	if len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
		rt.Fatalf("listed %v\nwant   %v", got, want)
	}
}

func (m *model) checkStatement(t *testing.T, rt *rapid.T, l *Ledger, a credit.Account) {
	t.Helper()
	limit := rapid.IntRange(1, 20).Draw(rt, "lines")
	want := m.lines[a]
	for before := Cursor(""); ; {
		lines, next, err := l.Statement(t.Context(), a, before, limit)
		if err != nil || len(lines) == 0 && len(want) > 0 || len(lines) > limit {
			rt.Fatalf("%s: %d lines, %v", a, len(lines), err)
		}
		for _, line := range lines {
			line.Time = want[len(want)-1].Time
			if !reflect.DeepEqual(line, want[len(want)-1]) {
				rt.Fatalf("%s: line %+v\nwant %+v", a, line, want[len(want)-1])
			}
			want = want[:len(want)-1]
		}
		if before = next; next == "" {
			break
		}
	}
	if len(want) > 0 {
		rt.Fatalf("%s: %d lines are missing", a, len(want))
	}
	if _, _, err := l.Statement(t.Context(), a, "x", limit); !errors.Is(err, ErrCursor) {
		rt.Fatal(err)
	}
}

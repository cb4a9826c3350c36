package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/delivery"
	"inos.dev/edge/gateway/credit/ledger"
	"inos.dev/edge/mesh"
)

var (
	object = cas.Sum([]byte("an object"))
	alice  = credit.User("alice") // pays
	bob    = credit.User("bob")   // pays, too
)

func secret(tb testing.TB, first byte) mesh.Secret {
	tb.Helper()
	s, err := mesh.SecretFromSeed(append([]byte{first}, make([]byte, 31)...))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// node is a server with its books.
type node struct {
	*delivery.Sessions
	key    mesh.Secret
	ledger *ledger.Ledger
}

func newNode(tb testing.TB, cfg delivery.Config) *node {
	tb.Helper()
	l, err := ledger.Open(ledger.Config{Dir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Error(err)
		}
	})
	cfg.Key = secret(tb, 1)
	if cfg.Ledger == nil {
		cfg.Ledger = l
	}
	s, err := delivery.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return &node{s, cfg.Key, l}
}

func (n *node) open(tb testing.TB, who delivery.Who) mesh.Nonce {
	tb.Helper()
	d, err := n.Open(tb.Context(), who)
	if err != nil || d.Nonce.IsZero() || d.Server != n.key.Public() || !d.Expires.After(time.Now()) {
		tb.Fatalf("%+v, %v", d, err)
	}
	return d.Nonce
}

// receipt is what a client signs now.
func (n *node) receipt(tb testing.TB, client mesh.Secret, nonce mesh.Nonce, bytes int64) mesh.Receipt {
	tb.Helper()
	r, err := client.SignReceipt(mesh.Receipt{Nonce: nonce, Server: n.key.Public(), Bytes: bytes, Chunks: mesh.Chain(cas.Hash{}, object), Time: time.Now()})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// attests submits r, and wants so many bytes to be attested with that.
func (n *node) attests(tb testing.TB, subject string, r mesh.Receipt, want int64) mesh.Countersigned {
	tb.Helper()
	c, err := n.Submit(tb.Context(), subject, r)
	if err != nil || c.Attested != want || c.Verify() != nil {
		tb.Fatalf("attested %d, want %d: %v", c.Attested, want, err)
	}
	return c
}

// booked wants so many attested bytes in the books of an account.
func (n *node) booked(tb testing.TB, a credit.Account, want int64) {
	tb.Helper()
	state, err := n.ledger.State(tb.Context(), a)
	if err != nil || state.Attested != want {
		tb.Fatalf("the books attest %d bytes of %s, want %d: %v", state.Attested, a, want, err)
	}
}

func (n *node) proven(tb testing.TB, want int64) {
	tb.Helper()
	state, err := n.ledger.State(tb.Context(), credit.Node(n.key.Public()))
	if err != nil || state.Proven != want || state.Balance != 0 {
		tb.Fatalf("the node has proven %d bytes and earned %d, want %d and 0: %v", state.Proven, state.Balance, want, err)
	}
}

func TestReceiptCountsOnce(t *testing.T) {
	n, client := newNode(t, delivery.Config{}), secret(t, 2)
	nonce := n.open(t, delivery.Who{Client: client.Public(), Subject: "reader"})
	if !n.Count(nonce, alice, object, 700) || !n.Count(nonce, alice, object, 300) {
		t.Fatal("not counted")
	}
	r := n.receipt(t, client, nonce, 900)
	first := n.attests(t, "reader", r, 900)
	if first.Counted != 1000 || first.Receipt != r {
		t.Errorf("%+v", first)
	}
	for range 100 {
		if again := n.attests(t, "reader", r, 900); again != first {
			t.Fatalf("%+v, and then %+v", first, again)
		}
	}
	seq := n.ledger.Seq()
	n.booked(t, alice, 900)
	n.proven(t, 900)
	if seq != 1 {
		t.Errorf("%d records", seq)
	}
	// The last one wins, an older one changes nothing, and more than was
	// counted does not count.
	last := n.attests(t, "reader", n.receipt(t, client, nonce, 5000), 1000)
	if got := n.attests(t, "reader", r, 1000); got != last {
		t.Errorf("an older receipt was answered with %+v", got)
	}
	n.booked(t, alice, 1000)
	n.proven(t, 1000)
}

func TestSubmitRefuses(t *testing.T) {
	registry := prometheus.NewRegistry()
	n, client, other := newNode(t, delivery.Config{Registry: registry}), secret(t, 2), secret(t, 3)
	nonce := n.open(t, delivery.Who{Client: client.Public(), Subject: "reader"})
	n.Count(nonce, alice, object, 1000)
	change := func(f func(*mesh.Receipt)) mesh.Receipt {
		r := n.receipt(t, client, nonce, 1000)
		f(&r)
		return r
	}
	sign := func(s mesh.Secret, f func(*mesh.Receipt)) mesh.Receipt {
		r, err := s.SignReceipt(change(f))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for name, tt := range map[string]struct {
		subject string
		receipt mesh.Receipt
		want    error
	}{
		"another key":         {"reader", sign(other, func(*mesh.Receipt) {}), delivery.ErrIdentity},
		"another subject":     {"thief", sign(client, func(*mesh.Receipt) {}), delivery.ErrIdentity},
		"no token":            {"", sign(client, func(*mesh.Receipt) {}), delivery.ErrIdentity},
		"forged bytes":        {"reader", change(func(r *mesh.Receipt) { r.Bytes++ }), mesh.ErrSignature},
		"forged list":         {"reader", change(func(r *mesh.Receipt) { r.Chunks[0]++ }), mesh.ErrSignature},
		"forged signature":    {"reader", change(func(r *mesh.Receipt) { r.Signature[5]++ }), mesh.ErrSignature},
		"key of somebody":     {"reader", change(func(r *mesh.Receipt) { r.Client = other.Public() }), delivery.ErrIdentity},
		"malformed":           {"reader", change(func(r *mesh.Receipt) { r.Bytes = -1 }), mesh.ErrReceipt},
		"empty":               {"reader", mesh.Receipt{Server: n.key.Public()}, delivery.ErrUnknown},
		"another server":      {"reader", sign(client, func(r *mesh.Receipt) { r.Server = other.Public() }), delivery.ErrServer},
		"unknown nonce":       {"reader", sign(client, func(r *mesh.Receipt) { r.Nonce[0]++ }), delivery.ErrUnknown},
		"of some minutes ago": {"reader", sign(client, func(r *mesh.Receipt) { r.Time = r.Time.Add(-delivery.Tolerance - time.Minute) }), delivery.ErrTime},
		"of the future":       {"reader", sign(client, func(r *mesh.Receipt) { r.Time = r.Time.Add(delivery.Tolerance + time.Minute) }), delivery.ErrTime},
	} {
		if c, err := n.Submit(t.Context(), tt.subject, tt.receipt); !errors.Is(err, tt.want) || c != (mesh.Countersigned{}) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	n.booked(t, alice, 0)
	n.attests(t, "reader", sign(client, func(r *mesh.Receipt) { r.Time = r.Time.Add(-delivery.Tolerance + time.Minute) }), 1000)
	if got := metric(t, registry, "inos_delivery_rejected_total", "identity"); got != 4 {
		t.Errorf("%v rejected for their identity", got)
	}
	if got := metric(t, registry, "inos_credit_attested_bytes_total", ""); got != 1000 {
		t.Errorf("%v bytes attested", got)
	}
	if got := metric(t, registry, "inos_delivery_sessions", ""); got != 1 {
		t.Errorf("%v sessions", got)
	}
}

// metric is the value of one series of a registry.
func metric(t *testing.T, registry *prometheus.Registry, name, reason string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (reason == "" || m.GetLabel()[0].GetValue() == reason) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no %s of %q", name, reason)
	return 0
}

func TestSelfDealing(t *testing.T) {
	n, client := newNode(t, delivery.Config{Owners: []string{"operator", "owner"}, Earner: credit.User("earner")}), secret(t, 2)
	for name, tt := range map[string]struct {
		key     mesh.Secret
		subject string
		want    int64
	}{
		"key of the server":        {n.key, "reader", 0},
		"operator":                 {client, "operator", 0},
		"owner":                    {client, "owner", 0},
		"who earns":                {client, "earner", 0},
		"anybody":                  {client, "", 1000},
		"the publisher, who pays":  {client, "alice", 1000},
		"called like an owner's e": {client, "owne", 1000},
	} {
		nonce := n.open(t, delivery.Who{Client: tt.key.Public(), Subject: tt.subject})
		n.Count(nonce, alice, object, 1000)
		t.Run(name, func(t *testing.T) {
			c := n.attests(t, tt.subject, n.receipt(t, tt.key, nonce, 1000), tt.want)
			if c.Counted != 1000 {
				t.Errorf("%+v", c)
			}
			if again := n.attests(t, tt.subject, c.Receipt, tt.want); again != c {
				t.Errorf("%+v, and then %+v", c, again)
			}
		})
	}
	n.booked(t, alice, 3000)
}

// TestPayersInOrder: a receipt goes to payers in the order in which they
// appeared, and to none more than was counted.
func TestPayersInOrder(t *testing.T) {
	n, client := newNode(t, delivery.Config{}), secret(t, 2)
	nonce := n.open(t, delivery.Who{Client: client.Public()})
	n.Count(nonce, alice, object, 100)
	n.Count(nonce, bob, object, 50)
	n.attests(t, "", n.receipt(t, client, nonce, 120), 120)
	n.booked(t, alice, 100)
	n.booked(t, bob, 20)
	n.Count(nonce, alice, cas.Sum([]byte("another")), 30)
	n.attests(t, "", n.receipt(t, client, nonce, 140), 140)
	n.booked(t, alice, 120)
	n.booked(t, bob, 20)
	n.attests(t, "", n.receipt(t, client, nonce, 200), 180)
	n.booked(t, alice, 130)
	n.booked(t, bob, 50)
}

func TestPayersAreBounded(t *testing.T) {
	n, client := newNode(t, delivery.Config{}), secret(t, 2)
	nonce := n.open(t, delivery.Who{Client: client.Public()})
	if n.Count(nonce, credit.Node(n.key.Public()), object, 10) || n.Count(nonce, "nobody", object, 10) {
		t.Error("what nobody can have paid was counted")
	}
	for i := range delivery.MaxPayers + 3 {
		if counted := n.Count(nonce, credit.User(fmt.Sprint(i)), object, 10); counted != (i < delivery.MaxPayers) {
			t.Errorf("payer %d: %t", i, counted)
		}
	}
	c := n.attests(t, "", n.receipt(t, client, nonce, 1<<40), 10*delivery.MaxPayers)
	if c.Counted != 10*(delivery.MaxPayers+5) {
		t.Errorf("%d bytes counted", c.Counted)
	}
}

// TestReceiptBeforeCount: the client may be faster than the count.
func TestReceiptBeforeCount(t *testing.T) {
	n, client := newNode(t, delivery.Config{}), secret(t, 2)
	nonce := n.open(t, delivery.Who{Client: client.Public()})
	r := n.receipt(t, client, nonce, 1000)
	n.attests(t, "", r, 0)
	n.Count(nonce, alice, object, 400)
	n.attests(t, "", r, 400)
	n.Count(nonce, alice, object, 600)
	n.attests(t, "", r, 1000)
	n.Count(nonce, alice, object, 600)
	n.attests(t, "", r, 1000)
	n.booked(t, alice, 1000)
}

// unsure is a ledger that answers an error, with the record written or not.
type unsure struct {
	credit.Ledger
	write bool
	fail  int
}

var errDisk = errors.New("disk")

func (u *unsure) Append(ctx context.Context, id string, entries []credit.Entry) (uint64, bool, error) {
	if u.fail--; u.fail >= 0 {
		if u.write {
			if _, _, err := u.Ledger.Append(ctx, id, entries); err != nil {
				return 0, false, err
			}
		}
		return 0, false, errDisk
	}
	return u.Ledger.Append(ctx, id, entries)
}

// TestUnsureLedger: a record that may have been written counts once, whatever
// is counted before it is tried again.
func TestUnsureLedger(t *testing.T) {
	for _, written := range []bool{false, true} {
		u := &unsure{write: written, fail: 3}
		n, client := newNode(t, delivery.Config{Ledger: u}), secret(t, 2)
		u.Ledger = n.ledger
		nonce := n.open(t, delivery.Who{Client: client.Public()})
		for range 3 {
			n.Count(nonce, alice, object, 100)
			if _, err := n.Submit(t.Context(), "", n.receipt(t, client, nonce, 1000)); !errors.Is(err, errDisk) {
				t.Fatal(err)
			}
		}
		n.attests(t, "", n.receipt(t, client, nonce, 1000), 300)
		n.booked(t, alice, 300)
	}
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, client := newNode(t, delivery.Config{}), secret(t, 2)
		idle := n.open(t, delivery.Who{Client: client.Public()})
		read := n.open(t, delivery.Who{Client: client.Public()})
		confirmed := n.open(t, delivery.Who{Client: client.Public()})
		for range 12 * 24 {
			time.Sleep(5*time.Minute - time.Millisecond)
			if !n.Count(read, alice, object, 1) {
				t.Fatal("in use, and gone")
			}
			if _, err := n.Submit(t.Context(), "", n.receipt(t, client, confirmed, 0)); err != nil {
				t.Fatal(err)
			}
		}
		if n.Count(idle, alice, object, 1) || n.Len() != 2 {
			t.Error("idle, and there")
		}
		if _, err := n.Submit(t.Context(), "", n.receipt(t, client, idle, 0)); !errors.Is(err, delivery.ErrUnknown) {
			t.Error(err)
		}
		time.Sleep(time.Second) // a day is over
		if n.Count(read, alice, object, 1) {
			t.Error("older than a day, and there")
		}
		time.Sleep(10 * time.Minute)
		if n.Len() != 0 {
			t.Errorf("%d deliveries", n.Len())
		}
	})
}

func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, client := newNode(t, delivery.Config{MaxSessions: 3, MaxPerQuota: 2}), secret(t, 2)
		who := func(quota string) delivery.Who { return delivery.Who{Client: client.Public(), Quota: quota} }
		first := n.open(t, who("a"))
		n.open(t, who("a"))
		time.Sleep(time.Second)
		if _, err := n.Open(t.Context(), who("a")); !errors.Is(err, delivery.ErrTooMany) {
			t.Errorf("a third one: %v", err)
		}
		third := n.open(t, who("b"))
		if _, err := n.Open(t.Context(), who("b")); !errors.Is(err, delivery.ErrTooMany) {
			t.Errorf("all places are in use: %v", err)
		}
		time.Sleep(time.Minute)
		n.Count(first, alice, object, 1)
		time.Sleep(time.Second)
		fourth := n.open(t, who("b")) // instead of the second
		if !n.Count(first, alice, object, 1) || !n.Count(third, alice, object, 1) || !n.Count(fourth, alice, object, 1) {
			t.Error("the wrong one gave way")
		}
		if _, err := n.Open(t.Context(), who("a")); !errors.Is(err, delivery.ErrTooMany) {
			t.Errorf("all places are in use again: %v", err)
		}
		time.Sleep(time.Minute)
		n.open(t, who("a"))
	})
}

func TestOpenRefuses(t *testing.T) {
	n := newNode(t, delivery.Config{})
	if _, err := n.Open(t.Context(), delivery.Who{Subject: "reader"}); !errors.Is(err, mesh.ErrReceipt) {
		t.Error(err)
	}
	for name, cfg := range map[string]delivery.Config{
		"no key":    {Ledger: n.ledger},
		"no ledger": {Key: n.key},
		"negative":  {Key: n.key, Ledger: n.ledger, MaxSessions: -1},
		"no earner": {Key: n.key, Ledger: n.ledger, Earner: "x"},
	} {
		if _, err := delivery.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestTooOften: receipts over new bytes are a record each, and so bounded; one
// over nothing new is not.
func TestTooOften(t *testing.T) {
	n, client := newNode(t, delivery.Config{}), secret(t, 2)
	nonce := n.open(t, delivery.Who{Client: client.Public()})
	last := mesh.Countersigned{}
	for i := range int64(3 * delivery.ReceiptBurst) {
		n.Count(nonce, alice, object, 1)
		got, err := n.Submit(t.Context(), "", n.receipt(t, client, nonce, i+1))
		if errors.Is(err, delivery.ErrTooOften) {
			if i < delivery.ReceiptBurst {
				t.Fatalf("receipt %d is one too many", i+1)
			}
			if again, err := n.Submit(t.Context(), "", last.Receipt); err != nil || again != last {
				t.Errorf("the last one again: %+v, %v", again, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		last = got
	}
	t.Error("there may be any number of receipts")
}

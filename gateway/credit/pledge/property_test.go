package pledge_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/big"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/ledger"
	"inos.dev/edge/gateway/credit/pledge"
)

// disk breaks down after some writes: what the node does from then on does not
// reach it. The write that it breaks down in may have reached it.
type disk struct {
	armed   bool
	left    int  // writes until then
	reached bool // whether the last one gets there
	broken  bool
}

var errBroken = errors.New("the node is dead")

func (d *disk) WriteAt(f *os.File, b []byte, off int64) (int, error) {
	if d.armed && !d.broken {
		if d.left == 0 {
			d.broken = true
			if d.reached {
				if n, err := f.WriteAt(b, off); err != nil {
					return n, err
				}
			}
		}
		d.left--
	}
	if d.broken {
		return 0, errBroken
	}
	return f.WriteAt(b, off)
}

func (d *disk) Truncate(f *os.File, size int64) error {
	if d.broken {
		return errBroken
	}
	return f.Truncate(size)
}

func (d *disk) Sync(*os.File) error {
	if d.broken {
		return errBroken
	}
	return nil // the machine does not crash, the node does
}

// doubtful is a ledger that answers an error now and then, whether it has
// written the record or not.
type doubtful struct {
	credit.Ledger
	mu      sync.Mutex
	fails   int  // guarded by mu: so many of the next records
	written bool // guarded by mu
}

var errDoubt = errors.New("nobody knows whether it was written")

func (d *doubtful) Append(ctx context.Context, id string, entries []credit.Entry) (uint64, bool, error) {
	return d.Decide(ctx, id, func(credit.View) ([]credit.Entry, error) { return entries, nil })
}

func (d *doubtful) Decide(ctx context.Context, id string, f func(credit.View) ([]credit.Entry, error)) (seq uint64, again bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fails--; d.fails < 0 {
		return d.Ledger.Decide(ctx, id, f)
	}
	if d.written {
		_, _, err = d.Ledger.Decide(ctx, id, f)
	}
	return 0, false, cmp.Or(err, errDoubt)
}

// world is a node that pledges live and die on.
type world struct {
	t       *testing.T
	dir     string
	disk    *disk
	ledger  *ledger.Ledger
	doubt   *doubtful
	pledges *pledge.Pledges
	holders *holders
}

func (w *world) start(rt *rapid.T) {
	var err error
	w.disk = &disk{}
	if w.ledger, err = ledger.Open(ledger.Config{Dir: w.dir, Disk: w.disk}); err != nil {
		rt.Fatal(err)
	}
	w.doubt = &doubtful{Ledger: w.ledger}
	if w.pledges, err = pledge.Open(w.t.Context(), pledge.Config{Ledger: w.doubt, Holders: w.holders, NoticeEpochs: 2, Keep: 24 * time.Hour, MaxEpochs: 10}); err != nil {
		rt.Fatal(err)
	}
}

// crash starts the node again from what is on its disk now.
func (w *world) crash(rt *rapid.T) {
	dir := w.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(w.dir)); err != nil {
		rt.Fatal(err)
	}
	w.disk.broken = true
	_ = w.ledger.Close() // nobody is there to hear of its errors
	if err := os.RemoveAll(w.dir); err != nil {
		rt.Fatal(err)
	}
	w.dir = dir
	w.start(rt)
}

// survive starts the node again if it died; err is what the caller was told.
func (w *world) survive(rt *rapid.T, err error, allowed ...error) {
	for _, a := range append(allowed, errDoubt) {
		if errors.Is(err, a) {
			err = nil
		}
	}
	if w.disk.broken {
		w.crash(rt)
	} else if err != nil {
		rt.Fatal(err)
	}
}

// check holds the books against what must always be true.
func (w *world) check(rt *rapid.T) {
	accounts, err := w.ledger.Accounts(w.t.Context(), "", 1000)
	if err != nil {
		rt.Fatal(err)
	}
	sum := credit.Amount(0)
	escrows := map[credit.Account]credit.Amount{}
	for _, a := range accounts {
		sum += a.State.Balance
		if a.Account.IsEscrow() {
			escrows[a.Account] = a.State.Balance
		}
		if a.Account.IsEscrow() && a.State.Balance < 0 {
			rt.Fatalf("%s has %d", a.Account, a.State.Balance)
		}
	}
	if sum != 0 {
		rt.Fatalf("all accounts add up to %d", sum)
	}
	list, err := w.pledges.List(w.t.Context(), "", "", 1000)
	if err != nil {
		rt.Fatal(err)
	}
	for _, p := range list {
		w.checkPledge(rt, p, escrows[credit.Escrow(p.ID)])
		delete(escrows, credit.Escrow(p.ID))
	}
	for a, left := range escrows {
		if left != 0 {
			rt.Fatalf("%s has %d and no pledge", a, left)
		}
	}
}

// checkPledge holds a pledge against its escrow's statement: what was locked is
// in escrow, paid, or returned; no record pays a holder twice; and all that was
// paid is not more than the time so far costs, as it would be if an epoch was
// paid twice.
func (w *world) checkPledge(rt *rapid.T, p pledge.Pledge, escrow credit.Amount) {
	lines, _, err := w.ledger.Statement(w.t.Context(), credit.Escrow(p.ID), ledger.Cursor(""), 1000)
	if err != nil || len(lines) == 1000 {
		rt.Fatalf("%d lines, %v", len(lines), err)
	}
	var locked, paid, returned credit.Amount
	type payment struct {
		seq uint64
		to  credit.Account
	}
	seen := map[payment]bool{}
	for _, l := range lines {
		switch e := l.Entry; e.Kind {
		case credit.KindEscrow:
			locked += e.Amount
		case credit.KindRelease:
			returned += e.Amount
		case credit.KindRetain:
			paid += e.Amount
			if at := (payment{l.Seq, e.To}); seen[at] {
				rt.Fatalf("%s pays %s twice in record %d", p.ID, e.To, l.Seq)
			} else {
				seen[at] = true
			}
		}
	}
	if locked != p.Locked || paid != p.Paid || returned != p.Returned || escrow != p.Escrow() || escrow != locked-paid-returned {
		rt.Fatalf("%d locked, %d paid, %d returned, %d in escrow; the pledge says %+v", locked, paid, returned, escrow, p)
	}
	r := p.Request
	most := big.NewInt(r.Bytes)
	for _, f := range []int64{int64(r.RF), int64(r.PriceCap), int64(p.Settled.Sub(p.Opened) / time.Second)} {
		most.Mul(most, big.NewInt(f))
	}
	if most.Quo(most, big.NewInt(3600<<30)); most.Cmp(big.NewInt(int64(paid))) < 0 {
		rt.Fatalf("%d paid for %v, which cost at most %d: %+v", paid, p.Settled.Sub(p.Opened), most, p)
	}
}

func drawRequest(rt *rapid.T) pledge.Request {
	r := pledge.Request{
		Object:   cas.Sum([]byte{rapid.Byte().Draw(rt, "object") % 3}),
		Bytes:    rapid.SampledFrom([]int64{1, 1000, gib - 1, gib, 7 * gib}).Draw(rt, "bytes"),
		RF:       rapid.IntRange(1, 5).Draw(rt, "rf"),
		PriceCap: rapid.SampledFrom([]credit.Price{0, 1, 999, 1001, 50_000}).Draw(rt, "cap"),
	}
	if rapid.Bool().Draw(rt, "with an end") {
		r.For = time.Duration(rapid.Int64Range(60, 20_000).Draw(rt, "seconds")) * time.Second
		return r
	}
	epoch, err := pledge.Quote(r.Bytes, r.RF, 10*time.Minute, max(r.PriceCap, 1000))
	if err != nil {
		rt.Fatal(err)
	}
	r.Credits = 1 + epoch*credit.Amount(rapid.SampledFrom([]int{12, 35, 60, 9, 110}).Draw(rt, "tenths of an epoch"))/10
	return r
}

func drawHoldings(rt *rapid.T) []pledge.Holding {
	return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) pledge.Holding {
		return pledge.Holding{
			Account: holder(rapid.IntRange(0, 9).Draw(rt, "holder")),
			Bytes:   rapid.SampledFrom([]int64{1 << 50, 1 << 50, gib, 999, 1, 0, -1}).Draw(rt, "bytes"),
			Ask:     rapid.SampledFrom([]credit.Price{999, 1000, 1, 0, 777, 1001, 40_000, -1}).Draw(rt, "ask"),
		}
	}), 3, 12).Draw(rt, "holdings")
}

// TestBooks: whatever is pledged, released and settled, with holders that come
// and go, with a clock that jumps, and with a node that is killed in the middle
// of it, no credit is lost, and none is paid twice.
func TestBooks(t *testing.T) {
	rich := t.TempDir() // the books that each example begins with
	l, err := ledger.Open(ledger.Config{Dir: rich})
	if err != nil {
		t.Fatal(err)
	}
	grant(t, l, alice, 400_000)
	grant(t, l, bob, 400_000)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for range soak(1, 10) {
		rapid.Check(t, func(rt *rapid.T) { inBubble(t, rt, rich) })
	}
}

// inBubble runs one example on a clock of its own. rapid must not
// run on it, since it gives up when it takes it for late.
func inBubble(t *testing.T, rt *rapid.T, rich string) {
	t.Helper()
	var failed any // how rapid ends an example
	synctest.Test(t, func(t *testing.T) {
		defer func() { failed = recover() }()
		checkBooks(t, rt, rich)
	})
	switch fmt.Sprintf("%T", failed) { // rapid takes panics in one line for the same
	case "<nil>":
	case "rapid.invalidData": // it drew nothing that it could use
		panic(failed)
	default:
		panic(failed)
	}
}

func soak(short, full int) int {
	if v := os.Getenv("INOS_SOAK"); v == "" || v == "0" {
		return short
	}
	return full
}

func checkBooks(t *testing.T, rt *rapid.T, rich string) {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), holders: &holders{}}
	if err := os.CopyFS(w.dir, os.DirFS(rich)); err != nil {
		rt.Fatal(err)
	}
	w.start(rt)
	defer func() {
		if err := w.ledger.Close(); err != nil {
			rt.Error(err)
		}
	}()
	ctx := context.Background()
	w.holders.set(drawHoldings(rt), nil)
	owner := func(rt *rapid.T) credit.Account {
		return rapid.SampledFrom([]credit.Account{alice, bob}).Draw(rt, "owner")
	}
	id := func(rt *rapid.T) string { return fmt.Sprintf("p%d", rapid.IntRange(0, 5).Draw(rt, "id")) }
	create := func(rt *rapid.T) {
		_, err := w.pledges.Create(ctx, owner(rt), id(rt), drawRequest(rt))
		w.survive(rt, err, credit.ErrUnderfunded, pledge.ErrExists)
	}
	for range 3 {
		create(rt)
	}
	rt.Repeat(map[string]func(*rapid.T){
		"create": create,
		"top up": func(rt *rapid.T) {
			amount := credit.Amount(rapid.Int64Range(1, 50_000).Draw(rt, "amount"))
			_, err := w.pledges.TopUp(ctx, owner(rt), id(rt), rapid.StringN(1, 3, 3).Draw(rt, "key"), amount)
			w.survive(rt, err, credit.ErrUnderfunded, pledge.ErrUnknown, pledge.ErrOwner, pledge.ErrOver, pledge.ErrRequest)
		},
		"release": func(rt *rapid.T) {
			_, err := w.pledges.Release(ctx, owner(rt), id(rt))
			w.survive(rt, err, pledge.ErrUnknown, pledge.ErrOwner)
		},
		"hold": func(rt *rapid.T) {
			list, err := drawHoldings(rt), error(nil)
			if rapid.IntRange(0, 4).Draw(rt, "fails") == 0 {
				err = errHolders
			}
			w.holders.set(list, err)
		},
		"settle": func(rt *rapid.T) {
			minutes := rapid.SampledFrom([]int{0, 10, 10, 20, 60, 120}).Draw(rt, "minutes")
			time.Sleep(time.Duration(60*minutes+rapid.IntRange(0, 60).Draw(rt, "seconds")) * time.Second)
			now := time.Now().Add(time.Duration(rapid.SampledFrom([]int64{0, 0, 0, -7200, 7200}).Draw(rt, "jump")) * time.Second)
			more, err := true, error(nil)
			for more && err == nil {
				more, err = w.pledges.Settle(ctx, now)
			}
			w.survive(rt, err, errHolders)
		},
		"doubt": func(rt *rapid.T) {
			w.doubt.fails, w.doubt.written = rapid.IntRange(1, 3).Draw(rt, "failures"), rapid.Bool().Draw(rt, "written")
		},
		"will die": func(rt *rapid.T) {
			w.disk.left, w.disk.reached = rapid.IntRange(0, 7).Draw(rt, "writes"), rapid.Bool().Draw(rt, "the last one reaches the disk")
			w.disk.armed = true
		},
		"": w.check,
	})
	w.end(rt)
}

var errHolders = errors.New("nobody knows who holds it")

// end releases all that is left, and wants every escrow to be empty.
func (w *world) end(rt *rapid.T) {
	w.crash(rt)
	w.holders.set(nil, nil)
	list, err := w.pledges.List(w.t.Context(), "", "", 1000)
	for _, p := range list {
		if _, err := w.pledges.Release(w.t.Context(), p.Owner, p.ID); err != nil {
			rt.Fatal(err)
		}
	}
	for more := err == nil; more; {
		if more, err = w.pledges.Settle(w.t.Context(), time.Now().Add(10*24*time.Hour)); err != nil {
			rt.Fatal(err)
		}
	}
	w.check(rt)
	if list, err = w.pledges.List(w.t.Context(), "", "", 1000); err != nil || len(list) != 0 {
		rt.Fatalf("%+v, %v", list, err)
	}
	if rf, ok := w.pledges.Floor(object); ok {
		rt.Fatalf("the floor is %d", rf)
	}
	report, err := w.ledger.Audit(w.t.Context())
	if err != nil || !report.OK {
		rt.Fatalf("%+v, %v", report, err)
	}
}

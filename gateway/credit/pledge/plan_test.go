package pledge

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/mesh"
)

func TestQuote(t *testing.T) {
	for _, tt := range []struct {
		bytes int64
		rf    int
		d     time.Duration
		price credit.Price
		want  credit.Amount
	}{
		{1 << 30, 1, time.Hour, 1000, 1000},
		{1 << 30, 10, time.Hour, 1000, 10_000},
		{1 << 30, 1, 10 * time.Minute, 1000, 167}, // rounded up
		{1, 1, time.Second, 1, 1},
		{1, 1, time.Hour, 0, 0},
		{MaxBytes, mesh.MaxRF, time.Hour, 1000, 1000 * 64 << 22},
	} {
		got, err := Quote(tt.bytes, tt.rf, tt.d, tt.price)
		if err != nil || got != tt.want {
			t.Errorf("%+v: %d, %v", tt, got, err)
		}
	}
	for name, err := range map[string]error{
		"no bytes":  second(Quote(0, 1, time.Hour, 1)),
		"too large": second(Quote(MaxBytes+1, 1, time.Hour, 1)),
		"no rf":     second(Quote(1, 0, time.Hour, 1)),
		"rf":        second(Quote(1, mesh.MaxRF+1, time.Hour, 1)),
		"long":      second(Quote(1, 1, MaxTerm+1, 1)),
		"all money": second(Quote(MaxBytes, 64, MaxTerm, credit.MaxPrice)),
	} {
		if !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Quote(1, 1, time.Hour, -1); !errors.Is(err, credit.ErrPrice) {
		t.Error(err)
	}
}

func second(_ credit.Amount, err error) error { return err }

// TestLasts: an amount pays for as long as Lasts says, and not for a second
// more.
func TestLasts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bytes, rf := rapid.Int64Range(1, MaxBytes).Draw(t, "bytes"), rapid.IntRange(1, mesh.MaxRF).Draw(t, "rf")
		amount := credit.Amount(rapid.Int64Range(0, 1e15).Draw(t, "amount"))
		price := credit.Price(rapid.Int64Range(0, 1e6).Draw(t, "price"))
		d := Lasts(bytes, rf, amount, price)
		if cost, err := Quote(bytes, rf, d, price); err != nil || cost > amount {
			t.Fatalf("%v cost %d, %v", d, cost, err)
		}
		if d == MaxTerm {
			return
		}
		if cost, err := Quote(bytes, rf, d+time.Second, price); err == nil && cost <= amount {
			t.Fatalf("a second more than %v cost %d", d, cost)
		}
	})
}

// TestChargesAddUp: parts cost together what the whole does.
func TestChargesAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bytes, price := rapid.Int64Range(1, 1<<40).Draw(t, "bytes"), credit.Price(rapid.Int64Range(0, 1e9).Draw(t, "price"))
		var sum, amount credit.Amount
		var rest uint64
		var whole time.Duration
		for _, s := range rapid.SliceOfN(rapid.Int64Range(0, 1e5), 1, 50).Draw(t, "seconds") {
			d := time.Duration(s) * time.Second
			amount, rest = charge(bytes, price, d, rest)
			sum += amount
			whole += d
		}
		if want, left := charge(bytes, price, whole, 0); sum != want || rest != left {
			t.Fatalf("%d and %d left, want %d and %d", sum, rest, want, left)
		}
	})
}

func TestChoose(t *testing.T) {
	r := Request{Object: cas.Sum([]byte("o")), Bytes: 1000, RF: 3, PriceCap: 10}
	got := choose(r, []Holding{
		{"node:dear", 1000, 11},
		{"node:b", 1000, 5},
		{"node:c", 900, 5},
		{"node:a", 2000, 7},
		{"node:b", 1000, 1}, // asks for less, too
		{"node:d", 1000, 10},
		{"node:negative", 1000, -1},
		{"node:nothing", 0, 1},
		{"somebody", 1000, 1},
		{credit.Treasury, 1000, 1},
		{credit.Escrow("p"), 1000, 1},
	})
	if want := []Holding{{"node:b", 1000, 1}, {"node:c", 900, 5}, {"node:a", 1000, 7}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestChooseIsFair: the order of the list does not matter, and among holders
// that ask for the same, each comes first for some objects.
func TestChooseIsFair(t *testing.T) {
	first := map[credit.Account]int{}
	for i := range 300 {
		r := Request{Object: cas.Sum([]byte{byte(i), byte(i >> 8)}), Bytes: 10, RF: 1, PriceCap: 10}
		list := []Holding{{"node:a", 10, 5}, {"node:b", 10, 5}, {"node:c", 10, 5}}
		got := choose(r, list)
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		if again := choose(r, list); !slices.Equal(got, again) || len(got) != 1 {
			t.Fatalf("%v, and then %v", got, again)
		}
		first[got[0].Account]++
	}
	for a, n := range first {
		if n < 50 || len(first) != 3 {
			t.Errorf("%s comes first %d times of 300", a, n)
		}
	}
}

// TestRestIsShared: of holders that are due a part of a micro-credit, none gets
// all that comes of the parts.
func TestRestIsShared(t *testing.T) {
	now := time.Unix(1_790_000_400, 0).UTC()
	p := Pledge{ID: "p", Request: Request{Object: cas.Sum(nil), Bytes: 1 << 30, RF: 3, PriceCap: 2}, State: Active, Opened: now, Settled: now, Locked: 1000}
	list := []Holding{{"node:a", 1 << 30, 2}, {"node:b", 1 << 30, 2}, {"node:c", 1 << 30, 2}}
	got := map[credit.Account]credit.Amount{}
	for range 600 {
		var paid []payment
		p, paid = p.settled(epochAt(p.Settled, 10*time.Minute), list, 10*time.Minute, 6)
		for _, h := range paid {
			got[h.Account] += h.amount
		}
	}
	for _, h := range list {
		if got[h.Account] != 200 { // a third of one in each epoch
			t.Errorf("%v", got)
		}
	}
}

func TestEpochAt(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tt := range []struct{ at, start, end string }{
		{"2026-07-01T12:00:00Z", "2026-07-01T12:00:00Z", "2026-07-01T12:10:00Z"},
		{"2026-07-01T12:09:59Z", "2026-07-01T12:00:00Z", "2026-07-01T12:10:00Z"},
		{"2026-07-01T14:10:00+02:00", "2026-07-01T12:10:00Z", "2026-07-01T12:20:00Z"},
	} {
		e := epochAt(at(tt.at), 10*time.Minute)
		if !e.Start.Equal(at(tt.start)) || !e.End.Equal(at(tt.end)) || e.Number != at(tt.start).Unix()/600 {
			t.Errorf("%s: %+v", tt.at, e)
		}
	}
}

// TestLongerEpochs: the operator may change the length of epochs; a pledge pays
// then what it has.
func TestLongerEpochs(t *testing.T) {
	now := time.Unix(1_790_000_400, 0).UTC()
	p := Pledge{ID: "p", Request: Request{Object: cas.Sum(nil), Bytes: 1 << 30, RF: 2, PriceCap: 6000}, State: Active, Opened: now, Settled: now, Locked: 2500}
	p, paid := p.settled(epochAt(now, 24*time.Hour), []Holding{{"node:a", 1 << 30, 6000}, {"node:b", 1 << 30, 6000}}, 24*time.Hour, 6)
	if p.State != Dry || p.Paid != 2500 || p.Escrow() != 0 || p.Returned != 0 {
		t.Errorf("%+v, %v", p, paid)
	}
}

func anyPledge(t *rapid.T) Pledge {
	moment := func(name string) time.Time {
		return time.Unix(rapid.Int64Range(1, 1<<40).Draw(t, name), 0).UTC()
	}
	p := Pledge{
		ID: "p", Owner: credit.User(rapid.StringMatching(`[!-~ä]{1,64}`).Draw(t, "owner")),
		Request: Request{Object: cas.Sum(nil), Bytes: rapid.Int64Range(1, MaxBytes).Draw(t, "bytes"), RF: rapid.IntRange(1, mesh.MaxRF).Draw(t, "rf"), PriceCap: 5},
		State:   rapid.SampledFrom([]State{Active, Low, Dry, Done, Released}).Draw(t, "state"),
		Opened:  moment("opened"), Locked: credit.Amount(rapid.Int64Range(1, 1<<53).Draw(t, "locked")), Epochs: 3,
		Rest: rapid.Uint64Range(0, gibHour-1).Draw(t, "rest"),
	}
	p.Settled = p.Opened.Add(time.Hour)
	p.Paid = p.Locked / 3
	if rapid.Bool().Draw(t, "with an end") {
		p.Request.For, p.Ends = time.Hour, moment("ends")
	} else {
		p.Request.Credits = 5
	}
	if rapid.Bool().Draw(t, "over") {
		p.Over, p.Returned = moment("over"), p.Escrow()
	}
	return p
}

func TestDocument(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPledge(t)
		b, err := encode(p)
		if err != nil || len(b) > credit.MaxDoc {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		if back, err := decode("p", b); err != nil || back != p {
			t.Fatalf("%+v became %+v, %v", p, back, err)
		}
	})
}

// FuzzDecode: what is no pledge is ErrBooks, and what is one is written again.
func FuzzDecode(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decode("p", b)
		if err != nil {
			if !errors.Is(err, ErrBooks) {
				t.Fatal(err)
			}
			return
		}
		again, err := encode(p)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decode("p", again); err != nil || back != p {
			t.Fatalf("%+v became %+v, %v", p, back, err)
		}
	})
}

func TestCheckRequest(t *testing.T) {
	good := Request{Object: cas.Sum(nil), Bytes: 1, RF: 1, For: time.Hour}
	for name, change := range map[string]func(*Request){
		"":            func(*Request) {},
		"object":      func(r *Request) { r.Object = cas.Hash{} },
		"bytes":       func(r *Request) { r.Bytes = 0 },
		"many bytes":  func(r *Request) { r.Bytes = MaxBytes + 1 },
		"rf":          func(r *Request) { r.RF = 0 },
		"large rf":    func(r *Request) { r.RF = mesh.MaxRF + 1 },
		"neither":     func(r *Request) { r.For = 0 },
		"both":        func(r *Request) { r.Credits = 1 },
		"short":       func(r *Request) { r.For = MinTerm - time.Second },
		"long":        func(r *Request) { r.For = MaxTerm + time.Second },
		"fraction":    func(r *Request) { r.For++ },
		"credits":     func(r *Request) { r.For, r.Credits = 0, -1 },
		"all credits": func(r *Request) { r.For, r.Credits = 0, credit.MaxAmount+1 },
	} {
		r := good
		change(&r)
		if err := r.check(); (name != "") != errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, id := range []string{"", "a b", "ä", "a/b", "a\n", fmt.Sprintf("%065d", 1)} {
		if err := checkID(id); !errors.Is(err, ErrRequest) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if err := checkID("Az-_09"); err != nil {
		t.Error(err)
	}
}

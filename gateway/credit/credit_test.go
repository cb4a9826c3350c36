package credit

import (
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"inos.dev/edge/mesh"
)

// TestPriceFor compares with integers of any size: whole micro-credits of
// rest + n × price, and the rest.
func TestPriceFor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Price(rapid.Int64Range(0, int64(MaxPrice)).Draw(t, "price"))
		n := rapid.Int64Range(0, math.MaxInt64).Draw(t, "bytes")
		rest := rapid.Uint32Range(0, 1<<30-1).Draw(t, "rest")
		got, left := p.For(n, rest)
		sum := new(big.Int).Mul(big.NewInt(n), big.NewInt(int64(p)))
		sum.Add(sum, big.NewInt(int64(rest)))
		whole, part := new(big.Int).DivMod(sum, big.NewInt(1<<30), new(big.Int))
		if whole.Cmp(big.NewInt(int64(MaxAmount))) > 0 {
			whole.SetInt64(int64(MaxAmount))
		}
		if whole.Int64() != int64(got) || part.Int64() != int64(left) {
			t.Fatalf("%d bytes at %d with rest %d: %d, %d; want %s, %s", n, p, rest, got, left, whole, part)
		}
	})
}

// TestPartsCostTheWhole: however a number of bytes is cut, its charges add up
// to the charge for all of them.
func TestPartsCostTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Price(rapid.Int64Range(0, 10*int64(Credit)).Draw(t, "price"))
		var sum Amount
		var rest uint32
		var bytes int64
		for _, n := range rapid.SliceOf(rapid.Int64Range(0, 1<<32)).Draw(t, "parts") {
			var charge Amount
			charge, rest = p.For(n, rest)
			sum, bytes = sum+charge, bytes+n
		}
		if want, left := p.For(bytes, 0); sum != want || rest != left {
			t.Fatalf("parts cost %d, rest %d; the whole %d, rest %d", sum, rest, want, left)
		}
	})
}

func TestAmountText(t *testing.T) {
	for a, want := range map[Amount]string{
		0: "0.000000", 1: "0.000001", -1: "-0.000001", Credit: "1.000000", -12_345_678: "-12.345678",
		math.MaxInt64: "9223372036854.775807", math.MinInt64: "-9223372036854.775808",
	} {
		if got := a.String(); got != want {
			t.Errorf("%d is written %s, want %s", int64(a), got, want)
		}
	}
}

func TestAccounts(t *testing.T) {
	key, err := mesh.SecretFromSeed(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	k := key.Public()
	for text, want := range map[string]Account{
		"alice": User("alice"), "user:alice": User("alice"), "treasury": Treasury, "user:treasury": User("treasury"),
		"node:" + k.String(): Node(k), "house:" + k.String(): House(k), "escrow:p1": Escrow("p1"), "a:b": User("a:b"),
	} {
		if got, err := ParseAccount(text); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "user:", "user:a\nb", "node:", "node:n", "house:" + strings.ToUpper(k.String()), strings.Repeat("x", 129), "\xff"} {
		if got, err := ParseAccount(text); !errors.Is(err, ErrAccount) {
			t.Errorf("%q is %q, %v", text, got, err)
		}
	}
	if !House(k).IsHouse() || User("house").IsHouse() || !Escrow("p").IsEscrow() || User("a").Subject() != "a" || Node(k).Subject() != "" {
		t.Error("accounts are taken for others")
	}
}

func TestEntryValidate(t *testing.T) {
	alice, bob := User("alice"), User("bob")
	good := []Entry{
		{Kind: KindGrant, From: Treasury, To: alice, Amount: 1},
		{Kind: KindServe, From: alice, To: bob, Bytes: 1, Rest: 1<<30 - 1},
		{Kind: KindLease, From: alice, Bytes: 5},
		{Kind: KindAttest, From: alice, To: bob, Bytes: 5},
		{Kind: KindDoc, From: alice, Ref: "terms", Doc: []byte("x")},
	}
	for _, e := range good {
		if err := e.Validate(); err != nil {
			t.Errorf("%+v: %v", e, err)
		}
	}
	for name, e := range map[string]Entry{
		"no kind": {From: alice}, "another kind": {Kind: KindDoc + 1, From: alice},
		"negative":              {Kind: KindGrant, From: Treasury, To: alice, Amount: -1},
		"too much":              {Kind: KindGrant, From: Treasury, To: alice, Amount: MaxAmount + 1},
		"to oneself":            {Kind: KindServe, From: alice, To: alice},
		"to nobody":             {Kind: KindServe, From: alice},
		"lease to somebody":     {Kind: KindLease, From: alice, To: bob},
		"lease with an amount":  {Kind: KindLease, From: alice, Amount: 1},
		"negative bytes":        {Kind: KindLease, From: alice, Bytes: -1},
		"rest of a grant":       {Kind: KindGrant, From: Treasury, To: alice, Rest: 1},
		"rest of a whole":       {Kind: KindServe, From: alice, To: bob, Rest: 1 << 30},
		"long reference":        {Kind: KindLease, From: alice, Ref: strings.Repeat("x", MaxRef+1)},
		"document, no name":     {Kind: KindDoc, From: alice, Doc: []byte("x")},
		"document, long":        {Kind: KindDoc, From: alice, Ref: "x", Doc: make([]byte, MaxDoc+1)},
		"document in a lease":   {Kind: KindLease, From: alice, Doc: []byte("x")},
		"attested to oneself":   {Kind: KindAttest, From: alice, To: alice},
		"attested by an amount": {Kind: KindAttest, From: alice, To: bob, Amount: 1},
	} {
		if err := e.Validate(); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (&Entry{Kind: KindLease, From: "nobody"}).Validate(); !errors.Is(err, ErrAccount) {
		t.Errorf("a malformed account: %v", err)
	}
}

func TestTerms(t *testing.T) {
	for _, terms := range []Terms{{}, {WhenEmpty: Refuse}, {WhenEmpty: Throttle, Debt: MaxAmount}} {
		if err := terms.Validate(); err != nil {
			t.Errorf("%+v: %v", terms, err)
		}
	}
	for _, terms := range []Terms{{WhenEmpty: "later"}, {Debt: -1}, {Debt: MaxAmount + 1}} {
		if err := terms.Validate(); !errors.Is(err, ErrEntry) {
			t.Errorf("%+v: %v", terms, err)
		}
	}
	if err := MaxPrice.Validate(); err != nil {
		t.Error(err)
	}
	for _, p := range []Price{-1, MaxPrice + 1} {
		if err := p.Validate(); !errors.Is(err, ErrPrice) {
			t.Errorf("price %d: %v", p, err)
		}
	}
}

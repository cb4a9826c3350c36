package main

import (
	"testing"

	"pgregory.net/rapid"

	"inos.dev/edge/gateway/credit"
)

// TestAmount: what is printed is read as the same.
func TestAmount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := credit.Amount(rapid.Int64Range(0, int64(credit.MaxAmount)).Draw(t, "amount"))
		var got amount
		if err := got.UnmarshalText([]byte(want.String())); err != nil || credit.Amount(got) != want {
			t.Fatalf("%s became %s, %v", want, credit.Amount(got), err)
		}
	})
	for text, want := range map[string]credit.Amount{"1": 1_000_000, "0.5": 500_000, "007.25": 7_250_000, "0": 0, "0.000001": 1} {
		var got amount
		if err := got.UnmarshalText([]byte(text)); err != nil || credit.Amount(got) != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

func TestAmountRefuses(t *testing.T) {
	for _, text := range []string{"", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", " 1", "0x1", "1.0000000", "9007199254.740993", "99999999999999999999999", "١"} {
		var got amount
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}

// FuzzAmount: what is read is written the same way, apart from zeros.
func FuzzAmount(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		var a, again amount
		if a.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(credit.Amount(a).String())); err != nil || again != a || a < 0 || credit.Amount(a) > credit.MaxAmount {
			t.Fatalf("%q is %d, then %d, %v", text, a, again, err)
		}
	})
}

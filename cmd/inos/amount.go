package main

import (
	"fmt"
	"strconv"
	"strings"

	"inos.dev/edge/gateway/credit"
)

// amount is credits as people type them: 12 or 0.000001, exactly.
type amount credit.Amount

// decimals of a credit.
const decimals = 6

// UnmarshalText reads 0 to credit.MaxAmount, with at most six decimals.
func (a *amount) UnmarshalText(text []byte) error {
	whole, part, dotted := strings.Cut(string(text), ".")
	if !dotted {
		part = "0"
	}
	if !digits(whole) || !digits(part) || len(part) > decimals {
		return fmt.Errorf("%q is no amount: write credits with at most %d decimals, such as 25 or 0.5", text, decimals)
	}
	v, err := strconv.ParseInt(whole+part+strings.Repeat("0", decimals-len(part)), 10, 64)
	if err != nil || credit.Amount(v) > credit.MaxAmount {
		return fmt.Errorf("%s is too much: at most %s credits", text, credit.MaxAmount)
	}
	*a = amount(v)
	return nil
}

func digits(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

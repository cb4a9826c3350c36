package pledge

import (
	"fmt"
	"math/big"
	"time"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/mesh"
)

// gibHour is what a price is for: 2³⁰ bytes for 3,600 seconds.
const gibHour = 3600 << 30

// Quote is what rf replicas of an object with so many stored bytes cost for a
// time, if each holder asks for price: whole micro-credits, rounded up. A
// Request for that time locks as much. Errors: ErrRequest, credit.ErrPrice.
func Quote(bytes int64, rf int, d time.Duration, price credit.Price) (credit.Amount, error) {
	if bytes < 1 || bytes > MaxBytes || rf < 1 || rf > mesh.MaxRF || d < 0 || d > MaxTerm {
		return 0, fmt.Errorf("%w: %d replicas of %d bytes for %v; at most %d of 2⁵² bytes for %v", ErrRequest, rf, bytes, d, mesh.MaxRF, MaxTerm)
	}
	if err := price.Validate(); err != nil {
		return 0, err
	}
	amount, _ := charge(bytes*int64(rf), price, d, gibHour-1)
	if amount >= credit.MaxAmount {
		return 0, fmt.Errorf("%w: it costs more credits than there can be; ask for less", ErrRequest)
	}
	return amount, nil
}

// Lasts is how long an amount pays for rf replicas of an object if each holder
// asks for price: whole seconds, MaxTerm at most.
func Lasts(bytes int64, rf int, amount credit.Amount, price credit.Price) time.Duration {
	perSecond := product(bytes, int64(rf), int64(price))
	if perSecond.Sign() <= 0 {
		return MaxTerm
	}
	seconds := product(int64(amount), gibHour)
	seconds.Quo(seconds, perSecond)
	if limit := int64(MaxTerm / time.Second); !seconds.IsInt64() || seconds.Int64() > limit {
		return MaxTerm
	}
	return time.Duration(seconds.Int64()) * time.Second
}

// charge is what so many bytes cost for the whole seconds of d: rest + bytes ×
// price × seconds, whole micro-credits of it, at most credit.MaxAmount, and the
// new rest, which counts parts of which a micro-credit has gibHour.
func charge(bytes int64, price credit.Price, d time.Duration, rest uint64) (credit.Amount, uint64) {
	exact := product(bytes, int64(price), int64(d/time.Second))
	exact.Add(exact, new(big.Int).SetUint64(rest))
	amount, left := exact.QuoRem(exact, big.NewInt(gibHour), new(big.Int))
	if !amount.IsInt64() || amount.Int64() > int64(credit.MaxAmount) {
		return credit.MaxAmount, left.Uint64()
	}
	return credit.Amount(amount.Int64()), left.Uint64()
}

// product does not overflow.
func product(factors ...int64) *big.Int {
	p := big.NewInt(1)
	for _, f := range factors {
		p.Mul(p, big.NewInt(f))
	}
	return p
}

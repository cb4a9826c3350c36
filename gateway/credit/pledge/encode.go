package pledge

import (
	"encoding/json"
	"fmt"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// prefix is in front of an id in the name of its document.
const prefix = "pledge/"

// documentVersion is the version of stored pledges.
const documentVersion = 1

// document is a Pledge as the ledger keeps it: JSON, so that a person can read
// it. Times are Unix seconds, 0 for none.
type document struct {
	Version  int            `json:"v"`
	Owner    credit.Account `json:"owner"`
	Object   cas.Hash       `json:"object"`
	Bytes    int64          `json:"bytes"`
	RF       int            `json:"rf"`
	For      int64          `json:"for,omitempty"` // seconds
	Credits  credit.Amount  `json:"credits,omitempty"`
	PriceCap credit.Price   `json:"price_cap"`
	State    State          `json:"state"`
	Opened   int64          `json:"opened"`
	Ends     int64          `json:"ends,omitempty"`
	Settled  int64          `json:"settled"`
	Over     int64          `json:"over,omitempty"`
	Locked   credit.Amount  `json:"locked"`
	Paid     credit.Amount  `json:"paid,omitempty"`
	Returned credit.Amount  `json:"returned,omitempty"`
	Rest     uint64         `json:"rest,omitempty"`
	Epochs   int64          `json:"epochs,omitempty"`
}

// encode returns the document of a pledge.
func encode(p Pledge) ([]byte, error) {
	r := p.Request
	b, err := json.Marshal(document{
		Version: documentVersion, Owner: p.Owner,
		Object: r.Object, Bytes: r.Bytes, RF: r.RF, For: int64(r.For / time.Second), Credits: r.Credits, PriceCap: r.PriceCap,
		State: p.State, Opened: seconds(p.Opened), Ends: seconds(p.Ends), Settled: seconds(p.Settled), Over: seconds(p.Over),
		Locked: p.Locked, Paid: p.Paid, Returned: p.Returned, Rest: p.Rest, Epochs: p.Epochs,
	})
	if err != nil {
		return nil, fmt.Errorf("pledge: %w", err)
	}
	return b, nil
}

// decode reads a document. What is no pledge is ErrBooks.
func decode(id string, b []byte) (Pledge, error) {
	var d document
	if err := json.Unmarshal(b, &d); err != nil {
		return Pledge{}, fmt.Errorf("%w: the document of %s: %w", ErrBooks, id, err)
	}
	if d.Version != documentVersion {
		return Pledge{}, fmt.Errorf("%w: the document of %s has version %d, this build reads %d", ErrBooks, id, d.Version, documentVersion)
	}
	p := Pledge{
		ID: id, Owner: d.Owner,
		Request: Request{Object: d.Object, Bytes: d.Bytes, RF: d.RF, For: time.Duration(d.For) * time.Second, Credits: d.Credits, PriceCap: d.PriceCap},
		State:   d.State, Opened: moment(d.Opened), Ends: moment(d.Ends), Settled: moment(d.Settled), Over: moment(d.Over),
		Locked: d.Locked, Paid: d.Paid, Returned: d.Returned, Rest: d.Rest, Epochs: d.Epochs,
	}
	if err := p.check(d); err != nil {
		return Pledge{}, fmt.Errorf("the document of %s: %w", id, err)
	}
	return p, nil
}

// check holds a decoded pledge against what each of them fulfils: ErrBooks.
func (p Pledge) check(d document) error {
	if err := p.Request.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrBooks, err)
	}
	if err := p.Owner.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrBooks, err)
	}
	switch p.State {
	case Active, Low, Dry, Done, Released:
	default:
		return fmt.Errorf("%w: state %.20q", ErrBooks, string(p.State))
	}
	switch {
	case d.Opened <= 0 || d.Settled < d.Opened || d.Ends < 0 || d.Over < 0:
		return fmt.Errorf("%w: its times are out of order", ErrBooks)
	case p.Locked < 0 || p.Locked > credit.MaxAmount || p.Paid < 0 || p.Paid > p.Locked || p.Returned < 0 || p.Returned > p.Locked-p.Paid || p.Rest >= gibHour || p.Epochs < 0:
		return fmt.Errorf("%w: of %d locked, %d were paid and %d returned", ErrBooks, p.Locked, p.Paid, p.Returned)
	case !p.Over.IsZero() && p.Escrow() != 0:
		return fmt.Errorf("%w: it is over and holds %d", ErrBooks, p.Escrow())
	}
	return nil
}

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func moment(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}

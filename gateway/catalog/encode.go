package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/mesh"
)

// recordVersion is the version of stored records. A new field is a new one.
const recordVersion = 1

// maxValue is the longest stored record: its texts, escaped at worst.
const maxValue = 8 << 10

// value is a Record as it is stored under its hash: JSON, so that a person
// with the bbolt tool can read it, in exactly the form that encode writes.
type value struct {
	Version   int       `json:"v"`
	Kind      cas.Kind  `json:"kind"`
	Size      int64     `json:"size"`
	Encoded   int64     `json:"encoded"`
	Pieces    int64     `json:"pieces"`
	MediaType string    `json:"media_type,omitempty"`
	Name      string    `json:"name,omitempty"`
	Owner     string    `json:"owner,omitempty"`
	Created   time.Time `json:"created"`
	RF        int       `json:"rf,omitempty"`
	MaxRF     int       `json:"max_rf,omitempty"`
	Tier      mesh.Tier `json:"tier,omitempty"`
	Expires   time.Time `json:"expires,omitzero"`
	PriceCap  int64     `json:"price_cap,omitempty"`
	Checked   bool      `json:"digest_checked,omitempty"`
}

// encode returns the stored form of a normal record.
func encode(r Record) ([]byte, error) {
	b, err := json.Marshal(value{
		Version: recordVersion, Kind: r.Kind, Size: r.Size, Encoded: r.Encoded, Pieces: r.Pieces,
		MediaType: r.MediaType, Name: r.Name, Owner: r.Owner, Created: r.Created,
		RF: r.Policy.RF, MaxRF: r.Policy.MaxRF, Tier: r.Policy.Tier, Expires: r.Policy.Expires, PriceCap: r.Policy.PriceCap, Checked: r.DigestChecked,
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	return b, nil
}

// decode reads the stored form of the record of h. What encode would not have
// written is cas.ErrCorrupt.
func decode(h cas.Hash, b []byte) (Record, error) {
	if len(b) > maxValue {
		return Record{}, corrupt(h, fmt.Errorf("it has %d bytes", len(b)))
	}
	var v value
	if err := json.Unmarshal(b, &v); err != nil {
		return Record{}, corrupt(h, err)
	}
	if v.Version != recordVersion {
		return Record{}, corrupt(h, fmt.Errorf("it has version %d, this build reads %d", v.Version, recordVersion))
	}
	r := Record{
		Hash: h, Kind: v.Kind, Size: v.Size, Encoded: v.Encoded, Pieces: v.Pieces,
		MediaType: v.MediaType, Name: v.Name, Owner: v.Owner, Created: v.Created,
		Policy: mesh.Policy{RF: v.RF, MaxRF: v.MaxRF, Tier: v.Tier, Expires: v.Expires, PriceCap: v.PriceCap}, DigestChecked: v.Checked,
	}.normal()
	if err := r.Validate(); err != nil {
		return Record{}, corrupt(h, err)
	}
	again, err := encode(r)
	if err != nil {
		return Record{}, err
	}
	if !bytes.Equal(again, b) {
		return Record{}, corrupt(h, errors.New("it is not in the form that is written"))
	}
	return r, nil
}

func corrupt(h cas.Hash, why error) error {
	return fmt.Errorf("%w: catalog record of object %s: %w", cas.ErrCorrupt, h, why)
}

package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"inos.dev/edge/cas"
	"inos.dev/edge/mesh"
)

// recordVersion is the version of stored records. A new field is a new one.
// Version 1, of format 1, does not have owners, next_over and price_cap.
const (
	recordVersion = 2
	oldVersion    = 1
)

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
	Owners    int       `json:"owners,omitempty"`
	NextOver  time.Time `json:"next_over,omitzero"`
}

// encode returns the stored form of a normal record.
func encode(r Record) ([]byte, error) { return encodeVersion(r, recordVersion) }

func encodeVersion(r Record, version int) ([]byte, error) {
	b, err := json.Marshal(value{
		Version: version, Kind: r.Kind, Size: r.Size, Encoded: r.Encoded, Pieces: r.Pieces,
		MediaType: r.MediaType, Name: r.Name, Owner: r.Owner, Created: r.Created,
		RF: r.Policy.RF, MaxRF: r.Policy.MaxRF, Tier: r.Policy.Tier, Expires: r.Policy.Expires, PriceCap: r.Policy.PriceCap,
		Checked: r.DigestChecked, Owners: r.Owners, NextOver: r.NextOver,
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	return b, nil
}

// decode reads the stored form of the record of h. What encode would not have
// written is cas.ErrCorrupt.
func decode(h cas.Hash, b []byte) (Record, error) {
	r, err := decodeVersion(h, b, recordVersion)
	if err == nil && r.Owners == 0 {
		return Record{}, corrupt(h, errors.New("nobody owns it"))
	}
	return r, err
}

// decodeOld reads a record of format 1.
func decodeOld(h cas.Hash, b []byte) (Record, error) {
	r, err := decodeVersion(h, b, oldVersion)
	if err == nil && (r.Owners != 0 || !r.NextOver.IsZero() || r.Policy.PriceCap != 0) {
		return Record{}, corrupt(h, errors.New("it has fields of a later version"))
	}
	return r, err
}

func decodeVersion(h cas.Hash, b []byte, version int) (Record, error) {
	if len(b) > maxValue {
		return Record{}, corrupt(h, fmt.Errorf("it has %d bytes", len(b)))
	}
	var v value
	if err := json.Unmarshal(b, &v); err != nil {
		return Record{}, corrupt(h, err)
	}
	if v.Version != version {
		return Record{}, corrupt(h, fmt.Errorf("it has version %d, this build reads %d", v.Version, version))
	}
	r := Record{
		Hash: h, Kind: v.Kind, Size: v.Size, Encoded: v.Encoded, Pieces: v.Pieces,
		MediaType: v.MediaType, Name: v.Name, Owner: v.Owner, Created: v.Created,
		Policy:        mesh.Policy{RF: v.RF, MaxRF: v.MaxRF, Tier: v.Tier, Expires: v.Expires, PriceCap: v.PriceCap},
		DigestChecked: v.Checked, Owners: v.Owners, NextOver: v.NextOver,
	}.normal()
	if err := r.Validate(); err != nil {
		return Record{}, corrupt(h, err)
	}
	again, err := encodeVersion(r, version)
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

// encodePublication returns the stored form of a publication: the length of the name
// in one byte, the name, and the publication as the mesh has it.
func encodePublication(p Publication) []byte {
	b := make([]byte, 0, 1+len(p.Name)+mesh.MaxPublication)
	b = append(b, byte(len(p.Name)))
	b = append(b, p.Name...)
	return p.Append(b)
}

// decodePublication reads what encodePublication writes and nothing else.
func decodePublication(b []byte) (Publication, error) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return Publication{}, fmt.Errorf("%w: it is cut off", mesh.ErrPublication)
	}
	name, rest := b[1:1+b[0]], b[1+b[0]:]
	if !utf8.Valid(name) {
		return Publication{}, fmt.Errorf("%w: its name is no text", mesh.ErrPublication)
	}
	p, err := mesh.ParsePublication(rest)
	return Publication{p, string(name)}, err
}

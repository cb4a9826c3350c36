package mesh

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"inos.dev/edge/cas"
)

// ErrPublication says: a publication is outside of its limits, or bytes are
// none.
var ErrPublication = errors.New("not a possible publication")

// MaxOwner is the most bytes of a Publication's owner.
const MaxOwner = 128

// publicationKind is what a Publication is signed as.
const publicationKind = "publication 1"

// Publication is the word of an owner that an object is to be kept, and how;
// or, withdrawn, that it need not be kept any longer. Whoever holds chunks
// keeps the publications of their objects. There is one per object and owner:
// Replaces says which of two it is.
type Publication struct {
	Object cas.Hash
	// Owner is the subject of a token, or the text of a Key. Empty is nobody:
	// then the house of the node pays.
	Owner  string
	Signer Key    // of the owner, or of the node that took the owner's token
	Policy Policy // zero if Withdrawn
	// Sequence counts what this owner said about this object, from 1.
	Sequence uint64
	// Withdrawn makes it a tombstone, which is kept for a while so that an
	// older word does not come back.
	Withdrawn bool
	// Created is since when the owner has the object published, to the
	// microsecond; a change of the policy leaves it. Of a tombstone it is when
	// it was withdrawn.
	Created   time.Time
	Signature Signature
}

// Sign returns p in its canonical form, signed. Errors: ErrPublication,
// ErrPolicy.
func (p Publication) Sign(s Secret) (Publication, error) {
	p.Signer, p.Signature = s.Public(), Signature{}
	p.Created, p.Policy = canonicalTime(p.Created), p.Policy.Canonical()
	if err := p.Validate(); err != nil {
		return Publication{}, err
	}
	p.Signature = s.Sign(publicationKind, p.appendSigned(nil))
	return p, nil
}

// Verify checks limits and signature. Whether the signer may speak for the
// owner is for the caller to know. Errors: ErrPublication, ErrPolicy,
// ErrSignature.
func (p Publication) Verify() error {
	if err := p.Validate(); err != nil {
		return err
	}
	return p.Signer.Verify(publicationKind, p.appendSigned(nil), p.Signature)
}

// Validate checks the limits of p, but not its signature. Errors:
// ErrPublication, ErrPolicy.
func (p Publication) Validate() error {
	switch {
	case p.Object.IsZero() || p.Signer.IsZero() || p.Sequence == 0:
		return fmt.Errorf("%w: it lacks its object, its signer or its sequence", ErrPublication)
	case len(p.Owner) > MaxOwner || !utf8.ValidString(p.Owner):
		return fmt.Errorf("%w: an owner is at most %d bytes of UTF-8", ErrPublication, MaxOwner)
	case p.Created.IsZero() || !storable(p.Created):
		return fmt.Errorf("%w: its time is missing or absurd", ErrPublication)
	case p.Created != canonicalTime(p.Created) || p.Policy != p.Policy.Canonical():
		return fmt.Errorf("%w: its times are not in UTC, to the microsecond", ErrPublication)
	case p.Withdrawn && p.Policy != Policy{}:
		return fmt.Errorf("%w: it is withdrawn and has a policy", ErrPublication)
	}
	return p.Policy.Check()
}

// canonicalTime is t in UTC, to the microsecond, without a monotonic clock.
func canonicalTime(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// Replaces reports whether a node that has old should keep next instead: they
// are about the same object by the same owner, and next is the later word. Of
// two with one sequence, which two nodes have signed without knowing of each
// other, a withdrawal wins, and else the greater encoding, so that everybody
// who hears both keeps the same.
func Replaces(next, old Publication) bool {
	switch {
	case next.Object != old.Object || next.Owner != old.Owner:
		return false
	case next.Sequence != old.Sequence:
		return next.Sequence > old.Sequence
	case next.Withdrawn != old.Withdrawn:
		return next.Withdrawn
	}
	return bytes.Compare(next.Append(nil), old.Append(nil)) > 0
}

// ByAge compares for slices.SortFunc: who has published before whom, by
// Created, and at the same microsecond by owner and object.
func ByAge(a, b Publication) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Owner, b.Owner), bytes.Compare(a.Object[:], b.Object[:]))
}

// The encoding of a publication has one form for each. Numbers are big-endian,
// times are microseconds since 1970.
//
//	 0   1  version, 1
//	 1  32  object
//	33  32  signer
//	65   8  sequence
//	73   8  created
//	81   1  1 if withdrawn, else 0
//	82   2  rf
//	84   2  max_rf
//	86   1  tier: 0 any, 1 hot, 2 cold
//	87   8  expires, 0: never
//	95   8  price cap
//	103  1  length of the owner
//	104  n  owner
//	      64  signature, over what is before it
const (
	publicationVersion = 1
	publicationHead    = 104
	// MinPublication and MaxPublication bound the length of an encoding.
	MinPublication = publicationHead + SignatureSize
	MaxPublication = MinPublication + MaxOwner
)

// Append appends the encoding of p, which Validate has to accept, to b.
func (p Publication) Append(b []byte) []byte {
	return append(p.appendSigned(b), p.Signature[:]...)
}

func (p Publication) appendSigned(b []byte) []byte {
	b = append(b, publicationVersion)
	b = append(b, p.Object[:]...)
	b = append(b, p.Signer[:]...)
	b = binary.BigEndian.AppendUint64(b, p.Sequence)
	b = appendTime(b, p.Created)
	withdrawn := byte(0)
	if p.Withdrawn {
		withdrawn = 1
	}
	b = append(b, withdrawn)
	b = binary.BigEndian.AppendUint16(b, uint16(p.Policy.RF))
	b = binary.BigEndian.AppendUint16(b, uint16(p.Policy.MaxRF))
	b = append(b, tierNumber(p.Policy.Tier))
	b = appendTime(b, p.Policy.Expires)
	b = binary.BigEndian.AppendUint64(b, uint64(p.Policy.PriceCap))
	b = append(b, byte(len(p.Owner)))
	return append(b, p.Owner...)
}

// ParsePublication reads what Append writes and nothing else. It does not
// check the signature: see Verify. Errors: ErrPublication, ErrPolicy.
func ParsePublication(b []byte) (Publication, error) {
	if len(b) < MinPublication || len(b) > MaxPublication {
		return Publication{}, fmt.Errorf("%w: it has %d bytes, %d to %d are possible", ErrPublication, len(b), MinPublication, MaxPublication)
	}
	owner := int(b[publicationHead-1])
	if b[0] != publicationVersion || len(b) != MinPublication+owner || b[81] > 1 || b[86] > 2 {
		return Publication{}, fmt.Errorf("%w: it is of version %d, this build reads %d, or malformed", ErrPublication, b[0], publicationVersion)
	}
	tiers := [...]Tier{AnyTier, Hot, Cold}
	p := Publication{
		Object: cas.Hash(b[1:33]), Signer: Key(b[33:65]), Sequence: binary.BigEndian.Uint64(b[65:]),
		Created: parseTime(b[73:]), Withdrawn: b[81] == 1,
		Policy: Policy{
			RF: int(binary.BigEndian.Uint16(b[82:])), MaxRF: int(binary.BigEndian.Uint16(b[84:])), Tier: tiers[b[86]],
			Expires: parseTime(b[87:]), PriceCap: int64(binary.BigEndian.Uint64(b[95:])),
		},
		Owner:     string(b[publicationHead : publicationHead+owner]),
		Signature: Signature(b[publicationHead+owner:]),
	}
	if err := p.Validate(); err != nil {
		return Publication{}, err
	}
	return p, nil
}

func tierNumber(t Tier) byte {
	switch t {
	case Hot:
		return 1
	case Cold:
		return 2
	case AnyTier:
	}
	return 0
}

// appendTime writes a canonical time; the zero Time is 0, and so 1970 itself
// cannot be written.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.BigEndian.AppendUint64(b, 0)
	}
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixMicro()))
}

func parseTime(b []byte) time.Time {
	n := int64(binary.BigEndian.Uint64(b))
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

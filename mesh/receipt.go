package mesh

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"inos.dev/edge/cas"
)

// ErrReceipt says: some bytes or fields are no receipt.
var ErrReceipt = errors.New("not a receipt")

// NonceSize is the length of a Nonce in bytes.
const NonceSize = 16

// Nonce names a delivery: what one client reads from one server until it is
// over. It is random, and whoever knows it may have bytes counted under it. The
// zero value names nothing.
type Nonce [NonceSize]byte

// NewNonce makes a random nonce.
func NewNonce() Nonce {
	var n Nonce
	rand.Read(n[:]) // never fails: it would end the process
	return n
}

// ParseNonce reads what String writes, and nothing else: ErrReceipt.
func ParseNonce(s string) (Nonce, error) {
	var n Nonce
	if len(s) != keyText.EncodedLen(NonceSize) {
		return Nonce{}, fmt.Errorf("%w: a nonce has %d characters, this one has %d", ErrReceipt, keyText.EncodedLen(NonceSize), len(s))
	}
	if _, err := keyText.Decode(n[:], []byte(s)); err != nil {
		return Nonce{}, fmt.Errorf("%w: a nonce is lower-case letters and the digits 2 to 7", ErrReceipt)
	}
	if n.IsZero() || n.String() != s { // the last digit has bits to spare
		return Nonce{}, fmt.Errorf("%w: the nonce is not in the form that is written", ErrReceipt)
	}
	return n, nil
}

// String returns the 26 characters of base32 (RFC 4648) in lower case: nobody
// takes them for a hash or a key.
func (n Nonce) String() string { return keyText.EncodeToString(n[:]) }

// IsZero reports whether n names nothing.
func (n Nonce) IsZero() bool { return n == Nonce{} }

// Chain is the hash of a list of chunks that one more chunk has joined: the
// BLAKE3 of the hash of the list before and of the chunk's hash, 64 bytes. The
// empty list has the zero Hash. So a client keeps 32 bytes, however much it
// reads.
func Chain(list, chunk cas.Hash) cas.Hash {
	var b [2 * cas.HashSize]byte
	copy(b[:], list[:])
	copy(b[cas.HashSize:], chunk[:])
	return cas.Sum(b[:])
}

// Receipt is a client's word that it received bytes from a server. It is
// cumulative: each one of a delivery says what all of it came to so far.
type Receipt struct {
	Nonce  Nonce
	Client Key
	Server Key
	Bytes  int64 // bodies of answers, without their headers: 0 … 2⁵³−1
	// Chunks is the hash of the list of what was received, in the order in which
	// it was complete at the client; see Chain. Chunks and objects stand in it
	// alike, each by the hash that it was asked for.
	Chunks    cas.Hash
	Time      time.Time // to the millisecond
	Signature Signature // of Client
}

// Countersigned is a receipt that the server has taken.
type Countersigned struct {
	Receipt   Receipt
	Counted   int64     // bytes that the server counted in the delivery so far
	Attested  int64     // of those, what the delivery's receipts confirm; not more than Receipt.Bytes
	Time      time.Time // to the millisecond
	Signature Signature // of Receipt.Server
}

// Both are signed as kinds of their own; see Secret.Sign.
const (
	receiptKind       = "receipt 1"
	countersignedKind = "countersigned receipt 1"
)

// The encoded forms, and their sizes. Numbers are 8 bytes, most significant
// first; times are milliseconds since 1970 in UTC.
//
//	receipt        1 | nonce 16 | client 32 | server 32 | bytes 8 | chunks 32 | time 8 | signature 64
//	countersigned  1 | receipt 193 | counted 8 | attested 8 | time 8 | signature 64
//
// The first byte is the version. A signature is over all that stands before it.
const (
	receiptVersion = 1

	ReceiptSize       = 1 + NonceSize + 2*KeySize + 8 + cas.HashSize + 8 + SignatureSize
	CountersignedSize = 1 + ReceiptSize + 3*8 + SignatureSize
)

// maxReceiptNumber is the greatest count and time: what a number of JavaScript
// holds exactly.
const maxReceiptNumber = 1<<53 - 1

// SignReceipt fills in Client and Signature, and cuts Time to the millisecond.
// ErrReceipt says that r cannot be a receipt.
func (s Secret) SignReceipt(r Receipt) (Receipt, error) {
	r.Client, r.Time = s.Public(), receiptTime(r.Time)
	if err := r.validate(); err != nil {
		return Receipt{}, err
	}
	r.Signature = s.Sign(receiptKind, r.message(nil))
	return r, nil
}

// Verify is nil if r is a receipt and its client signed it, else ErrReceipt or
// ErrSignature.
func (r Receipt) Verify() error {
	if err := r.validate(); err != nil {
		return err
	}
	return r.Client.Verify(receiptKind, r.message(nil), r.Signature)
}

// Append appends the encoded form of r to b.
func (r Receipt) Append(b []byte) []byte { return append(r.message(b), r.Signature[:]...) }

// DecodeReceipt reads what Append writes, and nothing else. It does not check
// the signature. The error is ErrReceipt.
func DecodeReceipt(b []byte) (Receipt, error) {
	d := fields{rest: b}
	r := d.receipt()
	if err := d.end(); err != nil {
		return Receipt{}, err
	}
	if err := r.validate(); err != nil {
		return Receipt{}, err
	}
	return r, nil
}

// message is what a client signs.
func (r Receipt) message(b []byte) []byte {
	b = append(b, receiptVersion)
	b = append(b, r.Nonce[:]...)
	b = append(b, r.Client[:]...)
	b = append(b, r.Server[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Bytes))
	b = append(b, r.Chunks[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixMilli()))
}

func (r Receipt) validate() error {
	switch {
	case r.Nonce.IsZero():
		return fmt.Errorf("%w: it names no delivery", ErrReceipt)
	case r.Client.IsZero() || r.Server.IsZero():
		return fmt.Errorf("%w: it lacks the key of its client or of its server", ErrReceipt)
	case r.Bytes < 0 || r.Bytes > maxReceiptNumber:
		return fmt.Errorf("%w: it counts %d bytes", ErrReceipt, r.Bytes)
	}
	return checkReceiptTime(r.Time)
}

// Countersign takes a receipt that names s as its server, and fills in
// Signature. ErrReceipt says that c cannot be one.
func (s Secret) Countersign(c Countersigned) (Countersigned, error) {
	c.Time = receiptTime(c.Time)
	if err := c.validate(); err != nil {
		return Countersigned{}, err
	}
	if c.Receipt.Server != s.Public() {
		return Countersigned{}, fmt.Errorf("%w: it is for the server %s, not for %s", ErrReceipt, c.Receipt.Server, s.Public())
	}
	c.Signature = s.Sign(countersignedKind, c.message(nil))
	return c, nil
}

// Verify is nil if client and server both signed their parts, else ErrReceipt
// or ErrSignature.
func (c Countersigned) Verify() error {
	if err := c.validate(); err != nil {
		return err
	}
	if err := c.Receipt.Verify(); err != nil {
		return err
	}
	return c.Receipt.Server.Verify(countersignedKind, c.message(nil), c.Signature)
}

// Append appends the encoded form of c to b.
func (c Countersigned) Append(b []byte) []byte { return append(c.message(b), c.Signature[:]...) }

// DecodeCountersigned reads what Append writes, and nothing else. It does not
// check the signatures. The error is ErrReceipt.
func DecodeCountersigned(b []byte) (Countersigned, error) {
	d := fields{rest: b}
	d.version()
	c := Countersigned{Receipt: d.receipt(), Counted: d.number(), Attested: d.number(), Time: d.time(), Signature: Signature(d.next(SignatureSize))}
	if err := d.end(); err != nil {
		return Countersigned{}, err
	}
	if err := c.validate(); err != nil {
		return Countersigned{}, err
	}
	return c, nil
}

// message is what a server signs.
func (c Countersigned) message(b []byte) []byte {
	b = append(b, receiptVersion)
	b = c.Receipt.Append(b)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Counted))
	b = binary.BigEndian.AppendUint64(b, uint64(c.Attested))
	return binary.BigEndian.AppendUint64(b, uint64(c.Time.UnixMilli()))
}

func (c Countersigned) validate() error {
	if err := c.Receipt.validate(); err != nil {
		return err
	}
	if c.Counted < 0 || c.Counted > maxReceiptNumber || c.Attested < 0 || c.Attested > min(c.Counted, c.Receipt.Bytes) {
		return fmt.Errorf("%w: of %d bytes counted and %d received it attests %d", ErrReceipt, c.Counted, c.Receipt.Bytes, c.Attested)
	}
	return checkReceiptTime(c.Time)
}

// receiptTime is t as a receipt keeps it.
func receiptTime(t time.Time) time.Time { return time.UnixMilli(t.UnixMilli()).UTC() }

func checkReceiptTime(t time.Time) error {
	if ms := t.UnixMilli(); ms <= 0 || ms > maxReceiptNumber || !t.Equal(receiptTime(t)) {
		return fmt.Errorf("%w: its time is missing, absurd, or finer than a millisecond", ErrReceipt)
	}
	return nil
}

// fields reads an encoded form from its beginning. Behind its end there are
// zeros, and short is set.
type fields struct {
	rest    []byte
	short   bool
	another bool // version
}

func (f *fields) next(n int) []byte {
	if len(f.rest) < n {
		f.short, f.rest = true, nil
		return make([]byte, n)
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) version() { f.another = f.next(1)[0] != receiptVersion || f.another }

func (f *fields) number() int64 { return int64(binary.BigEndian.Uint64(f.next(8))) }

func (f *fields) time() time.Time { return time.UnixMilli(f.number()).UTC() }

func (f *fields) receipt() Receipt {
	f.version()
	return Receipt{
		Nonce: Nonce(f.next(NonceSize)), Client: Key(f.next(KeySize)), Server: Key(f.next(KeySize)),
		Bytes: f.number(), Chunks: cas.Hash(f.next(cas.HashSize)), Time: f.time(), Signature: Signature(f.next(SignatureSize)),
	}
}

// end is the error of all that was read.
func (f *fields) end() error {
	switch {
	case f.another:
		return fmt.Errorf("%w: its version is not known here", ErrReceipt)
	case f.short || len(f.rest) > 0:
		return fmt.Errorf("%w: it is too short or too long", ErrReceipt)
	}
	return nil
}

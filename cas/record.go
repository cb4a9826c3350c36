package cas

import (
	"encoding/binary"
	"fmt"
)

// Manifests are written in the protobuf wire format, by hand, so that there is
// exactly one byte string per record in every language: fields in ascending
// order, defaults left out, shortest varints, nothing unknown.
// https://protobuf.dev/programming-guides/encoding/

const (
	wireVarint = 0
	wireBytes  = 2
)

func appendUint(b []byte, field int, v uint64) []byte {
	if v == 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(field)<<3|wireVarint)
	return binary.AppendUvarint(b, v)
}

func appendBytes(b []byte, field int, v []byte) []byte {
	b = binary.AppendUvarint(b, uint64(field)<<3|wireBytes)
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

func appendString(b []byte, field int, v string) []byte {
	if v == "" {
		return b
	}
	b = binary.AppendUvarint(b, uint64(field)<<3|wireBytes)
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

func appendHash(b []byte, field int, h Hash) []byte {
	if h.IsZero() {
		return b
	}
	return appendBytes(b, field, h[:])
}

// recordField is one field of a record while it is read: num is set if it is
// a varint, raw if it is length-delimited.
type recordField struct {
	number int
	isNum  bool
	num    uint64
	raw    []byte
}

// eachField calls f for every field of b in turn. It bounds nothing but the
// input: whatever f keeps is a part of b.
func eachField(b []byte, f func(recordField) error) error {
	for len(b) > 0 {
		key, n := binary.Uvarint(b)
		if n <= 0 || key>>3 == 0 || key>>3 > 63 {
			return fmt.Errorf("%w: bad field key", ErrCorrupt)
		}
		b = b[n:]
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return fmt.Errorf("%w: bad varint in field %d", ErrCorrupt, key>>3)
		}
		b = b[n:]
		field := recordField{number: int(key >> 3)}
		switch key & 7 {
		case wireVarint:
			field.isNum, field.num = true, v
		case wireBytes:
			if v > uint64(len(b)) {
				return fmt.Errorf("%w: field %d is longer than the record", ErrCorrupt, key>>3)
			}
			field.raw, b = b[:v:v], b[v:]
		default:
			return fmt.Errorf("%w: wire type %d", ErrCorrupt, key&7)
		}
		if err := f(field); err != nil {
			return err
		}
	}
	return nil
}

// maxSize is the largest size in a record, so that a sum of two fits.
const maxSize = 1 << 62

// size reads a byte or piece count.
func (f recordField) size(dst *int64) error {
	if !f.isNum || f.num > maxSize {
		return fmt.Errorf("%w: field %d is no size", ErrCorrupt, f.number)
	}
	*dst = int64(f.num)
	return nil
}

func (f recordField) hash(dst *Hash) error {
	if len(f.raw) != HashSize {
		return fmt.Errorf("%w: field %d is no hash", ErrCorrupt, f.number)
	}
	*dst = Hash(f.raw)
	return nil
}

func (f recordField) text(dst *string, most int) error {
	if f.isNum || len(f.raw) > most {
		return fmt.Errorf("%w: field %d is no text of at most %d bytes", ErrCorrupt, f.number, most)
	}
	*dst = string(f.raw)
	return nil
}

func (f recordField) unknown() error {
	return fmt.Errorf("%w: unknown field %d", ErrCorrupt, f.number)
}

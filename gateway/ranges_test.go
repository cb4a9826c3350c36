package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// many is n ranges of one byte, and singles what they are.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ",%d-%d", i, i)
	}
	return b.String()[1:]
}

func singles(n int) (spans []span) {
	for i := range n {
		spans = append(spans, span{int64(i), 1})
	}
	return spans
}

// TestParseRange: want is nil where the header is to be ignored.
func TestParseRange(t *testing.T) {
	for _, test := range []struct {
		header string
		size   int64
		want   []span
		err    error
	}{
		{"bytes=0-0", 10, []span{{0, 1}}, nil},
		{"bytes=0-", 10, []span{{0, 10}}, nil},
		{"bytes=3-5", 10, []span{{3, 3}}, nil},
		{"bytes=3-99", 10, []span{{3, 7}}, nil},
		{"bytes=9-9", 10, []span{{9, 1}}, nil},
		{"bytes=-1", 10, []span{{9, 1}}, nil},
		{"bytes=-99", 10, []span{{0, 10}}, nil},
		{"bytes=0-1, 4-5 ,-1", 10, []span{{0, 2}, {4, 2}, {9, 1}}, nil},
		{"bytes=8-9,0-1", 10, []span{{8, 2}, {0, 2}}, nil},
		{"bytes=0-1,99-", 10, []span{{0, 2}}, nil},
		{"bytes=0-99999999999999999999999999", 10, []span{{0, 10}}, nil},
		{"bytes=-99999999999999999999999999", 10, []span{{0, 10}}, nil},
		{"bytes=,,0-1,", 10, []span{{0, 2}}, nil},
		{"Bytes=0-1", 10, []span{{0, 2}}, nil},
		{"bytes=10-", 10, nil, errRange},
		{"bytes=99999999999999999999-", 10, nil, errRange},
		{"bytes=-0", 10, nil, errRange},
		{"bytes=0-", 0, nil, errRange},
		{"bytes=-1", 0, nil, errRange},
		{"bytes=0-4,4-5", 10, nil, errRange},
		{"bytes=0-,-1", 10, nil, errRange},
		{"bytes=4-5,4-5", 10, nil, errRange},
		{"bytes=" + many(32), 100, singles(32), nil},
		{"bytes=" + many(33), 100, nil, errRange},
		{"bytes=" + strings.Repeat(",", 100_000), 100, nil, errRange},
		{"", 10, nil, nil},
		{"bytes", 10, nil, nil},
		{"bytes=", 10, nil, nil},
		{"bytes=-", 10, nil, nil},
		{"bytes=5-4", 10, nil, nil},
		{"bytes=a-b", 10, nil, nil},
		{"bytes=+1-2", 10, nil, nil},
		{"bytes=1-+2", 10, nil, nil},
		{"bytes=--1", 10, nil, nil},
		{"bytes=1-2-3", 10, nil, nil},
		{"bytes=1 - 2", 10, nil, nil},
		{"bytes=0-1,x", 10, nil, nil},
		{"pages=0-1", 10, nil, nil},
		{"bytes =0-1", 10, nil, nil},
		{"bytes=" + strings.Repeat("9", 41) + "-", 10, nil, nil},
	} {
		got, err := parseRange(test.header, test.size)
		if !errors.Is(err, test.err) || !slices.Equal(got, test.want) {
			t.Errorf("%.60q of %d: %v, %v; want %v, %v", test.header, test.size, got, err, test.want, test.err)
		}
	}
}

// TestRangesProperty holds parseRange against a slice.
func TestRangesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "whole")
		size := int64(len(whole))
		var header []string
		var want [][]byte
		at := 0
		for at < len(whole) && len(want) < maxRanges {
			start := at + rapid.IntRange(0, 20).Draw(t, "gap")
			end := start + rapid.IntRange(1, 50).Draw(t, "length")
			if start >= len(whole) {
				break
			}
			part := whole[start:min(end, len(whole))]
			want = append(want, part)
			if end >= len(whole) && rapid.Bool().Draw(t, "suffix") {
				header = append(header, fmt.Sprintf("-%d", len(part)))
			} else {
				header = append(header, fmt.Sprintf("%d-%d", start, end-1))
			}
			at = end
		}
		if len(want) == 0 {
			return
		}
		spans, err := parseRange("bytes="+strings.Join(header, ", "), size)
		if err != nil || len(spans) != len(want) {
			t.Fatalf("%v of %d: %v, %v", header, size, spans, err)
		}
		for i, s := range spans {
			if !bytes.Equal(whole[s.start:s.start+s.length], want[i]) {
				t.Fatalf("%v of %d: range %d is %v", header, size, i, s)
			}
		}
	})
}

func FuzzParseRange(f *testing.F) {
	for _, header := range []string{"bytes=0-", "bytes=-5", "bytes=1-2,5-6", "bytes=9-1", "bytes=0-9223372036854775807", "bytes=9223372036854775807-", "x=1-2", "bytes=,,-,"} {
		f.Add(header, int64(10))
	}
	f.Add("bytes=-9223372036854775808", int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		size = max(size, 0)
		spans, err := parseRange(header, size)
		if err != nil && spans != nil {
			t.Fatal("both ranges and an error")
		}
		if len(spans) > maxRanges {
			t.Fatalf("%d ranges", len(spans))
		}
		for _, s := range spans {
			if s.start < 0 || s.length < 1 || s.start > size || s.length > size-s.start {
				t.Fatalf("%v of %d", s, size)
			}
		}
		if overlap(spans) {
			t.Fatalf("%v overlap", spans)
		}
	})
}

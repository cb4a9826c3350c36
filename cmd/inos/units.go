package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// byteSize is a number of bytes, written with or without a unit: 4096, 64KiB,
// 1.5GiB, 10GB.
type byteSize int64

var byteUnits = []struct {
	suffix string
	factor float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1},
}

// UnmarshalText reads a size of 0 to 2^63-1 bytes.
func (b *byteSize) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	for _, u := range byteUnits {
		number, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || v < 0 || math.IsNaN(v) || v*u.factor >= math.MaxInt64 {
			break
		}
		*b = byteSize(v * u.factor)
		return nil
	}
	return fmt.Errorf("%q is no size: write 4096, 64KiB, 1.5GiB or 10GB", s)
}

// duration is a time.Duration that is not negative.
type duration time.Duration

// UnmarshalText reads 30s, 10m, 24h.
func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if string(text) == "0" {
		v, err = 0, nil
	}
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no duration: write 30s, 10m or 24h", text)
	}
	*d = duration(v)
	return nil
}

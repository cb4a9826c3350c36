package main

import (
	"fmt"
	"time"
)

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
)

// sizes is how much a run measures.
type sizes struct {
	chunks []int64       // raw sizes of the pieces that are read
	files  int           // different chunks per size
	period time.Duration // of one measurement of chunk reads
	object int64         // raw size of the object that is read as a whole
	gets   int           // reads of it per measurement
	mix    int64         // raw size of the file that is put and got
	small  int           // small files that are put and got
}

func fullSizes() sizes {
	return sizes{
		chunks: []int64{kib, 16 * kib, 64 * kib, 256 * kib, mib}, files: 16, period: 2 * time.Second,
		object: 208 * mib, gets: 5, mix: 1024 * mib, small: 20_000,
	}
}

func quickSizes() sizes {
	return sizes{
		chunks: []int64{kib, mib}, files: 2, period: time.Second,
		object: 8 * mib, gets: 2, mix: 32 * mib, small: 200,
	}
}

// sizeName writes a size as people say it.
func sizeName(n int64) string {
	switch {
	case n >= 1024*mib && n%(1024*mib) == 0:
		return fmt.Sprintf("%d GiB", n/(1024*mib))
	case n >= mib:
		return fmt.Sprintf("%d MiB", n/mib)
	default:
		return fmt.Sprintf("%d KiB", n/kib)
	}
}

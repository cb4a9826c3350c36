//go:build !linux

package disk

import "os"

// dropCache is for systems with posix_fadvise.
func dropCache(*os.File) {}

// startWrite is for systems with sync_file_range.
func startWrite(*os.File) {}

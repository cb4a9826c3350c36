// Command bench measures the node side by side with Debian's nginx and writes
// docs/benchmarks.md with its plot: nobody edits these by hand.
//
// What is compared. nginx (one worker, sendfile, open_file_cache, no access
// log) and bin/inos (GOMAXPROCS=1, as it comes: rules and metrics on) run at
// the same time on loopback, both pinned to one core; the load generator has
// another core. Both send the same bytes, which is checked before anything is
// measured. Each case is a row of pairs, nginx first in the even ones and the
// node first in the odd ones, so that a machine that gets slower or faster
// meanwhile counts for both.
//
// What is counted. CPU time of all server processes, user and system, as the
// kernel's per-process CPU clock has it (clock_gettime on the process' clock:
// nanoseconds, exited threads included; the ticks of /proc/PID/stat are 10 ms
// wide), divided by the requests that the load generator saw answered. The
// figure of a case is the median of its pairs, and the ratio the median of the
// pairs' ratios; the smallest and largest stand beside it.
//
// Reads of one chunk rotate over a set of files per size. Writes are measured
// without pinning, on all cores, each into an empty data directory on disk.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// Config is what the command line says.
type Config struct {
	// Inos is the binary under test.
	Inos string
	// Nginx is the binary it is measured against.
	Nginx string
	// Docs is where benchmarks.md and benchmarks.svg go. A quick run only
	// prints.
	Docs string
	// Scratch is a directory on a disk for test data and both servers' files:
	// about 6 GB for a full run. A directory below it is made, and removed.
	Scratch string
	// Pairs is how often each case is measured on both sides.
	Pairs int
	// Only names the one part to measure and to print: reads, accounting or
	// ingest. Empty: all.
	Only string
	// Quick makes everything small: it shows that the harness works, and its
	// figures mean nothing.
	Quick bool
}

func (c Config) validate() error {
	switch {
	case c.Pairs < 1 || c.Pairs > 1000:
		return fmt.Errorf("-pairs %d: choose 1 to 1000", c.Pairs)
	case runtime.NumCPU() < 2:
		return errors.New("two cores are needed: one for the servers, one for the load")
	}
	if !slices.Contains([]string{"", partReads, partAccounting, partIngest}, c.Only) {
		return fmt.Errorf("-only %s: choose %s, %s or %s", c.Only, partReads, partAccounting, partIngest)
	}
	for _, file := range []string{c.Inos, c.Nginx} {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("%w (make build, make tools)", err)
		}
	}
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var c Config
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&c.Inos, "inos", "bin/inos", "the node's `binary`")
	flags.StringVar(&c.Nginx, "nginx", "/usr/sbin/nginx", "nginx' `binary`")
	flags.StringVar(&c.Docs, "docs", "docs", "`directory` to write benchmarks.md and benchmarks.svg to")
	flags.StringVar(&c.Scratch, "scratch", os.TempDir(), "`directory` on a disk with 6 GB of room")
	flags.IntVar(&c.Pairs, "pairs", 7, "interleaved `pairs` per case")
	flags.StringVar(&c.Only, "only", "", "measure and print one `part`: reads, accounting or ingest")
	flags.BoolVar(&c.Quick, "quick", false, "a small run, printed and not written")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := c.validate(); err != nil {
		return err
	}
	if c.Inos, err = filepath.Abs(c.Inos); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(c.Scratch, "inos-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	report, err := measure(ctx, c, dir, out)
	if err != nil {
		return err
	}
	if c.Only != "" {
		return nil // it was printed as it went
	}
	return publish(report, c, out)
}

// The parts of a run.
const (
	partReads      = "reads"
	partAccounting = "accounting"
	partIngest     = "ingest"
)

// wants says whether a part is to be measured.
func (c Config) wants(part string) bool { return c.Only == "" || c.Only == part }

// measure runs every part and gathers the report.
func measure(ctx context.Context, c Config, dir string, out io.Writer) (report, error) {
	r := report{Pairs: c.Pairs, Quick: c.Quick, Measured: time.Now()}
	var err error
	if r.Machine, err = describe(ctx, c); err != nil {
		return report{}, fmt.Errorf("the machine: %w", err)
	}
	before, err := processorTicks()
	if err != nil {
		return report{}, err
	}
	size := fullSizes()
	if c.Quick {
		size = quickSizes()
	}
	if c.wants(partReads) {
		if r.Reads, err = measureReads(ctx, c, size, filepath.Join(dir, "reads"), out); err != nil {
			return report{}, fmt.Errorf("reads: %w", err)
		}
	}
	if c.wants(partAccounting) {
		if r.Overhead, err = measureAccounting(ctx, c, size, filepath.Join(dir, "accounting"), out); err != nil {
			return report{}, fmt.Errorf("accounting: %w", err)
		}
	}
	if c.wants(partIngest) {
		if r.Encode, r.Ingest, err = measureIngest(ctx, c, size, filepath.Join(dir, "ingest"), out); err != nil {
			return report{}, fmt.Errorf("ingest: %w", err)
		}
	}
	after, err := processorTicks()
	r.Machine.Stolen = after.stolenSince(before)
	return r, err
}

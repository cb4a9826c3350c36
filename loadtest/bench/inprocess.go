package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
)

// inProcess is what the write path costs where there is no server and no disk:
// the most that an upload can reach on this machine.
type inProcess struct {
	Bytes int64
	CPU   time.Duration
}

// PerCore is bytes per second on one core, and Allowed on all.
func (p inProcess) PerCore() float64 { return float64(p.Bytes) / p.CPU.Seconds() }

// Allowed is bytes per second on all cores.
func (p inProcess) Allowed() float64 { return p.PerCore() * float64(runtime.NumCPU()) }

// measureInProcess writes the file as an object into nothing.
func measureInProcess(ctx context.Context, file string) (inProcess, error) {
	f, err := os.Open(file)
	if err != nil {
		return inProcess{}, err
	}
	defer f.Close()
	before, err := ownCPU()
	if err != nil {
		return inProcess{}, err
	}
	object, err := dag.NewWriter(nowhere{}, dag.WriterConfig{}).File(ctx, f, dag.DefaultMediaType)
	if err != nil {
		return inProcess{}, fmt.Errorf("in process: %w", err)
	}
	after, err := ownCPU()
	return inProcess{object.Size, after - before}, err
}

// nowhere is where chunks go when only their making is measured.
type nowhere struct{}

func (nowhere) Put(context.Context, cas.Chunk) (bool, error) { return true, nil }

func ownCPU() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return 0, fmt.Errorf("own CPU clock: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

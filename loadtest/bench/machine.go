package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// machine says what was measured where, and names nobody.
type machine struct {
	Processor, Memory, System, Kernel string
	Cores                             int
	Nginx, Inos, Go, Commit           string
	// Stolen is the share of processor time, in percent, that the hypervisor
	// gave to others during the run: above a few, the run is worth little.
	Stolen float64
}

func describe(ctx context.Context, c Config) (machine, error) {
	m := machine{
		Cores: runtime.NumCPU(), Go: runtime.Version(),
		Processor: field("/proc/cpuinfo", "model name", ":"),
		System:    strings.Trim(field("/etc/os-release", "PRETTY_NAME", "="), `"`),
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return machine{}, fmt.Errorf("memory: %w", err)
	}
	m.Memory = fmt.Sprintf("%.0f GiB", float64(info.Totalram)*float64(info.Unit)/float64(1024*mib))
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return machine{}, fmt.Errorf("kernel: %w", err)
	}
	release, _, _ := strings.Cut(unix.ByteSliceToString(name.Release[:]), "-")
	m.Kernel = release
	for _, v := range []struct {
		to   *string
		argv []string
	}{
		// nginx prints its version on standard error.
		{&m.Nginx, []string{"sh", "-c", `exec "$0" -v 2>&1`, c.Nginx}},
		{&m.Inos, []string{c.Inos, "version"}},
		{&m.Commit, []string{"git", "describe", "--tags", "--always", "--dirty"}},
	} {
		out, err := output(ctx, v.argv...)
		if err != nil {
			return machine{}, err
		}
		first, _, _ := strings.Cut(out, "\n")
		*v.to = strings.TrimSpace(first)
	}
	m.Nginx = strings.TrimPrefix(m.Nginx, "nginx version: ")
	m.Inos = strings.TrimPrefix(m.Inos, "inos ")
	return m, nil
}

// field finds a line "name = value" in a file; "" if there is none.
func field(file, name, separator string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(line, separator)
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// ticks is what the processors did since the machine started, in the ticks of
// /proc/stat: all of it, and what was stolen.
type ticks struct{ all, stolen uint64 }

func processorTicks() (ticks, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return ticks{}, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var t ticks
	// cpu user nice system idle iowait irq softirq steal …
	for i, word := range strings.Fields(line) {
		n, err := strconv.ParseUint(word, 10, 64)
		if i < 1 || i > 8 {
			continue
		}
		if err != nil {
			return ticks{}, fmt.Errorf("/proc/stat: %w", err)
		}
		t.all += n
		if i == 8 {
			t.stolen = n
		}
	}
	return t, nil
}

// stolenSince is the share stolen, in percent.
func (t ticks) stolenSince(before ticks) float64 {
	if t.all == before.all {
		return 0
	}
	return 100 * float64(t.stolen-before.stolen) / float64(t.all-before.all)
}

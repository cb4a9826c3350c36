package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// sample is one measured run against one server.
type sample struct {
	cpu      time.Duration // of the server's processes
	requests int64
	wall     time.Duration
}

// micros is the CPU time per request in microseconds.
func (s sample) micros() float64 {
	return float64(s.cpu) / float64(time.Microsecond) / float64(s.requests)
}

// rate is requests per second.
func (s sample) rate() float64 { return float64(s.requests) / s.wall.Seconds() }

// load asks for something n times and says how often it was answered.
type load func(ctx context.Context) (requests int64, err error)

// observe runs a load and reads the server's CPU clock around it.
func observe(ctx context.Context, p *process, run load) (sample, error) {
	before, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	began := time.Now()
	n, err := run(ctx)
	if err != nil {
		return sample{}, fmt.Errorf("load on %s: %w", p.name, err)
	}
	wall := time.Since(began)
	after, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	if n < 1 {
		return sample{}, fmt.Errorf("load on %s: nothing was answered", p.name)
	}
	return sample{after - before, n, wall}, nil
}

// wrkConnections is how many keep-alive connections the load has open: enough
// to keep one core busy, few enough that nobody measures queues.
const wrkConnections = 8

// rotation is a script for wrk: request one path after the other, each request
// formatted once.
const rotation = `local requests, i = {}, 0
function init()
  for _, path in ipairs({ %s }) do requests[#requests + 1] = wrk.format("GET", path) end
end
function request()
  i = i %% #requests + 1
  return requests[i]
end
`

// writeRotation makes the script for a set of paths.
func writeRotation(file string, paths []string) error {
	quoted := make([]string, len(paths))
	for i, p := range paths {
		quoted[i] = strconv.Quote(p)
	}
	return os.WriteFile(file, fmt.Appendf(nil, rotation, strings.Join(quoted, ", ")), 0o644)
}

// wrk is a load of keep-alive requests over the paths of a script. header may
// be empty.
func wrk(base, script, header string, d time.Duration) load {
	return func(ctx context.Context) (int64, error) {
		argv := []string{
			"wrk", "-t1", "-c" + strconv.Itoa(wrkConnections),
			fmt.Sprintf("-d%ds", max(1, int(d.Seconds()))), "-s", script,
		}
		if header != "" {
			argv = append(argv, "-H", header)
		}
		out, err := output(ctx, pinned(loadCore, append(argv, base))...)
		if err != nil {
			return 0, err
		}
		return parseWrk(out)
	}
}

// wrkCount is the line of wrk's report that says how many responses were read.
const wrkCount = `(\d+) requests in `

func parseWrk(out string) (int64, error) {
	if strings.Contains(out, "Socket errors") || strings.Contains(out, "Non-2xx") {
		return 0, fmt.Errorf("wrk saw errors:\n%s", out)
	}
	m := regexp.MustCompile(wrkCount).FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("no count in what wrk printed:\n%s", out)
	}
	return strconv.ParseInt(m[1], 10, 64)
}

// curl is a load of n requests, one after the other, whose bodies have to be
// size bytes long; 0 takes any size.
func curl(url, header string, n int, size int64) load {
	return func(ctx context.Context) (int64, error) {
		argv := []string{"curl", "--silent", "--show-error", "--fail", "--insecure", "--noproxy", "*", "--write-out", "%{size_download}\n"}
		if header != "" {
			argv = append(argv, "--header", header)
		}
		for range n {
			argv = append(argv, "--output", "/dev/null", url)
		}
		out, err := output(ctx, pinned(loadCore, argv)...)
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(out) {
			got, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
			if err != nil || size != 0 && got != size {
				return 0, fmt.Errorf("curl got %q bytes from %s, want %d", strings.TrimSpace(line), url, size)
			}
		}
		return int64(n), nil
	}
}

// output runs a command and returns what it printed.
func output(ctx context.Context, argv ...string) (string, error) {
	out, _, err := command(ctx, argv...)
	return out, err
}

// usage is what a finished command cost.
type usage struct {
	wall, cpu time.Duration
	peak      int64 // most resident bytes
}

// command runs a command, and returns what it printed and what it cost.
func command(ctx context.Context, argv ...string) (string, usage, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return "", usage{}, err
	}
	stop := make(chan struct{})
	peak := make(chan int64)
	go func() { peak <- watchPeak(cmd.Process.Pid, stop) }()
	err := cmd.Wait()
	u := usage{wall: time.Since(began), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	close(stop)
	u.peak = <-peak
	if err != nil {
		return "", usage{}, fmt.Errorf("%s: %w: %s%s", strings.Join(argv[:min(4, len(argv))], " "), err, stderr.String(), stdout.String())
	}
	return stdout.String(), u, nil
}

// watchPeak looks at a command's memory until stop is closed, and returns the
// most that it saw. (What wait4 reports is no use: it counts the memory of the
// process that forked, too.)
func watchPeak(pid int, stop <-chan struct{}) (peak int64) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if n, err := peakRSS(pid); err == nil { // an error: it has just ended
				peak = max(peak, n)
			}
		case <-stop:
			return peak
		}
	}
}

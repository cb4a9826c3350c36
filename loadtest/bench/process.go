package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The core of the servers under test and that of the load.
const (
	serverCore = 0
	loadCore   = 1
	allCores   = -1
)

// process is a server that the harness started. Whoever started it stops it.
type process struct {
	name   string
	cmd    *exec.Cmd
	cancel context.CancelFunc
	output bytes.Buffer // its standard error and output, for a failure's message
	ended  chan struct{}
	err    error // why it ended; read after ended is closed
}

// start runs argv on one core, or on all of them. The process is asked to end
// when ctx is done, and killed 10 s later.
func start(ctx context.Context, name string, core int, env []string, argv ...string) (*process, error) {
	ctx, cancel := context.WithCancel(ctx)
	argv = pinned(core, argv)
	p := &process{name: name, cancel: cancel, ended: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, argv[0], argv[1:]...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 10 * time.Second
	if err := p.cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

// pinned prefixes a command with what binds it to a core.
func pinned(core int, argv []string) []string {
	if core == allCores {
		return argv
	}
	return append([]string{"taskset", "-c", strconv.Itoa(core)}, argv...)
}

// stop ends the process and waits for it.
func (p *process) stop() {
	p.cancel()
	<-p.ended
}

// ready waits until url answers well, or the process ended, or 30 s are over.
func (p *process) ready(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		resp, err := httpClient().Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode/100 == 2 {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-p.ended:
			return fmt.Errorf("%s ended: %w: %s", p.name, p.err, p.output.String())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready at %s: %w", p.name, url, errors.Join(err, ctx.Err()))
		}
	}
}

// cpu is the time that the process and its children spent on a processor
// since they started.
func (p *process) cpu() (time.Duration, error) {
	pids, err := family(p.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, pid := range pids {
		// The id of a process' CPU clock, as clock_getcpuclockid(3) makes it.
		var t unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil {
			return 0, fmt.Errorf("CPU clock of %s (%d): %w", p.name, pid, err)
		}
		sum += time.Duration(t.Nano())
	}
	return sum, nil
}

// peakRSS is the most resident memory that a process had since it was
// executed, in bytes.
func peakRSS(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no VmHWM in the status of process %d", pid)
}

// family lists a process and its children: nginx' master and worker.
func family(parent int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	pids := []int{parent}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it ended meanwhile
		}
		// The name in brackets may hold anything; behind it: state, parent.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// freeAddress finds a loopback address that nobody listens on.
func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// httpClient takes the bytes as they are sent, and trusts any certificate: the
// servers' is made by the harness.
func httpClient() *http.Client {
	return &http.Client{
		Timeout: 10 * time.Minute,
		Transport: &http.Transport{
			DisableCompression: true,
			DisableKeepAlives:  true,
			TLSClientConfig:    &tls.Config{InsecureSkipVerify: true}, // its own children, on loopback
		},
	}
}

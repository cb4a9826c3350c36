package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"inos.dev/edge/gateway/auth"
)

// program builds cmd/inos once for all tests of this package.
type program struct {
	dir  string
	once sync.Once
	path string
	err  error
}

var inos program

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "inos-gateway-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	inos.dir = dir
	return m.Run()
}

// build returns the path of the binary. Its flags are those of `make build`,
// so that the compiler's cache serves both.
func (p *program) build(t *testing.T) string {
	t.Helper()
	p.once.Do(func() {
		p.path = filepath.Join(p.dir, "inos")
		cmd := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=test", "-o", p.path, "inos.dev/edge/cmd/inos")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			p.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if p.err != nil {
		t.Fatalf("build cmd/inos: %v", p.err)
	}
	return p.path
}

// process is a running node.
type process struct {
	cmd    *exec.Cmd
	dir    string // its data directory
	url    string // of the plain listener
	admin  string
	socket string // of the proxy's listener, if there is one
	token  string // the operator's

	mu   sync.Mutex
	log  bytes.Buffer // guarded by mu
	done chan error
}

// startLimit is how long a node may take to be ready on a busy machine.
const startLimit = time.Minute

// start runs `inos serve` with free ports of its own. wrap, if there is one,
// is a program in front, such as a tracer.
func start(t *testing.T, dir string, wrap []string, flags ...string) *process {
	t.Helper()
	args := append(slices.Clip(wrap), inos.build(t), "serve", "--data", dir, "--admin", "127.0.0.1:0", "--log-format", "json", "--scrub-rate", "0")
	if !strings.Contains(strings.Join(flags, " "), "--listen") {
		args = append(args, "--listen", "127.0.0.1:0")
	}
	args = append(args, flags...)
	p := &process{dir: dir, cmd: exec.CommandContext(context.Background(), args[0], args[1:]...), done: make(chan error, 1)}
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	go p.watch(stderr, ready)
	t.Cleanup(func() { p.stop(t) })
	select {
	case <-ready:
	case err := <-p.done:
		p.done <- err
		t.Fatalf("the node ended: %v\n%s", err, p.logged())
	case <-time.After(startLimit):
		t.Fatalf("the node is not ready after %v\n%s", startLimit, p.logged())
	}
	token, err := auth.ReadOperatorToken(dir)
	if err != nil {
		t.Fatal(err)
	}
	p.token = token.Reveal()
	return p
}

// watch reads the log until the process ends, and closes ready at its word.
func (p *process) watch(stderr io.Reader, ready chan<- struct{}) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.mu.Lock()
		p.log.Write(append(lines.Bytes(), '\n'))
		p.mu.Unlock()
		var line struct{ Msg, Network, Address string }
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		switch {
		case line.Msg == "listening" && line.Network == "unix":
			p.socket = line.Address
		case line.Msg == "listening" && p.url == "":
			p.url = "http://" + line.Address
		case line.Msg == "listening":
			p.admin = "http://" + line.Address
		case line.Msg == "ready":
			close(ready)
		}
	}
	p.done <- p.cmd.Wait()
}

func (p *process) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// stop asks the node to end and waits until it has.
func (p *process) stop(t *testing.T) {
	t.Helper()
	select {
	case err := <-p.done: // by itself
		p.done <- err
		return
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	select {
	case err := <-p.done:
		p.done <- err
		if err != nil {
			t.Errorf("the node ended with %v\n%s", err, p.logged())
		}
	case <-time.After(startLimit):
		t.Errorf("the node does not end\n%s", p.logged())
		if err := p.cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
	}
	if strings.Contains(p.logged(), p.token) && p.token != "" {
		t.Error("the operator's token stands in the log")
	}
}

// metric is the sum of all series whose text starts with name.
func (p *process) metric(t *testing.T, name string) float64 {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	sum := 0.0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		series, value, _ := strings.Cut(lines.Text(), " ")
		if series != name && !strings.HasPrefix(series, name+"{") && (!strings.Contains(name, "{") || !strings.HasPrefix(series, strings.TrimSuffix(name, "}"))) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		sum += v
	}
	return sum
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("after 30 s: not %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

package soak

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// full reports whether the full numbers are asked for.
func full() bool { return os.Getenv("INOS_SOAK") == "1" }

// program builds the node once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "inos-soak-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "inos")
	out, err := exec.Command("go", "build", "-o", path, "inos.dev/edge/cmd/inos").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the node: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := program(); err == nil {
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

// node is a running node.
type node struct {
	t    *testing.T
	data string
	url  string
	args []string
	cmd  *exec.Cmd
	log  *bytes.Buffer
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startNode runs a node on an empty directory until the test ends.
func startNode(t *testing.T, args ...string) *node {
	t.Helper()
	n := prepareNode(t, args...)
	n.start()
	t.Cleanup(n.kill)
	return n
}

// prepareNode is a node that start starts.
func prepareNode(t *testing.T, args ...string) *node {
	t.Helper()
	addr := freeAddr(t)
	n := &node{t: t, data: filepath.Join(t.TempDir(), "data"), url: "http://" + addr}
	n.args = append([]string{"serve", "--dev", "--data", n.data, "--listen", addr, "--admin", ""}, args...)
	return n
}

// start runs the node (again) and waits until it is ready.
func (n *node) start() {
	n.t.Helper()
	path, err := program()
	if err != nil {
		n.t.Fatal(err)
	}
	n.log = &bytes.Buffer{}
	n.cmd = exec.Command(path, n.args...)
	n.cmd.Stderr = n.log
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := get(ctx, n.url+"/health/live", nil); err == nil {
			resp.Body.Close()
			return
		}
		select {
		case <-ctx.Done():
			n.t.Fatalf("the node does not start:\n%s", n.log)
		case <-tick.C:
		}
	}
}

// kill ends the node as a power cut would, as far as a process can tell.
func (n *node) kill() {
	if n.cmd.ProcessState != nil {
		return
	}
	if err := n.cmd.Process.Kill(); err != nil {
		n.t.Error(err)
	}
	_ = n.cmd.Wait() // it says "killed"
}

// stop asks the node to drain and returns its exit code.
func (n *node) stop() int {
	n.t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		n.t.Fatal(err)
	}
	_ = n.cmd.Wait() // its state says it all
	return n.cmd.ProcessState.ExitCode()
}

// peakRSS is the most memory that the process has had, in bytes.
func (n *node) peakRSS() int64 { return n.status("VmHWM:") }

func (n *node) status(field string) int64 {
	n.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				n.t.Fatal(err)
			}
			return kib << 10
		}
	}
	n.t.Fatalf("no %s in the status of the process", field)
	return 0
}

func get(ctx context.Context, url string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if req.Header.Get("Accept-Encoding") == "" {
		req.Header.Set("Accept-Encoding", "identity")
	}
	return http.DefaultClient.Do(req)
}

// fetch returns the whole body of a 200.
func fetch(ctx context.Context, url string) ([]byte, error) {
	resp, err := get(ctx, url, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.300s", resp.Status, b)
	}
	return b, err
}

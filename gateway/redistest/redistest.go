// Package redistest starts a real redis-server for a test, on a unix socket,
// and does to it what happens to servers: it freezes, dies with its memory
// lost, and comes back under the same address.
//
// Clients reach it through a small proxy that counts the commands which they
// send. The server's own statistics would not do: they count what a function
// calls inside of the server, too.
//
// Everything ends with the test, and the server with the test's process even
// if that crashes (on Linux).
package redistest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Binary is the program that Start looks for on the PATH: Redis 7.0 or newer.
const Binary = "redis-server"

// startTimeout is how long a server may take until it answers.
const startTimeout = 10 * time.Second

// Server is a redis-server that belongs to a test. Its methods fail the test
// when they cannot do what they say. They may be called at the same time as
// clients work, but not at the same time as each other.
type Server struct {
	t      testing.TB
	dir    string
	proxy  *proxy
	output syncBuffer
	cmd    *exec.Cmd // nil: not running
}

// Start starts an empty server: 256 MiB of memory at most, nothing kept on
// disk, DEBUG allowed. The test fails if there is no redis-server.
func Start(t testing.TB) *Server {
	t.Helper()
	path, err := exec.LookPath(Binary)
	if err != nil {
		t.Fatalf("redistest: this test needs %s 7.0 or newer (Debian: apt-get install redis-server): %v", Binary, err)
	}
	// Not t.TempDir: a socket's path has at most 107 bytes, and a test's name
	// may be long.
	dir, err := os.MkdirTemp("", "inos-redis-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, dir: dir}
	s.proxy = &proxy{path: filepath.Join(dir, "client.sock"), server: s.socket()}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.Kill()
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s.start(path)
	return s
}

// Addr is the path of the socket that clients use. It stays the same over
// restarts.
func (s *Server) Addr() string { return s.proxy.path }

// URL is Addr as redis.ParseURL reads it.
func (s *Server) URL() string { return "unix://" + s.Addr() }

// Direct is the URL of the server itself, past the proxy: what is sent there
// is not counted.
func (s *Server) Direct() string { return "unix://" + s.socket() }

func (s *Server) socket() string { return filepath.Join(s.dir, "server.sock") }

// Kill ends the server by SIGKILL. Its memory is lost, and its clients see
// their connections end.
func (s *Server) Kill() {
	s.t.Helper()
	s.signal(syscall.SIGKILL)
	var status *exec.ExitError
	if err := s.cmd.Wait(); err != nil && !errors.As(err, &status) {
		s.t.Fatalf("redistest: wait for the server: %v", err)
	}
	s.cmd = nil
	s.proxy.stop()
}

// Restart starts an empty server under the same address. One that still runs
// is killed before.
func (s *Server) Restart() {
	s.t.Helper()
	if s.cmd != nil {
		s.Kill()
	}
	s.start(Binary)
}

// Freeze stops the server by SIGSTOP: connections stay, and nobody answers.
func (s *Server) Freeze() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
}

// Thaw lets a frozen server go on with all that it was sent meanwhile.
func (s *Server) Thaw() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
}

// CommandCount is how many commands clients have sent to Addr since Start,
// including those that open a connection.
func (s *Server) CommandCount() int64 { return s.proxy.count() }

// Commands tells CommandCount by the name of the command, in upper case.
func (s *Server) Commands() map[string]int64 { return s.proxy.counts() }

// Output is what the server has printed: for the message of a failed test.
func (s *Server) Output() string { return s.output.String() }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if s.cmd == nil {
		s.t.Fatalf("redistest: %v: the server does not run", sig)
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("redistest: %v: %v", sig, err)
	}
}

// start runs a server and waits until it answers.
func (s *Server) start(path string) {
	s.t.Helper()
	cmd := exec.Command(path,
		"--port", "0", "--unixsocket", s.socket(), "--dir", s.dir,
		"--save", "", "--appendonly", "no",
		"--maxmemory", "256mb", "--maxmemory-policy", "noeviction",
		"--enable-debug-command", "local", "--loglevel", "warning")
	cmd.Stdout, cmd.Stderr = &s.output, &s.output
	endWithParent(cmd)
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("redistest: start %s: %v", path, err)
	}
	s.cmd = cmd
	deadline := time.Now().Add(startTimeout)
	for {
		err := ping(s.socket())
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("redistest: no answer after %v: %v\n%s", startTimeout, err, s.Output())
		}
		<-time.After(5 * time.Millisecond)
	}
	if err := s.proxy.start(); err != nil {
		s.t.Fatalf("redistest: %v", err)
	}
}

// ping asks the server behind a socket for a sign of life.
func ping(socket string) error {
	conn, err := net.DialTimeout("unix", socket, startTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(startTimeout)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer := make([]byte, len("+PONG\r\n"))
	if _, err := conn.Read(answer); err != nil {
		return err
	}
	if !bytes.HasPrefix(answer, []byte("+PONG")) {
		return fmt.Errorf("the answer to PING is %q", answer)
	}
	return nil
}

// syncBuffer is a bytes.Buffer for two goroutines.
type syncBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"inos": main})
}

// TestScript runs the scripts of testdata/script against the real program.
// Beside the usual commands they have
//
//	serve ARG…     start a node in $WORK/data; INOS_NODE, INOS_DATA, INOS_ADMIN lead to it
//	stop           end it as an operator does, and check that it ends well
//	code N CMD…    run a command that has to exit with code N
//	until RE CMD…  run a command again and again until its output matches
//	liar           set LIAR to the address of a proxy that flips a bit of every chunk
//	spoil FILE     flip a bit of a file
//	save NAME RE   set NAME to what the group of RE matches in the last output
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("INOS_UPDATE") == "1", // rewrites what cmp compares with
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			env.Values[nodeKey{}] = &served{}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"serve": cmdServe, "stop": cmdStop, "code": cmdCode, "until": cmdUntil, "liar": cmdLiar, "spoil": cmdSpoil, "save": cmdSave,
		},
	})
}

type nodeKey struct{}

// served is the node of one script.
type served struct{ cmd *exec.Cmd }

func of(ts *testscript.TestScript) *served {
	s, ok := ts.Value(nodeKey{}).(*served)
	if !ok {
		ts.Fatalf("no node")
	}
	return s
}

func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	program := args[0]
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if path, err := exec.LookPath(filepath.Join(dir, args[0])); err == nil {
			program = path
			break
		}
	}
	cmd := exec.Command(program, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "XDG_CONFIG_HOME", "INOS_NODE", "INOS_DATA", "INOS_ADMIN", "INOS_TOKEN", "INOS_CONFIG", "TMPDIR", "GOCOVERDIR"} {
		if value := ts.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	return cmd
}

var listening = regexp.MustCompile(`msg=listening network=tcp address=(\S+)`)

func cmdServe(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv("INOS_DATA", ts.MkAbs("data"))
	cmd := command(ts, append([]string{"inos", "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, args...))
	log, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	of(ts).cmd = cmd
	ts.Defer(func() {
		if of(ts).cmd != nil {
			_ = cmd.Process.Kill() // it may be gone
			_ = cmd.Wait()         // killed
		}
	})
	var addresses []string
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		ts.Logf("node: %s", lines.Text())
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			addresses = append(addresses, m[1])
		}
		if strings.Contains(lines.Text(), "msg=ready") {
			ts.Setenv("INOS_NODE", "http://"+addresses[0])
			ts.Setenv("INOS_ADMIN", addresses[1])
			go func() { _, _ = io.Copy(io.Discard, log) }() // ends with the process
			return
		}
	}
	ts.Fatalf("the node did not start")
}

func cmdStop(ts *testscript.TestScript, _ bool, _ []string) {
	cmd := of(ts).cmd
	of(ts).cmd = nil
	ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	ts.Check(cmd.Wait())
}

func cmdCode(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	cmd := command(ts, args[1:])
	var out, text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &text
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](cmd.Run()); ok {
		code = exit.ExitCode()
	}
	ts.Logf("%s%s", &out, &text)
	ts.Check(os.WriteFile(ts.MkAbs("code.out"), out.Bytes(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("code.err"), text.Bytes(), 0o600))
	if code != want {
		ts.Fatalf("%s: exit code %d, want %d", strings.Join(args[1:], " "), code, want)
	}
	if n := strings.Count(text.String(), "\n"); code > 0 && n != 1 {
		ts.Fatalf("%d lines of error, want 1", n)
	}
}

// cmdUntil leaves the last output in until.out.
func cmdUntil(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile("(?m)" + args[0])
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-poll.C {
		out, err := command(ts, args[1:]).CombinedOutput()
		if err == nil && want.Match(out) {
			ts.Check(os.WriteFile(ts.MkAbs("until.out"), out, 0o600))
			return
		}
		ts.Logf("%s%v", out, err)
	}
	ts.Fatalf("%s: its output never matched %s", strings.Join(args[1:], " "), want)
}

// cmdLiar starts a proxy that is honest about everything but chunks.
func cmdLiar(ts *testscript.TestScript, _ bool, _ []string) {
	node, err := url.Parse(ts.Getenv("INOS_NODE"))
	ts.Check(err)
	proxy := httputil.NewSingleHostReverseProxy(node)
	proxy.ModifyResponse = func(r *http.Response) error {
		if !strings.HasPrefix(r.Request.URL.Path, "/chunk/") || r.StatusCode != http.StatusOK {
			return nil
		}
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		data[len(data)/2] ^= 1
		r.Body = io.NopCloser(bytes.NewReader(data))
		return nil
	}
	server := httptest.NewServer(proxy)
	ts.Defer(server.Close)
	ts.Setenv("LIAR", server.URL)
}

func cmdSpoil(ts *testscript.TestScript, _ bool, args []string) {
	matches, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(matches) != 1 {
		ts.Fatalf("%s: %d files", args[0], len(matches))
	}
	data, err := os.ReadFile(matches[0])
	ts.Check(err)
	data[len(data)/2] ^= 1
	ts.Check(os.Chmod(matches[0], 0o600))
	ts.Check(os.WriteFile(matches[0], data, 0o600))
}

func cmdSave(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("no match for %s", args[1])
	}
	ts.Setenv(args[0], m[1])
}

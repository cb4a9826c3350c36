package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cmd/inos/remote/remotetest"
)

// TestGetAfterKill kills inos get with SIGKILL when it has written some
// pieces and waits for the next ones: there is no target then, and the last
// run fetches exactly what is missing.
func TestGetAfterKill(t *testing.T) {
	program, err := exec.LookPath("inos") // this test binary, under the name that runs main
	if err != nil {
		t.Fatal(err)
	}
	const pieces = 20
	data := make([]byte, pieces*cas.PieceSize)
	_, _ = rand.Read(data) // never fails
	server := remotetest.New(t)
	o, err := dag.NewWriter(server.Store, dag.WriterConfig{}).File(t.Context(), bytes.NewReader(data), dag.DefaultMediaType)
	if err != nil {
		t.Fatal(err)
	}
	root, err := dag.Root(t.Context(), dag.Manifests{Getter: server.Store}, o.Hash)
	if err != nil {
		t.Fatal(err)
	}
	gate := newGate(root)
	server.SetAnswer(gate.answer)
	target := filepath.Join(t.TempDir(), "out")
	get := func() *exec.Cmd {
		return exec.CommandContext(t.Context(), program, "get", "--node", server.URL, "-o", target, o.Hash.String())
	}
	for _, n := range []int64{0, 3, 11} {
		killed := gate.allow(n)
		cmd := get()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitForSize(t, target+".*.part", n*cas.PieceSize)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("it was not killed")
		}
		close(killed)
		if _, err := os.Lstat(target); !os.IsNotExist(err) {
			t.Fatalf("after %d pieces: target: %v", n, err)
		}
	}
	gate.allow(pieces)
	server.Gets.Store(0)
	if out, err := get().CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got, err := os.ReadFile(target)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if gets := server.Gets.Load(); gets != 1+pieces-11 {
		t.Errorf("%d chunks fetched, want the manifest and %d pieces", gets, pieces-11)
	}
	left, err := fs.Glob(os.DirFS(filepath.Dir(target)), "*.part")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestInterrupt: the first signal ends a command cleanly, with its own exit
// code.
func TestInterrupt(t *testing.T) {
	program, err := exec.LookPath("inos")
	if err != nil {
		t.Fatal(err)
	}
	server := remotetest.New(t)
	o, err := dag.NewWriter(server.Store, dag.WriterConfig{}).File(t.Context(), bytes.NewReader(make([]byte, 3*cas.PieceSize)), dag.DefaultMediaType)
	if err != nil {
		t.Fatal(err)
	}
	asked, over := make(chan struct{}, 100), make(chan struct{})
	defer close(over)
	server.SetAnswer(func(http.ResponseWriter, cas.Hash, []byte) bool {
		asked <- struct{}{}
		<-over
		panic(http.ErrAbortHandler)
	})
	for _, args := range [][]string{{"get", "-o", filepath.Join(t.TempDir(), "out")}, {"cat"}, {"stat"}} {
		cmd := exec.CommandContext(t.Context(), program, append(args, "--node", server.URL, o.Hash.String())...)
		var text bytes.Buffer
		cmd.Stderr = &text
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-asked
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		exit, ok := errors.AsType[*exec.ExitError](cmd.Wait())
		if !ok || exit.ExitCode() != exitInterrupted || text.String() != "inos: interrupted\n" {
			t.Errorf("%s: %v, %q", args[0], exit, &text)
		}
	}
}

// gate answers the first pieces of a file and holds the others back.
type gate struct {
	index map[cas.Hash]int64
	open  atomic.Pointer[opening]
}

type opening struct {
	pieces int64
	over   chan struct{} // closed when held answers need no longer wait
}

func newGate(root *cas.Manifest) *gate {
	g := &gate{index: map[cas.Hash]int64{}}
	for i, p := range root.Pieces {
		g.index[p.Hash] = int64(i)
	}
	return g
}

func (g *gate) allow(pieces int64) (over chan struct{}) {
	over = make(chan struct{})
	g.open.Store(&opening{pieces, over})
	return over
}

func (g *gate) answer(_ http.ResponseWriter, h cas.Hash, _ []byte) bool {
	i, isPiece := g.index[h]
	open := g.open.Load()
	if !isPiece || i < open.pieces {
		return false
	}
	<-open.over
	panic(http.ErrAbortHandler)
}

// waitForSize returns when there is a file with at least so many bytes.
func waitForSize(t *testing.T, pattern string, size int64) {
	t.Helper()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if len(matches) == 1 {
			if info, err := os.Stat(matches[0]); err == nil && info.Size() >= size {
				return
			}
		}
		select {
		case <-poll.C:
		case <-t.Context().Done():
			t.Fatal("it did not come")
		}
	}
}

package disk

import (
	"bufio"
	"encoding/binary"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/castest"
)

// childEnv names the role of a test binary that a test has started again.
const childEnv = "INOS_DISK_CHILD"

// children are the roles; each gets the data directory and the first seed.
var children = map[string]func(dir string, seed uint64) error{
	"put-for-ever": childPutForEver,
	"put-traced":   childPutTraced,
	"open":         childOpen,
}

func TestMain(m *testing.M) {
	role := os.Getenv(childEnv)
	if role == "" {
		m.Run()
		return
	}
	seed, err := strconv.ParseUint(os.Args[2], 10, 64)
	if err == nil {
		err = children[role](os.Args[1], seed)
	}
	if err != nil {
		panic(err)
	}
}

// childCommand starts the test binary in a role, behind the words in front.
func childCommand(t *testing.T, role, dir string, seed uint64, front ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append(front, self, dir, strconv.FormatUint(seed, 10))
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), childEnv+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

// soak returns the full number of a loop, or a tenth of it.
func soak(full int) int {
	if v := os.Getenv("INOS_SOAK"); v == "" || v == "0" {
		return full / 10
	}
	return full
}

// childChunk is castest.Random for a process that is no test.
func childChunk(seed uint64, size int) (cas.Chunk, error) {
	piece := make([]byte, size-cas.RawOverhead)
	binary.LittleEndian.PutUint64(piece, seed)
	return cas.Seal(castest.Raw(piece))
}

// say tells the parent, with one write, what has happened to a chunk.
func say(verb string, h cas.Hash) error {
	_, err := os.Stdout.WriteString(verb + " " + h.String() + "\n")
	return err
}

// heard reads one line of a child; ok is false at the end, and for a line that
// was cut off.
func heard(t *testing.T, out *bufio.Reader) (verb string, h cas.Hash, ok bool) {
	t.Helper()
	line, err := out.ReadString('\n')
	if err != nil {
		return "", h, false
	}
	verb, text, _ := strings.Cut(strings.TrimSpace(line), " ")
	if h, err = cas.ParseHash(text); err != nil {
		t.Fatalf("the child says %q", line)
	}
	return verb, h, true
}

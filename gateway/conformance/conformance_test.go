package conformance

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// asServer is set in the environment of the test program when the suite runs
// it as the server to judge.
const asServer = "INOS_CONFORMANCE_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		if err := serve(os.Stdin, os.Stdout); err != nil {
			panic(err) // the suite shows it, and takes the server for dead
		}
		return
	}
	m.Run()
}

// suite returns the command of the suite: what `make test` has built, else
// what the tools module has.
func suite(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	built := filepath.Join(root, "bin", "connectconformance")
	if _, err := os.Stat(built); err == nil {
		return exec.CommandContext(t.Context(), built, args...)
	}
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"tool", "connectconformance"}, args...)...)
	cmd.Dir = filepath.Join(root, "tools")
	return cmd
}

// TestConformance runs the whole suite; no case may fail, none is known to.
func TestConformance(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	conf, err := filepath.Abs("testdata/suite.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cmd := suite(t, "--mode", "server", "--conf", conf, "--", self)
	cmd.Env = append(os.Environ(), asServer+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, last(out, 8000))
	}
	total := regexp.MustCompile(`Total cases: (\d+)\n(\d+) passed, 0 failed`).FindSubmatch(out)
	if total == nil || !bytes.Equal(total[1], total[2]) || len(total[1]) < 4 {
		t.Fatalf("not all of some thousand cases passed:\n%s", last(out, 2000))
	}
	t.Logf("%s cases passed", total[1])
}

func last(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

package disk

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"inos.dev/edge/cas"
)

const tracedPuts = 24

// childPutTraced puts a chunk alone, then many at once.
func childPutTraced(dir string, seed uint64) error {
	s, err := Open(Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	errs := make([]error, tracedPuts)
	put := func(i int) {
		c, err := childChunk(seed+uint64(i), 100+i)
		if err == nil {
			_, err = s.Put(context.Background(), c)
		}
		if err == nil {
			err = say("put", c.Hash())
		}
		errs[i] = err
	}
	put(0)
	var wg sync.WaitGroup
	for i := 1; i < tracedPuts; i++ {
		wg.Go(func() { put(i) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return s.Close()
}

// TestSystemCalls traces a process and finds, for every chunk, fsync of the
// file, rename, fsync of the directory and the acknowledgement in this order:
// each has returned before the next one is called.
func TestSystemCalls(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("this test needs strace: apt-get install strace")
	}
	// strace prints directories with their links resolved.
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := childCommand(t, "put-traced", dir, 1, strace, "-f", "-y", "-s", "100", "-o", trace,
		"-e", "trace=openat,fsync,fdatasync,rename,renameat,renameat2,write")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("strace: %v", err)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	calls := parseTrace(t, string(text))
	lines := strings.Fields(string(bytes.ReplaceAll(out, []byte("put "), nil)))
	if len(lines) != tracedPuts {
		t.Fatalf("%d chunks were acknowledged, want %d", len(lines), tracedPuts)
	}
	for _, hash := range lines {
		if err := orderOf(calls, dir, hash); err != nil {
			t.Errorf("chunk %s: %v", hash, err)
		}
	}
}

// call is a system call that has returned: the lines of the trace where it was
// called and where it returned.
type call struct {
	name, args, result string
	begin, end         int
}

var (
	wholeCall   = regexp.MustCompile(`^(\d+) +(\w+)\((.*)\) += (.*)$`)
	cutCall     = regexp.MustCompile(`^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$`)
	resumedCall = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (.*)$`)
)

// parseTrace reads what strace -f has written, and puts calls together that
// were cut in two by those of other threads.
func parseTrace(t *testing.T, text string) (calls []call) {
	t.Helper()
	open := map[string]call{} // by thread
	for i, line := range strings.Split(text, "\n") {
		if m := wholeCall.FindStringSubmatch(line); m != nil {
			calls = append(calls, call{m[2], m[3], m[4], i, i})
		} else if m := cutCall.FindStringSubmatch(line); m != nil {
			open[m[1]] = call{name: m[2], args: m[3], begin: i}
		} else if m := resumedCall.FindStringSubmatch(line); m != nil {
			c := open[m[1]]
			if c.name != m[2] {
				t.Fatalf("line %d of the trace resumes what was not called: %s", i+1, line)
			}
			c.args, c.result, c.end = c.args+m[3], m[4], i
			calls = append(calls, c)
		}
	}
	return calls
}

// orderOf returns what is wrong with the calls for one chunk.
func orderOf(calls []call, dir, hash string) error {
	shard := filepath.Join(dir, chunksName, hash[:2])
	rename, err := find(calls, "the rename", func(c call) bool {
		return strings.HasPrefix(c.name, "rename") && strings.Contains(c.args, "<"+shard+">") && strings.Contains(c.args, `"`+hash+`"`)
	})
	if err != nil {
		return err
	}
	temp := filepath.Join(dir, tempName, strings.Split(rename.args, `"`)[1])
	if _, err := find(calls, "an fsync of the file before the rename", func(c call) bool {
		return isSync(c, temp) && c.end < rename.begin
	}); err != nil {
		return err
	}
	answer, err := find(calls, "the acknowledgement", func(c call) bool {
		return c.name == "write" && strings.Contains(c.args, "put "+hash)
	})
	if err != nil {
		return err
	}
	_, err = find(calls, "an fsync of the directory between the rename and the acknowledgement", func(c call) bool {
		return isSync(c, shard) && c.begin > rename.end && c.end < answer.begin
	})
	return err
}

func isSync(c call, path string) bool {
	return (c.name == "fsync" || c.name == "fdatasync") && strings.Contains(c.args, "<"+path+">") && c.result == "0"
}

func find(calls []call, what string, is func(call) bool) (call, error) {
	for _, c := range calls {
		if is(c) {
			return c, nil
		}
	}
	return call{}, fmt.Errorf("the trace lacks %s", what)
}

// TestOrderOf: the judge of the traces finds each disorder.
func TestOrderOf(t *testing.T) {
	h := cas.Sum(nil).String()
	const temp, name, dir, answer = `1 fsync(5</d/tmp/a>) = 0`, `1 renameat(3</d/tmp>, "a", 4</d/chunks/af>, "H") = 0`, `1 fsync(4</d/chunks/af>) = 0`, `1 write(1</out>, "put H\n", 70) = 70`
	for _, c := range []struct {
		lines []string
		ok    bool
	}{
		{[]string{temp, name, dir, answer}, true},
		{[]string{name, temp, dir, answer}, false},
		{[]string{temp, dir, name, answer}, false},
		{[]string{temp, name, answer, dir}, false},
		{[]string{name, dir, answer}, false},
		{[]string{temp, name, answer}, false},
		{[]string{"2 fsync(5</d/tmp/a> <unfinished ...>", name, "2 <... fsync resumed>) = 0", dir, answer}, false},
		{[]string{"2 fsync(5</d/tmp/a> <unfinished ...>", "2 <... fsync resumed>) = 0", name, dir, answer}, true},
		{[]string{strings.Replace(temp, "= 0", "= -1 EIO", 1), name, dir, answer}, false},
	} {
		text := strings.ReplaceAll(strings.Join(c.lines, "\n"), "H", h)
		if err := orderOf(parseTrace(t, text), "/d", h); (err == nil) != c.ok {
			t.Errorf("%v\nsays %v, want ok %v", c.lines, err, c.ok)
		}
	}
}

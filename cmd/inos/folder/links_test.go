package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestLeavesAgainstKernel: a link that is let through leads nowhere outside,
// says the kernel, and one that the kernel follows to the outside is refused.
func TestLeavesAgainstKernel(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	rapid.Check(t, func(t *rapid.T) {
		count++
		dir := filepath.Join(base, fmt.Sprint(count), "p", "root")
		if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
			t.Fatal(err)
		}
		step := rapid.SampledFrom([]string{"a", "b", "..", ".", "l0", "l1", "l2", "l3", ""})
		links := map[string]string{}
		for i := range rapid.IntRange(1, 4).Draw(t, "links") {
			in := rapid.SampledFrom([]string{"", "a/", "a/b/"}).Draw(t, "in")
			target := strings.Join(rapid.SliceOfN(step, 1, 5).Draw(t, "target"), "/")
			if target == "" || target[0] == '/' {
				target = "." + target
			}
			links[fmt.Sprintf("%sl%d", in, i)] = target
		}
		for name, target := range links {
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrExist) {
				t.Fatal(err)
			}
		}
		for name, target := range links {
			end, err := filepath.EvalSymlinks(filepath.Join(dir, name))
			outside := err == nil && end != dir && !strings.HasPrefix(end, dir+"/")
			if outside && !leaves(links, name) {
				t.Fatalf("%s -> %s leads to %s; links %v", name, target, end, links)
			}
			if err == nil && !outside && leaves(links, name) && !strings.Contains(target, "..") && len(links) == 1 {
				t.Fatalf("%s -> %s was refused; links %v", name, target, links)
			}
		}
	})
}

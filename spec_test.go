package edge

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// requirement is a row of docs/spec.md.
type requirement struct {
	id, text, heldBy string
	line             int
}

func milestones() []string {
	return []string{"edge node", "heat and credits", "mesh", "browsers", "ingress", "browser runtime"}
}

// TestSpec holds docs/spec.md against the tree: ids are unique, and what a row
// names is there.
func TestSpec(t *testing.T) {
	rows := readSpec(t)
	tests, targets := testFunctions(t), makeTargets(t)
	seen := make(map[string]int)
	for _, r := range rows {
		if first, ok := seen[r.id]; ok {
			t.Errorf("docs/spec.md:%d: %s stands in line %d already", r.line, r.id, first)
		}
		seen[r.id] = r.line
		if why := r.orphan(tests, targets); why != "" {
			t.Errorf("docs/spec.md:%d: %s: %s", r.line, r.id, why)
		}
	}
}

// orphan says why nothing holds a requirement; "" if something does.
func (r requirement) orphan(tests map[string]bool, targets []string) string {
	kind, rest, _ := strings.Cut(r.heldBy, ": ")
	switch {
	case r.text == "":
		return "it requires nothing"
	case kind == "deviation" && len(strings.Fields(rest)) >= 4:
		return ""
	case kind == "milestone" && slices.Contains(milestones(), rest):
		return ""
	case !strings.HasPrefix(r.heldBy, "`"):
		return "neither a test, nor a deviation with its reason, nor a milestone: " + r.heldBy
	}
	for name := range strings.SplitSeq(r.heldBy, ", ") {
		name, opened := strings.CutPrefix(name, "`")
		name, closed := strings.CutSuffix(name, "`")
		target, isTarget := strings.CutPrefix(name, "make ")
		_, statErr := os.Stat(name)
		isFile := strings.Contains(name, "/") && statErr == nil && (strings.Contains(name, "testdata/") || strings.Contains(name, ".test."))
		if !opened || !closed || !tests[name] && !isFile && (!isTarget || !slices.Contains(targets, target)) {
			return "there is no " + name
		}
	}
	return ""
}

func readSpec(t *testing.T) []requirement {
	t.Helper()
	text, err := os.ReadFile("docs/spec.md")
	if err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`^[A-Z]+-[1-9][0-9]*$`)
	var rows []requirement
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || line == "| id | requirement | held by |" || line == "| --- | --- | --- |" {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 3 || !id.MatchString(strings.TrimSpace(cells[0])) {
			t.Errorf("docs/spec.md:%d: a row is an id like HTTP-7, a requirement, and what holds it", number)
			continue
		}
		rows = append(rows, requirement{strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2]), number})
	}
	if len(rows) == 0 {
		t.Fatal("docs/spec.md has no rows")
	}
	return rows
}

// testFunctions lists the tests, fuzz targets and benchmarks of the tree as
// "package/path.TestName", those of the root by their name alone.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	name := regexp.MustCompile(`^(Test|Fuzz|Benchmark|Example)[A-Z0-9_]`)
	for _, file := range committed(t) {
		if !strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			continue
		}
		inFolder := ""
		if dir := path.Dir(file); dir != "." {
			inFolder = dir + "."
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if ok && fn.Recv == nil && name.MatchString(fn.Name.Name) && fn.Name.Name != "TestMain" {
				found[inFolder+fn.Name.Name] = true
			}
		}
	}
	return found
}

// maxTargets is how many targets a person can keep in mind.
const maxTargets = 20

func TestMakefile(t *testing.T) {
	text, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	target := regexp.MustCompile(`(?m)^([a-z][a-z-]*):.*$`)
	all := target.FindAllString(string(text), -1)
	if len(all) > maxTargets {
		t.Errorf("%d targets, more than %d", len(all), maxTargets)
	}
	for _, line := range all {
		if !strings.Contains(line, " ## ") {
			t.Errorf("%q has no line of help", line)
		}
	}
}

// makeTargets lists the targets of the Makefile.
func makeTargets(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z-]*):`).FindAllStringSubmatch(string(text), -1) {
		names = append(names, m[1])
	}
	return names
}

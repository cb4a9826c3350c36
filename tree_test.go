// Package edge holds what is true of the tree as a whole: who may import whom,
// what builds for a browser, and which test holds which requirement.
package edge

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "inos.dev/edge"

// rule is a row of the layer table. Packages of the module are named without
// it, libraries by their full path; "/..." means everything below, too. A row
// that speaks of no package fails, so that a typing mistake cannot pass as
// peace.
type rule struct {
	who    []string // packages of the module that the row speaks of; a leading "!" takes some out
	never  []string // what they must not import
	only   []string // or: all that they may import beside the standard library
	deep   bool     // whether imports of imports count too
	reason string
}

func layers() []rule {
	return []rule{
		{who: []string{"cas"}, only: []string{"github.com/zeebo/blake3/...", "github.com/klauspost/cpuid/v2/..."}, deep: true,
			reason: "the words of content are the bottom of everything and run in a browser"},
		{who: []string{"cas/..."}, never: []string{"gateway/...", "mesh/...", "cmd/..."}, deep: true,
			reason: "a shelf knows neither the door nor the street"},
		{who: []string{"cas/brotli", "cas/dag", "cas/mem"}, never: []string{"net/...", "os/...", "syscall/...", "time", "log/..."},
			reason: "pure: bytes in, bytes out; no file, no network, no clock"},
		{who: []string{"gateway/...", "mesh/..."}, never: []string{"cas/disk"}, deep: true,
			reason: "stores arrive as interfaces; cmd/inos chooses them"},
		{who: []string{"gateway/..."}, never: []string{"cmd/..."}, deep: true,
			reason: "arrows point downwards"},
		{who: []string{"mesh/..."}, never: []string{"gateway/...", "cmd/..."}, deep: true,
			reason: "the street does not know the front door"},
		{who: []string{"...", "!gateway/rpc", "!gateway/conformance/...", "!cmd/...", "!proto/...", "!loadtest/..."}, never: []string{"connectrpc.com/...", "google.golang.org/protobuf/...", module + "/proto/..."},
			reason: "generated types end at gateway/rpc"},
		{who: []string{"mesh"}, only: []string{module + "/cas", "github.com/zeebo/blake3/...", "github.com/klauspost/cpuid/v2/..."}, deep: true,
			reason: "the words of the network run in a browser, too"},
		{who: []string{"gateway/credit", "gateway/payer", "gateway/event"}, never: []string{"net/...", module + "/gateway/rpc"},
			reason: "the books and the bus know no network"},
		{who: []string{"gateway/credit/..."}, never: []string{"net/http", module + "/gateway", module + "/gateway/content", module + "/gateway/heat", module + "/gateway/event"},
			reason: "the books know neither the door nor what is served"},
		{who: []string{"..."}, never: []string{"github.com/libp2p/...", "github.com/pion/..."},
			reason: "no package speaks to peers or browsers yet; each gets one room when it comes"},
		{who: []string{"...", "!gateway/heat", "!gateway/credit/books", "!gateway/redistest"}, never: []string{"github.com/redis/..."},
			reason: "Redis has one file in heat and one in the books"},
		{who: []string{"...", "!cmd/..."}, never: []string{"github.com/alecthomas/kong/...", "github.com/vbauerster/mpb/..."},
			reason: "flags and progress bars belong to the command"},
		{who: []string{"...", "!cas/brotli", "!gateway"}, never: []string{"github.com/andybalholm/brotli/..."},
			reason: "one package makes br1, or hashes differ; gateway decodes what clients send compressed"},
		{who: []string{"...", "!cas/...", "!cmd/..."}, never: []string{"github.com/zeebo/blake3/..."},
			reason: "chunks are hashed by cas; a command may hash a whole file"},
	}
}

func TestLayers(t *testing.T) {
	all := goList(t, nil, "./...")
	own := slices.DeleteFunc(sortedKeys(all), func(path string) bool { return all[path].DepOnly })
	for _, r := range layers() {
		var who []string
		for _, pattern := range r.who {
			name, not := strings.CutPrefix(pattern, "!")
			matched := slices.DeleteFunc(slices.Clone(own), func(path string) bool { return !matches(path, name) })
			if len(matched) == 0 {
				t.Errorf("the row %q (%s) speaks of no package", pattern, r.reason)
			}
			if not {
				who = slices.DeleteFunc(who, func(path string) bool { return slices.Contains(matched, path) })
			} else {
				who = append(who, matched...)
			}
		}
		for _, path := range who {
			checkImports(t, all, path, r)
		}
	}
}

// checkImports holds one package against one row.
func checkImports(t *testing.T, all map[string]listed, importer string, r rule) {
	t.Helper()
	imports := all[importer].Imports
	if r.deep {
		imports = all[importer].Deps
	}
	for _, path := range imports {
		refused := matchesAny(path, r.never)
		unexpected := r.only != nil && !all[path].Standard && !matchesAny(path, r.only)
		if path != importer && (refused || unexpected) {
			t.Errorf("%s imports %s: %s", importer, path, r.reason)
		}
	}
}

// forBrowsers is what the kernel of a browser is built from.
func forBrowsers() []string {
	return []string{"./cas", "./cas/brotli", "./cas/dag", "./cas/mem", "./mesh"}
}

// neverInBrowsers is what would weigh too much in a page, or cannot work there.
func neverInBrowsers() []string {
	return []string{
		"net", "net/http/...", "os/exec", "os/signal", "crypto/tls/...", "html/template", "text/template",
		"google.golang.org/...", "connectrpc.com/...", "go.etcd.io/...", "golang.org/x/sys/unix",
		"github.com/prometheus/...", "log/...",
	}
}

// carriesHTTP is a library with a helper for net/http in its one package.
// Nobody calls it, so the linker leaves net/http out.
const carriesHTTP = "github.com/andybalholm/brotli"

func TestBrowserBuild(t *testing.T) {
	env := append(os.Environ(), "GOOS=js", "GOARCH=wasm")
	build := exec.CommandContext(t.Context(), "go", append([]string{"build"}, forBrowsers()...)...)
	build.Env = env
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("js/wasm: %v\n%s", err, out)
	}
	all := goList(t, env, forBrowsers()...)
	for _, p := range all {
		if p.Standard || p.ImportPath == carriesHTTP {
			continue
		}
		for _, path := range p.Imports {
			if matchesAny(path, neverInBrowsers()) {
				t.Errorf("%s imports %s, which has no place in a page", p.ImportPath, path)
			}
		}
	}
}

func TestTopLevel(t *testing.T) {
	allowed := []string{
		".ci", ".gitignore", ".golangci.yml", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE", "Makefile", "README.md",
		"cas", "cmd", "deploy", "docs", "gateway", "go.mod", "go.sum", "loadtest", "mesh", "nginx", "proto",
		"spec_test.go", "tools", "tree_test.go", "wasm", "web",
	}
	for _, file := range committed(t) {
		if top, _, _ := strings.Cut(file, "/"); !slices.Contains(allowed, top) {
			t.Errorf("%s: nothing else lives at the root", top)
		}
	}
}

// maxFileLines is the most lines of a file that somebody wrote.
const maxFileLines = 500

func TestSizes(t *testing.T) {
	for _, file := range committed(t) {
		if !written(file) {
			continue
		}
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, and not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(text, []byte("\n")); n > maxFileLines {
			t.Errorf("%s has %d lines, more than %d: cut it where it wants to be cut", file, n, maxFileLines)
		}
	}
}

// TestGoFiles wants no init and a comment for each package.
func TestGoFiles(t *testing.T) {
	documented := make(map[string]bool)
	for _, file := range committed(t) {
		if filepath.Ext(file) != ".go" || !written(file) {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, file, nil, parser.ParseComments)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Error(err)
			continue
		}
		dir := filepath.Dir(file)
		documented[dir] = documented[dir] || f.Doc != nil
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init runs before anybody decided anything", fset.Position(fn.Pos()))
			}
		}
	}
	for _, dir := range sortedKeys(documented) {
		if !documented[dir] {
			t.Errorf("%s: no package comment", dir)
		}
	}
}

// TestRedisFiles holds Redis to one file of a package.
func TestRedisFiles(t *testing.T) {
	for _, file := range committed(t) {
		if filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") || strings.HasPrefix(file, "gateway/redistest/") || !written(file) {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte(`"github.com/redis/`)) && filepath.Base(file) != "redis.go" {
			t.Errorf("%s speaks to Redis: that is redis.go's", file)
		}
	}
}

// TestNobodySleeps allows time.Sleep in tests under synctest alone, where it
// takes no time.
func TestNobodySleeps(t *testing.T) {
	for _, file := range committed(t) {
		if filepath.Ext(file) != ".go" || !written(file) {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("time."+"Sleep(")) && !bytes.Contains(text, []byte(`"testing/synctest"`)) {
			t.Errorf("%s sleeps: wait for a condition, or use testing/synctest", file)
		}
	}
}

// written says whether somebody wrote a file by hand: not a generator, and not
// data.
func written(file string) bool {
	folders := strings.Split(filepath.Dir(file), "/")
	if slices.Contains(folders, "testdata") || slices.Contains(folders, "gen") {
		return false
	}
	return slices.Contains([]string{".go", ".ts", ".tsx", ".js", ".rs", ".proto", ".sh", ".css", ".conf"}, filepath.Ext(file))
}

// committed lists the files that git keeps, and those about to be.
func committed(t *testing.T) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", "ls-files", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	files := strings.Fields(string(out))
	if len(files) == 0 {
		t.Fatal("git keeps no file")
	}
	return files
}

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Standard   bool
	DepOnly    bool // nobody asked for it
	Imports    []string
	Deps       []string
}

// goList returns the packages that match, and all that they are built from,
// by import path. Imports of tests do not count.
func goList(t *testing.T, env []string, patterns ...string) map[string]listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-deps", "-json=ImportPath,Standard,DepOnly,Imports,Deps"}, patterns...)...)
	cmd.Env = env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	all := make(map[string]listed)
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatalf("go list: %v", err)
		}
		all[p.ImportPath] = p
	}
}

// matches compares an import path with a pattern. Both may leave the module's
// own path out.
func matches(path, pattern string) bool {
	path, pattern = inModule(path), inModule(pattern)
	if base, ok := strings.CutSuffix(pattern, "..."); ok {
		return path+"/" == base || strings.HasPrefix(path, base)
	}
	return path == pattern
}

// inModule is an import path without the module in front.
func inModule(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
}

func matchesAny(path string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(path, p) })
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

package event

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseName(t *testing.T) {
	for text, want := range map[string]Name{
		"storage:replicate_chunk:v1:requested": {"storage", "replicate_chunk", 1, Requested},
		"a:b:v999:failed":                      {"a", "b", 999, Failed},
		"a1:b_2:v10:processing":                {"a1", "b_2", 10, Processing},
	} {
		n, err := ParseName(text)
		if err != nil || n != want || n.String() != text {
			t.Errorf("%s: %+v %s, %v", text, n, n, err)
		}
	}
	word := strings.Repeat("a", maxWord)
	if _, err := ParseName(word + ":" + word + ":v999:processing"); err != nil {
		t.Errorf("the longest name: %v", err)
	}
	for _, text := range []string{
		"", "a:b:v1", "a:b:v1:requested:", "A:b:v1:requested", "a:B:v1:requested", ":b:v1:requested", "a::v1:requested",
		"a:b:1:requested", "a:b:v0:requested", "a:b:v01:requested", "a:b:v+1:requested", "a:b:v1000:requested", "a:b:vv1:requested",
		"a:b:v1:unknown", "a:b:v1:Requested", "a:b:v1:", "1a:b:v1:requested", "_a:b:v1:requested", "a-b:c:v1:requested",
		" a:b:v1:requested", "ä:b:v1:requested", word + "a:b:v1:requested", strings.Repeat("a", 1000),
	} {
		if n, err := ParseName(text); !errors.Is(err, ErrName) {
			t.Errorf("%q: %+v, %v", text, n, err)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, e := range Table() {
		f.Add(e.Name)
	}
	f.Add("a:b:v01:failed")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseName(text)
		if err != nil {
			return
		}
		if n.String() != text || len(text) > maxName {
			t.Errorf("%q is written %q", text, n)
		}
		if err := checkOperation(n.Operation()); err != nil {
			t.Error(err)
		}
	})
}

func TestTraceparent(t *testing.T) {
	for text, want := range map[string]bool{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":   true,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0":    false,
		"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":   false,
		"00-4BF92F3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":   false,
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01":   false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01":   false,
		"00-4bf92f3577b34da6a3ce929d0e0e47-36-00f067aa0ba902b7-01":  false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736--0f067aa0ba902b7-01":   false,
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-0": false,
		"": false,
	} {
		if isTraceparent(text) != want {
			t.Errorf("%q: %t", text, !want)
		}
	}
}

// TestStep walks through the whole table of transitions, for each who might.
func TestStep(t *testing.T) {
	ann, bob, root := Publisher{Subject: "ann"}, Publisher{Subject: "bob"}, Publisher{Subject: "root", Admin: true}
	node := Publisher{node: true}
	n := Name{"app", "draw", 1, 0}
	own := Name{"storage", "replicate_chunk", 1, 0}
	at := func(n Name, s State, w *worker) *operation {
		o := &operation{requester: "ann"}
		seq := uint64(0)
		for _, passed := range []State{Requested, Processing, Completed, Failed} {
			if passed <= s && (passed != Completed || s != Failed) {
				seq++
				o.advance(&Event{Sequence: seq, Name: n.In(passed), User: "ann"})
			}
		}
		o.requester, o.worker = "ann", w
		return o
	}
	for _, tc := range []struct {
		what string
		o    *operation
		p    Publisher
		n    Name
		want error
		dup  bool
	}{
		{"a request", nil, ann, n.In(Requested), nil, false},
		{"a notice", nil, ann, n.In(Completed), nil, false},
		{"a bad notice", nil, ann, n.In(Failed), nil, false},
		{"out of nothing", nil, ann, n.In(Processing), ErrTransition, false},
		{"begun", at(n, Requested, nil), ann, n.In(Processing), nil, false},
		{"begun by another", at(n, Requested, nil), bob, n.In(Processing), ErrForeign, false},
		{"begun by an administrator", at(n, Requested, nil), root, n.In(Processing), nil, false},
		{"failed at once", at(n, Requested, nil), ann, n.In(Failed), nil, false},
		{"skipped", at(n, Requested, nil), ann, n.In(Completed), ErrTransition, false},
		{"requested again", at(n, Requested, nil), ann, n.In(Requested), nil, true},
		{"requested again, later", at(n, Completed, nil), ann, n.In(Requested), nil, true},
		{"requested by another", at(n, Requested, nil), bob, n.In(Requested), ErrTransition, false},
		{"done", at(n, Processing, nil), ann, n.In(Completed), nil, false},
		{"not done", at(n, Processing, nil), ann, n.In(Failed), nil, false},
		{"both", at(n, Completed, nil), ann, n.In(Failed), ErrTransition, false},
		{"both, the other way", at(n, Failed, nil), ann, n.In(Completed), ErrTransition, false},
		{"back", at(n, Completed, nil), bob, n.In(Processing), ErrTransition, false},
		{"another name", at(n, Requested, nil), ann, Name{"app", "paint", 1, Processing}, ErrTransition, false},
		{"another version", at(n, Requested, nil), ann, Name{"app", "draw", 2, Processing}, ErrTransition, false},
		{"handed to bob", at(n, Requested, &worker{Publisher: bob}), bob, n.In(Processing), nil, false},
		{"handed to bob, ended by ann", at(n, Processing, &worker{Publisher: bob}), ann, n.In(Completed), ErrForeign, false},
		{"handed to bob, ended by root", at(n, Processing, &worker{Publisher: bob}), root, n.In(Completed), ErrForeign, false},
		{"handed to bob's other device", at(n, Requested, &worker{Publisher: bob}), Publisher{Subject: "bob", Device: "2"}, n.In(Processing), ErrForeign, false},
		{"handed to bob, given up", at(n, Processing, &worker{Publisher: bob}), node, n.In(Failed), nil, false},
		{"the node's", nil, node, own.In(Requested), nil, false},
		{"the node's, by ann", nil, ann, own.In(Requested), ErrForeign, false},
		{"the node's, by root", nil, root, own.In(Requested), nil, false},
		{"the node's notice, by root", nil, root, own.In(Completed), ErrForeign, false},
		{"the node's service, by ann", nil, ann, Name{"credit", "anything", 1, Completed}, ErrForeign, false},
		{"the node's, ended by root", at(own, Processing, nil), root, own.In(Completed), ErrForeign, false},
	} {
		again, err := tc.o.step(tc.p, &Event{ID: "x", Name: tc.n})
		if !errors.Is(err, tc.want) || again > 0 != tc.dup {
			t.Errorf("%s: %d, %v; want %v", tc.what, again, err, tc.want)
		}
	}
}

// TestTable holds the table against the package's documentation.
func TestTable(t *testing.T) {
	want := make(map[string]string)
	for _, e := range Table() {
		if _, err := ParseName(e.Name); err != nil {
			t.Error(err)
		}
		var fields []string
		for field := range reflect.TypeOf(e.Payload).Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			fields = append(fields, name)
		}
		shape := "{" + strings.Join(fields, ", ") + "}"
		if e.Private {
			shape += "; private"
		}
		want[e.Name] = shape
	}
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(file.Doc.Text(), "# What the node emits")
	section, _, _ = strings.Cut(section, "\n# ")
	said := make(map[string]string)
	for _, row := range regexp.MustCompile(`(?m)^\t(\S+:\S+) +(.+)$`).FindAllStringSubmatch(section, -1) {
		said[row[1]] = row[2]
	}
	if !reflect.DeepEqual(said, want) {
		t.Errorf("the documentation says\n%v\nand the table\n%v", said, want)
	}
}

// TestEmitted collects what the sources emit: all of the table, and no name
// beside it.
func TestEmitted(t *testing.T) {
	constants := make(map[string]bool) // names of the table that somebody emits
	names := make(map[string]string)   // constant: its text
	for _, e := range Table() {
		names[constantOf(t, e.Name)] = e.Name
	}
	for _, file := range sources(t, "../..") {
		own := filepath.Base(filepath.Dir(file)) == "event"
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "event" && names[n.Sel.Name] != "" {
					constants[names[n.Sel.Name]] = true
				}
			case *ast.BasicLit:
				text, err := strconv.Unquote(n.Value)
				if _, bad := ParseName(text); err == nil && bad == nil && !own {
					t.Errorf("%s has the name %s as text: take the constant of the table", file, text)
				}
			}
			return true
		})
	}
	want := make(map[string]bool)
	for _, e := range Table() {
		n, err := ParseName(e.Name)
		if err != nil {
			t.Fatal(err)
		}
		// What follows on a request is emitted by the bus, when it has a handler.
		want[e.Name] = constants[e.Name] || n.State != Requested && constants[n.In(Requested).String()]
	}
	for name, emitted := range want {
		if !emitted {
			t.Errorf("%s stands in the table, and nobody emits it", name)
		}
	}
}

// constantOf finds the constant of this package that has a text.
func constantOf(t *testing.T, text string) string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "emitted.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	name := ""
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if lit, ok := v.Values[0].(*ast.BasicLit); ok && lit.Value == strconv.Quote(text) {
				name = v.Names[0].Name
			}
		}
		return true
	})
	if name == "" {
		t.Fatalf("%s has no constant", text)
	}
	return name
}

// sources lists the Go files of the tree that are not tests and not generated.
func sources(t *testing.T, root string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains([]string{"gen", "web", "node_modules", "testdata", ".git", "bin"}, d.Name())):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	return files
}

func TestEncodePayload(t *testing.T) {
	n, err := ParseName(ReplicateChunkRequested)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := encodePayload(n, ReplicateChunk{Hash: "x"}); err != nil {
		t.Error(err)
	}
	if _, err := encodePayload(n, Failure{}); err == nil {
		t.Error("a payload of another type is accepted")
	}
	if _, err := encodePayload(Name{"storage", "lose_chunk", 1, Completed}, Failure{}); err == nil {
		t.Error("a name that is not in the table is accepted")
	}
}

// TestAccept: whatever a publisher writes, the identity is that of the token.
func TestAccept(t *testing.T) {
	p := Publisher{Subject: "ann", Device: "d1"}
	rapid.Check(t, func(t *rapid.T) {
		e := Event{
			ID:     rapid.StringN(0, 40, MaxID+10).Draw(t, "id"),
			User:   rapid.SampledFrom([]string{"", "ann", "bob"}).Draw(t, "user"),
			Device: rapid.SampledFrom([]string{"", "d1", "d2"}).Draw(t, "device"),
			Trace:  Trace{Parent: rapid.SampledFrom([]string{"", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "x"}).Draw(t, "parent"), State: rapid.String().Draw(t, "state")},
		}
		claims := e
		err := e.accept(p)
		foreign := claims.User == "bob" || claims.Device == "d2"
		switch {
		case err == nil && (foreign || e.User != "ann" || e.Device != "d1" || !visible(e.ID, MaxID) || len(e.Trace.State) > maxTraceState):
			t.Fatalf("%+v became %+v", claims, e)
		case err != nil && !errors.Is(err, ErrEvent) && (!foreign || !errors.Is(err, ErrForeign)):
			t.Fatalf("%+v: %v", claims, err)
		}
	})
	if err := (&Event{Payload: make([]byte, MaxPayload+1)}).accept(p); !errors.Is(err, ErrEvent) {
		t.Error(err)
	}
}

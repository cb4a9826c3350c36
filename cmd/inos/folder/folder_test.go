package folder

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cas/mem"
	"inos.dev/edge/cmd/inos/remote"
	"inos.dev/edge/cmd/inos/remote/remotetest"
)

// local is a Writer over a store in memory.
func local(t *testing.T) (*mem.Store, *Writer) {
	t.Helper()
	store, err := mem.New(mem.Config{})
	if err != nil {
		t.Fatal(err)
	}
	source := dag.Manifests{Getter: store}
	return store, &Writer{Reader: remote.NewReader(store, source, 4), Source: source}
}

func find(t *testing.T, s dag.Source, h cas.Hash) dag.Found {
	t.Helper()
	found, err := dag.Lookup(t.Context(), s, h, "")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func putFile(t *testing.T, p dag.Putter, data []byte) cas.Hash {
	t.Helper()
	o, err := dag.NewWriter(p, dag.WriterConfig{}).File(t.Context(), bytes.NewReader(data), dag.DefaultMediaType)
	if err != nil {
		t.Fatal(err)
	}
	return o.Hash
}

func putDir(t *testing.T, p dag.Putter, dir string, a Adder) (cas.Hash, error) {
	t.Helper()
	tree := dag.NewWriter(p, dag.WriterConfig{}).Tree(t.Context())
	if err := a.Add(t.Context(), tree, dir); err != nil {
		return cas.Hash{}, tree.Abort(err)
	}
	o, err := tree.Finish(t.Context())
	return o.Hash, err
}

// tell lists a folder: path → what is there.
func tell(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			out[name] = "dir"
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			out[name] = "link " + target
			return err
		default:
			b, err := os.ReadFile(path)
			out[name] = fmt.Sprintf("file %v %x", info.Mode()&0o111 != 0, cas.Sum(b))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// randomTree makes a folder of random names, sizes, modes and links.
func randomTree(t *rapid.T, dir string) {
	name := rapid.StringMatching(`[a-zA-Z0-9ä€.~ -]{1,20}`).Filter(func(s string) bool { return s != "." && s != ".." })
	dirs := []string{dir}
	for range rapid.IntRange(0, 25).Draw(t, "entries") {
		in := rapid.SampledFrom(dirs).Draw(t, "in")
		path := filepath.Join(in, name.Draw(t, "name"))
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		var err error
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			err = os.Mkdir(path, 0o755)
			dirs = append(dirs, path)
		case 1:
			err = os.Symlink(rapid.SampledFrom([]string{"x", "./y/z", "a b"}).Draw(t, "target"), path)
		default:
			size := rapid.IntRange(0, 5000).Draw(t, "size")
			mode := rapid.SampledFrom([]fs.FileMode{0o644, 0o755}).Draw(t, "mode")
			err = os.WriteFile(path, bytes.Repeat([]byte(name.Draw(t, "text")), size)[:size], mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	store, w := local(t)
	base := t.TempDir()
	count := 0
	rapid.Check(t, func(rt *rapid.T) {
		count++
		from, to := filepath.Join(base, fmt.Sprint(count)), filepath.Join(base, fmt.Sprint(count, "-out"))
		if err := os.Mkdir(from, 0o755); err != nil {
			rt.Fatal(err)
		}
		randomTree(rt, from)
		h, err := putDir(t, store, from, Adder{})
		if err != nil {
			rt.Fatal(err)
		}
		if err := w.Object(t.Context(), find(t, w.Source, h), to); err != nil {
			rt.Fatal(err)
		}
		if want, got := tell(t, from), tell(t, to); !maps.Equal(want, got) {
			rt.Fatalf("got %v\nwant %v", got, want)
		}
	})
	left, err := filepath.Glob(filepath.Join(base, "*.part"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestResume: after a run that ended anywhere, the next one fetches only what
// is missing, whatever the part file holds.
func TestResume(t *testing.T) {
	server := remotetest.New(t)
	node, err := remote.New(remote.Config{Node: server.URL, Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	source := dag.Manifests{Getter: node}
	data := make([]byte, 5*cas.PieceSize+77)
	_, _ = rand.Read(data) // never fails
	found := find(t, dag.Manifests{Getter: server.Store}, putFile(t, server.Store, data))
	dir := t.TempDir()
	target := filepath.Join(dir, "file")
	w := &Writer{Reader: remote.NewReader(node, source, 2), Source: source}

	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	var written atomic.Int64
	w.Progress = func(n int) {
		if written.Add(int64(n)) >= 3*cas.PieceSize {
			cancel(stop)
		}
	}
	if err := w.Object(ctx, found, target); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the target is there: %v", err)
	}
	part := partName(target, found.Hash)
	spoil(t, part, cas.PieceSize+5)
	server.Gets.Store(0)
	w.Progress = nil
	if err := w.Object(t.Context(), found, target); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(target); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if gets := server.Gets.Load(); gets < 2 || gets > 4 { // three that were missing, perhaps one written unseen, and the spoilt one
		t.Errorf("%d chunks fetched", gets)
	}
}

// spoil changes a byte of a file.
func spoil(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	_, rerr := f.ReadAt(b, at)
	b[0] ^= 1
	_, werr := f.WriteAt(b, at)
	if err := errors.Join(rerr, werr, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestWrongBytesLeaveNoTarget(t *testing.T) {
	server := remotetest.New(t)
	node, err := remote.New(remote.Config{Node: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), bytes.Repeat([]byte("a"), 5000), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := putDir(t, server.Store, dir, Adder{})
	if err != nil {
		t.Fatal(err)
	}
	other := putFile(t, server.Store, []byte("other"))
	source := dag.Manifests{Getter: node}
	found := find(t, source, h)
	server.SetAnswer(func(w http.ResponseWriter, _ cas.Hash, _ []byte) bool {
		body, err := server.Store.Open(context.Background(), other)
		if err != nil {
			panic(err)
		}
		_, _ = body.WriteSection(w, 0, body.Size())
		return true
	})
	w := &Writer{Reader: remote.NewReader(node, source, 0), Source: source}
	target := filepath.Join(t.TempDir(), "out")
	if err := w.Object(t.Context(), found, target); !errors.Is(err, cas.ErrHashMismatch) {
		t.Error(err)
	}
	if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the target is there: %v", err)
	}
}

// TestLyingManifest: pieces that fit their links, and digests that are not
// theirs.
func TestLyingManifest(t *testing.T) {
	store, w := local(t)
	honest := find(t, w.Source, putFile(t, store, []byte("some text")))
	for _, lie := range []func(*cas.Manifest){
		func(m *cas.Manifest) { m.Raw[0] ^= 1 },
		func(m *cas.Manifest) { m.SHA256[0] ^= 1 },
	} {
		m := *honest.Manifest
		lie(&m)
		h := putManifest(t, store, &m)
		target := filepath.Join(t.TempDir(), "out")
		if err := w.Object(t.Context(), find(t, w.Source, h), target); !errors.Is(err, cas.ErrCorrupt) {
			t.Error(err)
		}
		if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the target is there: %v", err)
		}
		var out bytes.Buffer
		if err := Copy(t.Context(), &out, w.Reader, &m, 0, m.Size); !errors.Is(err, cas.ErrCorrupt) {
			t.Error(err)
		}
	}
}

func putManifest(t *testing.T, store *mem.Store, m *cas.Manifest) cas.Hash {
	t.Helper()
	c, err := dag.EncodeManifest(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c.Hash()
}

// TestHostileFolders: folders that a Tree would refuse to make.
func TestHostileFolders(t *testing.T) {
	store, w := local(t)
	file := find(t, w.Source, putFile(t, store, []byte("payload")))
	dirOf := func(entries ...cas.Entry) cas.Entry {
		m := &cas.Manifest{Kind: cas.KindDirectory, Entries: entries, Count: int64(len(entries))}
		for _, e := range entries {
			m.Size += e.Size
		}
		return cas.Entry{Mode: cas.ModeDirectory, Hash: putManifest(t, store, m), Size: m.Size}
	}
	named := func(name string, e cas.Entry) cas.Entry { e.Name = name; return e }
	link := func(name, target string) cas.Entry {
		return cas.Entry{Name: name, Mode: cas.ModeSymlink, Target: target}
	}
	leaf := cas.Entry{Mode: cas.ModeFile, Hash: file.Hash, Size: file.Manifest.Size}
	deep := dirOf()
	for range dag.MaxTreeDepth + 1 {
		deep = dirOf(named("d", deep))
	}
	for name, test := range map[string]struct {
		root cas.Entry
		want error
	}{
		"absolute link":         {dirOf(link("l", "/etc/passwd")), cas.ErrCorrupt},
		"link to the parent":    {dirOf(link("l", "..")), cas.ErrCorrupt},
		"link through a link":   {dirOf(link("out", "x/up/.."), named("x", dirOf(link("up", "..")))), cas.ErrCorrupt},
		"two links deep":        {dirOf(named("a", dirOf(named("b", dirOf(link("up", "../.."))))), link("z", "a/b/up/../etc")), cas.ErrCorrupt},
		"file that is a folder": {dirOf(cas.Entry{Name: "f", Mode: cas.ModeFile, Hash: dirOf().Hash}), cas.ErrCorrupt},
		"folder that is a file": {dirOf(cas.Entry{Name: "f", Mode: cas.ModeDirectory, Hash: file.Hash, Size: leaf.Size}), cas.ErrCorrupt},
		"other size":            {dirOf(cas.Entry{Name: "f", Mode: cas.ModeFile, Hash: file.Hash, Size: 1 << 40}), cas.ErrCorrupt},
		"too deep":              {deep, cas.ErrTooLarge},
		"missing file":          {dirOf(cas.Entry{Name: "f", Mode: cas.ModeFile, Hash: cas.Sum([]byte("x")), Size: 1}), cas.ErrNotFound},
		"circle is no harm":     {dirOf(link("a", "b"), link("b", "a"), named("f", leaf)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			target := filepath.Join(parent, "out")
			err := w.Object(t.Context(), find(t, w.Source, test.root.Hash), target)
			if !errors.Is(err, test.want) || err == nil != (test.want == nil) {
				t.Errorf("%v; want %v", err, test.want)
			}
			if _, err := os.Lstat(target); errors.Is(err, fs.ErrNotExist) != (test.want != nil) {
				t.Errorf("target: %v", err)
			}
		})
	}
}

// TestPlantedLinks: what somebody put where the files go is not followed.
func TestPlantedLinks(t *testing.T) {
	store, w := local(t)
	found := find(t, w.Source, putFile(t, store, []byte("new")))
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "target")
	for _, place := range []string{target, partName(target, found.Hash)} {
		if err := os.Symlink("victim", place); err != nil {
			t.Fatal(err)
		}
	}
	w.Replace = true
	if err := w.Object(t.Context(), found, target); err == nil {
		t.Error("wrote through the part's link")
	}
	if err := os.Remove(partName(target, found.Hash)); err != nil {
		t.Fatal(err)
	}
	w.Replace = false
	if err := w.Object(t.Context(), found, target); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	w.Replace = true
	if err := w.Object(t.Context(), found, target); err != nil {
		t.Error(err)
	}
	got := tell(t, dir)
	if old, err := os.ReadFile(victim); err != nil || string(old) != "old" || !strings.HasPrefix(got["target"], "file") {
		t.Errorf("%q %v; %v", old, err, got)
	}
}

func TestSection(t *testing.T) {
	store, w := local(t)
	data := bytes.Repeat([]byte("0123456789"), 300_000) // 3 pieces
	found := find(t, w.Source, putFile(t, store, data))
	for _, r := range [][2]int64{{0, 1}, {cas.PieceSize - 1, cas.PieceSize + 1}, {5, int64(len(data))}, {0, int64(len(data))}} {
		target := filepath.Join(t.TempDir(), "part")
		if err := w.Section(t.Context(), found, target, r[0], r[1]); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(target); err != nil || !bytes.Equal(got, data[r[0]:r[1]]) {
			t.Errorf("%v: %d bytes, %v", r, len(got), err)
		}
	}
}

func TestAddWarnsAndRefuses(t *testing.T) {
	store, w := local(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../outside", filepath.Join(dir, "l")); err != nil {
		t.Fatal(err)
	}
	if _, err := putDir(t, store, dir, Adder{}); err == nil || !strings.Contains(err.Error(), "--skip-links") {
		t.Error(err)
	}
	var warnings []string
	h, err := putDir(t, store, dir, Adder{SkipLinks: true, Warn: func(text string) { warnings = append(warnings, text) }})
	if err != nil || len(warnings) != 1 || !strings.HasPrefix(warnings[0], "l leads out") {
		t.Errorf("%q, %v", warnings, err)
	}
	if m := find(t, w.Source, h).Manifest; !slices.EqualFunc(m.Entries, []string{"a"}, func(e cas.Entry, name string) bool { return e.Name == name }) {
		t.Errorf("%+v", m.Entries)
	}
}

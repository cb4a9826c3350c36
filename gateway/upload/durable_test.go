package upload

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cas/mem"
)

// bench is a store with the sessions of one directory.
type bench struct {
	*Sessions
	dir   string
	store *mem.Store
	fsync func(*os.File) error
}

func newBench(t *testing.T) *bench {
	t.Helper()
	store, err := mem.New(mem.Config{})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{dir: t.TempDir(), store: store, fsync: (*os.File).Sync}
	b.restart(t)
	return b
}

// restart opens the directory again, as after a crash.
func (b *bench) restart(t *testing.T) {
	t.Helper()
	s, err := Open(Config{Dir: b.dir, Writer: dag.NewWriter(b.store, dag.WriterConfig{}), fsync: func(f *os.File) error { return b.fsync(f) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // a directory
	b.Sessions = s
}

func (b *bench) create(t *testing.T, length int) string {
	t.Helper()
	in, err := b.Create(Session{Length: int64(length), MediaType: "text/plain"})
	if err != nil {
		t.Fatal(err)
	}
	return in.ID
}

func (b *bench) send(t *testing.T, id string, at int, part []byte) Session {
	t.Helper()
	in, offset, err := b.Append(t.Context(), id, int64(at), bytes.NewReader(part), func() {})
	if err != nil || offset != int64(at+len(part)) {
		t.Fatalf("%d bytes at %d lead to %d: %v", len(part), at, offset, err)
	}
	return in
}

func (b *bench) wantOffset(t *testing.T, id string, want int) {
	t.Helper()
	if _, offset, err := b.Get(t.Context(), id); err != nil || offset != int64(want) {
		t.Errorf("offset %d, want %d: %v", offset, want, err)
	}
}

func (b *bench) path(id, kind string) string { return filepath.Join(b.dir, id+kind) }

func text(n int) []byte { return bytes.Repeat([]byte("all work and no play "), n/21+1)[:n] }

// TestOffsetIsCheap: once a process knows a log, questions for the offset do
// not read it again.
func TestOffsetIsCheap(t *testing.T) {
	b := newBench(t)
	whole := text(3 * cas.PieceSize)
	id := b.create(t, len(whole))
	b.send(t, id, 0, whole[:2*cas.PieceSize+9])
	log, err := os.ReadFile(b.path(id, ".log"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(b.path(id, ".log")); err != nil {
		t.Fatal(err)
	}
	b.wantOffset(t, id, 2*cas.PieceSize+9)
	if err := os.WriteFile(b.path(id, ".log"), log, 0o600); err != nil {
		t.Fatal(err)
	}
	b.restart(t)
	b.wantOffset(t, id, 2*cas.PieceSize+9)
	b.send(t, id, 2*cas.PieceSize+9, whole[2*cas.PieceSize+9:])
	if err := b.Delete(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if n := len(b.pieces); n != 0 {
		t.Errorf("%d deleted sessions are remembered", n)
	}
}

// TestDurableOrder: the name of a log is durable before its first record
// counts, and what another process left is synced before its offset is told.
func TestDurableOrder(t *testing.T) {
	b := newBench(t)
	var synced []string
	fault := map[string]error{}
	b.fsync = func(f *os.File) error {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		what := filepath.Ext(info.Name())
		if info.IsDir() {
			what = "directory"
		}
		synced = append(synced, what)
		return fault[what]
	}
	id := b.create(t, 3*cas.PieceSize)
	b.wantOffset(t, id, 0)
	synced = nil
	b.send(t, id, 0, text(cas.PieceSize))
	if len(synced) < 2 || !slices.Equal(synced[:2], []string{"directory", ".log"}) {
		t.Errorf("a first part syncs %v, want the directory and the log first", synced)
	}
	b.restart(t)
	synced = nil
	b.wantOffset(t, id, cas.PieceSize)
	if !slices.Equal(synced, []string{".log", "directory"}) {
		t.Errorf("the offset after a restart is told after fsync of %v", synced)
	}
	other := b.create(t, cas.PieceSize)
	fault["directory"] = syscall.EIO
	if _, _, err := b.Append(t.Context(), other, 0, bytes.NewReader(text(cas.PieceSize)), func() {}); !errors.Is(err, syscall.EIO) {
		t.Errorf("a part whose log may vanish: %v", err)
	}
}

package catalog_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/mesh"
)

func closed(t *testing.T, c *catalog.Bolt) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// edit changes a closed file from outside.
func edit(t *testing.T, dir, bucket string, key, value []byte) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, catalog.File), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucket)).Put(key, value) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	c, r := open(t, dir), record(cas.Hash{1})
	publish(t, c, object(r.Hash), first(t, r.Hash))
	if _, err := catalog.Open(dir, nodeKey(t)); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("opened twice: %v", err)
	}
	closed(t, c)
	info, err := os.Stat(filepath.Join(dir, catalog.File))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	c = open(t, dir)
	want(t, c, r)
	wantAll(t, c, r.Hash, first(t, r.Hash))
	if n, err := c.Changes(t.Context()); err != nil || n != 1 {
		t.Errorf("%d changes, %v", n, err)
	}
	closed(t, c)
	edit(t, dir, "meta", []byte("format"), []byte("3"))
	if _, err := catalog.Open(dir, nodeKey(t)); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("newer format: %v", err)
	}
}

func TestCorruptRecord(t *testing.T) {
	dir, r := t.TempDir(), record(cas.Hash{1})
	c := open(t, dir)
	publish(t, c, object(r.Hash), first(t, r.Hash))
	closed(t, c)
	edit(t, dir, "objects", r.Hash[:], []byte(`{"v":2}`))
	c = open(t, dir)
	defer closed(t, c)
	if _, err := c.Get(t.Context(), r.Hash); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("get: %v", err)
	}
	if _, err := c.List(t.Context(), cas.Hash{}, 10); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("list: %v", err)
	}
	bob := say(t, mesh.Publication{Object: r.Hash, Owner: "bob", Sequence: 1, Created: created.Add(time.Hour)}, "")
	if _, err := c.Publish(t.Context(), catalog.Record{Hash: r.Hash}, bob); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("publish without a description: %v", err)
	}
	publish(t, c, object(r.Hash), bob) // the object comes again and heals it
	r.Owners = 2
	want(t, c, r)
}

// TestCorruptPublication: what cannot be read is not taken as withdrawn.
func TestCorruptPublication(t *testing.T) {
	for name, value := range map[string][]byte{"empty": {}, "cut off": {9, 'a'}, "nonsense": append([]byte{0}, make([]byte, 180)...)} {
		dir, h := t.TempDir(), cas.Hash{1}
		c := open(t, dir)
		publish(t, c, object(h), first(t, h))
		closed(t, c)
		edit(t, dir, "publications", append(h[:], "alice"...), value)
		c = open(t, dir)
		if _, err := c.Publications(t.Context(), h); !errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		bob := say(t, mesh.Publication{Object: h, Owner: "bob", Sequence: 1, Created: created}, "")
		if _, err := c.Publish(t.Context(), object(h), bob); !errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		want(t, c, record(h))
		closed(t, c)
	}
}

func TestNoFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := catalog.Open(filepath.Join(dir, "missing"), nodeKey(t)); err == nil {
		t.Error("no directory")
	}
	if err := os.WriteFile(filepath.Join(dir, catalog.File), []byte(strings.Repeat("no database", 2000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := catalog.Open(dir, nodeKey(t)); err == nil {
		t.Error("another kind of file")
	}
}

// childEnv names the directory that a child process of TestKill fills.
const childEnv = "INOS_CATALOG_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := fill(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// fill puts records for ever and says so after each.
func fill(dir string) error {
	key, err := mesh.NewSecret()
	if err != nil {
		return err
	}
	c, err := catalog.Open(dir, key)
	if err != nil {
		return err
	}
	errs := make(chan error)
	for w := range 8 {
		go func() {
			for n := rand.Uint64(); ; n++ {
				var h cas.Hash
				h[0] = byte(w + 1)
				binary.BigEndian.PutUint64(h[1:], n)
				p, err := mesh.Publication{Object: h, Owner: "alice", Sequence: 1, Created: created}.Sign(key)
				if err == nil {
					_, err = c.Publish(context.Background(), object(h), catalog.Change{Publication: catalog.Publication{Publication: p, Name: "a.txt"}})
				}
				if err != nil {
					errs <- err
					return
				}
				if _, err := os.Stdout.WriteString(h.String() + "\n"); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

// TestKill: what was acknowledged before a kill is on the list after it.
func TestKill(t *testing.T) {
	rounds := 50
	if v := os.Getenv("INOS_SOAK"); v == "" || v == "0" {
		rounds /= 10
	}
	dir := t.TempDir()
	acknowledged := make(map[cas.Hash]bool)
	for range rounds {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), childEnv+"="+dir)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		stop := 20 + rand.IntN(200)
		for n := 0; lines.Scan(); n++ {
			if n == stop {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
			h, err := cas.ParseHash(lines.Text())
			if err != nil {
				t.Fatal(err)
			}
			acknowledged[h] = true
		}
		if err := child.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		c := open(t, dir)
		for h := range acknowledged {
			if got, err := c.Get(t.Context(), h); err != nil || got != record(h) {
				t.Fatalf("acknowledged and lost: %s: %v", h, err)
			}
			if said, err := c.Publications(t.Context(), h); err != nil || len(said) != 1 || said[0].Verify() != nil {
				t.Fatalf("acknowledged and lost: %s: %v, %v", h, said, err)
			}
		}
		closed(t, c)
	}
	if len(acknowledged) < rounds*20 {
		t.Errorf("only %d records were acknowledged", len(acknowledged))
	}
}

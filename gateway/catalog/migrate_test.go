package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"inos.dev/edge/cas"
	"inos.dev/edge/mesh"
)

var then = time.Date(2026, 7, 1, 12, 0, 0, 123_000, time.UTC)

// oldFile writes a list of n objects as the previous format had it, and one
// record that nobody can read.
func oldFile(t *testing.T, dir string, n int) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, File), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		objects, err := tx.CreateBucket([]byte("objects"))
		if err != nil {
			return err
		}
		meta, err := tx.CreateBucket([]byte("meta"))
		if err != nil {
			return err
		}
		for i := range n {
			h := oldHash(i)
			text := fmt.Sprintf(`{"v":1,"kind":1,"size":5,"encoded":12,"pieces":1,"media_type":"text/plain","name":"%d","owner":"alice","created":"2026-07-01T12:00:00.000123Z","rf":4,"expires":"2026-08-01T12:00:00Z","digest_checked":true}`, i)
			if err := objects.Put(h[:], []byte(text)); err != nil {
				return err
			}
		}
		if err := objects.Put(make([]byte, 31), []byte("short")); err != nil {
			return err
		}
		bad := oldHash(n)
		return errors.Join(objects.Put(bad[:], []byte(`{"v":1}`)), meta.Put([]byte("format"), []byte("1")))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func oldHash(i int) (h cas.Hash) {
	binary.BigEndian.PutUint64(h[:], uint64(i+1))
	return h
}

func key(t *testing.T) mesh.Secret {
	t.Helper()
	s, err := mesh.SecretFromSeed(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantMigrated checks the first n objects of an oldFile.
func wantMigrated(t *testing.T, c *Bolt, n int) {
	t.Helper()
	for i := range n {
		h := oldHash(i)
		p := mesh.Policy{RF: 4, Expires: time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)}
		want := Record{Hash: h, Kind: cas.KindFile, Size: 5, Encoded: 12, Pieces: 1, MediaType: "text/plain", DigestChecked: true,
			Name: fmt.Sprint(i), Owner: "alice", Created: then, Owners: 1, Policy: p, NextOver: p.Expires}
		if r, err := c.Get(t.Context(), h); err != nil || r != want {
			t.Fatalf("object %d: %+v, %v", i, r, err)
		}
		said, err := c.Publications(t.Context(), h)
		if err != nil || len(said) != 1 || said[0].Verify() != nil || said[0].Signer != key(t).Public() || said[0].Owner != "alice" ||
			said[0].Sequence != 1 || said[0].Policy != p || said[0].Created != then || said[0].Name != want.Name {
			t.Fatalf("object %d: %+v, %v", i, said, err)
		}
	}
}

// TestMigrate: a list of the previous format becomes publications of its
// owners, step by step, and a crash between two steps changes nothing.
func TestMigrate(t *testing.T) {
	const n = migrateStep + 100
	dir := t.TempDir()
	oldFile(t, dir, n)
	db, err := bbolt.Open(filepath.Join(dir, File), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(makeBuckets); err != nil {
		t.Fatal(err)
	}
	if more, err := migrate(db, key(t)); err != nil || !more {
		t.Fatalf("one step: more %v, %v", more, err)
	}
	if err := db.Close(); err != nil { // here the process dies
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		c, err := Open(dir, key(t))
		if err != nil {
			t.Fatal(err)
		}
		wantMigrated(t, c, n)
		if _, err := c.Get(t.Context(), oldHash(n)); !errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("what could not be read: %v", err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTombstonesAreBounded: those that are too many go, the oldest first.
func TestTombstonesAreBounded(t *testing.T) {
	bolt, err := Open(t.TempDir(), key(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := bolt.Close(); err != nil {
			t.Error(err)
		}
	}()
	bolt.maxTombstones = 10
	for kind, c := range map[string]Catalog{"bolt": bolt, "memory": &Memory{maxTombstones: 10}} {
		now := time.Now()
		left := 0
		for i := range 30 {
			p := mesh.Publication{Object: oldHash(i), Owner: "alice", Sequence: 1, Withdrawn: true, Created: now.Add(time.Duration(i) * time.Second)}
			signed, err := p.Sign(key(t))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Publish(t.Context(), Record{Hash: p.Object}, Change{Publication: Publication{Publication: signed}}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 30 {
			said, err := c.Publications(t.Context(), oldHash(i))
			if err != nil || len(said) > 0 && i < 20 {
				t.Errorf("%s: number %d: %v, %v", kind, i, said, err)
			}
			left += len(said)
		}
		if left != 10 {
			t.Errorf("%s: %d tombstones are left", kind, left)
		}
	}
}

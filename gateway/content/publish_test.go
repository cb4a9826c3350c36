package content_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/gateway/content"
	"inos.dev/edge/mesh"
)

// told counts what a Content says of changes.
type told struct {
	mu     sync.Mutex
	hashes []cas.Hash // guarded by mu
}

func (p *told) Changed(_ context.Context, h cas.Hash) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hashes = append(p.hashes, h)
}

func (p *told) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.hashes)
}

func (r *room) commit(t *testing.T, o *dag.Object, owner, name string, p *mesh.Policy) (catalog.Record, bool) {
	t.Helper()
	record, created, err := r.Commit(t.Context(), content.Commit{Hash: o.Hash, Owner: owner, Name: name, Policy: p, Written: o})
	if err != nil {
		t.Fatal(err)
	}
	return record, created
}

// owners are "owner sequence" of those who have an object published.
func (r *room) owners(t *testing.T, h cas.Hash) (list []string) {
	t.Helper()
	known, err := r.Publications(t.Context(), h)
	if err != nil && !errors.Is(err, cas.ErrNotFound) {
		t.Fatal(err)
	}
	for _, p := range known {
		if err := p.Verify(); err != nil {
			t.Error(err)
		}
		list = append(list, fmt.Sprintf("%s %d", p.Owner, p.Sequence))
	}
	return list
}

func (r *room) wantOwners(t *testing.T, h cas.Hash, want ...string) {
	t.Helper()
	if got := r.owners(t, h); !slices.Equal(got, want) {
		t.Errorf("published by %v, want %v", got, want)
	}
}

// TestOwners: an object is everybody's who puts it, and goes with the last one.
func TestOwners(t *testing.T) {
	var told told
	r := newRoom(t, func(cfg *content.Config) { cfg.Payers = &told })
	o := r.file(t, 1, 1000)
	record, created := r.commit(t, &o, "alice", "a.txt", nil)
	if !created || record.Owner != "alice" || record.Owners != 1 || record.Name != "a.txt" || !record.DigestChecked {
		t.Errorf("%+v, created %v", record, created)
	}
	for range 2 { // the same again changes nothing
		if _, created := r.commit(t, &o, "alice", "", nil); created {
			t.Error("created again")
		}
	}
	if n := told.count(); n != 1 {
		t.Errorf("%d changes", n)
	}
	r.wantOwners(t, o.Hash, "alice 1")
	record, created = r.commit(t, &o, "bob", "b.txt", &mesh.Policy{RF: 5})
	if created || record.Owner != "alice" || record.Owners != 2 || record.Name != "a.txt" || record.Policy.RF != 5 {
		t.Errorf("%+v, created %v", record, created)
	}
	r.wantOwners(t, o.Hash, "alice 1", "bob 1")
	if err := r.Remove(t.Context(), o.Hash, "carol"); !errors.Is(err, content.ErrNotOwner) {
		t.Errorf("somebody else's: %v", err)
	}
	if err := r.Remove(t.Context(), o.Hash, "alice"); err != nil {
		t.Fatal(err)
	}
	if record, err := r.Object(t.Context(), o.Hash); err != nil || record.Owner != "bob" || record.Name != "b.txt" || record.Owners != 1 {
		t.Errorf("%+v, %v", record, err)
	}
	if err := r.Remove(t.Context(), o.Hash, "alice"); !errors.Is(err, content.ErrNotOwner) {
		t.Errorf("twice: %v", err)
	}
	r.commit(t, &o, "alice", "", nil)
	r.wantOwners(t, o.Hash, "bob 1", "alice 3")
	if err := r.RemoveAll(t.Context(), o.Hash); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"remove": r.Remove(t.Context(), o.Hash, "bob"), "remove all": r.RemoveAll(t.Context(), o.Hash)} {
		if !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("%s, off the list: %v", name, err)
		}
	}
	if _, err := r.Publications(t.Context(), o.Hash); !errors.Is(err, cas.ErrNotFound) {
		t.Error(err)
	}
	if _, created := r.commit(t, &o, "bob", "", nil); !created {
		t.Error("back on the list, and not created")
	}
	r.wantOwners(t, o.Hash, "bob 3")
	if n := told.count(); n != 6 {
		t.Errorf("%d changes", n)
	}
}

// TestSetPolicy: everybody sets the own policy, and the object keeps what was
// promised to all.
func TestSetPolicy(t *testing.T) {
	r := newRoom(t, nil)
	o := r.file(t, 1, 1000)
	r.commit(t, &o, "alice", "a", &mesh.Policy{RF: 5})
	r.commit(t, &o, "bob", "b", nil)
	before, err := r.Publications(t.Context(), o.Hash)
	if err != nil {
		t.Fatal(err)
	}
	zone := time.Now().Add(time.Hour).In(time.FixedZone("x", 3600))
	for range 2 { // once is enough
		record, err := r.SetPolicy(t.Context(), o.Hash, "alice", mesh.Policy{RF: 4, Expires: zone})
		if err != nil || record.Policy != (mesh.Policy{RF: 4}) || !record.NextOver.Equal(zone.Truncate(time.Microsecond)) || record.Name != "a" {
			t.Errorf("%+v, %v", record, err)
		}
	}
	r.wantOwners(t, o.Hash, "alice 2", "bob 1")
	after, err := r.Publications(t.Context(), o.Hash)
	if err != nil || after[0].Created != before[0].Created {
		t.Errorf("a change of policy makes younger: %v, %v", after, err)
	}
	for name, test := range map[string]struct {
		owner string
		p     mesh.Policy
		h     cas.Hash
		err   error
	}{
		"somebody else's": {"carol", mesh.Policy{}, o.Hash, content.ErrNotOwner},
		"nothing":         {"alice", mesh.Policy{}, cas.Sum(nil), cas.ErrNotFound},
		"impossible":      {"alice", mesh.Policy{RF: -1}, o.Hash, mesh.ErrPolicy},
		"over":            {"alice", mesh.Policy{Expires: time.Now()}, o.Hash, mesh.ErrPolicy},
	} {
		if _, err := r.SetPolicy(t.Context(), test.h, test.owner, test.p); !errors.Is(err, test.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestExpiryIsEverybodysOwn: an object stays as long as one publication does.
func TestExpiryIsEverybodysOwn(t *testing.T) {
	r := newRoom(t, nil)
	o := r.file(t, 1, 1000)
	soon := time.Now().Add(50 * time.Millisecond)
	r.commit(t, &o, "alice", "", &mesh.Policy{Expires: soon})
	r.commit(t, &o, "bob", "", &mesh.Policy{Expires: time.Now().Add(time.Hour)})
	for !time.Now().After(soon) {
		<-time.After(time.Millisecond)
	}
	done, err := r.Collect(t.Context())
	if err != nil || done.Objects != 1 || done.Expired != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	r.wantOwners(t, o.Hash, "bob 1")
}

// TestAtTheSameTime: no word is lost between those who put, change and remove
// at once.
func TestAtTheSameTime(t *testing.T) {
	r := newRoom(t, nil)
	o := r.file(t, 1, 1000)
	var all sync.WaitGroup
	for i := range 8 {
		owner := fmt.Sprintf("owner %d", i%4)
		all.Go(func() {
			for n := range 25 {
				if _, _, err := r.Commit(t.Context(), content.Commit{Hash: o.Hash, Owner: owner, Written: &o}); err != nil {
					t.Error(err)
				}
				if _, err := r.SetPolicy(t.Context(), o.Hash, owner, mesh.Policy{RF: 1 + (i+n)%7}); err != nil && !errors.Is(err, content.ErrNotOwner) && !errors.Is(err, cas.ErrNotFound) {
					t.Error(err)
				}
				if err := r.Remove(t.Context(), o.Hash, owner); err != nil && !errors.Is(err, content.ErrNotOwner) && !errors.Is(err, cas.ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	r.wantOwners(t, o.Hash)
	known, err := r.catalog.Publications(t.Context(), o.Hash)
	if err != nil || len(known) != 4 {
		t.Fatalf("%v, %v", known, err)
	}
	for _, p := range known {
		if p.Sequence < 50 || p.Sequence > 150 || !p.Withdrawn {
			t.Errorf("%+v", p)
		}
	}
}

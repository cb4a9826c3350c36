package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/mesh"
)

var created = time.Date(2026, 7, 1, 12, 0, 0, 123_000, time.UTC)

// object describes an object as whoever puts it does.
func object(h cas.Hash) catalog.Record {
	return catalog.Record{Hash: h, Kind: cas.KindFile, Size: 5, Encoded: 12, Pieces: 1, MediaType: "text/plain"}
}

// record is what is on the list after first has put it alone.
func record(h cas.Hash) catalog.Record {
	r := object(h)
	r.Name, r.Owner, r.Created, r.Owners = "a.txt", "alice", created, 1
	return r
}

func nodeKey(tb testing.TB) mesh.Secret {
	tb.Helper()
	s, err := mesh.SecretFromSeed(make([]byte, 32))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// say signs what an owner says, which replaces what that one said before.
func say(tb testing.TB, p mesh.Publication, name string) catalog.Change {
	tb.Helper()
	signed, err := p.Sign(nodeKey(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return catalog.Change{Publication: catalog.Publication{Publication: signed, Name: name}, Previous: p.Sequence - 1}
}

// first is alice's first word about an object.
func first(tb testing.TB, h cas.Hash) catalog.Change {
	tb.Helper()
	return say(tb, mesh.Publication{Object: h, Owner: "alice", Sequence: 1, Created: created}, "a.txt")
}

func withdraw(tb testing.TB, c catalog.Change, at time.Time) catalog.Change {
	tb.Helper()
	p := c.Publication.Publication
	p.Sequence++
	p.Withdrawn, p.Policy, p.Created = true, mesh.Policy{}, at
	return say(tb, p, "")
}

func open(tb testing.TB, dir string) *catalog.Bolt {
	tb.Helper()
	c, err := catalog.Open(dir, nodeKey(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// counted is a Catalog that counts its changes.
type counted interface {
	catalog.Catalog
	Changes(ctx context.Context) (uint64, error)
}

// TestContract is what every Catalog does.
func TestContract(t *testing.T) {
	kinds := map[string]func(t *testing.T) counted{
		"memory": func(*testing.T) counted { return &catalog.Memory{} },
		"bolt": func(t *testing.T) counted {
			t.Helper()
			c := open(t, t.TempDir())
			t.Cleanup(func() {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			})
			return c
		},
	}
	suite := map[string]func(t *testing.T, c counted){
		"put and get": testPutGet, "two owners": testOwners, "withdraw": testWithdraw, "conflicts": testConflicts, "checked": testChecked,
		"limits": testLimits, "crowd": testCrowd, "changes": testChanges, "list": testList, "pages": testPages,
		"at the same time": testConcurrent, "model": testModel, "context": testContext,
	}
	for kind, open := range kinds {
		for name, test := range suite {
			t.Run(kind+"/"+name, func(t *testing.T) { test(t, open(t)) })
		}
	}
}

func publish(tb testing.TB, c catalog.Catalog, about catalog.Record, changes ...catalog.Change) catalog.Record {
	tb.Helper()
	r, err := c.Publish(tb.Context(), about, changes...)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// want checks that r is on the list.
func want(t *testing.T, c catalog.Catalog, r catalog.Record) {
	t.Helper()
	if got, err := c.Get(t.Context(), r.Hash); err != nil || got != r {
		t.Errorf("have %+v, %v\nwant %+v", got, err, r)
	}
}

// wantAll checks all that is said about an object.
func wantAll(t *testing.T, c catalog.Catalog, h cas.Hash, changes ...catalog.Change) {
	t.Helper()
	var all []catalog.Publication
	for _, change := range changes {
		all = append(all, change.Publication)
	}
	if got, err := c.Publications(t.Context(), h); err != nil || !slices.Equal(got, all) {
		t.Errorf("have %+v, %v\nwant %+v", got, err, all)
	}
}

func testPutGet(t *testing.T, c counted) {
	t.Helper()
	if _, err := c.Get(t.Context(), cas.Hash{1}); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("empty: %v", err)
	}
	wantAll(t, c, cas.Hash{1})
	p := mesh.Policy{RF: 2, MaxRF: 9, Tier: mesh.Cold, Expires: created.Add(-time.Hour), PriceCap: 7} // over: the list has no clock
	change := say(t, mesh.Publication{Object: cas.Hash{1}, Owner: "alice", Sequence: 1, Created: created, Policy: p}, "a.txt")
	r := record(cas.Hash{1})
	r.Policy, r.NextOver = p, p.Expires
	if got := publish(t, c, object(cas.Hash{1}), change); got != r {
		t.Errorf("%+v, want %+v", got, r)
	}
	want(t, c, r)
	wantAll(t, c, cas.Hash{1}, change)

	odd := say(t, mesh.Publication{Object: cas.Hash{3}, Owner: "\u00a0", Sequence: 9, Created: time.Now().In(time.FixedZone("x", 3600))}, "<\u2028\x00\"ü")
	odd.Previous = 0 // the first one that is heard may be a later word
	dir := catalog.Record{Hash: cas.Hash{3}, Kind: cas.KindDirectory}
	publish(t, c, dir, odd)
	dir.Name, dir.Owner, dir.Owners, dir.Created = odd.Name, odd.Owner, 1, odd.Created.UTC().Truncate(time.Microsecond)
	want(t, c, dir)
	wantAll(t, c, cas.Hash{3}, odd)
}

// testOwners: the oldest gives owner, name and time, all give the policy.
func testOwners(t *testing.T, c counted) {
	t.Helper()
	h := cas.Hash{1}
	alice := first(t, h)
	publish(t, c, object(h), alice)
	bob := say(t, mesh.Publication{Object: h, Owner: "bob", Sequence: 1, Created: created.Add(time.Hour), Policy: mesh.Policy{RF: 5, Tier: mesh.Hot, Expires: created.AddDate(1, 0, 0)}}, "b.txt")
	publish(t, c, object(h), bob)
	r := record(h)
	r.Owners, r.Policy, r.NextOver = 2, mesh.Policy{RF: 5, Tier: mesh.Hot}, bob.Policy.Expires
	want(t, c, r)
	wantAll(t, c, h, alice, bob)

	older := say(t, mesh.Publication{Object: h, Owner: "carol", Sequence: 1, Created: created.Add(-time.Hour), Policy: mesh.Policy{RF: 1, MaxRF: 3}}, "")
	publish(t, c, catalog.Record{Hash: h}, older) // the object is described already
	r.Owners, r.Owner, r.Name, r.Created = 3, "carol", "", older.Created
	want(t, c, r)
	wantAll(t, c, h, older, alice, bob)

	change := bob.Publication.Publication
	change.Sequence, change.Policy = 2, mesh.Policy{}
	bob = say(t, change, "c.txt")
	publish(t, c, object(h), bob)
	r.Policy, r.NextOver = mesh.Policy{}, time.Time{}
	want(t, c, r)
	wantAll(t, c, h, older, alice, bob)
}

// testWithdraw: the object is off the list with the last publication, and what
// was said before does not come back.
func testWithdraw(t *testing.T, c counted) {
	t.Helper()
	h, now := cas.Hash{1}, time.Now()
	alice := first(t, h)
	bob := say(t, mesh.Publication{Object: h, Owner: "bob", Sequence: 1, Created: created.Add(time.Hour)}, "b.txt")
	publish(t, c, object(h), alice, bob)
	goneAlice := withdraw(t, alice, now)
	r := object(h)
	r.Owner, r.Name, r.Created, r.Owners = "bob", "b.txt", bob.Created, 1
	if got := publish(t, c, catalog.Record{Hash: h}, goneAlice); got != r {
		t.Errorf("%+v", got)
	}
	want(t, c, r)
	wantAll(t, c, h, bob, goneAlice)
	goneBob := withdraw(t, bob, now.Add(time.Second))
	if got := publish(t, c, catalog.Record{Hash: h}, goneBob); got != (catalog.Record{}) {
		t.Errorf("%+v", got)
	}
	if _, err := c.Get(t.Context(), h); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("after the last one: %v", err)
	}
	if list, err := c.List(t.Context(), cas.Hash{}, 10); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	wantAll(t, c, h, goneAlice, goneBob)
	if _, err := c.Publish(t.Context(), object(h), alice); !errors.Is(err, catalog.ErrChanged) {
		t.Errorf("an old word: %v", err)
	}
	again := say(t, mesh.Publication{Object: h, Owner: "alice", Sequence: 3, Created: created.AddDate(0, 1, 0)}, "a.txt")
	publish(t, c, object(h), again)
	r = record(h)
	r.Created = again.Created
	want(t, c, r)
	wantAll(t, c, h, again, goneBob)
	early := withdraw(t, first(t, cas.Hash{2}), now) // heard before what it takes back
	early.Previous = 0
	publish(t, c, catalog.Record{Hash: cas.Hash{2}}, early)
	wantAll(t, c, cas.Hash{2}, early)
}

func testConflicts(t *testing.T, c counted) {
	t.Helper()
	h := cas.Hash{1}
	alice := first(t, h)
	publish(t, c, object(h), alice)
	next := alice.Publication.Publication
	next.Sequence, next.Policy.RF = 5, 7
	jump := say(t, next, "a.txt")
	same := next
	same.Sequence = 1
	again, bob := say(t, same, ""), say(t, mesh.Publication{Object: h, Owner: "bob", Sequence: 2, Created: created}, "")
	other := first(t, cas.Hash{2})
	for name, changes := range map[string][]catalog.Change{
		"not what is there":  {jump},
		"none expected":      {alice},
		"not later":          {{Publication: alice.Publication, Previous: 1}},
		"one expected":       {bob},
		"the second of two":  {withdraw(t, alice, time.Now()), again},
		"of another object":  {other},
		"withdrawn too late": {withdraw(t, jump, time.Now())},
	} {
		_, err := c.Publish(t.Context(), object(h), changes...)
		if !errors.Is(err, catalog.ErrChanged) && (name != "of another object" || !errors.Is(err, catalog.ErrRecord)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	want(t, c, record(h))
	wantAll(t, c, h, alice)
	jump.Previous = 1
	publish(t, c, object(h), jump)
	wantAll(t, c, h, jump)
}

func testChecked(t *testing.T, c counted) {
	t.Helper()
	h := cas.Hash{1}
	if err := c.SetChecked(t.Context(), h); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("of nothing: %v", err)
	}
	alice := first(t, h)
	publish(t, c, object(h), alice)
	if err := c.SetChecked(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	r := record(h)
	r.DigestChecked = true
	want(t, c, r)
	bob := say(t, mesh.Publication{Object: h, Owner: "bob", Sequence: 1, Created: created.Add(1e9)}, "")
	publish(t, c, object(h), bob) // who does not know does not take it back
	r.Owners = 2
	want(t, c, r)
	publish(t, c, catalog.Record{Hash: h}, withdraw(t, alice, created), withdraw(t, bob, created))
	if err := c.SetChecked(t.Context(), h); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("off the list: %v", err)
	}
	checked := object(cas.Hash{2})
	checked.DigestChecked = true
	if got := publish(t, c, checked, first(t, cas.Hash{2})); !got.DigestChecked {
		t.Errorf("%+v", got)
	}
}

func testLimits(t *testing.T, c counted) {
	t.Helper()
	long := string(make([]byte, 256))
	for name, change := range map[string]func(*catalog.Record, *catalog.Change){
		"no hash":       func(r *catalog.Record, _ *catalog.Change) { r.Hash = cas.Hash{} },
		"no object":     func(r *catalog.Record, _ *catalog.Change) { *r = catalog.Record{Hash: r.Hash} },
		"a node":        func(r *catalog.Record, _ *catalog.Change) { r.Kind = cas.KindNode },
		"negative size": func(r *catalog.Record, _ *catalog.Change) { r.Size = -1 },
		"long type":     func(r *catalog.Record, _ *catalog.Change) { r.MediaType = long[:128] },
		"long name":     func(_ *catalog.Record, c *catalog.Change) { c.Name = long },
		"no UTF-8":      func(_ *catalog.Record, c *catalog.Change) { c.Name = "\xff" },
		"long owner":    func(_ *catalog.Record, c *catalog.Change) { c.Owner = long[:129] },
		"no time":       func(_ *catalog.Record, c *catalog.Change) { c.Created = time.Time{} },
		"rf":            func(_ *catalog.Record, c *catalog.Change) { c.Policy.RF = 65 },
	} {
		r, p := object(cas.Hash{1}), first(t, cas.Hash{1})
		change(&r, &p)
		_, err := c.Publish(t.Context(), r, p)
		if !errors.Is(err, catalog.ErrRecord) && !errors.Is(err, mesh.ErrPolicy) && !errors.Is(err, mesh.ErrPublication) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, limit := range []int{0, -1} {
		if _, err := c.List(t.Context(), cas.Hash{}, limit); err == nil {
			t.Errorf("a page of %d", limit)
		}
	}
	if list, err := c.List(t.Context(), cas.Hash{}, 10); err != nil || len(list) != 0 {
		t.Errorf("something was kept: %v, %v", list, err)
	}
	wantAll(t, c, cas.Hash{1})
}

// testCrowd: the owners of one object are bounded, and room comes back when
// tombstones have had their time.
func testCrowd(t *testing.T, c counted) {
	t.Helper()
	h := cas.Hash{1}
	var crowd []catalog.Change
	for i := range catalog.MaxOwners {
		crowd = append(crowd, say(t, mesh.Publication{Object: h, Owner: fmt.Sprintf("owner %04d", i), Sequence: 1, Created: created}, ""))
	}
	if r := publish(t, c, object(h), crowd...); r.Owners != catalog.MaxOwners || r.Owner != "owner 0000" {
		t.Errorf("%+v", r)
	}
	if _, err := c.Publish(t.Context(), object(h), first(t, h)); !errors.Is(err, catalog.ErrOwners) {
		t.Errorf("one more: %v", err)
	}
	publish(t, c, catalog.Record{Hash: h}, withdraw(t, crowd[0], time.Now()))
	if _, err := c.Publish(t.Context(), object(h), first(t, h)); !errors.Is(err, catalog.ErrOwners) {
		t.Errorf("one more beside a tombstone: %v", err)
	}
	long := time.Now().Add(-catalog.TombstoneAge - time.Hour)
	publish(t, c, catalog.Record{Hash: h}, withdraw(t, crowd[1], long))
	publish(t, c, object(h), first(t, h))
	all, err := c.Publications(t.Context(), h)
	if err != nil || len(all) != catalog.MaxOwners || all[len(all)-1].Owner != "owner 0000" || !all[len(all)-1].Withdrawn {
		t.Errorf("%d, %v", len(all), err)
	}
}

func testChanges(t *testing.T, c counted) {
	t.Helper()
	count := func(add uint64) {
		t.Helper()
		before, err := c.Changes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		alice := first(t, cas.Hash{byte(before + 1)})
		if _, err := c.Publish(t.Context(), object(alice.Object), alice); (err == nil) != (add > 0) {
			t.Fatal(err)
		}
		if err := c.SetChecked(t.Context(), alice.Object); err != nil && add > 0 {
			t.Fatal(err)
		}
		if after, err := c.Changes(t.Context()); err != nil || after != before+add {
			t.Errorf("%d changes, then %d, %v", before, after, err)
		}
	}
	count(1)
	count(1)
	taken := first(t, cas.Hash{4})
	publish(t, c, object(taken.Object), taken)
	publish(t, c, catalog.Record{Hash: taken.Object}, withdraw(t, taken, created.Add(time.Second)))
	if n, err := c.Changes(t.Context()); err != nil || n != 4 {
		t.Errorf("%d changes, %v", n, err)
	}
	five := first(t, cas.Hash{5})
	publish(t, c, object(five.Object), five)
	six := first(t, cas.Hash{6}) // what is refused is no change
	six.Previous = 1
	if _, err := c.Publish(t.Context(), object(six.Object), six); err == nil {
		t.Error("published")
	}
	if n, err := c.Changes(t.Context()); err != nil || n != 5 {
		t.Errorf("%d changes, %v", n, err)
	}
}

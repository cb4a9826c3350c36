package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/mesh"
)

var created = time.Date(2026, 7, 1, 12, 0, 0, 123_000, time.UTC)

func record(h cas.Hash) catalog.Record {
	return catalog.Record{Hash: h, Kind: cas.KindFile, Size: 5, Encoded: 12, Pieces: 1, MediaType: "text/plain",
		Name: "a.txt", Owner: "alice", Created: created}
}

func open(tb testing.TB, dir string) *catalog.Bolt {
	tb.Helper()
	c, err := catalog.Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// TestContract is what every Catalog does.
func TestContract(t *testing.T) {
	kinds := map[string]func(t *testing.T) catalog.Catalog{
		"memory": func(*testing.T) catalog.Catalog { return &catalog.Memory{} },
		"bolt": func(t *testing.T) catalog.Catalog {
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
	suite := map[string]func(t *testing.T, c catalog.Catalog){
		"put and get": testPutGet, "merge": testMerge, "delete": testDelete, "policy": testPolicy,
		"limits": testLimits, "list": testList, "pages": testPages, "at the same time": testConcurrent, "context": testContext,
	}
	for kind, open := range kinds {
		for name, test := range suite {
			t.Run(kind+"/"+name, func(t *testing.T) { test(t, open(t)) })
		}
	}
}

func mustPut(tb testing.TB, c catalog.Catalog, r catalog.Record) {
	tb.Helper()
	if err := c.Put(tb.Context(), r); err != nil {
		tb.Fatal(err)
	}
}

func want(t *testing.T, c catalog.Catalog, r catalog.Record) {
	t.Helper()
	if got, err := c.Get(t.Context(), r.Hash); err != nil || got != r {
		t.Errorf("have %+v, %v\nwant %+v", got, err, r)
	}
}

func testPutGet(t *testing.T, c catalog.Catalog) {
	t.Helper()
	if _, err := c.Get(t.Context(), cas.Hash{1}); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("empty: %v", err)
	}
	r := record(cas.Hash{1})
	r.Policy = mesh.Policy{RF: 2, MaxRF: 9, Tier: mesh.Cold, Expires: created.Add(-time.Hour)}
	mustPut(t, c, r) // what is over may be put again
	want(t, c, r)
	dir := catalog.Record{Hash: cas.Hash{2}, Kind: cas.KindDirectory, Created: created}
	mustPut(t, c, dir)
	want(t, c, dir)
	odd := record(cas.Hash{3})
	odd.Name, odd.Owner = "<\u2028\x00\"ü", "\u00a0"
	odd.Created = time.Now().In(time.FixedZone("x", 3600)) // monotonic clock, zone, nanoseconds
	mustPut(t, c, odd)
	odd.Created = odd.Created.UTC().Truncate(time.Microsecond)
	want(t, c, odd)
}

func testMerge(t *testing.T, c catalog.Catalog) {
	t.Helper()
	first := record(cas.Hash{1})
	first.DigestChecked = true
	first.Policy = mesh.Policy{RF: 4}
	mustPut(t, c, first)
	later := record(cas.Hash{1})
	later.Created, later.Owner, later.Name = created.Add(time.Hour), "bob", ""
	mustPut(t, c, later)
	want(t, c, first)

	later.Name, later.Policy = "b.txt", mesh.Policy{Tier: mesh.Hot}
	later.Created = created.Add(-time.Hour)
	mustPut(t, c, later)
	later.Owner, later.DigestChecked = "alice", true
	want(t, c, later)
}

func testDelete(t *testing.T, c catalog.Catalog) {
	t.Helper()
	mustPut(t, c, record(cas.Hash{1}))
	if err := c.Delete(t.Context(), cas.Hash{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), cas.Hash{1}); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("after delete: %v", err)
	}
	if err := c.Delete(t.Context(), cas.Hash{1}); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("second delete: %v", err)
	}
	again := record(cas.Hash{1})
	again.Owner, again.Created = "bob", created.Add(time.Hour)
	mustPut(t, c, again)
	want(t, c, again)
}

func testPolicy(t *testing.T, c catalog.Catalog) {
	t.Helper()
	p := mesh.Policy{RF: 5, Expires: time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)}
	if _, err := c.SetPolicy(t.Context(), cas.Hash{1}, p); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("of nothing: %v", err)
	}
	r := record(cas.Hash{1})
	mustPut(t, c, r)
	r.Policy = p
	if got, err := c.SetPolicy(t.Context(), r.Hash, p); err != nil || got != r {
		t.Errorf("%+v, %v", got, err)
	}
	want(t, c, r)
	if _, err := c.SetPolicy(t.Context(), r.Hash, mesh.Policy{Expires: time.Now()}); !errors.Is(err, mesh.ErrPolicy) {
		t.Errorf("expired: %v", err)
	}
	want(t, c, r)
	r.Policy = mesh.Policy{}
	if _, err := c.SetPolicy(t.Context(), r.Hash, r.Policy); err != nil {
		t.Errorf("back to the defaults: %v", err)
	}
	want(t, c, r)
}

func testLimits(t *testing.T, c catalog.Catalog) {
	t.Helper()
	long := string(make([]byte, 256))
	for name, change := range map[string]func(*catalog.Record){
		"no hash":       func(r *catalog.Record) { r.Hash = cas.Hash{} },
		"a node":        func(r *catalog.Record) { r.Kind = cas.KindNode },
		"no kind":       func(r *catalog.Record) { r.Kind = 0 },
		"negative size": func(r *catalog.Record) { r.Size = -1 },
		"long name":     func(r *catalog.Record) { r.Name = long },
		"long owner":    func(r *catalog.Record) { r.Owner = long[:129] },
		"long type":     func(r *catalog.Record) { r.MediaType = long[:128] },
		"no UTF-8":      func(r *catalog.Record) { r.Name = "\xff" },
		"no time":       func(r *catalog.Record) { r.Created = time.Time{} },
		"absurd time":   func(r *catalog.Record) { r.Created = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"rf":            func(r *catalog.Record) { r.Policy.RF = 65 },
	} {
		r := record(cas.Hash{1})
		change(&r)
		if err := c.Put(t.Context(), r); !errors.Is(err, catalog.ErrRecord) && !errors.Is(err, mesh.ErrPolicy) {
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
}

func testList(t *testing.T, c catalog.Catalog) {
	t.Helper()
	for i := range 201 {
		mustPut(t, c, record(cas.Sum(fmt.Append(nil, i))))
	}
	all, err := c.List(t.Context(), cas.Hash{}, 1<<40)
	if err != nil || len(all) != 201 {
		t.Fatalf("%d records, %v", len(all), err)
	}
	if !slices.IsSortedFunc(all, func(a, b catalog.Record) int { return slices.Compare(a.Hash[:], b.Hash[:]) }) {
		t.Error("not in the order of hashes")
	}
	between := all[100].Hash
	between[31]++ // not on the list
	tail, err := c.List(t.Context(), between, 3)
	if err != nil || !slices.Equal(tail, all[101:104]) {
		t.Errorf("behind a hash that is not there: %v, %v", tail, err)
	}
	var last cas.Hash
	for i := range last {
		last[i] = 0xff
	}
	if end, err := c.List(t.Context(), last, 3); err != nil || len(end) != 0 {
		t.Errorf("behind the end: %v, %v", end, err)
	}
}

func testPages(t *testing.T, c catalog.Catalog) {
	t.Helper()
	for i := range 40 {
		mustPut(t, c, record(cas.Hash{byte(i + 1)}))
	}
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(1, 50).Draw(rt, "limit")
		var seen int
		for after, more := (cas.Hash{}), true; more; {
			page, err := c.List(t.Context(), after, limit)
			if err != nil || len(page) > limit {
				rt.Fatalf("%d records, %v", len(page), err)
			}
			for _, r := range page {
				seen++
				if r.Hash != (cas.Hash{byte(seen)}) {
					rt.Fatalf("%s comes as number %d", r.Hash, seen)
				}
				after = r.Hash
			}
			more = len(page) == limit
		}
		if seen != 40 {
			rt.Fatalf("%d records in all, want 40", seen)
		}
	})
}

func testConcurrent(t *testing.T, c catalog.Catalog) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			own := record(cas.Hash{1, byte(i)})
			shared := record(cas.Hash{2})
			shared.Created = created.Add(time.Duration(i) * time.Second)
			shared.DigestChecked = i == 7
			for _, r := range []catalog.Record{own, shared} {
				if err := c.Put(t.Context(), r); err != nil {
					t.Error(err)
				}
			}
			if _, err := c.SetPolicy(t.Context(), own.Hash, mesh.Policy{RF: 7}); err != nil {
				t.Error(err)
			}
			if i%2 == 0 {
				if err := c.Delete(t.Context(), own.Hash); err != nil {
					t.Error(err)
				}
			}
			if _, err := c.List(t.Context(), cas.Hash{}, 100); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all, err := c.List(t.Context(), cas.Hash{}, 100)
	if err != nil || len(all) != 33 {
		t.Fatalf("%d records, %v; want 33", len(all), err)
	}
	shared := record(cas.Hash{2})
	shared.DigestChecked = true
	want(t, c, shared)
}

func testContext(t *testing.T, c catalog.Catalog) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, getErr := c.Get(ctx, cas.Hash{1})
	_, listErr := c.List(ctx, cas.Hash{}, 1)
	_, setErr := c.SetPolicy(ctx, cas.Hash{1}, mesh.Policy{})
	for name, err := range map[string]error{
		"get": getErr, "list": listErr, "set": setErr,
		"put": c.Put(ctx, record(cas.Hash{1})), "delete": c.Delete(ctx, cas.Hash{1}),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

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
)

func testList(t *testing.T, c counted) {
	t.Helper()
	for i := range 201 {
		h := cas.Sum(fmt.Append(nil, i))
		publish(t, c, object(h), first(t, h))
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

func testPages(t *testing.T, c counted) {
	t.Helper()
	for i := range 40 {
		h := cas.Hash{byte(i + 1)}
		publish(t, c, object(h), first(t, h))
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

// testConcurrent: of those who want to replace the same publication one does.
func testConcurrent(t *testing.T, c counted) {
	t.Helper()
	shared := cas.Hash{2}
	alice := first(t, shared)
	publish(t, c, object(shared), alice)
	next := alice.Publication.Publication
	next.Sequence = 2
	var wg sync.WaitGroup
	won := make(chan int, 64)
	for i := range 64 {
		own, bid := first(t, cas.Hash{1, byte(i)}), next
		bid.Policy.RF = i + 1
		change, gone := say(t, bid, ""), withdraw(t, own, time.Now())
		wg.Go(func() {
			if _, err := c.Publish(t.Context(), object(own.Object), own); err != nil {
				t.Error(err)
			}
			switch _, err := c.Publish(t.Context(), object(shared), change); {
			case err == nil:
				won <- change.Policy.RF
			case !errors.Is(err, catalog.ErrChanged):
				t.Error(err)
			}
			if i%2 == 0 {
				if _, err := c.Publish(t.Context(), catalog.Record{Hash: own.Object}, gone); err != nil {
					t.Error(err)
				}
			}
			if err := c.SetChecked(t.Context(), shared); err != nil {
				t.Error(err)
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
	r := record(shared)
	r.Name, r.Policy.RF, r.DigestChecked = "", <-won, true
	want(t, c, r)
	if len(won) != 0 {
		t.Errorf("%d others replaced the same", len(won))
	}
}

func testContext(t *testing.T, c counted) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, getErr := c.Get(ctx, cas.Hash{1})
	_, listErr := c.List(ctx, cas.Hash{}, 1)
	_, allErr := c.Publications(ctx, cas.Hash{1})
	_, publishErr := c.Publish(ctx, object(cas.Hash{1}), first(t, cas.Hash{1}))
	_, changesErr := c.Changes(ctx)
	for name, err := range map[string]error{
		"get": getErr, "list": listErr, "publications": allErr, "publish": publishErr, "changes": changesErr, "checked": c.SetChecked(ctx, cas.Hash{1}),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

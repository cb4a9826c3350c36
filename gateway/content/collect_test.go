package content_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/gateway/content"
	"inos.dev/edge/mesh"
)

// TestCollect: what no object and no upload reaches goes after the grace time,
// and nothing else.
func TestCollect(t *testing.T) {
	var uploading []cas.Hash
	r := newRoom(t, func(cfg *content.Config) {
		cfg.Grace = time.Hour
		cfg.Uploading = func(_ context.Context, keep func(cas.Hash)) error {
			for _, h := range uploading {
				keep(h)
			}
			return nil
		}
	})
	kept, loose := r.file(t, 1, 2_500_000), r.file(t, 2, 2_500_000)
	expired := r.file(t, 3, 1000)
	_, link := r.forge(t, text(777), honest)
	uploading = []cas.Hash{link.Hash}
	for _, o := range []dag.Object{kept, expired} {
		if _, _, err := r.Commit(t.Context(), content.Commit{Hash: o.Hash, Owner: "a", Written: &o}); err != nil {
			t.Fatal(err)
		}
	}
	soon := mesh.Policy{Expires: time.Now().Add(50 * time.Millisecond)}
	if _, err := r.SetPolicy(t.Context(), expired.Hash, "a", soon); err != nil {
		t.Fatal(err)
	}
	done, err := r.Collect(t.Context())
	if err != nil || done.Chunks != 0 {
		t.Fatalf("within the grace time: %+v, %v", done, err)
	}
	r.shelf.age(2 * time.Hour)
	fresh := r.file(t, 4, 1000)
	for !time.Now().After(soon.Expires) {
		<-time.After(time.Millisecond)
	}
	done, err = r.Collect(t.Context())
	if err != nil || done.Objects != 1 || done.Expired != 1 || done.Chunks != 4+2+1 {
		t.Errorf("%+v, %v", done, err)
	}
	for name, test := range map[string]struct {
		h    cas.Hash
		here bool
	}{"on the list": {kept.Hash, true}, "loose": {loose.Hash, false}, "expired": {expired.Hash, false}, "uploading": {link.Hash, true}, "fresh": {fresh.Hash, true}} {
		if _, err := r.Stat(t.Context(), test.h); (err == nil) != test.here {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := r.Commit(t.Context(), content.Commit{Hash: kept.Hash, Owner: "a"}); err != nil {
		t.Errorf("the object on the list is not whole: %v", err)
	}
}

// TestCollectStopsAtLostManifest: what hangs below a manifest that cannot be
// read is not known, so nothing goes.
func TestCollectStopsAtLostManifest(t *testing.T) {
	r := newRoom(t, nil)
	o, loose := r.file(t, 1, 1000), r.file(t, 2, 1000)
	if _, _, err := r.Commit(t.Context(), content.Commit{Hash: o.Hash, Owner: "a", Written: &o}); err != nil {
		t.Fatal(err)
	}
	if err := r.shelf.Delete(t.Context(), o.Hash); err != nil {
		t.Fatal(err)
	}
	r.shelf.age(48 * time.Hour)
	if done, err := r.Collect(t.Context()); err == nil {
		t.Errorf("%+v", done)
	}
	if _, err := r.Stat(t.Context(), loose.Hash); err != nil {
		t.Error(err)
	}
}

// TestCollectDuringCommits: an object that is committed while the collector
// runs is whole afterwards, however old its chunks are.
func TestCollectDuringCommits(t *testing.T) {
	r := newRoom(t, func(cfg *content.Config) { cfg.Grace = time.Hour })
	var roots []cas.Hash
	for i := range 50 {
		roots = append(roots, r.file(t, uint64(i), 3000).Hash)
	}
	r.shelf.age(2 * time.Hour)
	var all sync.WaitGroup
	all.Go(func() {
		for range 20 {
			if _, err := r.Collect(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	committed := make([]bool, len(roots))
	for i, h := range roots {
		all.Go(func() {
			_, _, err := r.Commit(t.Context(), content.Commit{Hash: h, Owner: "a"})
			var missing *content.MissingError
			if err != nil && !errors.As(err, &missing) && !errors.Is(err, cas.ErrNotFound) {
				t.Error(err)
			}
			committed[i] = err == nil
		})
	}
	all.Wait()
	r.shelf.age(2 * time.Hour)
	if _, err := r.Collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, h := range roots {
		if !committed[i] {
			continue
		}
		if _, _, err := r.Commit(t.Context(), content.Commit{Hash: h, Owner: "a"}); err != nil {
			t.Errorf("object %d was committed and is not whole: %v", i, err)
		}
	}
}

package catalog_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/mesh"
)

// model is the obvious list: what each owner has said last.
type model map[string]mesh.Publication

// record is what has to be on the list.
func (m model) record(h cas.Hash) catalog.Record {
	var live []mesh.Publication
	for _, p := range m {
		if !p.Withdrawn {
			live = append(live, p)
		}
	}
	if len(live) == 0 {
		return catalog.Record{}
	}
	r := object(h)
	r.Owners = len(live)
	oldest := live[0]
	r.Policy = oldest.Policy
	for _, p := range live[1:] {
		if mesh.ByAge(p, oldest) < 0 {
			oldest = p
		}
		r.Policy = r.Policy.Max(p.Policy)
	}
	r.Owner, r.Created = oldest.Owner, oldest.Created
	return r
}

// testModel: whatever owners say, in whatever order, the list agrees with the
// obvious one.
func testModel(t *testing.T, c counted) {
	t.Helper()
	var round byte
	rapid.Check(t, func(rt *rapid.T) {
		round++
		h, m := cas.Hash{round, 1}, model{}
		known, err := c.Publications(t.Context(), h)
		if err != nil {
			rt.Fatal(err)
		}
		for _, p := range known { // of a round before with the same number
			m[p.Owner] = p.Publication
		}
		for range rapid.IntRange(1, 12).Draw(rt, "words") {
			owner := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "owner")
			p := mesh.Publication{Object: h, Owner: owner, Sequence: m[owner].Sequence + 1, Withdrawn: rapid.Bool().Draw(rt, "withdrawn"),
				Created: time.Now().Add(time.Duration(rapid.IntRange(0, 3).Draw(rt, "s")) * time.Second)}
			if !p.Withdrawn {
				p.Policy = mesh.Policy{RF: rapid.IntRange(0, 5).Draw(rt, "rf"), PriceCap: int64(rapid.IntRange(0, 2).Draw(rt, "cap"))}
			}
			change := say(t, p, "")
			stale := rapid.IntRange(0, 4).Draw(rt, "stale") == 0
			if stale {
				change.Previous++
			}
			got, err := c.Publish(t.Context(), object(h), change)
			if stale {
				if !errors.Is(err, catalog.ErrChanged) {
					rt.Fatalf("on top of nothing: %v", err)
				}
				continue
			}
			m[owner] = change.Publication.Publication
			if want := m.record(h); err != nil || got != want {
				rt.Fatalf("%+v, %v, want %+v", got, err, want)
			}
		}
	})
}

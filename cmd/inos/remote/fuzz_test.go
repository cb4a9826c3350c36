package remote

import (
	"testing"

	"inos.dev/edge/cas"
)

// FuzzParseRef: what is taken is written the same way again, apart from its
// node, and leads nowhere else.
func FuzzParseRef(f *testing.F) {
	h := cas.Sum([]byte("x")).String()
	for _, seed := range []string{h, h + "/a/b", "http://n:1/object/" + h + "/a%2fb", "https://n/p/object/" + h + "/", "http://n/object/object/" + h} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ref, err := ParseRef(text)
		if err != nil {
			return
		}
		again, err := ParseRef(ref.String())
		if err != nil || again.Hash != ref.Hash || again.Path != ref.Path {
			t.Errorf("%q: %+v, then %+v, %v", text, ref, again, err)
		}
		if ref.Node != "" {
			if _, err := New(Config{Node: ref.Node}); err != nil {
				t.Errorf("%q: node %q: %v", text, ref.Node, err)
			}
		}
	})
}

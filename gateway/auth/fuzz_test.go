package auth_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inos.dev/edge/gateway/auth"
)

// FuzzVerify: whatever a stranger sends is refused, and not repeated.
func FuzzVerify(f *testing.F) {
	own := auth.NewSecretKey()
	v := verifier(f, auth.Config{Own: own.Public(), Trusted: []auth.PublicKey{auth.NewSecretKey().Public()}})
	f.Add(issue(f, auth.NewSecretKey(), "eve", auth.All, now, time.Hour).Reveal())
	f.Fuzz(func(t *testing.T, text string) {
		id, err := v.Verify(auth.Token(text), now)
		if !errors.Is(err, auth.ErrUnauthenticated) || !id.Anonymous() || id.Rights != auth.None {
			t.Fatalf("%+v, %v", id, err)
		}
		if quotes(err.Error(), strings.TrimPrefix(text, "v4.public.")) && len(text) > 40 {
			t.Fatalf("quoted: %v", err)
		}
	})
}

func TestRightsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := auth.Rights(rapid.Uint8Range(0, uint8(auth.All)).Draw(t, "rights"))
		if r == auth.None {
			return
		}
		if got, err := auth.ParseRights(r.String()); err != nil || got != r {
			t.Fatalf("%v became %v, %v", r, got, err)
		}
		names := rapid.Permutation(strings.Split(r.String(), ",")).Draw(t, "order")
		if got, err := auth.ParseRights(strings.Join(names, ",")); err != nil || got != r {
			t.Fatalf("%v became %v, %v", names, got, err)
		}
		if _, err := auth.ParseRights(strings.Join(append(names, names[0]), ",")); err == nil {
			t.Fatal("the same right twice")
		}
	})
}

// What is not exactly a list of right names gives none.
func TestRightsDenyByDefault(t *testing.T) {
	known := map[string]bool{"read": true, "write": true, "admin": true}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringMatching(`(read|write|admin|Read| |,|\*|all|nothing)*`)).Draw(t, "text")
		r, err := auth.ParseRights(s)
		if err != nil {
			if r != auth.None {
				t.Fatalf("%q: an error and %v", s, r)
			}
			return
		}
		if s == "" && r == auth.None {
			return
		}
		for name := range strings.SplitSeq(s, ",") {
			if !known[name] {
				t.Fatalf("%q gave %v", s, r)
			}
		}
	})
}

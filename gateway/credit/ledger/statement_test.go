package ledger

import (
	"encoding/base64"
	"errors"
	"reflect"
	"testing"

	"inos.dev/edge/gateway/credit"
)

// TestCursor: a page stays what it is while entries are added, across
// restarts; a cursor is good for its account only, and nobody makes his own.
func TestCursor(t *testing.T) {
	cfg := config(t.TempDir())
	l := open(t, cfg)
	for i := range 10 {
		mustAppend(t, l, "", grant(ann, credit.Amount(i)), grant(ann, 1), grant(bob, 1))
	}
	first, next, err := l.Statement(t.Context(), ann, "", 5)
	if err != nil || len(first) != 5 || next == "" {
		t.Fatal(len(first), next, err)
	}
	second, after, err := l.Statement(t.Context(), ann, next, 5)
	if err != nil || len(second) != 5 || second[0].Seq != first[4].Seq || second[0].Balance != first[4].Balance {
		t.Fatalf("%v, %v\n%+v\n%+v", after, err, first[4], second)
	}
	mustAppend(t, l, "", grant(ann, 1000))
	for _, reopen := range []func(){func() { drop(t, l) }, func() { closed(t, l) }} {
		reopen()
		l = open(t, cfg)
		again, _, err := l.Statement(t.Context(), ann, next, 5)
		if err != nil || !reflect.DeepEqual(again, second) {
			t.Errorf("%v\n%+v\n%+v", err, again, second)
		}
	}
	raw, err := base64.RawURLEncoding.DecodeString(string(next))
	if err != nil {
		t.Fatal(err)
	}
	forged := []Cursor{"x", next + "A", next[1:], "AAAA"}
	for i := range raw {
		b := append([]byte(nil), raw...)
		b[i]++
		forged = append(forged, Cursor(base64.RawURLEncoding.EncodeToString(b)))
	}
	for _, c := range forged {
		if lines, _, err := l.Statement(t.Context(), ann, c, 5); !errors.Is(err, ErrCursor) || lines != nil {
			t.Errorf("%s: %v", c, err)
		}
	}
	for _, other := range []credit.Account{bob, "user:nobody"} {
		if _, _, err := l.Statement(t.Context(), other, next, 5); !errors.Is(err, ErrCursor) {
			t.Errorf("%s: %v", other, err)
		}
	}
	for _, limit := range []int{-1, 0, 1001} {
		if _, _, err := l.Statement(t.Context(), ann, "", limit); !errors.Is(err, credit.ErrEntry) {
			t.Errorf("a page of %d: %v", limit, err)
		}
		if _, err := l.Accounts(t.Context(), "", limit); !errors.Is(err, credit.ErrEntry) {
			t.Errorf("a page of %d: %v", limit, err)
		}
		if _, err := l.Docs(t.Context(), "", "", limit); !errors.Is(err, credit.ErrEntry) {
			t.Errorf("a page of %d: %v", limit, err)
		}
	}
	if lines, c, err := l.Statement(t.Context(), "user:nobody", "", 5); lines != nil || c != "" || err != nil {
		t.Errorf("nobody: %v, %q, %v", lines, c, err)
	}
	closed(t, l)
}

package ledger

import (
	"testing"

	"inos.dev/edge/gateway/credit"
)

func open(t testing.TB, dir string) *Ledger {
	t.Helper()
	l, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestFirst(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	a := credit.User("ann")
	grant := []credit.Entry{
		{Kind: credit.KindGrant, From: credit.Treasury, To: a, Amount: 5},
		{Kind: credit.KindDoc, From: a, Ref: "terms/ann", Doc: []byte("x")},
	}
	seq, again, err := l.Append(t.Context(), "one", grant)
	if seq != 1 || again || err != nil {
		t.Fatal(seq, again, err)
	}
	for range 2 {
		seq, again, err = l.Append(t.Context(), "one", grant)
		if seq != 1 || !again || err != nil {
			t.Fatal(seq, again, err)
		}
		s, err := l.State(t.Context(), a)
		if s.Balance != 5 || s.Entries != 2 || err != nil {
			t.Fatal(s, err)
		}
		docs, err := l.Docs(t.Context(), "terms/", "", 10)
		if len(docs) != 1 || err != nil {
			t.Fatal(docs, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open(t, dir)
	}
}

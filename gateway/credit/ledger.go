package credit

import "context"

// Ledger is the books of one node as the packages see it that write into them;
// ledger.Ledger is one. All methods may be called at the same time.
type Ledger interface {
	// Append writes one record: all of the entries or none, durably when it
	// returns, and the balances follow. A record with an id that has been
	// written before (in the last days) is not written again: the answer is the
	// seq of the first one, and again is true. The empty id is never the same.
	// Errors: ErrEntry, ErrAccount.
	Append(ctx context.Context, id string, entries []Entry) (seq uint64, again bool, err error)
	// Decide is Append for entries that depend on what the books say: nothing
	// else is written between the moment f looks and its record. f is quick, and
	// may be called again. No entries, no record.
	Decide(ctx context.Context, id string, f func(View) ([]Entry, error)) (seq uint64, again bool, err error)
	View
}

// View is the state of the books, with every acknowledged record in it.
type View interface {
	// State returns what is known of an account; of one that never appeared, the
	// zero State.
	State(ctx context.Context, a Account) (State, error)
	// Doc returns a document, nil if there is none.
	Doc(ctx context.Context, name string) ([]byte, error)
	// Docs returns the documents whose names begin with prefix, those behind
	// after, by name, at most limit of them (1 … 1000).
	Docs(ctx context.Context, prefix, after string, limit int) ([]Doc, error)
}

// Doc is a named document: what is known beside amounts, such as the terms of
// an account. It changes by entries of KindDoc.
type Doc struct {
	Name string
	Data []byte
}

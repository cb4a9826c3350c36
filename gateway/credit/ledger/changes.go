package ledger

import (
	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// changes is what records have changed since a checkpoint. What it points to
// does not change any more: a new state replaces the old one.
type changes struct {
	accounts map[credit.Account]*account
	names    map[uint32]credit.Account // of all accounts
	fresh    []uint32                  // the numbers of those that are new
	docs     map[string]doc
	ids      map[cas.Hash]idSeq
	weight   int // accounts, documents, ids; a large document weighs more
}

// doc is a document; no data means that it is deleted.
type doc struct {
	data []byte
	seq  uint64
}

// idSeq says which record an id belongs to.
type idSeq struct {
	seq  uint64
	time int64
}

func newChanges() *changes {
	return &changes{
		accounts: make(map[credit.Account]*account),
		names:    make(map[uint32]credit.Account),
		docs:     make(map[string]doc),
		ids:      make(map[cas.Hash]idSeq),
	}
}

// heavy is how many bytes of a document weigh as much as an account.
const heavy = 256

func (c *changes) setDoc(name string, d doc) {
	if old, ok := c.docs[name]; ok {
		c.weight -= 1 + len(old.data)/heavy
	}
	c.docs[name] = d
	c.weight += 1 + len(d.data)/heavy
}

func (c *changes) setAccount(name credit.Account, a *account) {
	if _, ok := c.accounts[name]; !ok {
		c.weight++
		c.names[a.number] = name
	}
	c.accounts[name] = a
}

func (c *changes) setID(id cas.Hash, s idSeq) {
	c.ids[id] = s
	c.weight++
}

// add puts those changes of older into c that c does not have newer.
func (c *changes) add(older *changes) {
	for name, a := range older.accounts {
		if _, ok := c.accounts[name]; !ok {
			c.setAccount(name, a)
		}
	}
	c.fresh = append(c.fresh, older.fresh...)
	for name, d := range older.docs {
		if _, ok := c.docs[name]; !ok {
			c.setDoc(name, d)
		}
	}
	for id, s := range older.ids {
		c.setID(id, s)
	}
}

// layers are the changes in memory, the newest first.
func (m *memory) layers() []*changes {
	if m.frozen != nil {
		return []*changes{m.dirty, m.frozen, m.clean}
	}
	return []*changes{m.dirty, m.clean}
}

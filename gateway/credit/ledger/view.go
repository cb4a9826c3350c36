package ledger

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/bbolt"

	"inos.dev/edge/gateway/credit"
)

// maxPage is the most documents or accounts that are listed at once.
const maxPage = 1000

// State implements credit.View: what it answers is durable.
func (l *Ledger) State(ctx context.Context, name credit.Account) (credit.State, error) {
	a, err := l.account(ctx, name)
	if a == nil {
		return credit.State{}, err
	}
	return a.state, err
}

// account returns an account when what is known of it is durable; nil if it
// never appeared.
func (l *Ledger) account(ctx context.Context, name credit.Account) (*account, error) {
	if err := l.begin(ctx); err != nil {
		return nil, err
	}
	for _, c := range l.layers() {
		if a, ok := c.accounts[name]; ok {
			if err := l.unlockAndSync(ctx, a.seq); err != nil {
				return nil, err
			}
			return a, nil
		}
	}
	l.mu.Unlock()
	// Whoever changes it meanwhile does so beside this call.
	var a *account
	err := l.db.View(func(tx *bbolt.Tx) (err error) {
		a, err = loadAccount(tx, name)
		return err
	})
	return a, err
}

// Doc implements credit.View: what it answers is durable.
func (l *Ledger) Doc(ctx context.Context, name string) ([]byte, error) {
	if err := l.begin(ctx); err != nil {
		return nil, err
	}
	d := l.draft()
	data, err := d.Doc(ctx, name)
	d.close()
	if syncErr := l.unlockAndSync(ctx, l.docSeq); err == nil {
		err = syncErr
	}
	return data, err
}

// Docs implements credit.View: what it answers is durable.
func (l *Ledger) Docs(ctx context.Context, prefix, after string, limit int) ([]credit.Doc, error) {
	if err := l.begin(ctx); err != nil {
		return nil, err
	}
	d := l.draft()
	list, err := d.Docs(ctx, prefix, after, limit)
	d.close()
	if syncErr := l.unlockAndSync(ctx, l.docSeq); err == nil {
		err = syncErr
	}
	return list, err
}

// State implements credit.View for Decide.
func (d *draft) State(_ context.Context, name credit.Account) (credit.State, error) {
	a, err := d.find(name)
	if a == nil {
		return credit.State{}, err
	}
	return a.state, err
}

// Doc implements credit.View for Decide.
func (d *draft) Doc(_ context.Context, name string) ([]byte, error) {
	for _, c := range d.m.layers() {
		if doc, ok := c.docs[name]; ok {
			return bytes.Clone(doc.data), nil
		}
	}
	tx, err := d.view()
	if err != nil {
		return nil, err
	}
	return bytes.Clone(tx.Bucket(docBucket).Get([]byte(name))), nil
}

// Docs implements credit.View for Decide.
func (d *draft) Docs(_ context.Context, prefix, after string, limit int) ([]credit.Doc, error) {
	if limit < 1 || limit > maxPage {
		return nil, fmt.Errorf("%w: a page of %d documents, it may have 1 to %d", credit.ErrEntry, limit, maxPage)
	}
	tx, err := d.view()
	if err != nil {
		return nil, err
	}
	changed := newer(d.m.layers(), func(c *changes) map[string]doc { return c.docs }, func(name string) bool {
		return strings.HasPrefix(name, prefix) && name > after
	})
	var list []credit.Doc
	merge(tx.Bucket(docBucket), prefix, after, changed, func(name string, stored []byte, d doc, isNew bool) bool {
		if isNew {
			stored = d.data
		}
		if len(stored) > 0 {
			list = append(list, credit.Doc{Name: name, Data: bytes.Clone(stored)})
		}
		return len(list) < limit
	})
	return list, nil
}

// newer collects, from the newest layer on, the newest values of those keys
// that are wanted.
func newer[K ~string, V any](layers []*changes, values func(*changes) map[K]V, want func(K) bool) map[K]V {
	found := make(map[K]V)
	for _, c := range layers {
		for k, v := range values(c) {
			if _, ok := found[k]; !ok && want(k) {
				found[k] = v
			}
		}
	}
	return found
}

// merge calls each for the keys behind after that begin with prefix, of the
// bucket and of changed, in their order, until it returns false.
func merge[K ~string, V any](b *bbolt.Bucket, prefix, after string, changed map[K]V, each func(key K, stored []byte, v V, isNew bool) bool) {
	news := make([]K, 0, len(changed))
	for k := range changed {
		news = append(news, k)
	}
	slices.Sort(news)
	cursor := b.Cursor()
	k, stored := cursor.Seek([]byte(max(prefix, after)))
	if string(k) == after && k != nil {
		k, stored = cursor.Next()
	}
	for {
		inFile := k != nil && bytes.HasPrefix(k, []byte(prefix))
		var key K
		switch {
		case inFile && (len(news) == 0 || string(k) <= string(news[0])):
			key = K(k)
		case len(news) > 0:
			key = news[0]
		default:
			return
		}
		v, isNew := changed[key]
		if isNew {
			news = news[1:]
		}
		var old []byte
		if inFile && string(k) == string(key) {
			old = stored
			k, stored = cursor.Next()
		}
		if !each(key, old, v, isNew) {
			return
		}
	}
}

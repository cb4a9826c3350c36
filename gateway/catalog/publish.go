package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"go.etcd.io/bbolt"

	"inos.dev/edge/cas"
)

// Publish implements Catalog.
func (c *Bolt) Publish(ctx context.Context, about Record, changes ...Change) (r Record, err error) {
	var refused error
	err = c.update(ctx, func(tx *bbolt.Tx) (err error) {
		r, refused, err = c.publish(tx, about, changes)
		return err
	})
	if err = errors.Join(err, refused); err != nil {
		return Record{}, err
	}
	return r, nil
}

// publish is Publish in a transaction. If it is refused, nothing has been
// written, and those who share the transaction go on.
func (c *Bolt) publish(tx *bbolt.Tx, about Record, changes []Change) (r Record, refused, err error) {
	e, refused := load(tx, about.Hash)
	if refused != nil {
		return Record{}, refused, nil
	}
	old, refused := e.publish(about, changes)
	if refused != nil {
		return Record{}, refused, nil
	}
	return e.record, nil, c.write(tx, about.Hash, &e, old, changes)
}

// load reads all that is known of an object.
func load(tx *bbolt.Tx, h cas.Hash) (e entry, err error) {
	e.record, err = get(tx, h)
	switch {
	case errors.Is(err, cas.ErrCorrupt):
		e.damaged = err
	case err != nil && !errors.Is(err, cas.ErrNotFound):
		return e, err
	}
	e.publications, err = publications(tx, h)
	return e, err
}

// write keeps what e has become by changes, which replaced old.
func (c *Bolt) write(tx *bbolt.Tx, h cas.Hash, e *entry, old []Publication, changes []Change) error {
	for i, change := range changes {
		if old[i].Withdrawn {
			if err := forget(tx, tombKey(old[i])); err != nil {
				return err
			}
		}
		if err := tx.Bucket(publicationBucket).Put(publicationKey(change.Publication), encodePublication(change.Publication)); err != nil {
			return err
		}
		if change.Withdrawn {
			if err := remember(tx, change.Publication); err != nil {
				return err
			}
		}
	}
	if err := c.purge(tx, time.Now(), len(changes)+purgeStep); err != nil {
		return err
	}
	if err := count(tx, changesKey, 1); err != nil {
		return err
	}
	if e.record.Owners == 0 {
		return tx.Bucket(objectBucket).Delete(h[:])
	}
	return put(tx, e.record)
}

// remember notes a tombstone, so that purge finds it in its time.
func remember(tx *bbolt.Tx, p Publication) error {
	if err := tx.Bucket(tombBucket).Put(tombKey(p), nil); err != nil {
		return err
	}
	return count(tx, tombsKey, 1)
}

// forget takes such a note away.
func forget(tx *bbolt.Tx, key []byte) error {
	if err := tx.Bucket(tombBucket).Delete(key); err != nil {
		return err
	}
	return count(tx, tombsKey, -1)
}

// purge deletes tombstones whose time is over, and those that are too many.
// Every change takes more along than it makes, at most so many, so that their
// number is bounded without a sweep over all.
func (c *Bolt) purge(tx *bbolt.Tx, now time.Time, most int) error {
	end := binary.BigEndian.AppendUint64(nil, uint64(now.Add(-TombstoneAge).UnixMicro()))
	cursor := tx.Bucket(tombBucket).Cursor()
	for range most {
		k, _ := cursor.First()
		if len(k) < len(end) || string(k[:len(end)]) >= string(end) && number(tx, tombsKey) <= c.maxTombstones {
			return nil
		}
		key := append([]byte(nil), k...)
		if err := tx.Bucket(publicationBucket).Delete(key[len(end):]); err != nil {
			return err
		}
		if err := forget(tx, key); err != nil {
			return err
		}
	}
	return nil
}

// SetChecked implements Catalog.
func (c *Bolt) SetChecked(ctx context.Context, h cas.Hash) error {
	return c.update(ctx, func(tx *bbolt.Tx) error {
		r, err := get(tx, h)
		if err != nil {
			return err
		}
		r.DigestChecked = true
		return put(tx, r)
	})
}

// publicationKey is the key of a publication.
func publicationKey(p Publication) []byte { return append(p.Object[:], p.Owner...) }

// tombKey is the key of a tombstone's note.
func tombKey(p Publication) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(p.Created.UnixMicro()))
	return append(b, publicationKey(p)...)
}

// number reads a number of the meta bucket; what is not there is 0.
func number(tx *bbolt.Tx, key []byte) uint64 {
	b := tx.Bucket(metaBucket).Get(key)
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// count adds n to it.
func count(tx *bbolt.Tx, key []byte, n int64) error {
	return tx.Bucket(metaBucket).Put(key, binary.BigEndian.AppendUint64(nil, number(tx, key)+uint64(n)))
}

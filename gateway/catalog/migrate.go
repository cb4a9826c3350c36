package catalog

import (
	"bytes"
	"fmt"
	"runtime"

	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"inos.dev/edge/cas"
	"inos.dev/edge/mesh"
)

// The formats of the file. Format 1 has one record per object, with its owner
// and policy, and no publications.
const (
	oldFormat  = "1"
	fileFormat = "2"
)

// migratedKey is there while a file of format 1 is being converted: the last
// hash that is. A crash goes on from there.
var migratedKey = []byte("migrated")

// migrateStep is how many records one transaction converts.
const migrateStep = 4096

// prepare makes the buckets of a new file, converts one of the previous format
// and refuses a newer one.
func prepare(db *bbolt.DB, key mesh.Secret) error {
	if err := db.Update(makeBuckets); err != nil {
		return err
	}
	for {
		more, err := migrate(db, key)
		if err != nil || !more {
			return err
		}
	}
}

func makeBuckets(tx *bbolt.Tx) error {
	meta, err := tx.CreateBucketIfNotExists(metaBucket)
	if err != nil {
		return err
	}
	switch format := meta.Get(formatKey); {
	case string(format) == oldFormat:
		if err := meta.Put(migratedKey, make([]byte, cas.HashSize)); err != nil {
			return err
		}
	case format != nil && string(format) != fileFormat:
		return fmt.Errorf("it has format %.20q, this build reads %s: use a newer one", format, fileFormat)
	}
	for _, name := range [][]byte{objectBucket, publicationBucket, tombBucket} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	return meta.Put(formatKey, []byte(fileFormat))
}

// migrate converts the next records of a file of format 1, if it is one: each
// becomes the publication of its owner. What cannot be read stays as it is,
// and is healed when its object comes again.
func migrate(db *bbolt.DB, key mesh.Secret) (more bool, err error) {
	var last []byte
	var old []Record
	err = db.View(func(tx *bbolt.Tx) error {
		last = bytes.Clone(tx.Bucket(metaBucket).Get(migratedKey))
		if more = last != nil; !more {
			return nil
		}
		last, old = oldRecords(tx, last)
		return nil
	})
	if err != nil || !more {
		return false, err
	}
	signed, err := signAll(old, key)
	if err != nil {
		return false, err
	}
	return true, db.Update(func(tx *bbolt.Tx) error {
		for i, p := range signed {
			e := entry{publications: []Publication{p}}
			if err := e.derive(old[i]); err != nil {
				return err
			}
			if err := tx.Bucket(publicationBucket).Put(publicationKey(p), encodePublication(p)); err != nil {
				return err
			}
			if err := put(tx, e.record); err != nil {
				return err
			}
		}
		if last == nil {
			return tx.Bucket(metaBucket).Delete(migratedKey)
		}
		return tx.Bucket(metaBucket).Put(migratedKey, last)
	})
}

// oldRecords reads the records behind after. last is the last key that was
// looked at, nil at the end of the list.
func oldRecords(tx *bbolt.Tx, after []byte) (last []byte, list []Record) {
	cursor := tx.Bucket(objectBucket).Cursor()
	k, v := cursor.Seek(after)
	if k != nil && bytes.Equal(k, after) {
		k, v = cursor.Next()
	}
	for range migrateStep {
		if k == nil {
			return nil, list
		}
		last = bytes.Clone(k)
		if len(k) == cas.HashSize {
			if r, err := decodeOld(cas.Hash(k), v); err == nil {
				list = append(list, r)
			}
		}
		k, v = cursor.Next()
	}
	return last, list
}

// signAll makes the publications of old records, on all processors: a
// signature takes longer than the rest.
func signAll(old []Record, key mesh.Secret) ([]Publication, error) {
	signed := make([]Publication, len(old))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, r := range old {
		g.Go(func() error {
			p, err := mesh.Publication{Object: r.Hash, Owner: r.Owner, Policy: r.Policy, Sequence: 1, Created: r.Created}.Sign(key)
			signed[i] = Publication{p, r.Name}
			return err
		})
	}
	return signed, g.Wait()
}

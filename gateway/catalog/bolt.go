package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"inos.dev/edge/cas"
	"inos.dev/edge/mesh"
)

// File is the name of the list in a data directory.
const File = "catalog.db"

const (
	// commitDelay is how long a writer waits for others to share its syncs.
	commitDelay = 2 * time.Millisecond
	// lockTimeout is how long Open waits for another process to let go.
	lockTimeout = time.Second

	fileFormat = "1"
)

// Names in the file; not changed after the start.
var (
	objectBucket = []byte("objects") // hash → value
	metaBucket   = []byte("meta")
	formatKey    = []byte("format")
)

// Bolt is a Catalog in a file; make it with Open.
type Bolt struct{ db *bbolt.DB }

var _ Catalog = (*Bolt)(nil)

// Open opens the list of a data directory, which it makes if there is none.
// The caller closes it.
func Open(dir string) (*Bolt, error) {
	path := filepath.Join(dir, File)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("catalog: %s is in use by another process", path)
	}
	if err != nil {
		return nil, fmt.Errorf("catalog: open %s: %w", path, err)
	}
	db.MaxBatchDelay = commitDelay
	// bbolt syncs the file, and nobody its name.
	if err := errors.Join(db.Update(prepare), syncDir(dir)); err != nil {
		return nil, errors.Join(fmt.Errorf("catalog: %s: %w", path, err), db.Close())
	}
	return &Bolt{db}, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// prepare makes the buckets of a new file and refuses a newer one.
func prepare(tx *bbolt.Tx) error {
	if _, err := tx.CreateBucketIfNotExists(objectBucket); err != nil {
		return err
	}
	meta, err := tx.CreateBucketIfNotExists(metaBucket)
	if err != nil {
		return err
	}
	switch format := meta.Get(formatKey); {
	case format == nil:
		return meta.Put(formatKey, []byte(fileFormat))
	case string(format) != fileFormat:
		return fmt.Errorf("it has format %.20q, this build reads %s: use a newer one", format, fileFormat)
	}
	return nil
}

// Close waits for what is going on and closes the file.
func (c *Bolt) Close() error { return c.db.Close() }

// Get implements Catalog.
func (c *Bolt) Get(ctx context.Context, h cas.Hash) (r Record, err error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	err = c.db.View(func(tx *bbolt.Tx) error {
		r, err = get(tx, h)
		return err
	})
	return r, err
}

func get(tx *bbolt.Tx, h cas.Hash) (Record, error) {
	b := tx.Bucket(objectBucket).Get(h[:])
	if b == nil {
		return Record{}, notFound(h)
	}
	return decode(h, b)
}

func put(tx *bbolt.Tx, r Record) error {
	b, err := encode(r)
	if err != nil {
		return err
	}
	return tx.Bucket(objectBucket).Put(r.Hash[:], b)
}

func notFound(h cas.Hash) error {
	return fmt.Errorf("%w: object %s is not on the list", cas.ErrNotFound, h)
}

// Put implements Catalog.
func (c *Bolt) Put(ctx context.Context, r Record) error {
	if err := r.Validate(); err != nil {
		return err
	}
	return c.update(ctx, func(tx *bbolt.Tx) error {
		merged := r
		switch old, err := get(tx, r.Hash); {
		case err == nil:
			merged = r.Merge(old)
		case !errors.Is(err, cas.ErrNotFound) && !errors.Is(err, cas.ErrCorrupt):
			return err
		}
		return put(tx, merged.normal()) // a corrupt record is healed by its object
	})
}

// Delete implements Catalog.
func (c *Bolt) Delete(ctx context.Context, h cas.Hash) error {
	return c.update(ctx, func(tx *bbolt.Tx) error {
		objects := tx.Bucket(objectBucket)
		if objects.Get(h[:]) == nil {
			return notFound(h)
		}
		return objects.Delete(h[:])
	})
}

// SetPolicy implements Catalog.
func (c *Bolt) SetPolicy(ctx context.Context, h cas.Hash, p mesh.Policy) (r Record, err error) {
	if err := p.Validate(time.Now()); err != nil {
		return Record{}, err
	}
	err = c.update(ctx, func(tx *bbolt.Tx) error {
		r, err = get(tx, h)
		if err != nil {
			return err
		}
		r.Policy = p
		r = r.normal()
		return put(tx, r)
	})
	if err != nil {
		return Record{}, err
	}
	return r, nil
}

// update runs f in a transaction that it may share; f may be run again.
func (c *Bolt) update(ctx context.Context, f func(*bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.db.Batch(f)
}

// List implements Catalog.
func (c *Bolt) List(ctx context.Context, after cas.Hash, limit int) (list []Record, err error) {
	if limit, err = listLimit(limit); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = c.db.View(func(tx *bbolt.Tx) error {
		cursor := tx.Bucket(objectBucket).Cursor()
		k, v := cursor.Seek(after[:])
		if bytes.Equal(k, after[:]) {
			k, v = cursor.Next()
		}
		for ; k != nil && len(list) < limit; k, v = cursor.Next() {
			if len(k) != cas.HashSize {
				return fmt.Errorf("%w: catalog key of %d bytes", cas.ErrCorrupt, len(k))
			}
			r, err := decode(cas.Hash(k), v)
			if err != nil {
				return err
			}
			list = append(list, r)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

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
)

// Names in the file; not changed after the start. Numbers in keys and values
// are 8 bytes, big-endian.
var (
	objectBucket      = []byte("objects")      // hash → record, see encode
	publicationBucket = []byte("publications") // hash, owner → publication, see encodePublication
	tombBucket        = []byte("withdrawn")    // microseconds since 1970, hash, owner → nothing
	metaBucket        = []byte("meta")
	formatKey         = []byte("format")
	changesKey        = []byte("changes")    // how often publications have changed
	tombsKey          = []byte("tombstones") // how many withdrawn has
)

// Bolt is a Catalog in a file; make it with Open.
type Bolt struct {
	db *bbolt.DB
	// maxTombstones is MaxTombstones, but in a test.
	maxTombstones uint64
}

var _ Catalog = (*Bolt)(nil)

// Open opens the list of a data directory, which it makes if there is none.
// key is the node's: it signs the publications that a file of the previous
// format does not have. The caller closes it.
func Open(dir string, key mesh.Secret) (*Bolt, error) {
	path := filepath.Join(dir, File)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("catalog: %s is in use by another process", path)
	}
	if err != nil {
		return nil, fmt.Errorf("catalog: open %s: %w", path, err)
	}
	db.MaxBatchDelay = commitDelay
	err = prepare(db, key)
	if err == nil { // bbolt syncs the file, and nobody its name
		err = syncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("catalog: %s: %w", path, err), db.Close())
	}
	return &Bolt{db, MaxTombstones}, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close waits for what is going on and closes the file.
func (c *Bolt) Close() error { return c.db.Close() }

// Get implements Catalog.
func (c *Bolt) Get(ctx context.Context, h cas.Hash) (r Record, err error) {
	err = c.view(ctx, func(tx *bbolt.Tx) error {
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

// List implements Catalog.
func (c *Bolt) List(ctx context.Context, after cas.Hash, limit int) (list []Record, err error) {
	if limit, err = listLimit(limit); err != nil {
		return nil, err
	}
	err = c.view(ctx, func(tx *bbolt.Tx) error {
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

// Publications implements Catalog.
func (c *Bolt) Publications(ctx context.Context, h cas.Hash) ([]Publication, error) {
	var e entry
	err := c.view(ctx, func(tx *bbolt.Tx) (err error) {
		e.publications, err = publications(tx, h)
		return err
	})
	e.sort()
	return e.publications, err
}

// publications reads the publications of an object, in no order.
func publications(tx *bbolt.Tx, h cas.Hash) (list []Publication, err error) {
	cursor := tx.Bucket(publicationBucket).Cursor()
	for k, v := cursor.Seek(h[:]); bytes.HasPrefix(k, h[:]); k, v = cursor.Next() {
		p, err := decodePublication(v)
		if err == nil && !bytes.Equal(k, publicationKey(p)) {
			err = errors.New("it is another's")
		}
		if err != nil {
			return nil, fmt.Errorf("%w: catalog, a publication of object %s: %w", cas.ErrCorrupt, h, err)
		}
		list = append(list, p)
	}
	return list, nil
}

// Changes counts how often publications have changed since the file was made:
// as long as it stays the same, so does what Get, List and Publications
// answer, but for DigestChecked.
func (c *Bolt) Changes(ctx context.Context) (n uint64, err error) {
	err = c.view(ctx, func(tx *bbolt.Tx) error {
		n = number(tx, changesKey)
		return nil
	})
	return n, err
}

func (c *Bolt) view(ctx context.Context, f func(*bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.db.View(f)
}

// update runs f in a transaction that it may share; f may be run again.
func (c *Bolt) update(ctx context.Context, f func(*bbolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.db.Batch(f)
}

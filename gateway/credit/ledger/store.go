package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/journal"
)

// Names in the file of checkpoints; not changed after the start.
var (
	accountBucket = []byte("accounts") // name → account
	nameBucket    = []byte("names")    // number → name
	leaseBucket   = []byte("leases")   // name of an account with an open lease → nothing
	docBucket     = []byte("docs")     // name → document
	idBucket      = []byte("ids")      // hash of an id → seq
	orderBucket   = []byte("order")    // seq → time, hash of the id
	metaBucket    = []byte("meta")

	formatKey = []byte("format")
	stateKey  = []byte("state")
	cursorKey = []byte("cursor") // the secret that cursors are signed with
)

const (
	fileFormat  = "1"
	lockTimeout = time.Second
	// firstMap is how much address space is mapped from the start: bbolt stops
	// its readers when it has to map more.
	firstMap = 1 << 30
)

// errStored says: a value is not in the form that it was written in.
var errStored = errors.New("not what a checkpoint has written")

// meta is what a checkpoint says about itself.
type meta struct {
	mark journal.Mark // the last record that is in it
	next uint32       // the number of the next account
	ids  uint64       // how many ids it has
}

// openStore opens the file of checkpoints; readOnly changes nothing.
func openStore(path string, readOnly bool) (*bbolt.DB, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType, InitialMmapSize: firstMap, ReadOnly: readOnly,
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("ledger: %s: %w: stop the node that uses it", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: open %s: %w; if it is damaged, move it away, and it is made anew from the journal", path, err)
	}
	err = db.View(checkFormat)
	if errors.Is(err, errNew) && !readOnly {
		err = errors.Join(db.Update(prepare), syncDir(filepath.Dir(path)))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ledger: %s: %w", path, err), db.Close())
	}
	return db, nil
}

// prepare makes the buckets of a new file.
func prepare(tx *bbolt.Tx) error {
	for _, name := range [][]byte{accountBucket, nameBucket, leaseBucket, docBucket, idBucket, orderBucket, metaBucket} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	secret, err := newSecret()
	if err != nil {
		return err
	}
	m := tx.Bucket(metaBucket)
	return errors.Join(m.Put(formatKey, []byte(fileFormat)), m.Put(cursorKey, secret), m.Put(stateKey, meta{next: 1}.bytes()))
}

// errNew says: there is nothing in the file yet.
var errNew = errors.New("it was never written")

// checkFormat refuses a newer file.
func checkFormat(tx *bbolt.Tx) error {
	m := tx.Bucket(metaBucket)
	if m == nil {
		return errNew
	}
	if format := m.Get(formatKey); string(format) != fileFormat {
		return fmt.Errorf("it has format %.20q, this build reads %s: use a newer one", format, fileFormat)
	}
	return nil
}

func (m meta) bytes() []byte {
	b := make([]byte, 0, metaSize)
	for _, n := range []uint64{m.mark.Seq, uint64(m.mark.Last), uint64(m.mark.Pos), uint64(m.mark.Time), uint64(m.next), m.ids} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return append(b, m.mark.Hash[:]...)
}

const metaSize = 6*8 + cas.HashSize

func loadMeta(tx *bbolt.Tx) (meta, error) {
	b := tx.Bucket(metaBucket).Get(stateKey)
	if len(b) != metaSize {
		return meta{}, fmt.Errorf("%w: its state has %d bytes", errStored, len(b))
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	return meta{
		mark: journal.Mark{Seq: n(0), Last: journal.Position(n(1)), Pos: journal.Position(n(2)), Time: int64(n(3)), Hash: cas.Hash(b[48:])},
		next: uint32(n(4)), ids: n(5),
	}, nil
}

const accountSize = 2*4 + 8*8

// bytes is the value of an account.
func (a *account) bytes() []byte {
	b := make([]byte, 0, accountSize)
	b = binary.BigEndian.AppendUint32(b, a.number)
	b = binary.BigEndian.AppendUint32(b, a.state.Rest)
	for _, n := range []int64{
		int64(a.last), int64(a.state.Balance), a.state.Leased, a.state.Served,
		a.state.Attested, a.state.Earned, a.state.Proven, a.state.Entries,
	} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return b
}

func parseAccount(b []byte) (*account, error) {
	if len(b) != accountSize {
		return nil, fmt.Errorf("%w: an account of %d bytes", errStored, len(b))
	}
	n := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[8+8*i:])) }
	return &account{
		number: binary.BigEndian.Uint32(b),
		totals: totals{last: journal.Position(n(0)), state: credit.State{
			Rest: binary.BigEndian.Uint32(b[4:]), Balance: credit.Amount(n(1)), Leased: n(2), Served: n(3),
			Attested: n(4), Earned: n(5), Proven: n(6), Entries: n(7),
		}},
	}, nil
}

// loadAccount returns nil if there is no such account.
func loadAccount(tx *bbolt.Tx, a credit.Account) (*account, error) {
	b := tx.Bucket(accountBucket).Get([]byte(a))
	if b == nil {
		return nil, nil //nolint:nilnil // no account is no error
	}
	return parseAccount(b)
}

func numberKey(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
func seqKey(n uint64) []byte    { return binary.BigEndian.AppendUint64(nil, n) }

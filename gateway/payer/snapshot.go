package payer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"inos.dev/edge/cas"
	"inos.dev/edge/mesh"
)

// File is the name of the snapshot in a data directory. It may be deleted at
// any time that the node does not run.
const File = "payers.snapshot"

// The snapshot. Numbers are big-endian; whatever does not fit is no snapshot.
//
//	8       "inospay1"
//	8       the catalog's count of changes
//	4       owners, each: length in 1 byte, text
//	4       policies, each: rf 2, max_rf 2, tier 1, price cap 8
//	4       objects, by number, each: hash 32, created 8, expires 8, owner 4, policy 4, 1 if it shares a chunk
//	8       entries, each: first 8 bytes of a hash, number 4 with its flag
//	4       CRC-32C of all that
const (
	snapshotMagic = "inospay1"
	policySize    = 13
)

var errSnapshot = errors.New("it is damaged")

// tiers are their numbers in a snapshot.
func tiers() []mesh.Tier { return []mesh.Tier{mesh.AnyTier, mesh.Hot, mesh.Cold} }

// Close writes the snapshot, if the table says all that the catalog does.
// Nobody may change anything any longer, and Run has returned.
func (t *Table) Close() error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.cfg.Dir == "" || t.asked != t.done || t.pending > 0 || len(t.dead) > 0 {
		return nil
	}
	changes, err := t.cfg.Catalog.Changes(context.Background())
	if err == nil {
		err = t.saveLocked(changes)
	}
	if err != nil {
		return fmt.Errorf("payer: keep the snapshot: %w", err)
	}
	return nil
}

// saveLocked replaces the file: written, synced, renamed, its directory synced.
// A crash leaves the old one, whose count of changes is another, or the new.
func (t *Table) saveLocked(changes uint64) error {
	f, err := os.CreateTemp(t.cfg.Dir, "."+File+"-*") // 0600
	if err != nil {
		return err
	}
	w := &snapshotWriter{w: f}
	t.writeLocked(w, changes)
	err = errors.Join(w.finish(), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(t.cfg.Dir, File))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(t.cfg.Dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (t *Table) writeLocked(w *snapshotWriter, changes uint64) {
	w.bytes([]byte(snapshotMagic))
	w.uint64(changes)
	w.uint32(uint32(len(t.objects.owners.values)))
	for _, s := range t.objects.owners.values {
		w.byte(byte(len(s)))
		w.bytes([]byte(s))
	}
	w.uint32(uint32(len(t.objects.policies.values)))
	for _, p := range t.objects.policies.values {
		w.uint32(uint32(p.RF)<<16 | uint32(p.MaxRF))
		for i, tier := range tiers() {
			if tier == p.Tier {
				w.byte(byte(i))
			}
		}
		w.uint64(uint64(p.PriceCap))
	}
	w.uint32(t.objects.next)
	for n := range t.objects.next {
		e := t.objects.at(n)
		w.bytes(e.hash[:])
		w.uint64(uint64(e.created))
		w.uint64(uint64(e.expires))
		w.uint32(e.owner)
		w.uint32(e.policy)
		shared := byte(0)
		if t.objects.shared.has(n) {
			shared = 1
		}
		w.byte(shared)
	}
	w.uint64(uint64(t.index.chunks + t.objects.count))
	for i := range t.index.shards {
		for _, e := range t.index.shards[i].slots {
			if e.number != 0 {
				w.uint64(e.prefix())
				w.uint32(e.number)
			}
		}
	}
}

// load reads the snapshot, if there is one that fits the catalog. One that does
// not is removed, so that it cannot fit by chance some day.
func (t *Table) load(ctx context.Context) (fits bool, err error) {
	if t.cfg.Dir == "" {
		return false, nil
	}
	path := filepath.Join(t.cfg.Dir, File)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("payer: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return false, errors.Join(fmt.Errorf("payer: %w", err), f.Close())
	}
	changes, err := t.cfg.Catalog.Changes(ctx)
	if err != nil {
		return false, errors.Join(err, f.Close())
	}
	read, index, objects, why := readSnapshot(f, info.Size())
	if why == nil && read != changes {
		why = fmt.Errorf("it is of change %d, the catalog is at %d", read, changes)
	}
	if err := f.Close(); err != nil {
		return false, fmt.Errorf("payer: %w", err)
	}
	if why != nil {
		t.cfg.Logger.Info("all objects are walked to see who pays", "snapshot", path, "reason", why)
		return false, os.Remove(path)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.index, t.objects = *index, *objects
	return true, nil
}

// readSnapshot reads a file of size bytes.
func readSnapshot(f io.Reader, size int64) (changes uint64, x *index, o *objects, err error) {
	r := &snapshotReader{r: bufio.NewReaderSize(f, 1<<16), left: size}
	x, o = &index{}, &objects{}
	if string(r.bytes(len(snapshotMagic))) != snapshotMagic {
		return 0, nil, nil, errSnapshot
	}
	changes = r.uint64()
	for range r.count(uint64(r.uint32()), 1) {
		o.owners.values = append(o.owners.values, string(r.bytes(int(r.byte()))))
	}
	for range r.count(uint64(r.uint32()), policySize) {
		rf, tier, price := r.uint32(), r.byte(), int64(r.uint64())
		if int(tier) >= len(tiers()) {
			return 0, nil, nil, errSnapshot
		}
		o.policies.values = append(o.policies.values, mesh.Policy{RF: int(rf >> 16), MaxRF: int(rf & 0xffff), Tier: tiers()[tier], PriceCap: price})
	}
	if err := readObjects(r, o); err != nil {
		return 0, nil, nil, err
	}
	for range r.count(r.uint64(), slotSize) {
		p, number := r.uint64(), r.uint32()
		n := number&^objectFlag - 1
		if number&^objectFlag == 0 || n >= o.next || !o.live(n) {
			return 0, nil, nil, errSnapshot
		}
		x.add(p, number >= objectFlag, n)
	}
	return changes, x, o, r.finish()
}

// readObjects reads the objects. Numbers without one are free again.
func readObjects(r *snapshotReader, o *objects) error {
	o.owners.uses = make([]uint32, len(o.owners.values))
	o.policies.uses = make([]uint32, len(o.policies.values))
	var free []uint32
	for range r.count(uint64(r.uint32()), objectSize+1) {
		n, ok := o.number()
		h := cas.Hash(r.bytes(cas.HashSize)) // before the next bytes come
		e := object{hash: h, created: int64(r.uint64()), expires: int64(r.uint64()), owner: r.uint32(), policy: r.uint32()}
		shared := r.byte() == 1
		if !ok || int(e.owner) >= len(o.owners.values) && e.created != 0 || int(e.policy) >= len(o.policies.values) && e.created != 0 {
			return errSnapshot
		}
		if e.created == 0 {
			free = append(free, n)
			continue
		}
		*o.at(n) = e
		o.owners.uses[e.owner]++
		o.policies.uses[e.policy]++
		o.count++
		if shared {
			o.shared.set(n)
		}
	}
	o.free = free
	o.owners.restore()
	o.policies.restore()
	return nil
}

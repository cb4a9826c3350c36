package payer

import (
	"bytes"
	"cmp"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/mesh"
)

// object is what is known of one object, in 56 bytes without a pointer.
type object struct {
	hash    cas.Hash
	created int64  // microseconds since 1970; 0: it is gone, or there has never been one
	expires int64  // likewise; 0: never
	owner   uint32 // see objects.owners
	policy  uint32 // see objects.policies: without its time
}

const (
	objectSize = 56
	blockSize  = 1024
)

// objects are kept by number, in blocks, so that a table that grows does not
// move them while readers wait. Not safe for use at the same time.
type objects struct {
	blocks   []*[blockSize]object
	next     uint32   // the first number that was never given away
	free     []uint32 // numbers below it that nobody has
	shared   bitmap   // objects that link a chunk which another one links too
	count    int      // live objects
	owners   pool[string]
	policies pool[mesh.Policy]
}

func (o *objects) at(n uint32) *object { return &o.blocks[n/blockSize][n%blockSize] }

func (o *objects) live(n uint32) bool { return o.at(n).created != 0 }

// is reports whether n is the number of the live object h.
func (o *objects) is(n uint32, h cas.Hash) bool { return o.live(n) && o.at(n).hash == h }

// read writes what is known of number n into r. It is false if the object is
// gone.
func (o *objects) read(n uint32, r *Ref) bool {
	e := o.at(n)
	if e.created == 0 {
		return false
	}
	r.Object, r.Owner, r.Policy = e.hash, o.owners.values[e.owner], o.policies.values[e.policy]
	if e.expires != 0 {
		r.Policy.Expires = time.UnixMicro(e.expires).UTC()
	}
	return true
}

// older reports whether a has been published before b.
func (o *objects) older(a, b uint32) bool {
	x, y := o.at(a), o.at(b)
	return cmp.Or(cmp.Compare(x.created, y.created), bytes.Compare(x.hash[:], y.hash[:])) < 0
}

// number gives a number away. ok is false if there is none left.
func (o *objects) number() (n uint32, ok bool) {
	if last := len(o.free) - 1; last >= 0 {
		n, o.free = o.free[last], o.free[:last]
		return n, true
	}
	if o.next > maxNumber {
		return 0, false
	}
	if o.next%blockSize == 0 {
		o.blocks = append(o.blocks, new([blockSize]object))
	}
	o.next++
	return o.next - 1, true
}

// set notes a record under a number.
func (o *objects) set(n uint32, r *catalog.Record) {
	e := o.at(n)
	old := *e
	policy := r.Policy
	policy.Expires = time.Time{}
	*e = object{hash: r.Hash, created: r.Created.UnixMicro(), owner: o.owners.take(r.Owner), policy: o.policies.take(policy)}
	if !r.Policy.Expires.IsZero() {
		e.expires = r.Policy.Expires.UnixMicro()
	}
	if old.created == 0 {
		o.count++
		return
	}
	o.owners.give(old.owner)
	o.policies.give(old.policy)
}

// kill takes an object away. Its number is not free by that.
func (o *objects) kill(n uint32) {
	e := o.at(n)
	o.owners.give(e.owner)
	o.policies.give(e.policy)
	*e = object{}
	o.shared.clear(n)
	o.count--
}

// bytes is the memory of all that. What an owner or a policy takes is a guess.
func (o *objects) bytes() int64 {
	const each = 128
	return int64(len(o.blocks))*blockSize*objectSize + int64(cap(o.free))*4 + int64(len(o.shared))*8 +
		int64(len(o.owners.values)+len(o.policies.values))*each
}

// pool keeps each value once, under a number.
type pool[T comparable] struct {
	values  []T
	uses    []uint32
	numbers map[T]uint32
	free    []uint32
}

// take returns the number of a value, for one more use.
func (p *pool[T]) take(v T) uint32 {
	if n, ok := p.numbers[v]; ok {
		p.uses[n]++
		return n
	}
	if p.numbers == nil {
		p.numbers = make(map[T]uint32)
	}
	var n uint32
	if last := len(p.free) - 1; last >= 0 {
		n, p.free = p.free[last], p.free[:last]
		p.values[n], p.uses[n] = v, 1
	} else {
		n = uint32(len(p.values))
		p.values, p.uses = append(p.values, v), append(p.uses, 1)
	}
	p.numbers[v] = n
	return n
}

// give ends one use of a value.
func (p *pool[T]) give(n uint32) {
	if p.uses[n]--; p.uses[n] > 0 {
		return
	}
	var none T
	delete(p.numbers, p.values[n])
	p.values[n] = none
	p.free = append(p.free, n)
}

// restore makes the rest of a pool out of its values and how often they are
// used.
func (p *pool[T]) restore() {
	p.numbers = make(map[T]uint32, len(p.values))
	for n, uses := range p.uses {
		if uses == 0 {
			p.free = append(p.free, uint32(n))
			continue
		}
		p.numbers[p.values[n]] = uint32(n)
	}
}

// bitmap is a set of numbers.
type bitmap []uint64

func (b *bitmap) set(n uint32) {
	for int(n/64) >= len(*b) {
		*b = append(*b, 0)
	}
	(*b)[n/64] |= 1 << (n % 64)
}

func (b bitmap) clear(n uint32) {
	if int(n/64) < len(b) {
		b[n/64] &^= 1 << (n % 64)
	}
}

func (b bitmap) has(n uint32) bool { return int(n/64) < len(b) && b[n/64]&(1<<(n%64)) != 0 }

package heat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"inos.dev/edge/cas"
)

// What is written here is read by heat.lua, and the other way round. All
// numbers are big-endian, times are microseconds since 1970.
//
//	delta      chunk 32 · bytes 8
//	proposal   chunk 32 · epoch 8 · life 8 · moves 8 · changes 1 · length 4 · terms
//	known      chunk 32 · length 4 · decision
//	rate       chunk 32 · fast 8 · slow 8 · length 4 · decision, or length 0: none
//	decision   epoch 8 · time 8 · expires 8 · terms
//	terms      target 4 · previous 4 · rf 4 · max_rf 4 · size 8 · rate 8 · moves 8
//	           · length 1 · reason · length 1 · node
//
// Terms pass through the store as they are. A later version may append fields.

var errWire = errors.New("heat: the answer of the store cannot be read")

var order = binary.BigEndian

func appendDeltas(b []byte, deltas []Delta) []byte {
	for _, d := range deltas {
		if d.Bytes > 0 {
			b = order.AppendUint64(append(b, d.Chunk[:]...), uint64(d.Bytes))
		}
	}
	return b
}

func appendProposals(b []byte, proposals []Decision, node string) []byte {
	for _, d := range proposals {
		d.Node = node
		b = order.AppendUint64(append(b, d.Chunk[:]...), d.Epoch)
		b = order.AppendUint64(b, uint64(max(d.Expires.Sub(d.Time).Microseconds(), 0)))
		b = order.AppendUint64(b, uint64(max(d.Moves, 0)))
		changes := byte(0)
		if d.Target != d.Previous {
			changes = 1
		}
		b = appendSized(append(b, changes), appendTerms(nil, d))
	}
	return b
}

func appendKnown(b []byte, known []Decision) []byte {
	for _, d := range known {
		value := order.AppendUint64(nil, d.Epoch)
		value = order.AppendUint64(value, uint64(d.Time.UnixMicro()))
		value = order.AppendUint64(value, uint64(d.Expires.UnixMicro()))
		b = appendSized(append(b, d.Chunk[:]...), appendTerms(value, d))
	}
	return b
}

func appendSized(b, value []byte) []byte {
	return append(order.AppendUint32(b, uint32(len(value))), value...)
}

func appendTerms(b []byte, d Decision) []byte {
	for _, n := range []int{d.Target, d.Previous, d.Policy.RF, d.Policy.MaxRF} {
		b = order.AppendUint32(b, uint32(min(max(n, 0), math.MaxInt32)))
	}
	b = order.AppendUint64(b, uint64(d.Policy.Size))
	b = order.AppendUint64(b, math.Float64bits(d.Rate))
	b = order.AppendUint64(b, uint64(d.Moves))
	for _, s := range []string{string(d.Reason), d.Node} {
		s = s[:min(len(s), maxName)]
		b = append(append(b, byte(len(s))), s...)
	}
	return b
}

// reader takes fields off the front of a record. After the first that is not
// there it only returns zeros, and failed is true.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.b, r.failed = nil, true
		return make([]byte, min(n, 32)) // nobody takes more without having the bytes
	}
	field := r.b[:n:n]
	r.b = r.b[n:]
	return field
}

func (r *reader) u8() int          { return int(r.take(1)[0]) }
func (r *reader) u32() int         { return int(order.Uint32(r.take(4))) }
func (r *reader) u64() uint64      { return order.Uint64(r.take(8)) }
func (r *reader) f64() float64     { return math.Float64frombits(r.u64()) }
func (r *reader) micro() time.Time { return time.UnixMicro(int64(r.u64())).UTC() }
func (r *reader) chunk() cas.Hash  { return cas.Hash(r.take(cas.HashSize)) }
func (r *reader) text() string     { return strings.ToValidUTF8(string(r.take(r.u8())), "") }

// parseRates reads records of rates.
func parseRates(b []byte) ([]Rate, error) {
	var rates []Rate
	for r := (&reader{b: b}); len(r.b) > 0; {
		rate := Rate{Chunk: r.chunk(), Fast: r.f64(), Slow: r.f64()}
		value := r.take(r.u32())
		if r.failed {
			return nil, fmt.Errorf("%w: a rate is cut off", errWire)
		}
		if len(value) > 0 {
			d, err := parseDecision(rate.Chunk, value)
			if err != nil {
				return nil, err
			}
			rate.Decision = d
		}
		rates = append(rates, rate)
	}
	return rates, nil
}

// parseDecision reads a decision about a chunk.
func parseDecision(chunk cas.Hash, b []byte) (Decision, error) {
	r := &reader{b: b}
	d := Decision{Chunk: chunk, Epoch: r.u64(), Time: r.micro(), Expires: r.micro(), Target: r.u32(), Previous: r.u32()}
	d.Policy = Policy{RF: r.u32(), MaxRF: r.u32(), Size: int64(r.u64())}
	d.Rate, d.Moves = r.f64(), int64(r.u64())
	d.Reason, d.Node = Reason(r.text()), r.text()
	possible := max(d.Target, d.Previous, d.Policy.RF, d.Policy.MaxRF) <= math.MaxInt32 && d.Policy.Size >= 0 && d.Moves >= 0
	if r.failed || d.Epoch == 0 || !possible {
		return Decision{}, fmt.Errorf("%w: no decision about %v", errWire, chunk)
	}
	return d, nil
}

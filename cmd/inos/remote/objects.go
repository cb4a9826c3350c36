package remote

import (
	"context"
	"fmt"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"inos.dev/edge/cas"
	casv1 "inos.dev/edge/proto/gen/inos/cas/v1"
)

// Object is one object on a node's list.
type Object struct {
	Hash      cas.Hash
	Kind      cas.Kind
	Size      int64 // raw bytes; of a directory, of all its files
	Encoded   int64 // stored bytes of all its pieces
	Chunks    int64 // pieces
	MediaType string
	Name      string // what its oldest owner calls it; a hint, perhaps empty
	Committed time.Time
	Policy    Policy // what keeps the promises to all its owners
	Owner     string // the oldest one; empty if the node does not tell
	Owners    int    // how many have it published
}

// Policy is how an object is to be kept. Zero values mean the node's
// defaults; a zero Expires means never.
type Policy struct {
	RF, MaxRF int
	Tier      Tier
	Expires   time.Time
	PriceCap  int64 // the most that the owner pays for a GiB, in micro-credits; 0: no limit
}

// Tier is where durable copies are to live: "", "hot" or "cold". The empty
// Tier leaves it to the node.
type Tier string

// The tiers.
const (
	TierHot  Tier = "hot"
	TierCold Tier = "cold"
)

// pageSize is the most objects that one ListObjects gives.
const pageSize = 1000

// call is one unary method of the service.
func call[Q, R any](ctx context.Context, n *Node, method func(context.Context, *Q) (*R, error), req *Q) (*R, error) {
	var resp *R
	err := n.retry(ctx, func(ctx context.Context) (err error) {
		if resp, err = method(ctx, req); err != nil {
			return n.callError(err)
		}
		n.reached.Store(true)
		return nil
	})
	return resp, err
}

// Commit puts an object on the node's list; its chunks are there. A zero
// policy, and an empty name, keep what is set. Errors: ErrIncomplete, ErrNoRight,
// cas.ErrNotObject.
func (n *Node) Commit(ctx context.Context, h cas.Hash, name string, p Policy) (o Object, created bool, err error) {
	req := &casv1.CommitRequest{Hash: h.String(), Name: name}
	if p != (Policy{}) {
		req.Policy = encodePolicy(p)
	}
	resp, err := call(ctx, n, n.rpc.Commit, req)
	if err != nil {
		return Object{}, false, fmt.Errorf("object %s: %w", h, err)
	}
	if o, err = decodeObject(resp.GetObject()); err != nil {
		return Object{}, false, err
	}
	if o.Hash != h {
		return Object{}, false, fmt.Errorf("%w: the node committed %s instead of %s", cas.ErrHashMismatch, o.Hash, h)
	}
	return o, resp.GetCreated(), nil
}

// Object returns one object of the node's list, or cas.ErrNotFound.
func (n *Node) Object(ctx context.Context, h cas.Hash) (Object, error) {
	resp, err := call(ctx, n, n.rpc.GetObject, &casv1.GetObjectRequest{Hash: h.String()})
	if err != nil {
		return Object{}, fmt.Errorf("object %s: %w", h, err)
	}
	return decodeObject(resp.GetObject())
}

// Delete takes an object off the node's list, or cas.ErrNotFound.
func (n *Node) Delete(ctx context.Context, h cas.Hash) error {
	if _, err := call(ctx, n, n.rpc.DeleteObject, &casv1.DeleteObjectRequest{Hash: h.String()}); err != nil {
		return fmt.Errorf("object %s: %w", h, err)
	}
	return nil
}

// Objects lists the node's objects in the order of their hashes, page by page.
func (n *Node) Objects(ctx context.Context) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		var last cas.Hash
		token := ""
		for {
			resp, err := call(ctx, n, n.rpc.ListObjects, &casv1.ListObjectsRequest{PageSize: pageSize, PageToken: token})
			if err != nil {
				yield(Object{}, err)
				return
			}
			for _, m := range resp.GetObjects() {
				o, err := decodeObject(m)
				if err == nil && string(o.Hash[:]) <= string(last[:]) {
					err = fmt.Errorf("%w: the node's list is out of order", ErrRefused)
				}
				if !yield(o, err) || err != nil {
					return
				}
				last = o.Hash
			}
			if token = resp.GetNextPageToken(); token == "" {
				return
			}
			if len(resp.GetObjects()) == 0 {
				yield(Object{}, fmt.Errorf("%w: a page of its list is empty and not the last", ErrRefused))
				return
			}
		}
	}
}

// Info is what a node says of itself.
type Info struct {
	Version             string
	Uptime              time.Duration
	Chunks, Bytes, Free int64
	Objects             int64
}

// Info asks the node about itself.
func (n *Node) Info(ctx context.Context) (Info, error) {
	r, err := call(ctx, n, n.rpc.GetNode, &casv1.GetNodeRequest{})
	if err != nil {
		return Info{}, err
	}
	return Info{Version: r.GetVersion(), Uptime: r.GetUptime().AsDuration(), Chunks: r.GetChunks(),
		Bytes: r.GetBytes(), Free: r.GetFree(), Objects: r.GetObjects()}, nil
}

func encodePolicy(p Policy) *casv1.Policy {
	m := &casv1.Policy{Rf: uint32(p.RF), MaxRf: uint32(p.MaxRF), PriceCap: p.PriceCap}
	switch p.Tier {
	case TierHot:
		m.Tier = casv1.Tier_TIER_HOT
	case TierCold:
		m.Tier = casv1.Tier_TIER_COLD
	}
	if !p.Expires.IsZero() {
		m.ExpireTime = timestamppb.New(p.Expires)
	}
	return m
}

func decodePolicy(m *casv1.Policy) Policy {
	p := Policy{RF: int(m.GetRf()), MaxRF: int(m.GetMaxRf()), Expires: decodeTime(m.GetExpireTime()), PriceCap: m.GetPriceCap()}
	switch m.GetTier() {
	case casv1.Tier_TIER_HOT:
		p.Tier = TierHot
	case casv1.Tier_TIER_COLD:
		p.Tier = TierCold
	case casv1.Tier_TIER_UNSPECIFIED:
	}
	return p
}

func decodeTime(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func decodeObject(m *casv1.Object) (Object, error) {
	h, err := cas.ParseHash(m.GetHash())
	if err != nil {
		return Object{}, fmt.Errorf("the node's answer: %w", err)
	}
	o := Object{Hash: h, Size: m.GetSize(), Encoded: m.GetEncoded(), Chunks: m.GetChunks(),
		MediaType: printable(m.GetMediaType()), Name: printable(m.GetName()), Committed: decodeTime(m.GetCommitTime()), Policy: decodePolicy(m.GetPolicy()),
		Owner: printable(m.GetOwner()), Owners: int(m.GetPublications())}
	switch m.GetKind() {
	case casv1.ObjectKind_OBJECT_KIND_FILE:
		o.Kind = cas.KindFile
	case casv1.ObjectKind_OBJECT_KIND_DIRECTORY:
		o.Kind = cas.KindDirectory
	case casv1.ObjectKind_OBJECT_KIND_UNSPECIFIED, casv1.ObjectKind_OBJECT_KIND_NODE:
		return Object{}, fmt.Errorf("%w: the node lists %s, which is no object", ErrRefused, h)
	}
	return o, nil
}

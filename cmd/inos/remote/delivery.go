package remote

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"inos.dev/edge/cas"
	"inos.dev/edge/mesh"
	creditv1 "inos.dev/edge/proto/gen/inos/credit/v1"
)

// deliveryHeader names the delivery on the requests that belong to it.
const deliveryHeader = "Inos-Delivery"

// Delivery counts what a client receives, so that it can confirm it. Its
// methods may be called at the same time.
type Delivery struct {
	node   *Node
	secret mesh.Secret
	nonce  mesh.Nonce
	server mesh.Key

	mu     sync.Mutex
	bytes  int64    // guarded by mu
	chunks cas.Hash // guarded by mu; see mesh.Chain
	count  int      // guarded by mu: chunks in the list
}

// OpenDelivery opens a delivery, and every chunk that the node sends from now
// on counts in it. One that is open already is left.
func (n *Node) OpenDelivery(ctx context.Context, secret mesh.Secret) (*Delivery, error) {
	resp, err := call(ctx, n, n.credits.OpenDelivery, &creditv1.OpenDeliveryRequest{Client: secret.Public().String()})
	if err != nil {
		return nil, fmt.Errorf("open a delivery: %w", err)
	}
	d := &Delivery{node: n, secret: secret}
	if d.nonce, err = mesh.ParseNonce(resp.GetNonce()); err != nil {
		return nil, fmt.Errorf("%w: its delivery: %w", ErrRefused, err)
	}
	if d.server, err = mesh.ParseKey(resp.GetServer()); err != nil {
		return nil, fmt.Errorf("%w: its delivery: %w", ErrRefused, err)
	}
	n.delivery.Store(d)
	return d, nil
}

// received counts a chunk that came whole and is what it should be.
func (d *Delivery) received(h cas.Hash, bytes int64) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bytes += bytes
	d.chunks = mesh.Chain(d.chunks, h)
	d.count++
}

// Chunks is how many chunks came so far.
func (d *Delivery) Chunks() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count
}

// A node counts an answer when its connection has taken it, and may hear of the
// receipt a moment before: it is then asked again, a few times.
const (
	confirmTries = 4
	confirmPause = 250 * time.Millisecond
)

// Confirm signs a receipt for all that came so far, and returns what the node
// made of it, countersigned. What comes later can be confirmed again. Errors:
// cas.ErrCorrupt if the node did not sign what it was sent.
func (d *Delivery) Confirm(ctx context.Context) (mesh.Countersigned, error) {
	d.mu.Lock()
	receipt := mesh.Receipt{Nonce: d.nonce, Server: d.server, Bytes: d.bytes, Chunks: d.chunks, Time: time.Now()}
	d.mu.Unlock()
	receipt, err := d.secret.SignReceipt(receipt)
	if err != nil {
		return mesh.Countersigned{}, err
	}
	for try := 1; ; try++ {
		c, err := d.submit(ctx, receipt)
		if err != nil || c.Counted >= receipt.Bytes || try == confirmTries {
			return c, err
		}
		if err := sleep(ctx, confirmPause); err != nil {
			return mesh.Countersigned{}, err
		}
	}
}

func (d *Delivery) submit(ctx context.Context, receipt mesh.Receipt) (mesh.Countersigned, error) {
	resp, err := call(ctx, d.node, d.node.credits.SubmitReceipt, &creditv1.SubmitReceiptRequest{Receipt: encodeReceipt(receipt)})
	if err != nil {
		return mesh.Countersigned{}, fmt.Errorf("receipt: %w", err)
	}
	return decodeCountersigned(receipt, resp.GetReceipt())
}

func encodeReceipt(r mesh.Receipt) *creditv1.Receipt {
	return &creditv1.Receipt{
		Nonce: r.Nonce.String(), Client: r.Client.String(), Server: r.Server.String(), Bytes: r.Bytes, Chunks: r.Chunks.String(),
		Time: timestamppb.New(r.Time), Signature: r.Signature[:],
	}
}

// decodeCountersigned accepts nothing but the node's signature below the
// receipt that was sent.
func decodeCountersigned(sent mesh.Receipt, m *creditv1.Countersigned) (mesh.Countersigned, error) {
	c := mesh.Countersigned{Receipt: sent, Counted: m.GetCountedBytes(), Attested: m.GetAttestedBytes(), Time: m.GetTime().AsTime()}
	if len(m.GetSignature()) != mesh.SignatureSize {
		return mesh.Countersigned{}, fmt.Errorf("%w: the node did not sign the receipt", cas.ErrCorrupt)
	}
	c.Signature = mesh.Signature(m.GetSignature())
	if err := c.Verify(); err != nil {
		return mesh.Countersigned{}, fmt.Errorf("%w: the node signed something else than the receipt: %w", cas.ErrCorrupt, err)
	}
	return c, nil
}

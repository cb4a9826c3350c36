package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/timestamppb"

	"inos.dev/edge/cas"
	"inos.dev/edge/cmd/inos/remote/remotetest"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/mesh"
	creditv1 "inos.dev/edge/proto/gen/inos/credit/v1"
	"inos.dev/edge/proto/gen/inos/credit/v1/creditv1connect"
	heatv1 "inos.dev/edge/proto/gen/inos/heat/v1"
	"inos.dev/edge/proto/gen/inos/heat/v1/heatv1connect"
)

// bank answers what a test has it answer.
type bank struct {
	creditv1connect.UnimplementedCreditServiceHandler
	heatv1connect.UnimplementedHeatServiceHandler
	fail     error
	accounts *creditv1.ListAccountsResponse
	lines    *creditv1.GetStatementResponse
	pledges  *creditv1.ListPledgesResponse
	hot      *heatv1.ListHotResponse
	keys     []string // of grants
	lost     int      // so many answers to grants
	open     *creditv1.OpenDeliveryResponse
	receipt  func(*creditv1.Receipt) *creditv1.Countersigned
}

func (b *bank) ListAccounts(context.Context, *creditv1.ListAccountsRequest) (*creditv1.ListAccountsResponse, error) {
	return b.accounts, b.fail
}

func (b *bank) GetStatement(context.Context, *creditv1.GetStatementRequest) (*creditv1.GetStatementResponse, error) {
	return b.lines, b.fail
}

func (b *bank) ListPledges(context.Context, *creditv1.ListPledgesRequest) (*creditv1.ListPledgesResponse, error) {
	return b.pledges, b.fail
}

func (b *bank) ListHot(context.Context, *heatv1.ListHotRequest) (*heatv1.ListHotResponse, error) {
	return b.hot, b.fail
}

func (b *bank) Grant(_ context.Context, req *creditv1.GrantRequest) (*creditv1.GrantResponse, error) {
	b.keys = append(b.keys, req.GetIdempotencyKey())
	if b.lost--; b.lost >= 0 {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("the answer is lost"))
	}
	return &creditv1.GrantResponse{Account: &creditv1.Account{Account: req.GetAccount()}}, nil
}

func (b *bank) OpenDelivery(context.Context, *creditv1.OpenDeliveryRequest) (*creditv1.OpenDeliveryResponse, error) {
	return b.open, b.fail
}

func (b *bank) SubmitReceipt(_ context.Context, req *creditv1.SubmitReceiptRequest) (*creditv1.SubmitReceiptResponse, error) {
	return &creditv1.SubmitReceiptResponse{Receipt: b.receipt(req.GetReceipt())}, nil
}

// serveBank starts a node with these services, and next for the rest.
func serveBank(t *testing.T, b *bank, next http.Handler) *Node {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(creditv1connect.NewCreditServiceHandler(b))
	mux.Handle(heatv1connect.NewHeatServiceHandler(b))
	if next != nil {
		mux.Handle("/", next)
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return dial(t, server.URL, Config{})
}

// TestListsBelieveNothing: lists that do not end, or hold something else, are
// errors.
func TestListsBelieveNothing(t *testing.T) {
	bad := &bank{
		accounts: &creditv1.ListAccountsResponse{NextPageToken: "again"},
		lines:    &creditv1.GetStatementResponse{Lines: []*creditv1.StatementLine{{Object: "no hash"}}},
		pledges:  &creditv1.ListPledgesResponse{Pledges: []*creditv1.Pledge{{Object: "no hash"}}},
		hot:      &heatv1.ListHotResponse{Chunks: []*heatv1.HotChunk{{Hash: "no hash"}}},
	}
	n := serveBank(t, bad, nil)
	for name, list := range map[string]func() error{
		"accounts": func() (err error) {
			for _, err = range n.Accounts(t.Context()) {
			}
			return err
		},
		"statement": func() error { _, err := n.Statement(t.Context(), "", "", 9); return err },
		"pledges": func() (err error) {
			for _, err = range n.Pledges(t.Context(), "", false) {
			}
			return err
		},
		"heat": func() error { _, err := n.Hot(t.Context(), 9); return err },
	} {
		if err := list(); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestGrantIsRepeated with the same key, so that it is made once.
func TestGrantIsRepeated(t *testing.T) {
	b := &bank{lost: 2}
	n := serveBank(t, b, nil)
	if _, _, err := n.Grant(t.Context(), "user:x", 1, "", "the-key-of-it"); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(b.keys) != "[the-key-of-it the-key-of-it the-key-of-it]" {
		t.Errorf("%v", b.keys)
	}
}

func TestErrorsOfBooks(t *testing.T) {
	for reason, want := range map[string]error{
		"UNDERFUNDED": credit.ErrUnderfunded, "PUBLISHER_OUT_OF_CREDIT": credit.ErrOutOfCredit, "NOT_AN_ACCOUNT": credit.ErrAccount, "FORBIDDEN": ErrNoRight,
	} {
		fail := connect.NewError(connect.CodeFailedPrecondition, errors.New("because"))
		info, err := connect.NewErrorDetail(&errdetails.ErrorInfo{Reason: reason})
		if err != nil {
			t.Fatal(err)
		}
		fail.AddDetail(info)
		_, err = serveBank(t, &bank{fail: fail}, nil).Statement(t.Context(), "", "", 1)
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", reason, err)
		}
	}
}

// TestOlderNode: one without these services says so, and is not asked again.
func TestOlderNode(t *testing.T) {
	n := dial(t, remotetest.New(t).URL, Config{})
	_, balance := n.Balance(t.Context(), "")
	_, status := n.HeatStatus(t.Context())
	for _, err := range []error{balance, status} {
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "does not offer this") {
			t.Error(err)
		}
	}
}

// TestDelivery: chunks that came whole are confirmed, and no other ones; the
// node hears of the delivery with each.
func TestDelivery(t *testing.T) {
	client, node := newSecret(t), newSecret(t)
	nonce := mesh.NewNonce()
	counted := atomic.Int64{}
	b := &bank{
		open: &creditv1.OpenDeliveryResponse{Nonce: nonce.String(), Server: node.Public().String()},
		receipt: func(r *creditv1.Receipt) *creditv1.Countersigned {
			return countersign(t, node, r, counted.Load(), min(counted.Load(), r.GetBytes()))
		},
	}
	store := remotetest.New(t)
	var late atomic.Int64 // bytes of the last chunk, which is counted after its receipt
	n := serveBank(t, b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get(deliveryHeader); got != nonce.String() {
			t.Errorf("%s: delivery %q", r.URL, got)
		}
		store.Config.Handler.ServeHTTP(w, r)
	}))
	d, err := n.OpenDelivery(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	var list cas.Hash
	var bytes int64
	for i := range 3 {
		c := chunkOf(t, fmt.Appendf(nil, "chunk %d", i))
		if _, err := store.Store.Put(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Chunk(t.Context(), c.Hash()); err != nil {
			t.Fatal(err)
		}
		list, bytes = mesh.Chain(list, c.Hash()), bytes+c.Size()
		late.Store(c.Size())
	}
	if _, err := n.Chunk(t.Context(), cas.Sum([]byte("none"))); !errors.Is(err, cas.ErrNotFound) {
		t.Fatal(err)
	}
	counted.Store(bytes - late.Load())
	inner := b.receipt
	b.receipt = func(r *creditv1.Receipt) *creditv1.Countersigned {
		defer counted.Store(bytes)
		return inner(r)
	}
	got, err := d.Confirm(t.Context())
	if err != nil || got.Receipt.Bytes != bytes || got.Receipt.Chunks != list || got.Attested != bytes || d.Chunks() != 3 {
		t.Errorf("%+v, %d chunks, %v; want %d bytes of %s", got, d.Chunks(), err, bytes, list)
	}
}

// TestCountersignatures: nothing passes for one that is none.
func TestCountersignatures(t *testing.T) {
	client, node := newSecret(t), newSecret(t)
	good := &creditv1.OpenDeliveryResponse{Nonce: mesh.NewNonce().String(), Server: node.Public().String()}
	for name, answer := range map[string]func(*creditv1.Receipt) *creditv1.Countersigned{
		"nothing": func(*creditv1.Receipt) *creditv1.Countersigned { return nil },
		"another node": func(r *creditv1.Receipt) *creditv1.Countersigned {
			return countersign(t, newSecret(t), r, 0, 0)
		},
		"other numbers": func(r *creditv1.Receipt) *creditv1.Countersigned {
			c := countersign(t, node, r, 0, 0)
			c.CountedBytes++
			return c
		},
		"another receipt": func(r *creditv1.Receipt) *creditv1.Countersigned {
			r.Time = timestamppb.New(r.GetTime().AsTime().Add(time.Second))
			return countersign(t, node, r, 0, 0)
		},
	} {
		d, err := serveBank(t, &bank{open: good, receipt: answer}, nil).OpenDelivery(t.Context(), client)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := d.Confirm(t.Context()); !errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	for name, open := range map[string]*creditv1.OpenDeliveryResponse{
		"no nonce": {Server: good.GetServer()}, "no key": {Nonce: good.GetNonce()},
	} {
		if _, err := serveBank(t, &bank{open: open}, nil).OpenDelivery(t.Context(), client); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func newSecret(t *testing.T) mesh.Secret {
	t.Helper()
	s, err := mesh.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// countersign signs whatever receipt came, in the name of its own server.
func countersign(t *testing.T, node mesh.Secret, r *creditv1.Receipt, counted, attested int64) *creditv1.Countersigned {
	t.Helper()
	nonce, err := mesh.ParseNonce(r.GetNonce())
	if err != nil {
		t.Error(err)
	}
	client, err := mesh.ParseKey(r.GetClient())
	if err != nil {
		t.Error(err)
	}
	chunks, err := cas.ParseHash(r.GetChunks())
	if err != nil {
		t.Error(err)
	}
	c, err := node.Countersign(mesh.Countersigned{
		Receipt: mesh.Receipt{Nonce: nonce, Client: client, Server: node.Public(), Bytes: r.GetBytes(), Chunks: chunks, Time: r.GetTime().AsTime(), Signature: mesh.Signature(r.GetSignature())},
		Counted: counted, Attested: attested, Time: time.Now(),
	})
	if err != nil {
		t.Error(err)
	}
	return &creditv1.Countersigned{Receipt: r, CountedBytes: counted, AttestedBytes: attested, Time: timestamppb.New(c.Time), Signature: c.Signature[:]}
}

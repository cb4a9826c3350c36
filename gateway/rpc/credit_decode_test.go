package rpc

import (
	"fmt"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/mesh"
	creditv1 "inos.dev/edge/proto/gen/inos/credit/v1"
)

// decodeCredit runs the decoder that belongs to the request's type.
func decodeCredit(m proto.Message) (err error) {
	switch m := m.(type) {
	case *creditv1.GetBalanceRequest:
		_, err = decodeAccount(m.GetAccount())
	case *creditv1.ListAccountsRequest:
		_, _, err = decodeAccounts(m)
	case *creditv1.GetStatementRequest:
		_, _, err = decodeStatement(m)
	case *creditv1.GrantRequest:
		_, _, err = decodeGrant(m)
	case *creditv1.SetTermsRequest:
		_, _, _, err = decodeSetTerms(m)
	case *creditv1.QuoteRequest:
		_, err = decodeWish(m)
	case *creditv1.CreatePledgeRequest:
		_, err = decodeCreatePledge(m)
	case *creditv1.ListPledgesRequest:
		_, _, _, err = decodePledges(m)
	case *creditv1.TopUpPledgeRequest:
		_, err = decodeTopUp(m)
	case *creditv1.OpenDeliveryRequest:
		_, err = decodeClient(m)
	case *creditv1.SubmitReceiptRequest:
		_, err = decodeReceipt(m)
	default:
		err = fmt.Errorf("no decoder for %T", m)
	}
	return err
}

func TestCreditViolations(t *testing.T) {
	good := cas.Hash{1}.String()
	key := mesh.Key{1}.String()
	nonce := mesh.Nonce{1}.String()
	sig := make([]byte, mesh.SignatureSize)
	now := &timestamppb.Timestamp{Seconds: 1}
	hour := &durationpb.Duration{Seconds: 3600}
	long := strings.Repeat("x", 200)
	what, negative, debt := creditv1.Empty(9), int64(-1), int64(0)
	for _, tc := range []struct {
		name   string
		req    proto.Message
		fields string // at fault, or empty
	}{
		{"own", &creditv1.GetBalanceRequest{}, ""},
		{"subject", &creditv1.GetBalanceRequest{Account: "ci"}, ""},
		{"no account", &creditv1.GetBalanceRequest{Account: long}, "account"},
		{"accounts", &creditv1.ListAccountsRequest{PageSize: MaxLines, PageToken: encodeAccountToken("user:x")}, ""},
		{"accounts limits", &creditv1.ListAccountsRequest{PageSize: MaxLines + 1, PageToken: encodePledgeToken("x")}, "page_size page_token"},
		{"statement", &creditv1.GetStatementRequest{PageSize: MaxLines, PageToken: "whose it is"}, ""},
		{"statement limits", &creditv1.GetStatementRequest{Account: "\x00", PageSize: MaxLines + 1}, "account page_size"},
		{"grant", &creditv1.GrantRequest{Account: "ci", Amount: int64(credit.MaxAmount), Note: "why", IdempotencyKey: "12345678"}, ""},
		{"grant of nothing", &creditv1.GrantRequest{}, "account amount idempotency_key"},
		{"grant to a pledge", &creditv1.GrantRequest{Account: "escrow:p1", Amount: 1, IdempotencyKey: "12345678"}, "account"},
		{"grant limits", &creditv1.GrantRequest{Account: "treasury", Amount: int64(credit.MaxAmount) + 1, Note: "two\nlines", IdempotencyKey: "with space"}, "account amount note idempotency_key"},
		{"terms", &creditv1.SetTermsRequest{Debt: &debt}, ""},
		{"terms of nothing", &creditv1.SetTermsRequest{Account: "x"}, "when_empty"},
		{"terms limits", &creditv1.SetTermsRequest{WhenEmpty: &what, Debt: &negative}, "when_empty debt"},
		{"quote", &creditv1.QuoteRequest{Object: good, Rf: mesh.MaxRF, Duration: hour}, ""},
		{"quote of nothing", &creditv1.QuoteRequest{}, "object rf duration"},
		{"quote of both", &creditv1.QuoteRequest{Object: good, Rf: 1, Duration: hour, Amount: 1, PriceCap: -1}, "price_cap duration"},
		{"quote of a moment", &creditv1.QuoteRequest{Object: good, Rf: 1, Duration: &durationpb.Duration{Seconds: 59}}, "duration"},
		{"quote of odd time", &creditv1.QuoteRequest{Object: good, Rf: 1, Duration: &durationpb.Duration{Seconds: 61, Nanos: 1}}, "duration"},
		{"quote of no time", &creditv1.QuoteRequest{Object: good, Rf: 1, Duration: &durationpb.Duration{Seconds: 1 << 62}}, "duration"},
		{"quote of a debt", &creditv1.QuoteRequest{Object: good, Rf: mesh.MaxRF + 1, Amount: -1}, "rf amount"},
		{"pledge", &creditv1.CreatePledgeRequest{Object: good, Rf: 1, Amount: 1, Pledge: "a-B_9"}, ""},
		{"pledge name", &creditv1.CreatePledgeRequest{Object: good, Rf: 1, Amount: 1, Pledge: "a/b"}, "pledge"},
		{"pledges", &creditv1.ListPledgesRequest{Account: "ci", PageToken: encodePledgeToken("a-B_9")}, ""},
		{"pledges limits", &creditv1.ListPledgesRequest{Account: "ci", All: true, PageSize: MaxLines + 1, PageToken: encodeAccountToken("user:x")}, "account page_size page_token"},
		{"top up", &creditv1.TopUpPledgeRequest{Pledge: "p", Amount: 1, IdempotencyKey: "12345678"}, ""},
		{"top up limits", &creditv1.TopUpPledgeRequest{IdempotencyKey: long}, "pledge idempotency_key amount"},
		{"delivery", &creditv1.OpenDeliveryRequest{Client: key}, ""},
		{"delivery of nobody", &creditv1.OpenDeliveryRequest{Client: good}, "client"},
		{"receipt", &creditv1.SubmitReceiptRequest{Receipt: &creditv1.Receipt{Nonce: nonce, Client: key, Server: key, Chunks: good, Time: now, Signature: sig}}, ""},
		{"receipt missing", &creditv1.SubmitReceiptRequest{}, "receipt"},
		{"receipt empty", &creditv1.SubmitReceiptRequest{Receipt: &creditv1.Receipt{}}, "receipt.nonce receipt.client receipt.server receipt.chunks receipt.time receipt.signature"},
	} {
		err := decodeCredit(tc.req)
		var fields []string
		for _, v := range detail[*errdetails.BadRequest](err).GetFieldViolations() {
			fields = append(fields, v.GetField())
		}
		if got := strings.Join(fields, " "); got != tc.fields || (err == nil) != (tc.fields == "") {
			t.Errorf("%s: %q (%v), want %q", tc.name, got, err, tc.fields)
		}
		if err != nil && connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// FuzzDecodeCredit: whatever bytes come, a decoder refuses them or stays within
// its limits.
func FuzzDecodeCredit(f *testing.F) {
	kinds := []proto.Message{
		&creditv1.GetBalanceRequest{}, &creditv1.ListAccountsRequest{}, &creditv1.GetStatementRequest{}, &creditv1.GrantRequest{},
		&creditv1.SetTermsRequest{}, &creditv1.QuoteRequest{}, &creditv1.CreatePledgeRequest{}, &creditv1.ListPledgesRequest{},
		&creditv1.TopUpPledgeRequest{}, &creditv1.OpenDeliveryRequest{}, &creditv1.SubmitReceiptRequest{},
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		req := kinds[int(kind)%len(kinds)].ProtoReflect().New().Interface()
		if proto.Unmarshal(b, req) != nil {
			return
		}
		if err := decodeCredit(req); err != nil {
			if connect.CodeOf(err) != connect.CodeInvalidArgument || len(detail[*errdetails.BadRequest](err).GetFieldViolations()) > maxViolations {
				t.Fatalf("%T: %v", req, err)
			}
			return
		}
		switch req := req.(type) {
		case *creditv1.GrantRequest:
			to, amount, _ := decodeGrant(req)
			e := credit.Entry{Kind: credit.KindGrant, From: credit.Treasury, To: to, Amount: amount, Ref: req.GetNote()}
			if err := e.Validate(); err != nil {
				t.Fatalf("%v: %v", req, err)
			}
		case *creditv1.CreatePledgeRequest:
			if r, _ := decodeCreatePledge(req); (r.For == 0) == (r.Credits == 0) || r.RF < 1 {
				t.Fatalf("%v: %+v", req, r)
			}
		case *creditv1.SubmitReceiptRequest:
			if r, _ := decodeReceipt(req); r.Nonce.String() != req.GetReceipt().GetNonce() || r.Client.String() != req.GetReceipt().GetClient() {
				t.Fatalf("%v: %+v", req, r)
			}
		}
	})
}

// FuzzNameToken is FuzzToken for the tokens of names.
func FuzzNameToken(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		if after, err := decodeAccountToken(s); err == nil && s != "" && (encodeAccountToken(after) != s || after.Validate() != nil) {
			t.Fatalf("%q is %q, which is %q", s, after, encodeAccountToken(after))
		}
		if after, err := decodePledgeToken(s); err == nil && s != "" && (encodePledgeToken(after) != s || !plainName(after, 1)) {
			t.Fatalf("%q is %q, which is %q", s, after, encodePledgeToken(after))
		}
	})
}

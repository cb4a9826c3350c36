package rpc

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/books"
	"inos.dev/edge/gateway/credit/delivery"
	"inos.dev/edge/gateway/credit/ledger"
	"inos.dev/edge/gateway/credit/pledge"
	"inos.dev/edge/gateway/heat"
	"inos.dev/edge/mesh"
	creditv1 "inos.dev/edge/proto/gen/inos/credit/v1"
	"inos.dev/edge/proto/gen/inos/credit/v1/creditv1connect"
)

// What the services work with in a node.
var (
	_ Books      = (*books.Books)(nil)
	_ Ledger     = (*ledger.Ledger)(nil)
	_ Pledges    = (*pledge.Pledges)(nil)
	_ Deliveries = (*delivery.Sessions)(nil)
	_ Heat       = (*heat.Heat)(nil)
)

// subjectHeader stands in for a token: the subject of the caller. An
// administrator's begins with "admin".
const subjectHeader = "X-Subject"

func callerOf(ctx context.Context) (Caller, error) {
	info, ok := connect.CallInfoForHandlerContext(ctx)
	if !ok {
		return Caller{}, auth.ErrUnauthenticated
	}
	who := Caller{Identity: auth.Identity{Subject: info.RequestHeader().Get(subjectHeader)}, Quota: "test"}
	if !who.Anonymous() {
		who.Rights = auth.Read | auth.Write
	}
	if strings.HasPrefix(who.Subject, "admin") {
		who.Rights = auth.All
	}
	return who, nil
}

// bank is a node with books.
type bank struct {
	*fakeNode
	key      mesh.Secret
	ledger   *ledger.Ledger
	sessions *delivery.Sessions
	srv      *httptest.Server
}

func newBank(t *testing.T) *bank {
	t.Helper()
	b := &bank{fakeNode: newFakeNode(t)}
	var err error
	fatal := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	b.key, err = mesh.NewSecret()
	fatal(err)
	b.ledger, err = ledger.Open(ledger.Config{Dir: t.TempDir()})
	fatal(err)
	t.Cleanup(func() {
		if err := b.ledger.Close(); err != nil {
			t.Error(err)
		}
	})
	accounts, err := books.New(t.Context(), books.Config{Ledger: b.ledger, Key: b.key.Public()})
	fatal(err)
	pledges, err := pledge.Open(t.Context(), pledge.Config{Ledger: accounts.Ledger(), Spend: accounts.Spend, Retention: 3_600_000})
	fatal(err)
	b.sessions, err = delivery.New(delivery.Config{Key: b.key, Ledger: accounts.Ledger()})
	fatal(err)
	cfg := b.config()
	cfg.Caller = callerOf
	cfg.Authorize = func(ctx context.Context, action auth.Action, _ string) error {
		if info, ok := connect.CallInfoForHandlerContext(ctx); !ok || info.RequestHeader() == nil {
			return nil // the gate asks before there is a call
		}
		who, err := callerOf(ctx)
		if err != nil {
			return err
		}
		return who.Require(action.Right())
	}
	cfg.Credits = &Credits{
		Books: accounts, Ledger: b.ledger, Pledges: pledges, Deliveries: b.sessions,
		Serve: 1_000_000, Retain: 3_600_000, Epoch: 10 * time.Minute,
	}
	b.srv = serveConfig(t, cfg)
	return b
}

// as returns a client that calls as a subject, "" being nobody.
func (b *bank) as(subject string, opts ...connect.ClientOption) creditv1connect.CreditServiceClient {
	return creditv1connect.NewCreditServiceClient(b.srv.Client(), b.srv.URL, append(opts, connect.WithInterceptors(headers{subject}))...)
}

// headers sends a subject with every call.
type headers struct{ subject string }

func (h headers) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		req.Header().Set(subjectHeader, h.subject)
		return next(ctx, req)
	}
}

func (h headers) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (h headers) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

func (b *bank) grant(t *testing.T, subject string, amount int64) {
	t.Helper()
	_, err := b.as("admin").Grant(t.Context(), &creditv1.GrantRequest{Account: subject, Amount: amount, IdempotencyKey: "grant-" + subject})
	if err != nil {
		t.Fatal(err)
	}
}

// TestAccounts walks through the methods of accounts with several protocols.
func TestAccounts(t *testing.T) {
	for name, opts := range map[string][]connect.ClientOption{
		"proto": nil, "json": {connect.WithProtoJSON()}, "get": {connect.WithHTTPGet()}, "grpc-web": {connect.WithGRPCWeb()},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, b := t.Context(), newBank(t)
			admin, ann := b.as("admin", opts...), b.as("ann", opts...)

			grant := &creditv1.GrantRequest{Account: "ann", Amount: 2_500_000, Note: "a start", IdempotencyKey: "allowance-1"}
			g, err := admin.Grant(ctx, grant)
			check(t, "Grant", err, words(g.GetAgain(), g.GetAccount().GetAccount(), g.GetAccount().GetBalance()), "false user:ann 2500000")
			again, err := admin.Grant(ctx, grant)
			check(t, "Grant again", err, words(again.GetAgain(), again.GetSeq() == g.GetSeq(), again.GetAccount().GetBalance()), "true true 2500000")

			own, err := ann.GetBalance(ctx, &creditv1.GetBalanceRequest{})
			a := own.GetAccount()
			check(t, "GetBalance", err, words(a.GetAccount(), a.GetBalance(), a.GetLocal(), a.GetShared(), a.GetTerms().GetWhenEmpty()), "user:ann 2500000 2500000 false EMPTY_SERVE")
			treasury, err := admin.GetBalance(ctx, &creditv1.GetBalanceRequest{Account: "treasury"})
			check(t, "GetBalance of the treasury", err, words(treasury.GetAccount().GetBalance()), "-2500000")
			none, err := admin.GetBalance(ctx, &creditv1.GetBalanceRequest{Account: "nobody-yet"})
			check(t, "GetBalance of nobody", err, words(none.GetAccount().GetAccount(), none.GetAccount().GetLines()), "user:nobody-yet 0")

			s, err := ann.GetStatement(ctx, &creditv1.GetStatementRequest{})
			check(t, "GetStatement", err, words(len(s.GetLines()), s.GetAccount(), len(s.GetNextPageToken()), s.GetUnattestedBytes()), "1 user:ann 0 0")
			l := s.GetLines()[0]
			check(t, "its line", nil, words(l.GetKind(), l.GetFrom(), l.GetTo(), l.GetAmount(), l.GetRef(), l.GetBalance(), l.GetTime().AsTime().IsZero()),
				"ENTRY_KIND_GRANT treasury user:ann 2500000 a start 2500000 false")

			throttle, debt := creditv1.Empty_EMPTY_THROTTLE, int64(7)
			set, err := ann.SetTerms(ctx, &creditv1.SetTermsRequest{WhenEmpty: &throttle})
			check(t, "SetTerms", err, words(set.GetAccount().GetTerms().GetWhenEmpty(), set.GetAccount().GetTerms().GetDebt()), "EMPTY_THROTTLE 0")
			set, err = admin.SetTerms(ctx, &creditv1.SetTermsRequest{Account: "ann", Debt: &debt})
			check(t, "SetTerms of another", err, words(set.GetAccount().GetTerms().GetWhenEmpty(), set.GetAccount().GetTerms().GetDebt()), "EMPTY_THROTTLE 7")

			p, err := b.as("", opts...).GetPrices(ctx, &creditv1.GetPricesRequest{})
			check(t, "GetPrices", err, words(p.GetPrices().GetServe(), p.GetPrices().GetRetainHour()), "1000000 3600000")
			audit, err := admin.Audit(ctx, &creditv1.AuditRequest{})
			check(t, "Audit", err, words(audit.GetOk(), audit.GetSum(), len(audit.GetProblems()), len(audit.GetHead()), audit.GetRecords() > 0), "true 0 0 64 true")
		})
	}
}

// TestWhoseAccount: a caller sees and changes what is his own, an administrator
// all, nobody nothing.
func TestWhoseAccount(t *testing.T) {
	b := newBank(t)
	b.grant(t, "ann", 9_000_000)
	h := b.object(t)
	if _, err := b.as("ann").CreatePledge(t.Context(), &creditv1.CreatePledgeRequest{Object: h, Rf: 2, Amount: 1_000_000, Pledge: "anns"}); err != nil {
		t.Fatal(err)
	}
	debt, refuse := int64(1), creditv1.Empty_EMPTY_REFUSE
	for _, tc := range []struct {
		name                    string
		call                    func(context.Context, creditv1connect.CreditServiceClient) error
		nobody, bob, ann, admin string
	}{
		{"own balance", func(ctx context.Context, c creditv1connect.CreditServiceClient) error {
			_, err := c.GetBalance(ctx, &creditv1.GetBalanceRequest{})
			return err
		}, "unauthenticated", "", "", ""},
		{"ann's balance", func(ctx context.Context, c creditv1connect.CreditServiceClient) error {
			_, err := c.GetBalance(ctx, &creditv1.GetBalanceRequest{Account: "user:ann"})
			return err
		}, "unauthenticated", "permission_denied", "", ""},
		{"ann's statement", func(ctx context.Context, c creditv1connect.CreditServiceClient) error {
			_, err := c.GetStatement(ctx, &creditv1.GetStatementRequest{Account: "ann"})
			return err
		}, "unauthenticated", "permission_denied", "", ""},
		{"ann's terms", func(ctx context.Context, c creditv1connect.CreditServiceClient) error {
			_, err := c.SetTerms(ctx, &creditv1.SetTermsRequest{Account: "ann", WhenEmpty: &refuse})
			return err
		}, "unauthenticated", "permission_denied", "", ""},
		{"own debt", func(ctx context.Context, c creditv1connect.CreditServiceClient) error {
			_, err := c.SetTerms(ctx, &creditv1.SetTermsRequest{Debt: &debt})
			return err
		}, "unauthenticated", "permission_denied", "permission_denied", ""},
		{"ann's pledge", func(ctx context.Context, c creditv1connect.CreditServiceClient) error {
			_, err := c.GetPledge(ctx, &creditv1.GetPledgeRequest{Pledge: "anns"})
			return err
		}, "unauthenticated", "permission_denied", "", ""},
		{"ann's pledges", func(ctx context.Context, c creditv1connect.CreditServiceClient) error {
			_, err := c.ListPledges(ctx, &creditv1.ListPledgesRequest{Account: "ann"})
			return err
		}, "unauthenticated", "permission_denied", "", ""},
		{"all pledges", func(ctx context.Context, c creditv1connect.CreditServiceClient) error {
			_, err := c.ListPledges(ctx, &creditv1.ListPledgesRequest{All: true})
			return err
		}, "unauthenticated", "permission_denied", "permission_denied", ""},
		{"to top up", func(ctx context.Context, c creditv1connect.CreditServiceClient) error {
			_, err := c.TopUpPledge(ctx, &creditv1.TopUpPledgeRequest{Pledge: "anns", Amount: 1, IdempotencyKey: "12345678"})
			return err
		}, "unauthenticated", "permission_denied", "", "permission_denied"},
		{"to release", func(ctx context.Context, c creditv1connect.CreditServiceClient) error {
			_, err := c.ReleasePledge(ctx, &creditv1.ReleasePledgeRequest{Pledge: "anns"})
			return err
		}, "unauthenticated", "permission_denied", "", ""},
		{"to pledge", func(ctx context.Context, c creditv1connect.CreditServiceClient) error {
			_, err := c.CreatePledge(ctx, &creditv1.CreatePledgeRequest{Object: h, Rf: 2, Amount: 1_000_000, Pledge: "another"})
			return err
		}, "unauthenticated", "failed_precondition", "", "already_exists"},
	} {
		for i, subject := range []string{"", "bob", "ann", "admin"} {
			want := []string{tc.nobody, tc.bob, tc.ann, tc.admin}[i]
			got := ""
			if err := tc.call(t.Context(), b.as(subject)); err != nil {
				got = connect.CodeOf(err).String()
			}
			if got != want {
				t.Errorf("%s, by %q: %q, want %q", tc.name, subject, got, want)
			}
		}
	}
}

// object puts an object of 1 MiB on the node's list.
func (b *bank) object(t *testing.T) string {
	t.Helper()
	h := cas.Sum([]byte(t.Name()))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[h] = catalog.Record{Hash: h, Encoded: 1 << 20}
	return h.String()
}

// TestPledges walks through the life of a pledge.
func TestPledges(t *testing.T) {
	ctx, b := t.Context(), newBank(t)
	h, ann := b.object(t), b.as("ann")

	// 1 MiB for an hour at 3.6 credits for a GiB: 3,515.6 micro-credits a replica.
	hour := durationpb.New(time.Hour)
	q, err := b.as("").Quote(ctx, &creditv1.QuoteRequest{Object: h, Rf: 10, Duration: hour})
	check(t, "Quote", err, words(q.GetQuote().GetAmount(), q.GetQuote().GetSize(), q.GetQuote().GetPrice(), q.GetQuote().GetEpoch().AsDuration()), "35157 1048576 3600000 10m0s")
	q, err = ann.Quote(ctx, &creditv1.QuoteRequest{Object: h, Rf: 10, Amount: 35_157})
	check(t, "Quote of an amount", err, words(q.GetQuote().GetDuration().AsDuration()), "1h0m0s")
	_, err = ann.Quote(ctx, &creditv1.QuoteRequest{Object: cas.Hash{9}.String(), Rf: 10, Duration: hour})
	check(t, "Quote of nothing", nil, connect.CodeOf(err).String()+" "+reason(err), "not_found NOT_FOUND")

	create := &creditv1.CreatePledgeRequest{Object: h, Rf: 10, Duration: hour, Pledge: "p-1"}
	_, err = ann.CreatePledge(ctx, create)
	check(t, "CreatePledge without credits", nil, connect.CodeOf(err).String()+" "+reason(err), "failed_precondition UNDERFUNDED")
	b.grant(t, "ann", 100_000)
	p, err := ann.CreatePledge(ctx, create)
	got := p.GetPledge()
	check(t, "CreatePledge", err, words(got.GetPledge(), got.GetAccount(), got.GetObject() == h, got.GetRf(), got.GetLocked(), got.GetEscrow(), got.GetUntilDry()),
		"p-1 user:ann true 10 35157 35157 false")
	p, err = ann.CreatePledge(ctx, create)
	check(t, "CreatePledge again", err, words(p.GetPledge().GetLocked()), "35157")

	top := &creditv1.TopUpPledgeRequest{Pledge: "p-1", Amount: 10_000, IdempotencyKey: "payment-1"}
	for range 2 {
		up, err := ann.TopUpPledge(ctx, top)
		check(t, "TopUpPledge", err, words(up.GetPledge().GetLocked()), "45157")
	}
	one, err := ann.GetPledge(ctx, &creditv1.GetPledgeRequest{Pledge: "p-1"})
	check(t, "GetPledge", err, words(one.GetPledge().GetEscrow(), one.GetPledge().GetOverTime()), "45157 <nil>")
	_, err = ann.GetPledge(ctx, &creditv1.GetPledgeRequest{Pledge: "p-2"})
	check(t, "GetPledge of none", nil, connect.CodeOf(err).String()+" "+reason(err), "not_found NO_SUCH_PLEDGE")

	r, err := ann.ReleasePledge(ctx, &creditv1.ReleasePledgeRequest{Pledge: "p-1"})
	check(t, "ReleasePledge", err, r.GetPledge().GetState().String(), "PLEDGE_STATE_RELEASED")
	if r.GetPledge().GetReturned() < 44_000 {
		t.Errorf("%d came back", r.GetPledge().GetReturned())
	}
	audit, err := b.as("admin").Audit(ctx, &creditv1.AuditRequest{})
	check(t, "Audit", err, words(audit.GetOk(), audit.GetProblems()), "true []")
}

// TestLists: any division of accounts, lines and pledges into pages is all of
// them, in their order.
func TestLists(t *testing.T) {
	ctx, b := t.Context(), newBank(t)
	h := b.object(t)
	var accounts, names, sums []string
	for i := range 7 {
		b.grant(t, fmt.Sprintf("u%d", i), 1_000_000)
		accounts = append(accounts, fmt.Sprintf("user:u%d", i))
	}
	u0 := b.as("u0")
	for i := range 6 {
		name := fmt.Sprintf("p%d", i)
		if _, err := u0.CreatePledge(ctx, &creditv1.CreatePledgeRequest{Object: h, Rf: 1, Amount: int64(100_000 + i), Pledge: name}); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
		sums = append([]string{words(100_000 + i)}, sums...)
	}
	sums = append(sums, "1000000") // the grant came first
	for size := range uint32(9) {
		var gotAccounts, gotNames, gotSums []string
		pages(t, func(token string) string {
			r, err := b.as("admin").ListAccounts(ctx, &creditv1.ListAccountsRequest{PageSize: size, PageToken: token})
			for _, a := range r.GetAccounts() {
				if strings.HasPrefix(a.GetAccount(), "user:") {
					gotAccounts = append(gotAccounts, a.GetAccount())
				}
			}
			return next(t, r, err)
		})
		pages(t, func(token string) string {
			r, err := u0.ListPledges(ctx, &creditv1.ListPledgesRequest{PageSize: size, PageToken: token})
			for _, p := range r.GetPledges() {
				gotNames = append(gotNames, p.GetPledge())
			}
			return next(t, r, err)
		})
		pages(t, func(token string) string {
			r, err := u0.GetStatement(ctx, &creditv1.GetStatementRequest{PageSize: size, PageToken: token})
			for _, l := range r.GetLines() {
				gotSums = append(gotSums, words(l.GetAmount()))
			}
			return next(t, r, err)
		})
		if !slices.Equal(gotAccounts, accounts) || !slices.Equal(gotNames, names) || !slices.Equal(gotSums, sums) {
			t.Errorf("pages of %d: %v, %v, %v", size, gotAccounts, gotNames, gotSums)
		}
	}
	_, err := u0.GetStatement(ctx, &creditv1.GetStatementRequest{PageToken: "somewhere"})
	check(t, "GetStatement", nil, connect.CodeOf(err).String()+" "+reason(err), "invalid_argument NOT_A_CURSOR")
}

// pages asks for page after page.
func pages(t *testing.T, page func(token string) string) {
	t.Helper()
	token := page("")
	for range 100 {
		if token == "" {
			return
		}
		token = page(token)
	}
	t.Fatal("the list does not end")
}

func next(t *testing.T, page interface{ GetNextPageToken() string }, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return page.GetNextPageToken()
}

// TestReceipts: what a client confirms comes back countersigned, and stands in
// the statement of who paid.
func TestReceipts(t *testing.T) {
	ctx, b := t.Context(), newBank(t)
	client, err := mesh.NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	reader := b.as("")
	open, err := reader.OpenDelivery(ctx, &creditv1.OpenDeliveryRequest{Client: client.Public().String()})
	check(t, "OpenDelivery", err, open.GetServer(), b.key.Public().String())
	nonce, err := mesh.ParseNonce(open.GetNonce())
	check(t, "its nonce", err, "", "")
	b.sessions.Count(nonce, credit.User("ann"), cas.Hash{1}, 1000)

	receipt, err := client.SignReceipt(mesh.Receipt{Nonce: nonce, Server: b.key.Public(), Bytes: 900, Chunks: cas.Hash{2}, Time: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	message := encodeCountersigned(mesh.Countersigned{Receipt: receipt}).GetReceipt()
	for range 2 {
		resp, err := reader.SubmitReceipt(ctx, &creditv1.SubmitReceiptRequest{Receipt: message})
		c := resp.GetReceipt()
		check(t, "SubmitReceipt", err, words(c.GetCountedBytes(), c.GetAttestedBytes()), "1000 900")
		signed := mesh.Countersigned{
			Receipt: receipt, Counted: c.GetCountedBytes(), Attested: c.GetAttestedBytes(), Time: c.GetTime().AsTime(),
			Signature: mesh.Signature(c.GetSignature()),
		}
		if err := signed.Verify(); err != nil {
			t.Error(err)
		}
	}
	s, err := b.as("ann").GetStatement(ctx, &creditv1.GetStatementRequest{})
	check(t, "GetStatement", err, words(len(s.GetLines()), s.GetLines()[0].GetKind(), s.GetLines()[0].GetBytes(), s.GetAttestedBytes(), s.GetUnattestedBytes()), "1 ENTRY_KIND_ATTEST 900 900 0")

	message.Bytes++
	_, err = reader.SubmitReceipt(ctx, &creditv1.SubmitReceiptRequest{Receipt: message})
	check(t, "a forged receipt", nil, connect.CodeOf(err).String()+" "+reason(err), "invalid_argument BAD_SIGNATURE")
	message.Bytes--
	_, err = b.as("bob").SubmitReceipt(ctx, &creditv1.SubmitReceiptRequest{Receipt: message})
	check(t, "somebody else's", nil, connect.CodeOf(err).String()+" "+reason(err), "permission_denied ANOTHERS_DELIVERY")
}

// TestWithoutCredits: a node without books has no such service.
func TestWithoutCredits(t *testing.T) {
	srv := serve(t, newFakeNode(t))
	_, err := creditv1connect.NewCreditServiceClient(srv.Client(), srv.URL).GetPrices(t.Context(), &creditv1.GetPricesRequest{})
	check(t, "GetPrices", nil, connect.CodeOf(err).String(), "unimplemented")
	cfg := newFakeNode(t).config()
	cfg.Caller, cfg.Credits = callerOf, &Credits{}
	if _, err := New(cfg); err == nil {
		t.Error("credits without their parts are accepted")
	}
}

// words writes values with a space between them.
func words(values ...any) string { return strings.TrimSuffix(fmt.Sprintln(values...), "\n") }

// slowLedger audits until its time is over.
type slowLedger struct{ Ledger }

func (slowLedger) Audit(ctx context.Context) (ledger.Report, error) {
	<-ctx.Done()
	return ledger.Report{}, fmt.Errorf("audit: %w", ctx.Err())
}

// TestLongAudit: who asks for one that takes too long hears what to do instead.
func TestLongAudit(t *testing.T) {
	cfg := newFakeNode(t).config()
	cfg.Timeout = 20 * time.Millisecond
	cfg.Caller, cfg.Credits = callerOf, &Credits{Books: &books.Books{}, Ledger: slowLedger{}, Pledges: &pledge.Pledges{}, Deliveries: &delivery.Sessions{}}
	srv := serveConfig(t, cfg)
	_, err := creditv1connect.NewCreditServiceClient(srv.Client(), srv.URL).Audit(t.Context(), &creditv1.AuditRequest{})
	check(t, "Audit", nil, connect.CodeOf(err).String()+" "+reason(err), "failed_precondition JOURNAL_TOO_LONG")
}

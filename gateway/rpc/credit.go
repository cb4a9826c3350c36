package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/delivery"
	"inos.dev/edge/gateway/credit/ledger"
	creditv1 "inos.dev/edge/proto/gen/inos/credit/v1"
)

// creditService is inos.credit.v1.CreditService. Whose account a caller may use
// is decided here: his own, or any for an administrator.
type creditService struct {
	Credits
	objects   Objects
	caller    func(context.Context) (Caller, error)
	authorize Authorize
	auditing  chan struct{} // has room for the one audit at a time
}

// errLong says: an audit takes longer than a call may.
var errLong = errors.New("the journal cannot be read within the time of a call; stop the node and use inos credits audit --offline")

func newCreditService(cfg *Config) *creditService {
	return &creditService{*cfg.Credits, cfg.Objects, cfg.Caller, cfg.Authorize, make(chan struct{}, 1)}
}

// own returns the account of the caller.
func (s *creditService) own(ctx context.Context) (credit.Account, error) {
	who, err := s.caller(ctx)
	if err != nil {
		return "", err
	}
	if who.Anonymous() {
		return "", fmt.Errorf("%w: the account is that of its subject", auth.ErrUnauthenticated)
	}
	return credit.User(who.Subject), nil
}

// choose returns the account that the caller names, "" being his own, if he may
// use it.
func (s *creditService) choose(ctx context.Context, named credit.Account) (credit.Account, error) {
	own, err := s.own(ctx)
	if err != nil || named == "" || named == own {
		return own, err
	}
	return named, s.admin(ctx, named)
}

// admin is nil if the caller is an administrator.
func (s *creditService) admin(ctx context.Context, a credit.Account) error {
	return s.authorize(ctx, auth.ActionAdmin, string(a))
}

func (s *creditService) GetBalance(ctx context.Context, req *creditv1.GetBalanceRequest) (*creditv1.GetBalanceResponse, error) {
	named, err := decodeAccount(req.GetAccount())
	if err != nil {
		return nil, err
	}
	name, err := s.choose(ctx, named)
	if err != nil {
		return nil, err
	}
	a, err := s.account(ctx, name)
	if err != nil {
		return nil, err
	}
	return &creditv1.GetBalanceResponse{Account: a}, nil
}

// account tells of an account as all gateways know it.
func (s *creditService) account(ctx context.Context, name credit.Account) (*creditv1.Account, error) {
	b, err := s.Books.Balance(ctx, name)
	if err != nil {
		return nil, err
	}
	terms, err := s.Books.Terms(ctx, name)
	if err != nil {
		return nil, err
	}
	a := encodeAccount(name, b.Local, terms)
	if s.Shared {
		a.Shared, a.Balance, a.Stale = true, int64(b.Shared), !b.Known
	}
	return a, nil
}

func (s *creditService) ListAccounts(ctx context.Context, req *creditv1.ListAccountsRequest) (*creditv1.ListAccountsResponse, error) {
	after, n, err := decodeAccounts(req)
	if err != nil {
		return nil, err
	}
	list, err := s.Ledger.Accounts(ctx, after, n)
	if err != nil {
		return nil, err
	}
	resp := &creditv1.ListAccountsResponse{}
	if len(list) == n {
		resp.NextPageToken = encodeAccountToken(list[n-1].Account)
	}
	for _, a := range list {
		terms, err := s.Books.Terms(ctx, a.Account)
		if err != nil {
			return nil, err
		}
		resp.Accounts = append(resp.Accounts, encodeAccount(a.Account, a.State, terms))
	}
	return resp, nil
}

func (s *creditService) GetStatement(ctx context.Context, req *creditv1.GetStatementRequest) (*creditv1.GetStatementResponse, error) {
	named, n, err := decodeStatement(req)
	if err != nil {
		return nil, err
	}
	name, err := s.choose(ctx, named)
	if err != nil {
		return nil, err
	}
	lines, next, err := s.Ledger.Statement(ctx, name, ledger.Cursor(req.GetPageToken()), n)
	if err != nil {
		return nil, err
	}
	b, err := s.Books.Balance(ctx, name)
	if err != nil {
		return nil, err
	}
	resp := &creditv1.GetStatementResponse{
		Account: string(name), NextPageToken: string(next),
		AttestedBytes: b.Local.Attested, UnattestedBytes: max(0, b.Local.Served-b.Local.Attested), // a receipt can come before the charge
	}
	for i := range lines {
		resp.Lines = append(resp.Lines, encodeLine(&lines[i]))
	}
	return resp, nil
}

func (s *creditService) Grant(ctx context.Context, req *creditv1.GrantRequest) (*creditv1.GrantResponse, error) {
	to, amount, err := decodeGrant(req)
	if err != nil {
		return nil, err
	}
	seq, again, err := s.Books.Grant(ctx, grantID(req.GetIdempotencyKey()), to, amount, req.GetNote())
	if err != nil {
		return nil, err
	}
	a, err := s.account(ctx, to)
	if err != nil {
		return nil, err
	}
	return &creditv1.GrantResponse{Seq: seq, Again: again, Account: a}, nil
}

// grantID keeps the keys of grants apart from the ids of other records.
func grantID(key string) string { return "grant/" + key }

func (s *creditService) SetTerms(ctx context.Context, req *creditv1.SetTermsRequest) (*creditv1.SetTermsResponse, error) {
	named, whenEmpty, debt, err := decodeSetTerms(req)
	if err != nil {
		return nil, err
	}
	name, err := s.choose(ctx, named)
	if err != nil {
		return nil, err
	}
	if debt != nil {
		if err := s.admin(ctx, name); err != nil {
			return nil, err
		}
	}
	if err := s.Books.SetTerms(ctx, name, whenEmpty, debt); err != nil {
		return nil, err
	}
	a, err := s.account(ctx, name)
	if err != nil {
		return nil, err
	}
	return &creditv1.SetTermsResponse{Account: a}, nil
}

func (s *creditService) GetPrices(context.Context, *creditv1.GetPricesRequest) (*creditv1.GetPricesResponse, error) {
	return &creditv1.GetPricesResponse{Prices: &creditv1.Prices{Serve: int64(s.Serve), RetainHour: int64(s.Retain)}}, nil
}

func (s *creditService) Audit(ctx context.Context, _ *creditv1.AuditRequest) (*creditv1.AuditResponse, error) {
	select {
	case s.auditing <- struct{}{}:
		defer func() { <-s.auditing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	start := time.Now()
	report, err := s.Ledger.Audit(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, errLong
	}
	if err != nil {
		return nil, err
	}
	return encodeAudit(report, time.Since(start)), nil
}

func (s *creditService) OpenDelivery(ctx context.Context, req *creditv1.OpenDeliveryRequest) (*creditv1.OpenDeliveryResponse, error) {
	client, err := decodeClient(req)
	if err != nil {
		return nil, err
	}
	who, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	d, err := s.Deliveries.Open(ctx, delivery.Who{Client: client, Subject: who.Subject, Quota: string(who.Quota)})
	if err != nil {
		return nil, err
	}
	return &creditv1.OpenDeliveryResponse{Nonce: d.Nonce.String(), Server: d.Server.String(), ExpireTime: encodeTime(d.Expires)}, nil
}

func (s *creditService) SubmitReceipt(ctx context.Context, req *creditv1.SubmitReceiptRequest) (*creditv1.SubmitReceiptResponse, error) {
	receipt, err := decodeReceipt(req)
	if err != nil {
		return nil, err
	}
	who, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	c, err := s.Deliveries.Submit(ctx, who.Subject, receipt)
	if err != nil {
		return nil, err
	}
	return &creditv1.SubmitReceiptResponse{Receipt: encodeCountersigned(c)}, nil
}

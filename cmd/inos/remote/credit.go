package remote

import (
	"context"
	"fmt"
	"iter"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	creditv1 "inos.dev/edge/proto/gen/inos/credit/v1"
)

// Account is an account of a node's books.
type Account struct {
	Name           credit.Account
	Balance        credit.Amount // of all gateways that share their books
	Local          credit.Amount // by this node's journal alone
	Shared         bool          // whether Balance is the shared one
	Stale          bool          // whether Balance may be out of date
	Terms          credit.Terms
	Served         int64 // bytes charged to it
	Attested       int64 // of those, confirmed by receipts
	Earned, Proven int64 // as Served and Attested, for what it was paid for
	Leased         int64 // bytes reserved from it
	Lines          int64 // of its statement
}

// Line is one line of a statement.
type Line struct {
	Seq      uint64
	Time     time.Time
	Kind     string // grant, serve, lease, escrow, retain, release, attest or document
	From, To credit.Account
	Amount   credit.Amount
	Bytes    int64
	Object   cas.Hash // zero if it is about none
	Ref      string
	Balance  credit.Amount // after the record
}

// Statement is a page of what happened on an account.
type Statement struct {
	Account              credit.Account
	Lines                []Line // newest first
	Next                 string // asks for the lines that follow; "" if there are none
	Attested, Unattested int64  // bytes charged to it, in all
}

// Audit is what a check of the books found.
type Audit struct {
	OK               bool
	Problems         []string // for people
	Records, Entries uint64   // of the journal
	Accounts         int64
	Sum              credit.Amount // over all accounts: 0, or something is wrong
	Leased           int64         // bytes of all open leases
	Head             string        // hash of the journal's last record
}

// Balance returns an account; "" is that of the token.
func (n *Node) Balance(ctx context.Context, a credit.Account) (Account, error) {
	resp, err := call(ctx, n, n.credits.GetBalance, &creditv1.GetBalanceRequest{Account: string(a)})
	if err != nil {
		return Account{}, fmt.Errorf("balance: %w", err)
	}
	return decodeAccount(resp.GetAccount()), nil
}

// Accounts lists all accounts in the order of their names, page by page.
func (n *Node) Accounts(ctx context.Context) iter.Seq2[Account, error] {
	return func(yield func(Account, error) bool) {
		for token := ""; ; {
			resp, err := call(ctx, n, n.credits.ListAccounts, &creditv1.ListAccountsRequest{PageSize: pageSize, PageToken: token})
			if err != nil {
				yield(Account{}, fmt.Errorf("accounts: %w", err))
				return
			}
			for _, m := range resp.GetAccounts() {
				if !yield(decodeAccount(m), nil) {
					return
				}
			}
			if token, err = nextPage(token, resp.GetNextPageToken()); err != nil {
				yield(Account{}, err)
				return
			}
			if token == "" {
				return
			}
		}
	}
}

// nextPage refuses a token that leads to the page that it came with.
func nextPage(now, next string) (string, error) {
	if next != "" && next == now {
		return "", fmt.Errorf("%w: a page of its list leads to itself", ErrRefused)
	}
	return next, nil
}

// Statement returns a page of what happened on an account, with at most limit
// lines; "" is the account of the token. before is Next of the page before, or
// "".
func (n *Node) Statement(ctx context.Context, a credit.Account, before string, limit int) (Statement, error) {
	resp, err := call(ctx, n, n.credits.GetStatement, &creditv1.GetStatementRequest{
		Account: string(a), PageSize: uint32(min(limit, pageSize)), PageToken: before,
	})
	if err != nil {
		return Statement{}, fmt.Errorf("statement: %w", err)
	}
	s := Statement{
		Account: decodeName(resp.GetAccount()), Attested: resp.GetAttestedBytes(), Unattested: resp.GetUnattestedBytes(),
	}
	for _, m := range resp.GetLines() {
		l, err := decodeLine(m)
		if err != nil {
			return Statement{}, err
		}
		s.Lines = append(s.Lines, l)
	}
	s.Next, err = nextPage(before, resp.GetNextPageToken())
	return s, err
}

// Grant issues credits to an account. A second grant with the same key issues
// nothing, and again is true.
func (n *Node) Grant(ctx context.Context, to credit.Account, amount credit.Amount, note, key string) (a Account, again bool, err error) {
	resp, err := call(ctx, n, n.credits.Grant, &creditv1.GrantRequest{
		Account: string(to), Amount: int64(amount), Note: note, IdempotencyKey: key,
	})
	if err != nil {
		return Account{}, false, fmt.Errorf("grant to %s: %w", to, err)
	}
	return decodeAccount(resp.GetAccount()), resp.GetAgain(), nil
}

// SetTerms changes what an account has agreed upon: "" and a nil debt leave
// things as they are; the account "" is that of the token.
func (n *Node) SetTerms(ctx context.Context, a credit.Account, whenEmpty credit.Empty, debt *credit.Amount) (Account, error) {
	req := &creditv1.SetTermsRequest{Account: string(a), Debt: (*int64)(debt)}
	if whenEmpty != "" {
		empty := encodeEmpty(whenEmpty)
		req.WhenEmpty = &empty
	}
	resp, err := call(ctx, n, n.credits.SetTerms, req)
	if err != nil {
		return Account{}, fmt.Errorf("terms: %w", err)
	}
	return decodeAccount(resp.GetAccount()), nil
}

// Prices returns what bytes cost: served, and kept for an hour.
func (n *Node) Prices(ctx context.Context) (serve, retain credit.Price, err error) {
	resp, err := call(ctx, n, n.credits.GetPrices, &creditv1.GetPricesRequest{})
	if err != nil {
		return 0, 0, fmt.Errorf("prices: %w", err)
	}
	return credit.Price(resp.GetPrices().GetServe()), credit.Price(resp.GetPrices().GetRetainHour()), nil
}

// Audit lets the node check its books. It is asked once, and given the time
// that it may take.
func (n *Node) Audit(ctx context.Context) (Audit, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*n.cfg.Timeout)
	defer cancel()
	resp, err := n.credits.Audit(ctx, &creditv1.AuditRequest{})
	if err != nil {
		return Audit{}, fmt.Errorf("audit: %w", n.callError(err))
	}
	a := Audit{
		OK: resp.GetOk(), Records: resp.GetRecords(), Entries: resp.GetEntries(), Accounts: resp.GetAccounts(),
		Sum: credit.Amount(resp.GetSum()), Leased: resp.GetLeasedBytes(), Head: printable(resp.GetHead()),
	}
	for _, p := range resp.GetProblems() {
		a.Problems = append(a.Problems, printable(p))
	}
	return a, nil
}

// decodeName keeps what a node calls an account printable.
func decodeName(s string) credit.Account { return credit.Account(printable(s)) }

func decodeAccount(m *creditv1.Account) Account {
	return Account{
		Name: decodeName(m.GetAccount()), Balance: credit.Amount(m.GetBalance()), Local: credit.Amount(m.GetLocal()), Shared: m.GetShared(), Stale: m.GetStale(),
		Terms:  credit.Terms{WhenEmpty: decodeEmpty(m.GetTerms().GetWhenEmpty()), Debt: credit.Amount(m.GetTerms().GetDebt())},
		Served: m.GetServedBytes(), Attested: m.GetAttestedBytes(), Earned: m.GetEarnedBytes(), Proven: m.GetProvenBytes(),
		Leased: m.GetLeasedBytes(), Lines: m.GetLines(),
	}
}

func encodeEmpty(e credit.Empty) creditv1.Empty {
	switch e {
	case credit.Serve:
		return creditv1.Empty_EMPTY_SERVE
	case credit.Throttle:
		return creditv1.Empty_EMPTY_THROTTLE
	case credit.Refuse:
		return creditv1.Empty_EMPTY_REFUSE
	}
	return creditv1.Empty_EMPTY_UNSPECIFIED
}

func decodeEmpty(e creditv1.Empty) credit.Empty {
	switch e {
	case creditv1.Empty_EMPTY_THROTTLE:
		return credit.Throttle
	case creditv1.Empty_EMPTY_REFUSE:
		return credit.Refuse
	case creditv1.Empty_EMPTY_SERVE, creditv1.Empty_EMPTY_UNSPECIFIED:
	}
	return credit.Serve
}

// decodeLine fails for a line about something that is no hash.
func decodeLine(m *creditv1.StatementLine) (l Line, err error) {
	l = Line{
		Seq: m.GetSeq(), Time: m.GetTime().AsTime(), Kind: enumText("ENTRY_KIND_", m.GetKind()),
		From: decodeName(m.GetFrom()), To: decodeName(m.GetTo()), Amount: credit.Amount(m.GetAmount()), Bytes: m.GetBytes(),
		Ref: printable(m.GetRef()), Balance: credit.Amount(m.GetBalance()),
	}
	if m.GetObject() != "" {
		if l.Object, err = cas.ParseHash(m.GetObject()); err != nil {
			return Line{}, fmt.Errorf("%w: its statement: %w", ErrRefused, err)
		}
	}
	return l, nil
}

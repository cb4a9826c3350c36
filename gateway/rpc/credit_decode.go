package rpc

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/mesh"
	creditv1 "inos.dev/edge/proto/gen/inos/credit/v1"
)

// account accepts nothing, which is the caller's own, an account, or a subject
// alone.
func (v *violations) account(s string) credit.Account {
	if s == "" {
		return ""
	}
	a, err := credit.ParseAccount(s)
	if err != nil {
		v.add("account", "%v", err)
	}
	return a
}

// amount accepts from to credit.MaxAmount.
func (v *violations) amount(field string, n int64, from credit.Amount) credit.Amount {
	a := credit.Amount(n)
	if a < from || a > credit.MaxAmount {
		v.add(field, "is %d micro-credits; %d to %d are possible", n, from, credit.MaxAmount)
	}
	return a
}

// key accepts an idempotency key.
func (v *violations) key(s string) {
	if !plainName(s, MinKey) {
		v.add("idempotency_key", "has %d characters; it is %d to %d letters, digits, - and _, chosen by the caller", len(s), MinKey, MaxKey)
	}
}

// plainName reports whether s is from to MaxKey letters, digits, - and _.
func plainName(s string, from int) bool {
	return len(s) >= from && len(s) <= MaxKey && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}

// note accepts short text on one line.
func (v *violations) note(field, s string) {
	if len(s) > MaxNote || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		v.add(field, "is no printable text of at most %d bytes", MaxNote)
	}
}

func decodeAccount(s string) (credit.Account, error) {
	var v violations
	a := v.account(s)
	return a, v.err()
}

func decodeAccounts(req *creditv1.ListAccountsRequest) (after credit.Account, n int, err error) {
	var v violations
	n = v.pageSize(req.GetPageSize(), DefaultLines, MaxLines)
	after, err = decodeAccountToken(req.GetPageToken())
	if err != nil {
		v.add("page_token", "%v", err)
	}
	return after, n, v.err()
}

// decodeStatement leaves the page token to the books, whose it is.
func decodeStatement(req *creditv1.GetStatementRequest) (a credit.Account, n int, err error) {
	var v violations
	a = v.account(req.GetAccount())
	n = v.pageSize(req.GetPageSize(), DefaultLines, MaxLines)
	return a, n, v.err()
}

func decodeGrant(req *creditv1.GrantRequest) (to credit.Account, amount credit.Amount, err error) {
	var v violations
	if to = v.account(req.GetAccount()); req.GetAccount() == "" {
		v.add("account", "is missing")
	} else if to == credit.Treasury {
		v.add("account", "is the treasury, which issues")
	} else if to.IsEscrow() {
		v.add("account", "is a pledge's; TopUpPledge locks more credits in it")
	}
	amount = v.amount("amount", req.GetAmount(), 1)
	v.note("note", req.GetNote())
	v.key(req.GetIdempotencyKey())
	return to, amount, v.err()
}

func decodeSetTerms(req *creditv1.SetTermsRequest) (a credit.Account, whenEmpty *credit.Empty, debt *credit.Amount, err error) {
	var v violations
	a = v.account(req.GetAccount())
	if req.WhenEmpty == nil && req.Debt == nil {
		v.add("when_empty", "is missing, and so is debt: nothing would change")
	}
	if req.WhenEmpty != nil {
		e, ok := decodeEmpty(req.GetWhenEmpty())
		if !ok {
			v.add("when_empty", "is %d, which is nothing that can happen", req.GetWhenEmpty())
		}
		whenEmpty = &e
	}
	if req.Debt != nil {
		d := v.amount("debt", req.GetDebt(), 0)
		debt = &d
	}
	return a, whenEmpty, debt, v.err()
}

func decodeEmpty(e creditv1.Empty) (credit.Empty, bool) {
	switch e {
	case creditv1.Empty_EMPTY_UNSPECIFIED, creditv1.Empty_EMPTY_SERVE:
		return credit.Serve, true
	case creditv1.Empty_EMPTY_THROTTLE:
		return credit.Throttle, true
	case creditv1.Empty_EMPTY_REFUSE:
		return credit.Refuse, true
	}
	return "", false
}

func decodeClient(req *creditv1.OpenDeliveryRequest) (mesh.Key, error) {
	var v violations
	k := v.meshKey("client", req.GetClient())
	return k, v.err()
}

func (v *violations) meshKey(field, s string) mesh.Key {
	k, err := mesh.ParseKey(s)
	if err != nil {
		v.add(field, "%v", err)
	}
	return k
}

// decodeReceipt checks the form; whether the receipt holds is for Deliveries to
// say.
func decodeReceipt(req *creditv1.SubmitReceiptRequest) (r mesh.Receipt, err error) {
	var v violations
	m := req.GetReceipt()
	if m == nil {
		v.add("receipt", "is missing")
		return r, v.err()
	}
	if r.Nonce, err = mesh.ParseNonce(m.GetNonce()); err != nil {
		v.add("receipt.nonce", "%v", err)
	}
	r.Client = v.meshKey("receipt.client", m.GetClient())
	r.Server = v.meshKey("receipt.server", m.GetServer())
	r.Bytes = m.GetBytes()
	r.Chunks = v.hash("receipt.chunks", m.GetChunks())
	if m.GetTime() == nil {
		v.add("receipt.time", "is missing")
	}
	r.Time = v.time("receipt.time", m.GetTime())
	if n := len(m.GetSignature()); n == mesh.SignatureSize {
		r.Signature = mesh.Signature(m.GetSignature())
	} else {
		v.add("receipt.signature", "has %d bytes instead of %d", n, mesh.SignatureSize)
	}
	return r, v.err()
}

package rpc

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/ledger"
	"inos.dev/edge/mesh"
	creditv1 "inos.dev/edge/proto/gen/inos/credit/v1"
)

// encodeAccount tells of an account by one node's journal.
func encodeAccount(name credit.Account, st credit.State, terms credit.Terms) *creditv1.Account {
	return &creditv1.Account{
		Account:       string(name),
		Balance:       int64(st.Balance),
		Local:         int64(st.Balance),
		Terms:         &creditv1.Terms{WhenEmpty: encodeEmpty(terms.WhenEmpty), Debt: int64(terms.Debt)},
		ServedBytes:   st.Served,
		AttestedBytes: st.Attested,
		EarnedBytes:   st.Earned,
		ProvenBytes:   st.Proven,
		LeasedBytes:   st.Leased,
		Lines:         st.Entries,
	}
}

func encodeEmpty(e credit.Empty) creditv1.Empty {
	switch e {
	case credit.Throttle:
		return creditv1.Empty_EMPTY_THROTTLE
	case credit.Refuse:
		return creditv1.Empty_EMPTY_REFUSE
	case credit.Serve:
	}
	return creditv1.Empty_EMPTY_SERVE // the default, said aloud
}

func encodeEntryKind(k credit.Kind) creditv1.EntryKind {
	switch k {
	case credit.KindGrant:
		return creditv1.EntryKind_ENTRY_KIND_GRANT
	case credit.KindServe:
		return creditv1.EntryKind_ENTRY_KIND_SERVE
	case credit.KindLease:
		return creditv1.EntryKind_ENTRY_KIND_LEASE
	case credit.KindEscrow:
		return creditv1.EntryKind_ENTRY_KIND_ESCROW
	case credit.KindRetain:
		return creditv1.EntryKind_ENTRY_KIND_RETAIN
	case credit.KindRelease:
		return creditv1.EntryKind_ENTRY_KIND_RELEASE
	case credit.KindAttest:
		return creditv1.EntryKind_ENTRY_KIND_ATTEST
	case credit.KindDoc:
		return creditv1.EntryKind_ENTRY_KIND_DOCUMENT
	}
	return creditv1.EntryKind_ENTRY_KIND_UNSPECIFIED
}

func encodeLine(l *credit.Line) *creditv1.StatementLine {
	return &creditv1.StatementLine{
		Seq:     l.Seq,
		Time:    encodeTime(l.Time),
		Kind:    encodeEntryKind(l.Entry.Kind),
		From:    string(l.Entry.From),
		To:      string(l.Entry.To),
		Amount:  int64(l.Entry.Amount),
		Bytes:   l.Entry.Bytes,
		Object:  text(l.Entry.Object),
		Ref:     l.Entry.Ref,
		Balance: int64(l.Balance),
	}
}

func encodeAudit(r ledger.Report, took time.Duration) *creditv1.AuditResponse {
	return &creditv1.AuditResponse{
		Ok:          r.OK,
		Problems:    r.Problems,
		Records:     r.Records,
		Entries:     r.Entries,
		Accounts:    int64(r.Accounts),
		Documents:   int64(r.Documents),
		Sum:         int64(r.Sum),
		LeasedBytes: r.Leased,
		TornBytes:   r.Torn,
		Head:        text(r.Head),
		Took:        durationpb.New(took),
	}
}

func encodeCountersigned(c mesh.Countersigned) *creditv1.Countersigned {
	return &creditv1.Countersigned{
		Receipt: &creditv1.Receipt{
			Nonce:     c.Receipt.Nonce.String(),
			Client:    c.Receipt.Client.String(),
			Server:    c.Receipt.Server.String(),
			Bytes:     c.Receipt.Bytes,
			Chunks:    c.Receipt.Chunks.String(),
			Time:      timestamppb.New(c.Receipt.Time),
			Signature: c.Receipt.Signature[:],
		},
		CountedBytes:  c.Counted,
		AttestedBytes: c.Attested,
		Time:          timestamppb.New(c.Time),
		Signature:     c.Signature[:],
	}
}

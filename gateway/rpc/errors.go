package rpc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/books"
	"inos.dev/edge/gateway/credit/delivery"
	"inos.dev/edge/gateway/credit/journal"
	"inos.dev/edge/gateway/credit/ledger"
	"inos.dev/edge/gateway/credit/pledge"
	"inos.dev/edge/gateway/event"
	"inos.dev/edge/mesh"
	"inos.dev/edge/mesh/exchange"
	casv1 "inos.dev/edge/proto/gen/inos/cas/v1"
)

// errorDomain is the domain of every ErrorInfo.
const errorDomain = "inos.dev"

var (
	errPanic    = errors.New("panic")
	errNoSpace  = errors.New("the node has no room for writes; reads go on, try again later or another node")
	errDeadline = errors.New("the call took too long; try again")
	errCanceled = errors.New("the caller went away")
	errJournal  = errors.New("the node's journal cannot be written, so nothing was booked; try again when its disk is well")
	errInternal = errors.New("internal error; the node's log says more")
)

// face is how a sentinel looks from outside.
type face struct {
	is     error
	code   connect.Code
	reason string // of the ErrorInfo; none if empty, where the code says it all
	say    error  // instead of the error's own text where that is not for strangers
	log    bool   // the error's own text goes to the node's log
}

// faces is the table of all sentinels, the most particular first. The HTTP
// routes have the same one with status codes.
var faces = []face{
	{is: auth.ErrUnauthenticated, code: connect.CodeUnauthenticated, reason: "UNAUTHENTICATED"},
	{is: auth.ErrForbidden, code: connect.CodePermissionDenied, reason: "FORBIDDEN"},
	{is: auth.ErrQuota, code: connect.CodeResourceExhausted, reason: "OVER_QUOTA"},
	{is: cas.ErrDenied, code: connect.CodePermissionDenied, reason: "DENIED"},
	{is: cas.ErrBadHash, code: connect.CodeInvalidArgument, reason: "MALFORMED_HASH"},
	{is: cas.ErrHashMismatch, code: connect.CodeInvalidArgument, reason: "HASH_MISMATCH"},
	{is: cas.ErrNotCanonical, code: connect.CodeInvalidArgument, reason: "NOT_CANONICAL"},
	{is: cas.ErrShape, code: connect.CodeInvalidArgument, reason: "NOT_BR1"},
	{is: mesh.ErrPolicy, code: connect.CodeInvalidArgument, reason: "BAD_POLICY"},
	{is: catalog.ErrOwners, code: connect.CodeResourceExhausted, reason: "TOO_MANY_OWNERS"},
	{is: cas.ErrTooLarge, code: connect.CodeInvalidArgument, reason: "TOO_LARGE"},
	{is: cas.ErrNotObject, code: connect.CodeNotFound, reason: "NOT_AN_OBJECT"},
	{is: credit.ErrOutOfCredit, code: connect.CodeUnavailable, reason: "PUBLISHER_OUT_OF_CREDIT"},
	{is: credit.ErrUnderfunded, code: connect.CodeFailedPrecondition, reason: "UNDERFUNDED"},
	{is: credit.ErrAccount, code: connect.CodeInvalidArgument, reason: "NOT_AN_ACCOUNT"},
	{is: credit.ErrPrice, code: connect.CodeInvalidArgument, reason: "NOT_A_PRICE"},
	{is: credit.ErrEntry, code: connect.CodeInvalidArgument, reason: "NOT_AN_ENTRY"},
	{is: ledger.ErrCursor, code: connect.CodeInvalidArgument, reason: "NOT_A_CURSOR"},
	{is: books.ErrShare, code: connect.CodeUnavailable, reason: "BOOKS_APART"},
	{is: books.ErrUnbooked, code: connect.CodeUnavailable, reason: "UNBOOKED"},
	{is: books.ErrClosed, code: connect.CodeUnavailable, reason: "DRAINING"},
	{is: journal.ErrFailed, code: connect.CodeUnavailable, reason: "UNBOOKED", say: errJournal, log: true},
	{is: errLong, code: connect.CodeFailedPrecondition, reason: "JOURNAL_TOO_LONG"},
	{is: errApart, code: connect.CodeUnavailable, reason: "HEAT_APART"},
	{is: pledge.ErrUnknown, code: connect.CodeNotFound, reason: "NO_SUCH_PLEDGE"},
	{is: pledge.ErrExists, code: connect.CodeAlreadyExists, reason: "PLEDGE_EXISTS"},
	{is: pledge.ErrRequest, code: connect.CodeInvalidArgument, reason: "BAD_PLEDGE"},
	{is: pledge.ErrOwner, code: connect.CodePermissionDenied, reason: "ANOTHERS_PLEDGE"},
	{is: pledge.ErrOver, code: connect.CodeFailedPrecondition, reason: "PLEDGE_OVER"},
	{is: pledge.ErrTooMany, code: connect.CodeResourceExhausted, reason: "TOO_MANY_PLEDGES"},
	{is: mesh.ErrReceipt, code: connect.CodeInvalidArgument, reason: "NOT_A_RECEIPT"},
	{is: mesh.ErrSignature, code: connect.CodeInvalidArgument, reason: "BAD_SIGNATURE"},
	{is: delivery.ErrUnknown, code: connect.CodeNotFound, reason: "NO_SUCH_DELIVERY"},
	{is: delivery.ErrTooMany, code: connect.CodeResourceExhausted, reason: "TOO_MANY_DELIVERIES"},
	{is: delivery.ErrIdentity, code: connect.CodePermissionDenied, reason: "ANOTHERS_DELIVERY"},
	{is: delivery.ErrServer, code: connect.CodeInvalidArgument, reason: "ANOTHER_SERVER"},
	{is: delivery.ErrTooOften, code: connect.CodeResourceExhausted, reason: "TOO_MANY_RECEIPTS"},
	{is: delivery.ErrTime, code: connect.CodeFailedPrecondition, reason: "NOT_OF_NOW"},
	{is: exchange.ErrUnanswered, code: connect.CodeUnavailable, reason: "SOURCES_SILENT"},
	{is: exchange.ErrBusy, code: connect.CodeUnavailable, reason: "BUSY"},
	{is: exchange.ErrClosed, code: connect.CodeUnavailable, reason: "DRAINING"},
	{is: cas.ErrNotFound, code: connect.CodeNotFound, reason: "NOT_FOUND"},
	{is: cas.ErrNoSpace, code: connect.CodeResourceExhausted, reason: "NO_ROOM", say: errNoSpace},
	{is: cas.ErrCorrupt, code: connect.CodeDataLoss, reason: "CORRUPT"},
	{is: event.ErrName, code: connect.CodeInvalidArgument, reason: "BAD_EVENT"},
	{is: event.ErrEvent, code: connect.CodeInvalidArgument, reason: "BAD_EVENT"},
	{is: event.ErrTransition, code: connect.CodeFailedPrecondition, reason: "ILLEGAL_TRANSITION"},
	{is: event.ErrForeign, code: connect.CodePermissionDenied, reason: "FOREIGN_EVENT"},
	{is: event.ErrTooMany, code: connect.CodeResourceExhausted, reason: "TOO_MANY_STREAMS"},
	{is: event.ErrClosed, code: connect.CodeUnavailable, reason: "DRAINING"},
	{is: context.DeadlineExceeded, code: connect.CodeDeadlineExceeded, say: errDeadline},
	{is: context.Canceled, code: connect.CodeCanceled, say: errCanceled},
}

// internalFace is how every error looks that is not in the table.
var internalFace = face{code: connect.CodeInternal, reason: "INTERNAL", say: errInternal, log: true}

func faceOf(err error) face {
	for _, f := range faces {
		if errors.Is(err, f.is) {
			return f
		}
	}
	return internalFace
}

// Face returns the code that clients see for an error of this node, in lower
// case as Connect writes it, and the reason of its ErrorInfo, if there is one.
func Face(err error) (code, reason string) {
	f := faceOf(err)
	return f.code.String(), f.reason
}

// asConnect gives err its code, message and details. log is true if the
// caller should log err, since the client does not see its own text.
func asConnect(err error) (ce *connect.Error, log bool) {
	if ce, ok := errors.AsType[*connect.Error](err); ok {
		return ce, false
	}
	if m, ok := errors.AsType[missing](err); ok {
		return missingChunks(m, err), false
	}
	f := faceOf(err)
	text := f.say
	if text == nil {
		text = err
	}
	ce = connect.NewError(f.code, text)
	if f.reason == "" {
		return ce, f.log
	}
	info := &errdetails.ErrorInfo{Reason: f.reason, Domain: errorDomain}
	if about, ok := errors.AsType[*aboutError](err); ok {
		info.Metadata = map[string]string{"hash": about.hash.String()}
	}
	addDetail(ce, info)
	if wait := retryAfter(err); wait > 0 {
		addDetail(ce, &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	}
	return ce, f.log
}

// retryAfter is when to try again, or 0 if the error does not say.
func retryAfter(err error) time.Duration {
	if q, ok := errors.AsType[*auth.QuotaError](err); ok {
		return q.RetryAfter
	}
	if m, ok := errors.AsType[*exchange.MissError](err); ok {
		return m.RetryAfter
	}
	return 0
}

// missing is the error of a commit whose chunks are not all here: some of
// them, and whether there are more.
type missing interface {
	error
	MissingChunks() (some []cas.Hash, more bool)
}

// maxMissing is the most hashes in a MissingChunks detail.
const maxMissing = 1000

func missingChunks(m missing, err error) *connect.Error {
	ce := connect.NewError(connect.CodeFailedPrecondition, err)
	addDetail(ce, &errdetails.ErrorInfo{Reason: "CHUNKS_MISSING", Domain: errorDomain})
	some, more := m.MissingChunks()
	detail := &casv1.MissingChunks{More: more || len(some) > maxMissing}
	for _, h := range some[:min(len(some), maxMissing)] {
		detail.Hashes = append(detail.Hashes, h.String())
	}
	addDetail(ce, detail)
	return ce
}

// addDetail attaches a message of this program; such a message always
// encodes, and if it should not, the error goes out without it.
func addDetail(ce *connect.Error, m proto.Message) {
	if d, err := connect.NewErrorDetail(m); err == nil {
		ce.AddDetail(d)
	}
}

// aboutError says which hash an error is about.
type aboutError struct {
	hash cas.Hash
	err  error
}

func (e *aboutError) Error() string { return fmt.Sprintf("%s: %v", e.hash, e.err) }
func (e *aboutError) Unwrap() error { return e.err }

// about adds the hash to a non-nil error.
func about(h cas.Hash, err error) error {
	if err == nil {
		return nil
	}
	return &aboutError{h, err}
}

package rpc

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	"inos.dev/edge/cas"
	casv1 "inos.dev/edge/proto/gen/inos/cas/v1"
)

// errorDomain is the domain of every ErrorInfo.
const errorDomain = "inos.dev"

var (
	errPanic    = errors.New("panic")
	errCorrupt  = errors.New("stored bytes are corrupt; the node has set them aside, try another node")
	errNoSpace  = errors.New("the node has no room for writes; reads go on, try again later or another node")
	errDeadline = errors.New("the call took too long")
	errCanceled = errors.New("the caller went away")
	errInternal = errors.New("internal error; the node's log says more")
)

// fault is the public face of a sentinel.
type fault struct {
	is     error
	code   connect.Code
	reason string
	// say replaces the message where the real one is for the node's log only;
	// nil shows it.
	say error
}

// faults is the table of all sentinels, the most particular first. The HTTP
// routes have the same one with status codes.
var faults = []fault{
	{is: ErrNoToken, code: connect.CodeUnauthenticated, reason: "NO_TOKEN"},
	{is: ErrNoRight, code: connect.CodePermissionDenied, reason: "NO_RIGHT"},
	{is: cas.ErrDenied, code: connect.CodePermissionDenied, reason: "DENIED"},
	{is: cas.ErrBadHash, code: connect.CodeInvalidArgument, reason: "MALFORMED_HASH"},
	{is: cas.ErrHashMismatch, code: connect.CodeInvalidArgument, reason: "HASH_MISMATCH"},
	{is: cas.ErrNotCanonical, code: connect.CodeInvalidArgument, reason: "NOT_CANONICAL"},
	{is: cas.ErrShape, code: connect.CodeInvalidArgument, reason: "NOT_BR1"},
	{is: cas.ErrTooLarge, code: connect.CodeInvalidArgument, reason: "TOO_LARGE"},
	{is: cas.ErrNotObject, code: connect.CodeNotFound, reason: "NOT_AN_OBJECT"},
	{is: cas.ErrNotFound, code: connect.CodeNotFound, reason: "NOT_FOUND"},
	{is: cas.ErrNoSpace, code: connect.CodeResourceExhausted, reason: "NO_SPACE", say: errNoSpace},
	{is: cas.ErrCorrupt, code: connect.CodeDataLoss, reason: "CORRUPT", say: errCorrupt},
	{is: context.DeadlineExceeded, code: connect.CodeDeadlineExceeded, reason: "DEADLINE", say: errDeadline},
	{is: context.Canceled, code: connect.CodeCanceled, reason: "CANCELED", say: errCanceled},
}

// internal is the face of every error that is not in the table.
var internal = fault{code: connect.CodeInternal, reason: "INTERNAL", say: errInternal}

func faultOf(err error) fault {
	for _, f := range faults {
		if errors.Is(err, f.is) {
			return f
		}
	}
	return internal
}

// missing is the error of a commit whose chunks are not all here: some of
// them, and whether there are more.
type missing interface {
	error
	MissingChunks() (some []cas.Hash, more bool)
}

// asConnect gives err its code, message and details. hidden is true if the
// client does not see err's own text and the node is to blame, so that the
// caller should log it.
func asConnect(err error) (ce *connect.Error, hidden bool) {
	if ce, ok := errors.AsType[*connect.Error](err); ok {
		return ce, false
	}
	if m, ok := errors.AsType[missing](err); ok {
		return missingChunks(m, err), false
	}
	f := faultOf(err)
	text := f.say
	if text == nil {
		text = err
	}
	ce = connect.NewError(f.code, text)
	info := &errdetails.ErrorInfo{Reason: f.reason, Domain: errorDomain}
	if about, ok := errors.AsType[*aboutError](err); ok {
		info.Metadata = map[string]string{"hash": about.hash.String()}
	}
	addDetail(ce, info)
	return ce, f.say != nil && f.is != context.Canceled
}

// maxMissing is the most hashes in a MissingChunks detail.
const maxMissing = 1000

func missingChunks(m missing, err error) *connect.Error {
	ce := connect.NewError(connect.CodeFailedPrecondition, err)
	addDetail(ce, &errdetails.ErrorInfo{Reason: "MISSING_CHUNKS", Domain: errorDomain})
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

package remote

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// Sentinels beside those of package cas, which an answer is translated to.
var (
	// ErrUnavailable: the node cannot be reached, broke off, or is too busy.
	ErrUnavailable = errors.New("the node is not available")
	// ErrNoRight: the node wants a token, or another one.
	ErrNoRight = errors.New("the node does not allow this")
	// ErrIncomplete: a commit needs chunks that the node lacks.
	ErrIncomplete = errors.New("the node lacks chunks of this object")
	// ErrRefused: the node does not take the request, for another reason.
	ErrRefused = errors.New("the node refuses the request")
)

// Error is what a node answered instead of what it was asked for. It wraps
// one of the sentinels.
type Error struct {
	// Kind is the sentinel.
	Kind error
	// Text is what the node says of it, for people.
	Text string
	// RetryAfter is how long the node asks to be left alone; 0 if it does not.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	if e.Text == "" {
		return e.Kind.Error()
	}
	return fmt.Sprintf("%v: %s", e.Kind, e.Text)
}

func (e *Error) Unwrap() error { return e.Kind }

// maxText bounds what of a node's own words reaches a terminal.
const maxText = 500

// printable keeps a node's words on one line, without control characters.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return strings.TrimSpace(s)
}

// unreachable translates the error of a request that got no answer.
func (n *Node) unreachable(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, ErrRefused) {
		return err
	}
	if connected(err) {
		n.reached.Store(true)
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, n.base.Host, err)
}

// connected reports whether something that may be the node was reached before
// the request failed.
func connected(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return false
	}
	_, badCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	return !badCertificate && !noTLS
}

// kindOfStatus is the table of what an HTTP status means.
func kindOfStatus(status int) error {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrNoRight
	case http.StatusNotFound:
		return cas.ErrNotFound
	case http.StatusConflict:
		return ErrIncomplete
	case http.StatusGone, http.StatusUnavailableForLegalReasons:
		return cas.ErrDenied
	case http.StatusRequestEntityTooLarge:
		return cas.ErrTooLarge
	case http.StatusInsufficientStorage:
		return cas.ErrNoSpace
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return ErrUnavailable
	}
	return ErrRefused
}

// answerError reads an answer with an unwanted status.
func (n *Node) answerError(resp *http.Response) error {
	e := &Error{Kind: kindOfStatus(resp.StatusCode), RetryAfter: retryAfter(resp.Header)}
	var problem struct{ Type, Title, Detail string }
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err == nil && json.Unmarshal(body, &problem) == nil {
		if kind := kindOfType(problem.Type); kind != nil {
			e.Kind = kind
		}
		e.Text = printable(problem.Detail)
		if e.Text == "" {
			e.Text = printable(problem.Title)
		}
	}
	if e.Text == "" {
		e.Text = fmt.Sprintf("%s answered %d %s", n.base.Host, resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return e
}

// retryAfter reads a number of seconds; a date, which no node sends, counts
// as nothing.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, 3600)) * time.Second
}

// kindOfReason is the table of the reasons that calls answer, and of the types
// of HTTP problems, which have the same words (urn:inos:problem:not-found).
func kindOfReason(reason string) error {
	switch reason {
	case "UNAUTHENTICATED", "TOKEN_NEEDED", "FORBIDDEN":
		return ErrNoRight
	case "DENIED":
		return cas.ErrDenied
	case "MALFORMED_HASH":
		return cas.ErrBadHash
	case "HASH_MISMATCH":
		return cas.ErrHashMismatch
	case "NOT_CANONICAL":
		return cas.ErrNotCanonical
	case "NOT_BR1":
		return cas.ErrShape
	case "TOO_LARGE":
		return cas.ErrTooLarge
	case "NOT_AN_OBJECT":
		return cas.ErrNotObject
	case "NOT_FOUND":
		return cas.ErrNotFound
	case "NO_ROOM":
		return cas.ErrNoSpace
	case "CORRUPT":
		return cas.ErrCorrupt
	case "MISSING_CHUNKS", "CHUNKS_MISSING":
		return ErrIncomplete
	case "OVER_QUOTA", "SOURCES_SILENT", "BUSY", "DRAINING":
		return ErrUnavailable
	case "PUBLISHER_OUT_OF_CREDIT":
		return credit.ErrOutOfCredit
	case "UNDERFUNDED":
		return credit.ErrUnderfunded
	case "NOT_AN_ACCOUNT":
		return credit.ErrAccount
	}
	return nil
}

// kindOfType is kindOfReason for the type of a problem.
func kindOfType(urn string) error {
	name, ok := strings.CutPrefix(urn, "urn:inos:problem:")
	if !ok {
		return nil
	}
	return kindOfReason(strings.ToUpper(strings.ReplaceAll(name, "-", "_")))
}

// kindOfCode is what a code means where no reason says more.
func kindOfCode(code connect.Code) error {
	switch code {
	case connect.CodeUnauthenticated, connect.CodePermissionDenied:
		return ErrNoRight
	case connect.CodeNotFound:
		return cas.ErrNotFound
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeResourceExhausted, connect.CodeAborted:
		return ErrUnavailable
	}
	return ErrRefused
}

// callError translates the error of a call.
func (n *Node) callError(err error) error {
	ce, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return n.unreachable(err)
	}
	if ce.Code() == connect.CodeUnimplemented {
		return &Error{Kind: ErrRefused, Text: n.base.Host + " does not offer this: it was started with --no-credits or --no-heat, or is an older version"}
	}
	if !connect.IsWireError(err) {
		return n.localError(ce)
	}
	n.reached.Store(true)
	e := &Error{Kind: kindOfCode(ce.Code()), Text: printable(ce.Message()), RetryAfter: retryAfter(ce.Meta())}
	for _, detail := range ce.Details() {
		m, err := detail.Value()
		if err != nil {
			continue // a detail that a later node adds
		}
		if info, ok := m.(*errdetails.ErrorInfo); ok {
			if kind := kindOfReason(info.GetReason()); kind != nil {
				e.Kind = kind
			}
		}
	}
	return e
}

// localError is a call that failed on this side: there was no answer, or none
// that a node gives.
func (n *Node) localError(ce *connect.Error) error {
	switch ce.Code() {
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeUnknown, connect.CodeCanceled, connect.CodeInternal:
		return n.unreachable(ce.Unwrap())
	}
	return &Error{Kind: kindOfCode(ce.Code()), Text: printable(fmt.Sprintf("%s: %s", n.base.Host, ce.Message()))}
}

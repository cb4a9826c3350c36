package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/books"
	"inos.dev/edge/gateway/credit/delivery"
	"inos.dev/edge/gateway/credit/journal"
	"inos.dev/edge/gateway/credit/pledge"
	"inos.dev/edge/mesh/exchange"
	casv1 "inos.dev/edge/proto/gen/inos/cas/v1"
)

// detail returns the error's detail of type T, or nil.
func detail[T proto.Message](err error) (found T) {
	ce, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return found
	}
	for _, d := range ce.Details() {
		v, err := d.Value()
		if err != nil {
			continue
		}
		if m, ok := v.(T); ok {
			return m
		}
	}
	return found
}

func reason(err error) string { return detail[*errdetails.ErrorInfo](err).GetReason() }

func TestErrorTable(t *testing.T) {
	secret := "/var/lib/secret"
	for _, tc := range []struct {
		err    error
		code   connect.Code
		reason string
		shown  bool
		logged bool
	}{
		{cas.ErrNotFound, connect.CodeNotFound, "NOT_FOUND", true, false},
		{cas.ErrNotObject, connect.CodeNotFound, "NOT_AN_OBJECT", true, false},
		{cas.ErrDenied, connect.CodePermissionDenied, "DENIED", true, false},
		{cas.ErrBadHash, connect.CodeInvalidArgument, "MALFORMED_HASH", true, false},
		{cas.ErrHashMismatch, connect.CodeInvalidArgument, "HASH_MISMATCH", true, false},
		{cas.ErrShape, connect.CodeInvalidArgument, "NOT_BR1", true, false},
		{cas.ErrNotCanonical, connect.CodeInvalidArgument, "NOT_CANONICAL", true, false},
		{cas.ErrTooLarge, connect.CodeInvalidArgument, "TOO_LARGE", true, false},
		{cas.ErrCorrupt, connect.CodeDataLoss, "CORRUPT", true, false},
		{exchange.ErrUnanswered, connect.CodeUnavailable, "SOURCES_SILENT", true, false},
		{cas.ErrNoSpace, connect.CodeResourceExhausted, "NO_ROOM", false, false},
		{credit.ErrOutOfCredit, connect.CodeUnavailable, "PUBLISHER_OUT_OF_CREDIT", true, false},
		{credit.ErrUnderfunded, connect.CodeFailedPrecondition, "UNDERFUNDED", true, false},
		{books.ErrShare, connect.CodeUnavailable, "BOOKS_APART", true, false},
		{journal.ErrFailed, connect.CodeUnavailable, "UNBOOKED", false, true},
		{pledge.ErrOver, connect.CodeFailedPrecondition, "PLEDGE_OVER", true, false},
		{delivery.ErrTooMany, connect.CodeResourceExhausted, "TOO_MANY_DELIVERIES", true, false},
		{context.DeadlineExceeded, connect.CodeDeadlineExceeded, "", false, false},
		{errors.New("anything"), connect.CodeInternal, "INTERNAL", false, true},
	} {
		n := newFakeNode(t)
		n.fail = fmt.Errorf("%w: %s", tc.err, secret)
		h := cas.Hash{3}.String()
		_, err := client(t, serve(t, n)).GetManifest(t.Context(), &casv1.GetManifestRequest{Hash: h})
		info := detail[*errdetails.ErrorInfo](err)
		if connect.CodeOf(err) != tc.code || info.GetReason() != tc.reason || tc.reason != "" && (info.GetDomain() != "inos.dev" || info.GetMetadata()["hash"] != h) {
			t.Errorf("%v: %v %v", tc.err, err, info)
		}
		if shown := strings.Contains(err.Error(), secret); shown != tc.shown {
			t.Errorf("%v: the client reads %q", tc.err, err)
		}
		if logged := strings.Contains(n.log.String(), secret); logged != tc.logged {
			t.Errorf("%v: the log has %q", tc.err, n.log)
		}
	}
}

// TestEverySentinel: no sentinel of the table is reached by another's row.
func TestEverySentinel(t *testing.T) {
	for _, f := range faces {
		if got := faceOf(f.is); !errors.Is(got.is, f.is) {
			t.Errorf("%v has the row of %v", f.is, got.is)
		}
	}
}

func TestRetry(t *testing.T) {
	for _, err := range []error{
		&auth.QuotaError{RetryAfter: 7 * time.Second},
		&exchange.MissError{Unanswered: true, RetryAfter: 7 * time.Second},
	} {
		ce, _ := asConnect(err)
		if d := detail[*errdetails.RetryInfo](ce).GetRetryDelay().AsDuration(); d != 7*time.Second {
			t.Errorf("%v: retry after %v", ce, d)
		}
	}
}

func TestPanic(t *testing.T) {
	n := newFakeNode(t)
	cfg := n.config()
	g := &guard{log: cfg.Log, timeout: time.Minute}
	err := g.panicked(t.Context(), connect.Spec{Procedure: "/p"}, nil, "the secret")
	if connect.CodeOf(err) != connect.CodeInternal || strings.Contains(err.Error(), "secret") {
		t.Errorf("client reads %v", err)
	}
	if !strings.Contains(n.log.String(), "the secret") || !strings.Contains(n.log.String(), "errors_test.go") {
		t.Errorf("log: %s", n.log)
	}

	n = newFakeNode(t)
	n.store = nil // every use of it panics
	c := client(t, serve(t, n))
	_, err = c.Stat(t.Context(), &casv1.StatRequest{Hashes: []string{cas.Hash{1}.String()}})
	check(t, "Stat", nil, connect.CodeOf(err).String()+" "+reason(err), "internal INTERNAL")
	if _, err := c.GetNode(t.Context(), &casv1.GetNodeRequest{}); err != nil {
		t.Errorf("after a panic: %v", err)
	}
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNode(t)
		g := &guard{log: n.config().Log, timeout: 60 * time.Second}
		call := g.WrapUnary(func(ctx context.Context, _ connect.AnyRequest) (connect.AnyResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		start := time.Now()
		_, err := call(t.Context(), connect.NewRequest(&casv1.GetNodeRequest{}))
		if connect.CodeOf(err) != connect.CodeDeadlineExceeded || time.Since(start) != 60*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/gateway/content"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/books"
	"inos.dev/edge/gateway/rpc"
	"inos.dev/edge/gateway/upload"
	"inos.dev/edge/mesh"
	"inos.dev/edge/mesh/exchange"
)

// TestFacesAgree holds the table of HTTP against that of Connect: a sentinel
// that both can meet has a status and a code that say the same.
func TestFacesAgree(t *testing.T) {
	same := map[int][]string{
		400: {"invalid_argument"}, 401: {"unauthenticated"}, 403: {"permission_denied"}, 404: {"not_found"}, 409: {"resource_exhausted"},
		410: {"permission_denied"}, 413: {"invalid_argument"}, 422: {"invalid_argument", "data_loss"}, 429: {"resource_exhausted"},
		402: {"failed_precondition"}, 503: {"unavailable"}, 504: {"unavailable", "deadline_exceeded"}, 507: {"resource_exhausted"},
	}
	// What only HTTP can meet: its own errors, those of uploads in parts, of
	// request bodies, and a record that no Connect call can make.
	alone := []error{errNotAcceptable, errMethod, errUnsupported, errRange, errLimit, errPrecondition, errBadRequest,
		upload.ErrOffset, upload.ErrLocked, upload.ErrTooMany, catalog.ErrRecord}
	shared := []error{auth.ErrUnauthenticated, auth.ErrForbidden, auth.ErrQuota, cas.ErrDenied, cas.ErrBadHash, cas.ErrHashMismatch,
		cas.ErrNotCanonical, cas.ErrShape, cas.ErrTooLarge, cas.ErrNotObject, exchange.ErrUnanswered, exchange.ErrBusy, exchange.ErrClosed,
		cas.ErrNotFound, cas.ErrNoSpace, mesh.ErrPolicy, catalog.ErrOwners, cas.ErrCorrupt, context.DeadlineExceeded, credit.ErrOutOfCredit, credit.ErrUnderfunded,
		books.ErrUnbooked, books.ErrClosed}
	for _, err := range shared {
		f := faceOf(fmt.Errorf("around: %w", err))
		code, _ := rpc.Face(fmt.Errorf("around: %w", err))
		if !errors.Is(err, f.is) || !slices.Contains(same[f.status], code) {
			t.Errorf("%v: HTTP %d %s, Connect %s", err, f.status, f.kind, code)
		}
	}
	for _, err := range alone {
		if f := faceOf(err); f.status/100 != 4 || !errors.Is(err, f.is) {
			t.Errorf("%v: HTTP %d", err, f.status)
		}
	}
	kinds := map[string]bool{}
	for _, f := range faces {
		if f.kind == "" || f.title == "" || f.status < 400 || kinds[f.kind] {
			t.Errorf("the face of %v: %+v", f.is, f)
		}
		kinds[f.kind] = true
	}
	if code, _ := rpc.Face(errors.New("unknown")); code != "internal" || faceOf(errors.New("unknown")).status != 500 {
		t.Error("an unknown error is not internal")
	}
}

func TestProblems(t *testing.T) {
	h := cas.Sum([]byte("x"))
	missing := &content.MissingError{Object: h, Some: []cas.Hash{h}, More: true}
	for _, test := range []struct {
		err    error
		status int
		retry  time.Duration
	}{
		{&content.DeniedError{Hash: h}, 410, 0},
		{&content.DeniedError{Hash: h, Legal: true}, 451, 0},
		{missing, 409, 0},
		{&auth.QuotaError{RetryAfter: 7 * time.Second}, 429, 7 * time.Second},
		{&exchange.MissError{Hash: h, Unanswered: true, RetryAfter: 5 * time.Second}, 504, 5 * time.Second},
		{&exchange.MissError{Hash: h}, 404, 0},
		{exchange.ErrBusy, 503, time.Second},
		{credit.ErrOutOfCredit, 503, time.Minute},
		{&books.OutOfCreditError{Account: "user:alice", RetryAfter: 7 * time.Second}, 503, 7 * time.Second},
		{&books.OutOfCreditError{Account: "user:alice", Own: true, RetryAfter: 7 * time.Second}, 402, 0},
		{credit.ErrUnderfunded, 402, 0},
		{errLimit, 429, time.Second},
		{context.DeadlineExceeded, 504, time.Second},
		{errors.New("the disk is on fire at /secret/path"), 500, 0},
		{fmt.Errorf("open /secret/path: %w", cas.ErrNoSpace), 507, 0},
	} {
		p, retry := problemOf(test.err, h)
		if strings.Contains(p.Detail, "/secret") {
			t.Errorf("%v: %q is for the log", test.err, p.Detail)
		}
		if p.Status != test.status || retry != test.retry || p.Hash != h.String() || p.Detail == "" || p.Title == "" {
			t.Errorf("%v: %+v, again after %v", test.err, p, retry)
		}
	}
	if p, _ := problemOf(missing, h); len(p.Missing) != 1 || !p.More || p.Detail != missing.Error() {
		t.Errorf("missing chunks: %+v", p)
	}
}

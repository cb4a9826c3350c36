package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/gateway/content"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/books"
	"inos.dev/edge/gateway/upload"
	"inos.dev/edge/mesh"
	"inos.dev/edge/mesh/exchange"
)

// problem is the body of an error answer (RFC 9457).
type problem struct {
	Type    string     `json:"type"` // urn:inos:problem:…, stable
	Title   string     `json:"title"`
	Status  int        `json:"status"`
	Detail  string     `json:"detail,omitempty"` // what happened and what to do
	Hash    string     `json:"hash,omitempty"`
	Missing []cas.Hash `json:"missing,omitempty"`
	More    bool       `json:"more,omitempty"` // there are more missing than listed
	Tried   []tried    `json:"tried,omitempty"`
}

// tried is one source that was asked for a missing chunk.
type tried struct {
	Source string `json:"source"`
	Answer string `json:"answer"`
	Millis int64  `json:"ms"`
}

// face is how a sentinel looks from outside.
type face struct {
	is     error
	status int
	kind   string // last part of the problem type
	title  string
	// say replaces the error's own text where that is for the log only.
	say string
	// retry is when to come again, where the error does not say.
	retry time.Duration
}

// errors of the HTTP layer itself.
var (
	errNotAcceptable = errors.New("Accept-Encoding excludes every form that there is; allow br or identity")
	errMethod        = errors.New("this method is not for this address")
	errBadRequest    = errors.New("the request cannot be understood")
	errUnsupported   = errors.New("this content coding is not supported; use br, gzip, zstd or none")
	errLimit         = errors.New("too many requests at once; try again in a moment")
	errPrecondition  = errors.New("a precondition of the request does not hold")
)

// faces gives every sentinel its status, the most particular first. The table
// of gateway/rpc has the Connect codes; TestFacesAgree holds them together.
var faces = []face{
	{is: auth.ErrUnauthenticated, status: 401, kind: "token-needed", title: "A token is needed"},
	{is: auth.ErrForbidden, status: 403, kind: "forbidden", title: "The token lacks a right"},
	{is: auth.ErrQuota, status: 429, kind: "over-quota", title: "Over the quota"},
	{is: cas.ErrDenied, status: 410, kind: "denied", title: "Gone"},
	{is: cas.ErrBadHash, status: 400, kind: "malformed-hash", title: "Malformed hash"},
	{is: cas.ErrHashMismatch, status: 422, kind: "hash-mismatch", title: "The bytes have another hash"},
	{is: cas.ErrNotCanonical, status: 422, kind: "not-canonical", title: "Not the canonical encoding"},
	{is: cas.ErrShape, status: 422, kind: "not-br1", title: "Not a br1 chunk"},
	{is: cas.ErrTooLarge, status: 413, kind: "too-large", title: "Too large"},
	{is: cas.ErrNotObject, status: 404, kind: "not-an-object", title: "Not an object"},
	{is: credit.ErrOutOfCredit, status: 503, kind: "publisher-out-of-credit", title: "The publisher is out of credit", retry: time.Minute},
	{is: credit.ErrUnderfunded, status: 402, kind: "underfunded", title: "Not enough credit"},
	{is: books.ErrUnbooked, status: 503, kind: "unbooked", title: "The journal cannot be written"},
	{is: books.ErrClosed, status: 503, kind: "books-closed", title: "The node is going down"},
	{is: exchange.ErrUnanswered, status: 504, kind: "sources-silent", title: "Some sources did not answer"},
	{is: exchange.ErrBusy, status: 503, kind: "busy", title: "Busy"},
	{is: exchange.ErrClosed, status: 503, kind: "draining", title: "The node is going down"},
	{is: cas.ErrNotFound, status: 404, kind: "not-found", title: "Not found"},
	{is: cas.ErrNoSpace, status: 507, kind: "no-room", title: "No room", say: "the node has no room for writes; reads go on, try again later or another node"},
	{is: errNotAcceptable, status: 406, kind: "not-acceptable", title: "Not acceptable"},
	{is: errMethod, status: 405, kind: "method-not-allowed", title: "Method not allowed"},
	{is: errUnsupported, status: 415, kind: "unsupported-coding", title: "Unsupported content coding"},
	{is: errRange, status: 416, kind: "range-not-satisfiable", title: "Range not satisfiable"},
	{is: errLimit, status: 429, kind: "too-many-requests", title: "Too many requests"},
	{is: errPrecondition, status: 412, kind: "precondition-failed", title: "Precondition failed"},
	{is: upload.ErrOffset, status: 409, kind: "wrong-offset", title: "Wrong offset"},
	{is: upload.ErrLocked, status: 423, kind: "upload-locked", title: "The upload is busy"},
	{is: upload.ErrTooMany, status: 429, kind: "too-many-uploads", title: "Too many uploads"},
	{is: mesh.ErrPolicy, status: 400, kind: "bad-policy", title: "Not a possible policy"},
	{is: catalog.ErrOwners, status: 409, kind: "too-many-owners", title: "Too many owners"},
	{is: catalog.ErrRecord, status: 400, kind: "bad-record", title: "Not a possible record"},
	{is: errBadRequest, status: 400, kind: "bad-request", title: "Bad request"},
	{is: cas.ErrCorrupt, status: 422, kind: "corrupt", title: "The bytes are not what they should be"},
	{is: os.ErrDeadlineExceeded, status: 408, kind: "too-slow", title: "Too slow", say: "the upload was too slow; send it again, or in parts to /upload/"},
	{is: context.DeadlineExceeded, status: 504, kind: "deadline", title: "Out of time", say: "the answer took too long; try again"},
	{is: io.ErrUnexpectedEOF, status: 400, kind: "truncated", title: "The request is truncated", say: "the request's body ended early; send it again"},
}

var internalFace = face{status: 500, kind: "internal", title: "Internal error", say: "the node's log says more"}

func faceOf(err error) face {
	for _, f := range faces {
		if errors.Is(err, f.is) {
			return f
		}
	}
	return internalFace
}

// problemOf gives an error its face. retry is 0 if the client need not come
// again.
func problemOf(err error, h cas.Hash) (p problem, retry time.Duration) {
	f := faceOf(err)
	retry = f.retry
	p = problem{Type: "urn:inos:problem:" + f.kind, Title: f.title, Status: f.status, Detail: err.Error()}
	if f.say != "" {
		p.Detail = f.say
	}
	if !h.IsZero() {
		p.Hash = h.String()
	}
	if d, ok := errors.AsType[*content.DeniedError](err); ok && d.Legal {
		p.Status, p.Title = http.StatusUnavailableForLegalReasons, "Unavailable for legal reasons"
	}
	if m, ok := errors.AsType[*content.MissingError](err); ok {
		p.Type, p.Title, p.Status = "urn:inos:problem:chunks-missing", "Chunks are missing", http.StatusConflict
		p.Detail = m.Error()
		p.Missing, p.More = m.MissingChunks()
	}
	if o, ok := errors.AsType[*books.OutOfCreditError](err); ok {
		retry = o.RetryAfter
		if o.Own { // only he can do something about it
			p.Status, p.Title, retry = http.StatusPaymentRequired, "You are out of credit", 0
		}
	}
	if q, ok := errors.AsType[*auth.QuotaError](err); ok {
		retry = q.RetryAfter
	}
	if m, ok := errors.AsType[*exchange.MissError](err); ok {
		retry = m.RetryAfter
		for _, a := range m.Tried {
			p.Tried = append(p.Tried, tried{a.Source, a.Outcome.String(), a.Duration.Milliseconds()})
		}
		p.Detail = missText(m)
	}
	if retry == 0 && (p.Status == 503 || p.Status == 504 || p.Status == 429) {
		retry = time.Second
	}
	return p, retry
}

// missText says what was tried, without addresses.
func missText(m *exchange.MissError) string {
	var names []string
	for _, a := range m.Tried {
		names = append(names, fmt.Sprintf("%s: %s", a.Source, a.Outcome))
	}
	if m.Unanswered {
		return "not every source answered (" + strings.Join(names, ", ") + "); try again"
	}
	return "no source has it (" + strings.Join(names, ", ") + "); check the hash, or put it first"
}

// fail answers with an error. The answer must not have begun: one that has is
// ended by mustWrite.
func (g *Gateway) fail(w http.ResponseWriter, r *http.Request, h cas.Hash, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	if rec, ok := w.(*recorder); ok {
		rec.endBill()
	}
	p, retry := problemOf(err, h)
	if p.Status >= 500 && p.Status != http.StatusInsufficientStorage && p.Status != http.StatusGatewayTimeout && !errors.Is(err, credit.ErrOutOfCredit) {
		g.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	g.answerProblem(w, r, p, retry)
}

func (g *Gateway) answerProblem(w http.ResponseWriter, r *http.Request, p problem, retry time.Duration) {
	body, err := json.Marshal(p)
	if err != nil {
		g.log.Error("a problem cannot be encoded", "error", err)
		body = []byte("{}")
	}
	header := w.Header()
	for _, name := range []string{"Etag", "Content-Encoding", "Accept-Ranges", "Repr-Digest", "Unencoded-Digest", "Content-Disposition"} {
		header.Del(name)
	}
	header.Set("Content-Type", "application/problem+json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header["Cache-Control"] = noStore
	if p.Status == http.StatusGone || p.Status == http.StatusUnavailableForLegalReasons {
		header["Cache-Control"] = denyCache
	}
	if p.Status == http.StatusUnauthorized {
		header.Set("Www-Authenticate", auth.Challenge)
	}
	if retry > 0 {
		header.Set("Retry-After", strconv.Itoa(max(1, int((retry+time.Second-1)/time.Second))))
	}
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		if _, err := w.Write(body); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

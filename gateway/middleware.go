package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/mesh/exchange"
	"inos.dev/edge/mesh/exchange/upstream"
)

// Handler returns the front door for one listener. proxy marks the listener
// that only the configured proxy can reach.
func (g *Gateway) Handler(proxy bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serveHTTP(w, r, proxy) })
}

// serveHTTP is the middleware stack, from outside in: record, recover, limit,
// quota, route.
func (g *Gateway) serveHTTP(rw http.ResponseWriter, r *http.Request, proxy bool) {
	w := &recorder{ResponseWriter: rw, g: g, start: time.Now(), route: routeOther, proxy: proxy}
	n := g.active.Add(1)
	defer g.active.Add(-1) // behind finished: when nobody is active, everything is charged
	defer g.finished(w, r)
	if n > g.cfg.MaxRequests {
		g.fail(w, r, noHash, errLimit)
		return
	}
	if g.cfg.Egress != nil {
		if err := g.admit(w, r); err != nil {
			g.fail(w, r, noHash, err)
			return
		}
	}
	if r.Header[upstream.HopsHeader] != nil {
		r = r.WithContext(exchange.WithHops(r.Context(), upstream.Hops(r.Header)))
	}
	if hash, ok := chunkPath(r); ok {
		w.route = routeChunk
		g.serveChunk(w, r, hash)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead { // who changes something is asked for more than once
		r = withCaller(r, newCaller(w, r, auth.DoorHTTP))
	}
	g.router.ServeHTTP(w, r)
}

// chunkPath takes the requests that a node gets most of past the router: it is
// the seam for a faster way to serve them.
func chunkPath(r *http.Request) (hash string, ok bool) {
	if r.Method != http.MethodGet || r.URL.RawPath != "" {
		return "", false
	}
	hash, ok = strings.CutPrefix(r.URL.Path, "/chunk/")
	return hash, ok && len(hash) == 2*cas.HashSize && strings.IndexByte(hash, '/') < 0
}

// finished counts and logs a request, and turns a panic into a broken
// connection: whatever was sent is not to be taken for complete.
func (g *Gateway) finished(w *recorder, r *http.Request) {
	p := recover()
	took := time.Since(w.start)
	w.charge()
	w.closeBill()
	if p != nil {
		if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
			g.log.Error("panic while answering", "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
		g.metrics.truncated.Inc()
	}
	g.metrics.request(w.route, w.status, w.bytes, w.direct, took)
	if g.cfg.AccessLog != nil {
		g.cfg.AccessLog.LogAttrs(context.WithoutCancel(r.Context()), slog.LevelInfo, "request",
			slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", w.status),
			slog.Int64("bytes", w.bytes), slog.Duration("took", took), slog.Bool("aborted", p != nil),
			slog.String("client", auth.ClientAddr(r, w.conn(r)).String()), slog.String("proto", r.Proto))
	}
	if p != nil {
		panic(http.ErrAbortHandler)
	}
}

// admit finds out who pays for the answer, and whether he may have another.
func (g *Gateway) admit(w *recorder, r *http.Request) error {
	id, err := g.cfg.Auth.FromRequest(r, w.conn(r))
	if err != nil {
		id = auth.Identity{} // reads are open: the client's network counts instead
	}
	w.quotaKey = auth.KeyOf(id, auth.ClientAddr(r, w.conn(r)))
	return g.cfg.Egress.Admit(w.quotaKey)
}

// service is what a Connect service gets on top of what all routes have: the
// caller for its questions about rights, a bound on the bytes of messages that
// are in memory at once, and deadlines for them. Strangers share a bound of
// their own, so that they cannot keep writers out.
func (g *Gateway) service(h http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w := recorderOf(rw)
		w.route = routeConnect
		budget := g.strangeMessages
		c := newCaller(w, r, auth.DoorConnect)
		if id, err := c.identity(); err == nil && id.Require(auth.Write) == nil {
			budget = g.messages
		}
		weight := int64(unknownMessage)
		if r.ContentLength >= 0 {
			weight = max(r.ContentLength, 4<<10)
		}
		if weight > maxMessage {
			g.failUpload(w, r, noHash, fmt.Errorf("%w: a message has at most %d bytes", cas.ErrTooLarge, maxMessage))
			return
		}
		if !budget.TryAcquire(weight) {
			g.failUpload(w, r, noHash, errLimit)
			return
		}
		defer budget.Release(weight)
		w.extend(maxConnectAnswer)
		r = withCaller(r, c)
		r.Body = &pacedBody{pacedReader{w: w, src: r.Body}, r.Body}
		h.ServeHTTP(w, r)
	})
}

const (
	// messageBudget bounds the bytes of Connect messages in memory, as far as
	// clients announce them, and strangeBudget those of callers without the
	// write right; the services bound each message.
	messageBudget = 256 << 20
	strangeBudget = 128 << 20
	// maxMessage is more than any service takes.
	maxMessage = 9 << 20
	// unknownMessage is what a message of unknown length counts.
	unknownMessage = 64 << 10
)

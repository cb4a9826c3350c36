package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"inos.dev/edge/gateway/auth"
)

// recorder is the ResponseWriter of every request. It sees what goes out and
// sets deadlines, and hides nothing: ReadFrom is the connection's own, so that
// a file still leaves by sendfile.
type recorder struct {
	http.ResponseWriter
	g     *Gateway
	proxy bool // the listener is the proxy's

	start   time.Time
	route   string
	status  int
	bytes   int64 // of the body, as the connection took them
	direct  int64 // of those, what went through ReadFrom
	charged int64 // of those, what the quota has been told of

	quotaKey auth.Key // empty: no quota
	bill     bill
}

// control reaches the connection for deadlines and flushes. Few requests need
// it, so that it is not made before.
func (w *recorder) control() *http.ResponseController {
	return http.NewResponseController(w.ResponseWriter)
}

// conn is what the listener knows about the request's connection.
func (w *recorder) conn(r *http.Request) auth.Conn { return auth.ConnOf(r, w.proxy) }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 || w.status < 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom by the ResponseWriter below: over plain
// HTTP/1.1 that is net/http's, which ends in the TCP connection's sendfile.
func (w *recorder) ReadFrom(r io.Reader) (int64, error) {
	rf, ok := w.ResponseWriter.(io.ReaderFrom)
	if !ok {
		return io.Copy(writerOnly{w}, r)
	}
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := rf.ReadFrom(r)
	w.bytes += n
	w.direct += n
	return n, err
}

// writerOnly hides ReadFrom from io.Copy.
type writerOnly struct{ io.Writer }

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush implements http.Flusher for Connect's streams.
func (w *recorder) Flush() {
	// An error means that the connection is broken: the next write meets it.
	_ = w.control().Flush()
}

// announce sends the head, and lets other handlers do the same before a long
// body takes the processor: all who waited for one fill get their first byte
// at the same moment.
func (w *recorder) announce() {
	w.Flush()
	runtime.Gosched()
}

// budget is how long n bytes may take: a grace, and the time at the least rate
// that the node puts up with.
func (g *Gateway) budget(n int64) time.Duration {
	return g.cfg.IOGrace + time.Duration(float64(n)/float64(g.cfg.MinRate)*float64(time.Second))
}

// extend gives the client time for the next n bytes of the answer.
func (w *recorder) extend(n int64) {
	// Not every ResponseWriter has deadlines (tests); those of net/http do.
	_ = w.control().SetWriteDeadline(time.Now().Add(w.g.budget(n)))
}

// pace waits off the debt that the client's quota is in, reserves the next n
// bytes from whoever pays for them, and gives the client time to take them.
// They are charged by finished once they were sent.
func (w *recorder) pace(ctx context.Context, n int64) error {
	if w.quotaKey != "" {
		if err := w.settle(ctx); err != nil {
			return err
		}
	}
	if err := w.reserve(ctx, n); err != nil {
		return err
	}
	w.extend(n)
	return nil
}

// settle charges what was sent since the last time, and waits until the key is
// out of debt.
func (w *recorder) settle(ctx context.Context) error {
	debt := w.charge()
	if debt <= 0 {
		return nil
	}
	timer := time.NewTimer(debt)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// charge counts what was sent since the last time against the quota.
func (w *recorder) charge() time.Duration {
	if w.quotaKey == "" {
		return 0
	}
	n := w.bytes - w.charged
	w.charged = w.bytes
	return w.g.cfg.Egress.Charge(w.quotaKey, n)
}

// body is the request's body under the same rule: it must arrive at the least
// rate, and has at most limit bytes (-1: no limit).
func (w *recorder) body(r *http.Request, limit int64) *pacedReader {
	var src io.Reader = r.Body
	if limit >= 0 {
		src = http.MaxBytesReader(w, r.Body, limit)
	}
	return &pacedReader{w: w, src: src}
}

// pacedReader renews the read deadline for every stretch of bytes.
type pacedReader struct {
	w    *recorder
	src  io.Reader
	left int64 // bytes that the present deadline still covers

	interrupted atomic.Bool
}

// interrupt makes the present Read and all later ones fail. It may be called
// beside Read: the flag comes first, so that a Read that has just renewed the
// deadline sees it.
func (p *pacedReader) interrupt() {
	p.interrupted.Store(true)
	// It may fail only if the connection is gone, and then Read fails too.
	_ = p.w.control().SetReadDeadline(time.Unix(1, 0))
}

// stretch is how many bytes one deadline covers.
const stretch = 256 << 10

func (p *pacedReader) Read(b []byte) (int, error) {
	if p.left <= 0 {
		p.left = stretch
		_ = p.w.control().SetReadDeadline(time.Now().Add(p.w.g.budget(stretch))) // as in extend
	}
	if p.interrupted.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := p.src.Read(b)
	p.left -= int64(n)
	if errors.Is(err, io.EOF) {
		// The deadline was for the body. Left in place, it would end the
		// request when net/http looks for the client's hanging up.
		_ = p.w.control().SetReadDeadline(time.Time{})
	}
	return n, err
}

// pacedBody is a pacedReader where the body itself has to be replaced.
type pacedBody struct {
	pacedReader
	io.Closer
}

package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/go-chi/chi/v5"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/content"
)

var noHash cas.Hash

// recorderOf is the recorder that serveHTTP put under every handler.
func recorderOf(w http.ResponseWriter) *recorder {
	rec, ok := w.(*recorder)
	if !ok {
		panic("gateway: a handler runs outside of Gateway.Handler")
	}
	return rec
}

// hashOf reads the hash of the path.
func hashOf(r *http.Request) (cas.Hash, error) { return cas.ParseHash(chi.URLParam(r, "hash")) }

// chunkForm decides which form of a chunk the client wants.
func chunkForm(r *http.Request) form {
	if r.URL.RawQuery != "" && r.URL.Query().Get("form") == "stored" || accepts(r.Header["Accept"], chunkMediaType) {
		return formStored
	}
	return encodingForm(r.Header["Accept-Encoding"])
}

// getChunk answers GET and HEAD /chunk/{hash}.
func (g *Gateway) getChunk(rw http.ResponseWriter, r *http.Request) {
	g.serveChunk(recorderOf(rw), r, chi.URLParam(r, "hash"))
}

// serveChunk answers with the chunk whose hash is written as text.
func (g *Gateway) serveChunk(w *recorder, r *http.Request, text string) {
	header := w.Header()
	readable(header)
	header["Vary"] = varyBoth
	h, err := cas.ParseHash(text)
	if err != nil {
		g.fail(w, r, noHash, err)
		return
	}
	if err := g.mayRead(w, r); err != nil {
		g.fail(w, r, h, err)
		return
	}
	f := chunkForm(r)
	if f == formNone {
		g.fail(w, r, h, errNotAcceptable)
		return
	}
	tag := f.etag(text)
	if r.Header["If-None-Match"] != nil || r.Header["If-Match"] != nil {
		if _, err := g.content.Stat(r.Context(), h); err == nil {
			found(header, f, tag, varyBoth)
			if g.notModified(w, r, h, tag) {
				return
			}
		}
	}
	if err := g.openBill(w, r, h, false); err != nil {
		g.fail(w, r, h, err)
		return
	}
	if f == formIdentity {
		g.getDecoded(w, r, h, tag)
		return
	}
	body, from, err := g.content.Open(r.Context(), h)
	if err != nil {
		g.fail(w, r, h, err)
		return
	}
	defer closeBody(g, body)
	found(header, f, tag, varyBoth)
	g.cacheStatus(w, from)
	mediaType := octetStream
	if f == formStored {
		mediaType = storedType
	}
	source := g.metrics.sourceOf(body, from)
	g.send(w, r, &representation{hash: h, tag: tag, size: body.Size(), mediaType: mediaType, filled: from.Filled, atOnce: true,
		write: func(_ context.Context, w *recorder, s span) error {
			n, err := body.WriteSection(w, s.start, s.length)
			source.Add(float64(n))
			g.heat(h, n)
			return err
		}})
}

// getDecoded answers with the piece of a chunk.
func (g *Gateway) getDecoded(w *recorder, r *http.Request, h cas.Hash, tag string) {
	p, err := g.content.Piece(r.Context(), h, nil, false)
	if err != nil {
		g.fail(w, r, h, err)
		return
	}
	defer closeBody(g, p)
	found(w.Header(), formIdentity, tag, varyBoth)
	g.cacheStatus(w, p.From)
	g.send(w, r, &representation{hash: h, tag: tag, size: p.Size(), mediaType: octetStream, filled: p.From.Filled, atOnce: true,
		write: func(_ context.Context, w *recorder, s span) error {
			n, err := p.WriteSection(w, s.start, s.length)
			g.metrics.pieceSource(p).Add(float64(n))
			g.heat(h, n)
			return err
		}})
}

// closeBody closes what was read; a failure is the disk's, not the client's.
func closeBody(g *Gateway, c io.Closer) {
	if err := c.Close(); err != nil {
		g.log.Warn("closing a chunk", "error", err)
	}
}

// cacheStatus says whether the chunk was here (RFC 9211).
func (g *Gateway) cacheStatus(w *recorder, from content.From) {
	header := w.Header()
	if !from.Filled {
		header["Cache-Status"] = cacheHit
		return
	}
	header["Cache-Status"] = cacheStored
	if g.cfg.Ready() != nil { // no room to store it
		header["Cache-Status"] = cacheMiss
	}
	header.Set("Server-Timing", fmt.Sprintf("fill;dur=%.1f", float64(from.FillTime.Microseconds())/1000))
}

// putChunk answers PUT /chunk/{hash}.
func (g *Gateway) putChunk(rw http.ResponseWriter, r *http.Request) {
	w := recorderOf(rw)
	readable(w.Header())
	h, err := hashOf(r)
	if err == nil {
		_, err = g.requireWrite(w, r)
	}
	if err == nil && r.ContentLength > cas.MaxChunkSize {
		err = fmt.Errorf("%w: a chunk has at most %d bytes; larger files go to POST /object", cas.ErrTooLarge, cas.MaxChunkSize)
	}
	if err == nil && r.Header.Get("Content-Encoding") != "" {
		err = fmt.Errorf("%w: send a chunk's stored bytes without Content-Encoding", errUnsupported)
	}
	var added bool
	if err == nil {
		added, err = g.receiveChunk(w, r, h)
	}
	if err != nil {
		g.failUpload(w, r, h, err)
		return
	}
	w.Header().Set("Location", "/chunk/"+h.String())
	w.Header()["Cache-Control"] = noStore
	setLength(w.Header(), 0)
	if added {
		w.WriteHeader(http.StatusCreated)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (g *Gateway) receiveChunk(w *recorder, r *http.Request, h cas.Hash) (added bool, err error) {
	if err := g.uploads.Acquire(r.Context(), 1); err != nil {
		return false, err
	}
	defer g.uploads.Release(1)
	data, err := readBody(w.body(r, cas.MaxChunkSize), r.ContentLength)
	if err != nil {
		return false, err
	}
	w.extend(0)
	return g.content.PutForeign(r.Context(), h, data)
}

// readBody reads a chunk: length is the announced one, or -1.
func readBody(src io.Reader, length int64) ([]byte, error) {
	if length < 0 {
		data, err := io.ReadAll(src)
		return data, bodyError(err)
	}
	data := make([]byte, length)
	if _, err := io.ReadFull(src, data); err != nil {
		return nil, bodyError(err)
	}
	return data, nil
}

// bodyError gives the errors of reading a request their sentinel.
func bodyError(err error) error {
	if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fmt.Errorf("%w: the body has more than %d bytes", cas.ErrTooLarge, tooLong.Limit)
	}
	return err
}

// failUpload answers an upload that failed. What the client still sends is
// not read: the connection is closed behind the answer.
func (g *Gateway) failUpload(w *recorder, r *http.Request, h cas.Hash, err error) {
	w.extend(0)
	if r.ProtoMajor == 1 { // HTTP/2 resets the stream; the header would end all of them
		w.Header().Set("Connection", "close")
	}
	g.fail(w, r, h, err)
}

// reportChunk answers POST /chunk/{hash}/report: a client says that it got
// wrong bytes, and the node looks.
func (g *Gateway) reportChunk(rw http.ResponseWriter, r *http.Request) {
	w := recorderOf(rw)
	readable(w.Header())
	w.Header()["Cache-Control"] = noStore
	h, err := hashOf(r)
	if err != nil {
		g.fail(w, r, noHash, err)
		return
	}
	if err := g.mayRead(w, r); err != nil {
		g.fail(w, r, h, err)
		return
	}
	if !g.reports.TryAcquire(1) {
		g.fail(w, r, h, errLimit)
		return
	}
	defer g.reports.Release(1)
	if err := g.content.Report(r.Context(), h); err != nil && !errors.Is(err, cas.ErrCorrupt) {
		g.fail(w, r, h, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

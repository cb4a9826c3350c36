package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"inos.dev/edge/cas"
)

// representation is something with a length that can be sent in parts. Its
// headers are set already.
type representation struct {
	hash      cas.Hash
	tag       string
	size      int64
	mediaType []string
	filled    bool // for this request: others may have waited for the same
	atOnce    bool // all that is sent is reserved before the head: write reserves nothing
	// write sends the bytes of a span, which lies within size. It sends
	// nothing that it has not verified.
	write func(ctx context.Context, w *recorder, s span) error
}

// notModified answers a conditional request that needs no body (RFC 9110,
// section 13.2.2: If-Match, then If-None-Match, before Range and If-Range).
// The caller has made sure that the content is here and not denied.
func (g *Gateway) notModified(w http.ResponseWriter, r *http.Request, h cas.Hash, tag string) bool {
	if values, ok := r.Header["If-Match"]; ok && !matches(values, tag, false) {
		g.fail(w, r, h, errPrecondition)
		return true
	}
	if values, ok := r.Header["If-None-Match"]; ok && matches(values, tag, true) {
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	return false
}

// send answers GET and HEAD with a representation or the ranges of it that the
// client wants.
func (g *Gateway) send(w *recorder, r *http.Request, rep *representation) {
	header := w.Header()
	header["Content-Type"] = rep.mediaType
	whole := span{0, rep.size}
	if r.Method == http.MethodHead {
		setLength(header, rep.size)
		w.WriteHeader(http.StatusOK)
		return
	}
	ranges, err := wantedRanges(r, rep)
	if err != nil {
		header.Set("Content-Range", "bytes */"+strconv.FormatInt(rep.size, 10))
		g.fail(w, r, rep.hash, err)
		return
	}
	if err := reserveRanges(w, r, rep, ranges); err != nil {
		g.fail(w, r, rep.hash, err)
		return
	}
	switch {
	case len(ranges) > 1:
		g.sendParts(w, r, rep, ranges)
		return
	case len(ranges) == 1:
		whole = ranges[0]
		header.Set("Content-Range", whole.contentRange(rep.size))
		setLength(header, whole.length)
		w.WriteHeader(http.StatusPartialContent)
	default:
		setLength(header, rep.size)
		w.WriteHeader(http.StatusOK)
	}
	if rep.filled {
		w.announce()
	}
	g.mustWrite(rep.write(r.Context(), w, whole), r)
}

// reserveRanges takes what is sent at once from the payer's lease, so that a
// failure still has a status of its own.
func reserveRanges(w *recorder, r *http.Request, rep *representation, ranges []span) error {
	if !rep.atOnce {
		return nil
	}
	n := rep.size
	if len(ranges) > 0 {
		n = 0
		for _, s := range ranges {
			n += s.length
		}
	}
	if err := w.reserve(r.Context(), n); err != nil {
		return err
	}
	if time.Since(w.start) > time.Second { // it waited: for a fill, or a payer whose reads are throttled
		w.extend(n)
	}
	return nil
}

// wantedRanges reads Range and If-Range, which needs the strong comparison.
//
// A Range beside an If-None-Match that names another form is ignored: what a
// hash names never changes, so the request was made by a cache that holds the
// other form, and it may have counted in that form's bytes. Chromium does: it
// holds the whole as br, asks for identity, and clips the range to the length
// of the br form, or turns a suffix into positions there.
func wantedRanges(r *http.Request, rep *representation) ([]span, error) {
	value := r.Header.Get("Range")
	if value == "" || r.Header.Get("If-None-Match") != "" {
		return nil, nil // one that names this form has been answered with 304
	}
	if cond := r.Header.Get("If-Range"); cond != "" && cond != rep.tag {
		return nil, nil
	}
	return parseRange(value, rep.size)
}

// sendParts answers with multipart/byteranges (RFC 9110, section 14.6). The
// length is known: it is that of all heads and all spans.
func (g *Gateway) sendParts(w *recorder, r *http.Request, rep *representation, ranges []span) {
	var random [12]byte
	rand.Read(random[:]) // never fails: it would end the process
	boundary := "inos" + hex.EncodeToString(random[:])
	heads := make([]string, len(ranges))
	end := "\r\n--" + boundary + "--\r\n"
	length := int64(len(end))
	for i, s := range ranges {
		heads[i] = "\r\n--" + boundary + "\r\nContent-Type: " + strings.Join(rep.mediaType, "") + "\r\nContent-Range: " + s.contentRange(rep.size) + "\r\n\r\n"
		length += int64(len(heads[i])) + s.length
	}
	header := w.Header()
	header.Set("Content-Type", "multipart/byteranges; boundary="+boundary)
	setLength(header, length)
	w.WriteHeader(http.StatusPartialContent)
	for i, s := range ranges {
		_, err := io.WriteString(w, heads[i])
		if err == nil {
			err = rep.write(r.Context(), w, s)
		}
		g.mustWrite(err, r)
	}
	_, err := io.WriteString(w, end)
	g.mustWrite(err, r)
}

// mustWrite ends an answer that cannot be finished by breaking its connection.
func (g *Gateway) mustWrite(err error, r *http.Request) {
	if err == nil {
		return
	}
	if r.Context().Err() == nil {
		g.log.Debug("an answer was broken off", "path", r.URL.Path, "error", err)
	}
	panic(http.ErrAbortHandler)
}

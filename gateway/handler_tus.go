package gateway

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/go-chi/chi/v5"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/content"
	"inos.dev/edge/gateway/upload"
)

// The resumable uploads of https://tus.io/protocols/resumable-upload, version
// 1.0.0 with creation, expiration and termination. An upload's offset is its
// last durable piece, so a multiple of cas.PieceSize after a part was cut off.
const (
	tusVersion    = "1.0.0"
	tusExtensions = "creation,expiration,termination"
	tusMediaType  = "application/offset+octet-stream"
)

// tusHeader is on every answer below /upload/.
func (g *Gateway) tusHeader(h http.Header) {
	readable(h)
	h["Cache-Control"] = noStore
	h.Set("Tus-Resumable", tusVersion)
}

// describeUploads answers OPTIONS.
func (g *Gateway) describeUploads(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	g.tusHeader(h)
	h.Set("Tus-Version", tusVersion)
	h.Set("Tus-Extension", tusExtensions)
	if g.cfg.MaxObject > 0 {
		h.Set("Tus-Max-Size", strconv.FormatInt(g.cfg.MaxObject, 10))
	}
	preflight(w, r, "DELETE, HEAD, OPTIONS, PATCH, POST")
}

// tusRequest checks what all tus requests share: the version and the right.
func (g *Gateway) tusRequest(w *recorder, r *http.Request) (auth.Identity, error) {
	g.tusHeader(w.Header())
	if v := r.Header.Get("Tus-Resumable"); v != tusVersion {
		w.Header().Set("Tus-Version", tusVersion)
		return auth.Identity{}, fmt.Errorf("%w: Tus-Resumable is %q, this node speaks %s", errPrecondition, v, tusVersion)
	}
	return g.requireWrite(w, r)
}

// createUpload answers POST /upload/.
func (g *Gateway) createUpload(rw http.ResponseWriter, r *http.Request) {
	w := recorderOf(rw)
	id, err := g.tusRequest(w, r)
	var in upload.Session
	if err == nil {
		in, err = g.tusSession(r)
	}
	if err == nil {
		in.Owner = id.Subject
		in, err = g.cfg.Uploads.Create(in)
	}
	if err == nil && in.Length == 0 { // complete already: no part will follow
		in, _, err = g.cfg.Uploads.Append(r.Context(), in.ID, 0, http.NoBody, func() {})
		if err == nil {
			err = g.commitUpload(r, in)
		}
	}
	if err != nil {
		g.failUpload(w, r, noHash, err)
		return
	}
	h := w.Header()
	h.Set("Location", "/upload/"+in.ID)
	g.uploadState(w, in, 0)
	setLength(h, 0)
	w.WriteHeader(http.StatusCreated)
}

// tusSession reads Upload-Length and Upload-Metadata.
func (g *Gateway) tusSession(r *http.Request) (upload.Session, error) {
	length, ok := position(r.Header.Get("Upload-Length"))
	if !ok {
		return upload.Session{}, fmt.Errorf("%w: Upload-Length is needed, a number of bytes", errBadRequest)
	}
	if limit := g.maxObject(); length > limit {
		return upload.Session{}, fmt.Errorf("%w: at most %d bytes", cas.ErrTooLarge, limit)
	}
	meta := map[string]string{}
	for pair := range strings.SplitSeq(r.Header.Get("Upload-Metadata"), ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(pair), " ")
		b, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return upload.Session{}, fmt.Errorf("%w: Upload-Metadata %q is not base64", errBadRequest, key)
		}
		meta[strings.ToLower(key)] = string(b)
	}
	name := meta["filename"]
	if name == "" {
		name = meta["name"]
	}
	explicit := meta["filetype"]
	if explicit == "" {
		explicit = meta["type"]
	}
	return upload.Session{Length: length, Name: name, MediaType: dag.MediaType(explicit, name)}, nil
}

// headUpload answers HEAD /upload/{id}.
func (g *Gateway) headUpload(rw http.ResponseWriter, r *http.Request) {
	w := recorderOf(rw)
	id, err := g.tusRequest(w, r)
	if err != nil {
		g.failUpload(w, r, noHash, err)
		return
	}
	in, offset, err := g.ownUpload(w, r, id)
	if err != nil {
		g.failUpload(w, r, noHash, err)
		return
	}
	if in.Object != nil {
		// Whoever reads that it is complete need not come again: a crash may
		// have kept it off the list.
		if err := g.commitUpload(r, in); err != nil {
			g.failUpload(w, r, noHash, err)
			return
		}
	}
	g.uploadState(w, in, offset)
	w.WriteHeader(http.StatusOK)
}

// ownUpload finds the session of the path, if id may see it.
func (g *Gateway) ownUpload(w *recorder, r *http.Request, id auth.Identity) (upload.Session, int64, error) {
	in, offset, err := g.cfg.Uploads.Get(r.Context(), chi.URLParam(r, "id"))
	if err == nil && in.Owner != id.Subject {
		_, err = g.may(newCaller(w, r, auth.DoorHTTP), auth.ActionWrite, auth.ObjectOthers, r.URL.Path)
	}
	return in, offset, err
}

func (g *Gateway) uploadState(w *recorder, in upload.Session, offset int64) {
	h := w.Header()
	h.Set("Upload-Offset", strconv.FormatInt(offset, 10))
	h.Set("Upload-Length", strconv.FormatInt(in.Length, 10))
	h.Set("Upload-Expires", in.Expires.UTC().Format(http.TimeFormat))
	if in.Object != nil {
		h.Set("Inos-Object", in.Object.Hash.String())
		h.Set("Upload-Offset", strconv.FormatInt(in.Length, 10))
	}
}

// patchUpload answers PATCH /upload/{id}.
func (g *Gateway) patchUpload(rw http.ResponseWriter, r *http.Request) {
	w := recorderOf(rw)
	in, offset, err := g.receivePart(w, r)
	if err == nil && in.Object != nil {
		err = g.commitUpload(r, in)
	}
	if err != nil {
		g.failUpload(w, r, noHash, err)
		return
	}
	w.extend(0)
	g.uploadState(w, in, offset)
	w.WriteHeader(http.StatusNoContent)
}

func (g *Gateway) receivePart(w *recorder, r *http.Request) (upload.Session, int64, error) {
	id, err := g.tusRequest(w, r)
	if err != nil {
		return upload.Session{}, 0, err
	}
	own, at, err := g.ownUpload(w, r, id)
	if err != nil {
		return upload.Session{}, 0, err
	}
	if t := r.Header.Get("Content-Type"); t != tusMediaType {
		return upload.Session{}, 0, fmt.Errorf("%w: Content-Type is %q, a part is %s", errUnsupported, t, tusMediaType)
	}
	offset, ok := position(r.Header.Get("Upload-Offset"))
	if !ok {
		return upload.Session{}, 0, fmt.Errorf("%w: Upload-Offset is needed, a number of bytes", errBadRequest)
	}
	if r.ContentLength > own.Length-at && offset == at {
		return upload.Session{}, 0, fmt.Errorf("%w: %d bytes are missing, the part has %d", cas.ErrTooLarge, own.Length-at, r.ContentLength)
	}
	if !g.uploads.TryAcquire(1) {
		return upload.Session{}, 0, errLimit
	}
	defer g.uploads.Release(1)
	body := w.body(r, -1)
	// A connection that breaks ends the body, and cancels the request's context
	// with it; the pieces that came before that are still to be stored.
	in, at, err := g.cfg.Uploads.Append(context.WithoutCancel(r.Context()), chi.URLParam(r, "id"), offset, body, body.interrupt)
	if err != nil && errors.Is(err, upload.ErrOffset) {
		g.uploadState(w, in, at)
	}
	return in, at, bodyError(err)
}

// commitUpload puts a complete upload on the list.
func (g *Gateway) commitUpload(r *http.Request, in upload.Session) error {
	_, _, err := g.content.Commit(r.Context(), content.Commit{Owner: in.Owner, Name: in.Name, Written: in.Object})
	return err
}

// deleteUpload answers DELETE /upload/{id}.
func (g *Gateway) deleteUpload(rw http.ResponseWriter, r *http.Request) {
	w := recorderOf(rw)
	id, err := g.tusRequest(w, r)
	if err == nil {
		_, _, err = g.ownUpload(w, r, id)
	}
	if err == nil {
		err = g.cfg.Uploads.Delete(r.Context(), chi.URLParam(r, "id"))
	}
	if err != nil {
		g.failUpload(w, r, noHash, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-chi/chi/v5"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/mesh/exchange"
)

// getObject answers GET and HEAD /object/{hash}[/path…].
func (g *Gateway) getObject(rw http.ResponseWriter, r *http.Request) {
	w := recorderOf(rw)
	readable(w.Header())
	w.Header()["Vary"] = varyEncoding
	w.Header()["Content-Security-Policy"] = sandbox
	h, err := hashOf(r)
	if err != nil {
		g.fail(w, r, noHash, err)
		return
	}
	if err := g.mayRead(w, r); err != nil {
		g.fail(w, r, h, err)
		return
	}
	path, err := objectPath(r)
	if err != nil {
		g.fail(w, r, h, err)
		return
	}
	if err := g.openBill(w, r, h, true); err != nil {
		g.fail(w, r, h, err)
		return
	}
	at, err := dag.Lookup(r.Context(), g.content, h, path)
	switch {
	case errors.Is(err, cas.ErrNotFound) && path != "":
		g.notInDirectory(w, r, h, err)
	case err != nil:
		g.fail(w, r, h, err)
	case at.Manifest.Kind == cas.KindDirectory:
		g.getDirectory(w, r, at)
	case strings.HasSuffix(r.URL.Path, "/"):
		g.fail(w, r, h, fmt.Errorf("%w: %q is a file; leave the slash at the end out", cas.ErrNotFound, at.Path))
	default:
		g.sendFile(w, r, at, fileOptions{status: http.StatusOK, vary: varyEncoding})
	}
}

// objectPath is what stands behind the hash, with its slash at the end.
func objectPath(r *http.Request) (string, error) {
	raw := chi.URLParam(r, "*")
	if r.URL.RawPath == "" {
		return raw, nil
	}
	// chi matched the escaped path: a slash that was escaped is not one that
	// separates names, and no name has one.
	var names []string
	for s := range strings.SplitSeq(raw, "/") {
		name, err := url.PathUnescape(s)
		if err != nil || strings.Contains(name, "/") {
			return "", fmt.Errorf("%w: no name in a directory has a slash", cas.ErrNotFound)
		}
		names = append(names, name)
	}
	return strings.Join(names, "/"), nil
}

// fileOptions is how a file is sent that stands for something else.
type fileOptions struct {
	status int // 404 for a directory's 404.html
	vary   []string
}

// sendFile answers with a file, joined as Brotli or decoded.
func (g *Gateway) sendFile(w *recorder, r *http.Request, at dag.Found, opt fileOptions) {
	f := encodingForm(r.Header["Accept-Encoding"])
	if f == formNone {
		g.fail(w, r, at.Hash, errNotAcceptable)
		return
	}
	header := w.Header()
	tag := f.etag(at.Hash.String())
	found(header, f, tag, opt.vary)
	if opt.status != http.StatusOK {
		g.sendWithStatus(w, r, at, f, opt.status)
		return
	}
	here, err := g.available(r.Context(), at.Manifest)
	if err != nil {
		g.fail(w, r, at.Hash, err)
		return
	}
	g.digests(r.Context(), w, f, at)
	if here && g.notModified(w, r, at.Hash, tag) {
		return
	}
	rep := g.fileRepresentation(at, f)
	place := dag.At
	if f == formBrotli {
		place = dag.AtJoined
	}
	first, err := g.firstPiece(r, at.Manifest, rep, place)
	if err != nil {
		g.fail(w, r, at.Hash, err)
		return
	}
	rep.filled = first.Filled
	g.cacheStatus(w, first)
	g.send(w, r, rep)
}

// available makes sure that no piece of the record that is at hand is denied:
// the status line must not promise what the node will refuse later. here
// reports, from the index, whether all that the record links is here.
func (g *Gateway) available(ctx context.Context, m *cas.Manifest) (here bool, err error) {
	here = true
	look := func(h cas.Hash) error {
		_, err := g.content.Stat(ctx, h)
		if errors.Is(err, cas.ErrDenied) {
			return err
		}
		here = here && err == nil
		return nil
	}
	for i := range m.Pieces {
		if err := look(m.Pieces[i].Hash); err != nil {
			return false, err
		}
	}
	for i := range m.Nodes {
		if err := look(m.Nodes[i].Hash); err != nil {
			return false, err
		}
	}
	return here, ctx.Err()
}

// digests tells the SHA-256 of the whole (RFC 9530), if this node knows that
// the manifest is right about it.
func (g *Gateway) digests(ctx context.Context, w *recorder, f form, at dag.Found) {
	if !g.content.DigestChecked(ctx, at.Hash) {
		return
	}
	if f == formBrotli {
		w.Header().Set("Unencoded-Digest", sha256Field(at.Manifest.SHA256))
		return
	}
	w.Header().Set("Repr-Digest", sha256Field(at.Manifest.SHA256))
}

func (g *Gateway) fileRepresentation(at dag.Found, f form) *representation {
	m := at.Manifest
	rep := &representation{hash: at.Hash, tag: f.etag(at.Hash.String()), size: m.Size, mediaType: []string{m.MediaType}}
	if f == formBrotli {
		rep.size = m.JoinedSize()
		rep.write = func(ctx context.Context, w *recorder, s span) error { return g.writeJoined(ctx, w, m, s) }
	} else {
		rep.write = func(ctx context.Context, w *recorder, s span) error { return g.writeRaw(ctx, w, m, s) }
	}
	return rep
}

// sendWithStatus sends a whole file under another status than 200: no ranges,
// no conditions.
func (g *Gateway) sendWithStatus(w *recorder, r *http.Request, at dag.Found, f form, status int) {
	rep := g.fileRepresentation(at, f)
	if _, err := g.firstPiece(r, at.Manifest, rep, dag.At); err != nil {
		g.fail(w, r, at.Hash, err)
		return
	}
	header := w.Header()
	header.Del("Etag")
	header.Del("Accept-Ranges")
	header["Cache-Control"] = listingCache
	header["Content-Type"] = rep.mediaType
	setLength(header, rep.size)
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		g.mustWrite(rep.write(r.Context(), w, span{0, rep.size}), r)
	}
}

// notInDirectory answers for a path that leads nowhere: the directory's own
// 404.html, if it has one.
func (g *Gateway) notInDirectory(w *recorder, r *http.Request, root cas.Hash, cause error) {
	// A chunk on the way that is missing says nothing about the path.
	if _, ok := errors.AsType[*exchange.MissError](cause); ok {
		g.fail(w, r, root, cause)
		return
	}
	page, err := dag.Lookup(r.Context(), g.content, root, "404.html")
	if err != nil || page.Manifest.Kind != cas.KindFile {
		g.fail(w, r, root, cause)
		return
	}
	w.Header()["Vary"] = varyBoth
	g.sendFile(w, r, page, fileOptions{status: http.StatusNotFound, vary: varyBoth})
}

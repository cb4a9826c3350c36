package gateway

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/gateway/content"
)

// stored is the answer to an upload.
type stored struct {
	Hash      string   `json:"hash"`
	Kind      string   `json:"kind"`
	Size      int64    `json:"size"`    // raw bytes
	Encoded   int64    `json:"encoded"` // stored bytes of the pieces
	Chunks    int64    `json:"chunks"`  // pieces
	MediaType string   `json:"media_type,omitempty"`
	BLAKE3    string   `json:"blake3,omitempty"` // of the raw bytes, as b3sum prints it
	SHA256    string   `json:"sha256,omitempty"`
	Replicas  string   `json:"replicas"` // durable now / wanted
	URL       string   `json:"url"`
	Warnings  []string `json:"warnings,omitempty"`
}

// postObject answers POST /object: a file streams in, or with ?unpack=tar a
// whole directory.
func (g *Gateway) postObject(rw http.ResponseWriter, r *http.Request) {
	w := recorderOf(rw)
	readable(w.Header())
	id, err := g.requireWrite(w, r)
	if err != nil {
		g.failUpload(w, r, noHash, err)
		return
	}
	began := time.Now()
	o, warnings, err := g.receiveObject(w, r)
	var record catalog.Record
	var created bool
	if err == nil {
		record, created, err = g.commit(r.Context(), id, content.Commit{Hash: o.Hash, Name: r.URL.Query().Get("name"), Written: &o, Began: began})
	}
	if err != nil {
		g.failUpload(w, r, noHash, err)
		return
	}
	g.metrics.stored.Add(float64(o.Size))
	g.answerStored(w, r, &o, record, created, warnings)
}

// receiveObject reads the body of an upload into the store.
func (g *Gateway) receiveObject(w *recorder, r *http.Request) (dag.Object, []string, error) {
	if !g.uploads.TryAcquire(1) {
		return dag.Object{}, nil, errLimit
	}
	defer g.uploads.Release(1)
	unpack := r.URL.Query().Get("unpack")
	if unpack != "" && unpack != "tar" {
		return dag.Object{}, nil, fmt.Errorf("%w: ?unpack=%s; only tar can be unpacked", errBadRequest, unpack)
	}
	body, done, err := g.decodeBody(w, r)
	if err != nil {
		return dag.Object{}, nil, err
	}
	defer done()
	if unpack == "tar" {
		o, warnings, err := g.cfg.Writer.Unpack(r.Context(), body)
		if err == nil {
			err = drained(body)
		}
		return o, warnings, bodyError(err)
	}
	o, err := g.cfg.Writer.File(r.Context(), body, dag.MediaType(r.Header.Get("Content-Type"), r.URL.Query().Get("name")))
	return o, nil, bodyError(err)
}

// drained reads what follows a tar's end mark: padding, of which there is
// little.
func drained(body io.Reader) error {
	n, err := io.Copy(io.Discard, io.LimitReader(body, maxPadding+1))
	if n > maxPadding {
		return fmt.Errorf("%w: more than %d bytes behind the end of the archive", cas.ErrCorrupt, maxPadding)
	}
	return err
}

const maxPadding = 1 << 20

const (
	// maxRatio is the most that a request's Content-Encoding may inflate,
	// beyond a first ratioGrace bytes.
	maxRatio   = 200
	ratioGrace = 16 << 20
	// decodeWindow bounds the memory that a zstd stream may ask for.
	decodeWindow = 8 << 20
)

// decodeBody takes a request's Content-Encoding off (RFC 9110, section 8.4).
func (g *Gateway) decodeBody(w *recorder, r *http.Request) (io.Reader, func(), error) {
	if limit := g.maxObject(); r.ContentLength > limit {
		return nil, func() {}, fmt.Errorf("%w: at most %d bytes", cas.ErrTooLarge, limit)
	}
	encoded := &countingReader{r: w.body(r, g.cfg.MaxObject)}
	var plain io.Reader
	done := func() {}
	switch coding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))); coding {
	case "", "identity":
		return encoded, done, nil
	case "br":
		plain = brotli.NewReader(bufio.NewReader(encoded))
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(bufio.NewReader(encoded))
		if err != nil {
			return nil, done, codingError(err)
		}
		plain = z
	case "zstd":
		z, err := zstd.NewReader(encoded, zstd.WithDecoderMaxWindow(decodeWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, done, codingError(err)
		}
		plain, done = z, z.Close
	default:
		return nil, done, fmt.Errorf("%w (it is %q)", errUnsupported, coding)
	}
	return &inflated{plain: plain, encoded: encoded, limit: g.cfg.MaxObject}, done, nil
}

// maxObject is the most bytes of one upload: as configured, and what a tree of
// manifests can count.
func (g *Gateway) maxObject() int64 {
	if g.cfg.MaxObject > 0 {
		return g.cfg.MaxObject
	}
	return 1 << 60
}

func codingError(err error) error {
	if bad := bodyError(err); errors.Is(bad, cas.ErrTooLarge) || errors.Is(bad, os.ErrDeadlineExceeded) {
		return bad
	}
	return fmt.Errorf("%w: the body does not decode: %w", errBadRequest, err)
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// inflated is a decoded body under a ratio cap.
type inflated struct {
	plain   io.Reader
	encoded *countingReader
	n       int64
	limit   int64 // -1: none
}

func (i *inflated) Read(b []byte) (int, error) {
	n, err := i.plain.Read(b)
	i.n += int64(n)
	switch {
	case i.n > ratioGrace+maxRatio*i.encoded.n:
		return 0, fmt.Errorf("%w: the body inflates more than %d times; send it without Content-Encoding", cas.ErrTooLarge, maxRatio)
	case i.limit >= 0 && i.n > i.limit:
		return 0, fmt.Errorf("%w: the body has more than %d bytes", cas.ErrTooLarge, i.limit)
	case err != nil && !errors.Is(err, io.EOF):
		return n, codingError(err)
	}
	return n, err
}

// answerStored tells what an upload has become.
func (g *Gateway) answerStored(w *recorder, r *http.Request, o *dag.Object, record catalog.Record, created bool, warnings []string) {
	a := stored{Hash: o.Hash.String(), Kind: o.Kind.String(), Size: o.Size, Encoded: record.Encoded, Chunks: record.Pieces,
		MediaType: o.MediaType, Replicas: fmt.Sprintf("1/%d", record.Policy.Floor()), URL: g.objectURL(r, record), Warnings: warnings}
	if o.Kind == cas.KindFile {
		a.BLAKE3, a.SHA256 = o.Raw.String(), o.SHA256.String()
	}
	body, err := json.Marshal(a)
	if err != nil {
		g.fail(w, r, o.Hash, err)
		return
	}
	body = append(body, '\n')
	header := w.Header()
	header.Set("Location", "/object/"+a.Hash)
	header.Set("Content-Type", "application/json")
	header["Cache-Control"] = noStore
	setLength(header, int64(len(body)))
	w.extend(int64(len(body)))
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	w.WriteHeader(status)
	_, err = w.Write(body)
	g.mustWrite(err, r)
}

// objectURL is where the object can be fetched, as the client sees this node.
func (g *Gateway) objectURL(r *http.Request, record catalog.Record) string {
	base := g.cfg.PublicURL
	if base == "" {
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		base = scheme + "://" + r.Host
	}
	url := base + "/object/" + record.Hash.String()
	if record.Kind == cas.KindDirectory {
		url += "/"
	}
	return url
}

// putObject answers PUT /object/{hash}: the manifest and all its chunks are
// here, and from now on the caller has the object published.
func (g *Gateway) putObject(rw http.ResponseWriter, r *http.Request) {
	w := recorderOf(rw)
	readable(w.Header())
	h, err := hashOf(r)
	if err != nil {
		g.failUpload(w, r, noHash, err)
		return
	}
	id, err := g.requireWrite(w, r)
	if err != nil {
		g.failUpload(w, r, h, err)
		return
	}
	record, created, err := g.commit(r.Context(), id, content.Commit{Hash: h, Name: r.URL.Query().Get("name")})
	if err != nil {
		g.failUpload(w, r, h, err)
		return
	}
	o := dag.Object{Hash: h, Kind: record.Kind, Size: record.Size, MediaType: record.MediaType}
	if m, err := g.content.Manifest(r.Context(), h); err == nil {
		o.Raw, o.SHA256 = m.Raw, m.SHA256
	}
	g.answerStored(w, r, &o, record, created, nil)
}

// deleteObject answers DELETE /object/{hash}: the caller's publication is
// withdrawn, and the object is off the list with the last one. Of an
// administrator who has none it withdraws all.
func (g *Gateway) deleteObject(rw http.ResponseWriter, r *http.Request) {
	w := recorderOf(rw)
	readable(w.Header())
	h, err := hashOf(r)
	if err == nil {
		var id auth.Identity
		if id, err = g.requireWrite(w, r); err == nil {
			err = g.remove(r.Context(), id, h)
		}
	}
	if err != nil {
		g.failUpload(w, r, h, err)
		return
	}
	w.Header()["Cache-Control"] = noStore
	w.WriteHeader(http.StatusNoContent)
}

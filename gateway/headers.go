package gateway

import (
	"encoding/base64"
	"net/http"
	"strconv"

	"inos.dev/edge/cas"
)

// Header values that never change are made once: a header map may share them,
// since nobody appends to a slice that is full.
var (
	immutable = []string{"public, max-age=31536000, immutable, no-transform"}
	// listingCache is for listings: which names there are follows from the
	// hash, how they look is code's work.
	listingCache = []string{"public, max-age=60"}
	noStore      = []string{"no-store"}
	denyCache    = []string{"public, max-age=300"}

	varyEncoding = []string{"Accept-Encoding"}
	varyBoth     = []string{"Accept-Encoding, Accept"}

	encodingBr  = []string{"br"}
	octetStream = []string{"application/octet-stream"}
	storedType  = []string{chunkMediaType}
	bytesUnit   = []string{"bytes"}
	cacheHit    = []string{"inos; hit"}
	cacheStored = []string{"inos; fwd=miss; stored"}
	cacheMiss   = []string{"inos; fwd=miss"}

	anyOrigin    = []string{"*"}
	crossOrigin  = []string{"cross-origin"}
	nosniff      = []string{"nosniff"}
	sandbox      = []string{"sandbox"}
	exposed      = []string{exposedHeaders}
	corsMethods  = []string{"GET, HEAD, PUT, POST, PATCH, DELETE, OPTIONS"}
	corsHeaders  = []string{"Authorization, Content-Type, Content-Encoding, Range, If-Range, If-None-Match, Tus-Resumable, Upload-Length, Upload-Metadata, Upload-Offset, X-Requested-With, X-HTTP-Method-Override, Inos-Delivery"}
	corsMaxAge   = []string{"7200"}
	noReferrer   = []string{"no-referrer"}
	consolePages = []string{"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}
)

// exposedHeaders is what a page of another origin may read of an answer.
const exposedHeaders = "ETag, Content-Range, Accept-Ranges, Content-Length, Content-Encoding, Repr-Digest, Unencoded-Digest, Cache-Status, Server-Timing, Location, Retry-After, Inos-Object, Tus-Resumable, Tus-Version, Tus-Extension, Upload-Offset, Upload-Length, Upload-Expires"

// readable opens an answer to pages of every origin, isolated ones included
// (Fetch standard; HTML standard, cross-origin isolation).
func readable(h http.Header) {
	h["Access-Control-Allow-Origin"] = anyOrigin
	h["Access-Control-Expose-Headers"] = exposed
	h["Cross-Origin-Resource-Policy"] = crossOrigin
	h["Timing-Allow-Origin"] = anyOrigin
	h["X-Content-Type-Options"] = nosniff
}

// preflight answers OPTIONS.
func preflight(w http.ResponseWriter, r *http.Request, allow string) {
	h := w.Header()
	readable(h)
	h.Set("Allow", allow)
	if r.Header.Get("Access-Control-Request-Method") != "" {
		h["Access-Control-Allow-Methods"] = corsMethods
		h["Access-Control-Allow-Headers"] = corsHeaders
		h["Access-Control-Max-Age"] = corsMaxAge
		h["Vary"] = []string{"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"}
	}
	w.WriteHeader(http.StatusNoContent)
}

// found sets what all found content has in common.
func found(h http.Header, f form, tag string, vary []string) {
	h["Etag"] = []string{tag}
	h["Cache-Control"] = immutable
	h["Vary"] = vary
	h["Accept-Ranges"] = bytesUnit
	h["Content-Security-Policy"] = sandbox
	if f == formBrotli {
		h["Content-Encoding"] = encodingBr
	}
}

// sha256Field is a digest header's value (RFC 9530, section 2).
func sha256Field(sum cas.Hash) string {
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

func setLength(h http.Header, n int64) { h["Content-Length"] = []string{strconv.FormatInt(n, 10)} }

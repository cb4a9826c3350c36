package gateway

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/mesh/exchange"
)

// Page sizes of a listing.
const (
	listingPage    = 1000
	maxListingPage = 10_000
	maxListingText = 512 << 10 // bytes of names and targets
)

// listing is a page of a directory, as JSON and for the HTML template.
type listing struct {
	Hash    string         `json:"hash"`
	Path    string         `json:"path"`
	Size    int64          `json:"size"`
	Count   int64          `json:"count"`
	Entries []listingEntry `json:"entries"`
	Next    string         `json:"next,omitempty"` // name to give as ?from= for the next page
}

type listingEntry struct {
	Name   string `json:"name"`
	Mode   string `json:"mode"`
	Hash   string `json:"hash,omitempty"`
	Size   int64  `json:"size"`
	Target string `json:"target,omitempty"`
}

// Href is the entry's address relative to its directory.
func (e listingEntry) Href() string {
	href := "./" + url.PathEscape(e.Name)
	if e.Mode == cas.ModeDirectory.String() {
		href += "/"
	}
	return href
}

// getDirectory answers for a directory: a redirect to its address with a slash,
// its index.html, or a listing.
func (g *Gateway) getDirectory(w *recorder, r *http.Request, at dag.Found) {
	header := w.Header()
	header["Vary"] = varyBoth
	if !strings.HasSuffix(r.URL.Path, "/") {
		to := r.URL.EscapedPath() + "/"
		if r.URL.RawQuery != "" {
			to += "?" + r.URL.RawQuery
		}
		header.Set("Location", to)
		header["Cache-Control"] = immutable
		setLength(header, 0)
		w.WriteHeader(http.StatusPermanentRedirect)
		return
	}
	json := prefersJSON(r.Header["Accept"]) || r.URL.Query().Get("form") == "json"
	if !json {
		index, err := dag.Lookup(r.Context(), g.content, at.Hash, "index.html")
		switch _, miss := errors.AsType[*exchange.MissError](err); {
		case err == nil && index.Manifest.Kind == cas.KindFile:
			g.sendFile(w, r, index, fileOptions{status: http.StatusOK, vary: varyBoth})
			return
		case err != nil && (miss || !errors.Is(err, cas.ErrNotFound)): // there is one, and it cannot be had
			g.fail(w, r, at.Hash, err)
			return
		}
	}
	page, err := g.listDirectory(r, at)
	if err != nil {
		g.fail(w, r, at.Hash, err)
		return
	}
	g.sendListing(w, r, at.Hash, page, json)
}

// listDirectory reads the page that ?from= and ?limit= ask for.
func (g *Gateway) listDirectory(r *http.Request, at dag.Found) (*listing, error) {
	query := r.URL.Query()
	limit := listingPage
	if n, err := strconv.Atoi(query.Get("limit")); err == nil && n > 0 {
		limit = min(n, maxListingPage)
	}
	text := 0
	page := &listing{Hash: at.Hash.String(), Path: at.Path, Size: at.Manifest.Size, Count: at.Manifest.Count, Entries: []listingEntry{}}
	for e, err := range dag.Entries(r.Context(), g.content, at.Manifest, query.Get("from")) {
		if err != nil {
			return nil, err
		}
		if text += len(e.Name) + len(e.Target); len(page.Entries) == limit || text > maxListingText {
			page.Next = e.Name
			break
		}
		entry := listingEntry{Name: e.Name, Mode: e.Mode.String(), Size: e.Size, Target: e.Target}
		if !e.Hash.IsZero() {
			entry.Hash = e.Hash.String()
		}
		page.Entries = append(page.Entries, entry)
	}
	return page, nil
}

func (g *Gateway) sendListing(w *recorder, r *http.Request, at cas.Hash, page *listing, asJSON bool) {
	var body bytes.Buffer
	var err error
	mediaType := "text/html; charset=utf-8"
	if asJSON {
		mediaType = "application/json"
		err = json.NewEncoder(&body).Encode(page)
	} else {
		err = g.templates.listing.Execute(&body, page)
	}
	if err != nil {
		g.fail(w, r, at, err)
		return
	}
	header := w.Header()
	tag := `"` + cas.Sum(body.Bytes()).String() + `-listing"`
	header.Set("Etag", tag)
	header["Cache-Control"] = listingCache
	header["Cache-Status"] = cacheHit
	if g.notModified(w, r, at, tag) {
		return
	}
	header.Set("Content-Type", mediaType)
	setLength(header, int64(body.Len()))
	w.endBill()
	w.extend(int64(body.Len()))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, err := w.Write(body.Bytes())
		g.mustWrite(err, r)
	}
}

//go:embed pages/listing.html
var listingPageSource string

//go:embed pages/home.html
var homePageSource string

// pages are the HTML that the node makes itself.
type pages struct{ listing, home *template.Template }

func parsePages() (pages, error) {
	funcs := template.FuncMap{"bytes": byteText}
	list, err := template.New("listing").Funcs(funcs).Parse(listingPageSource)
	if err != nil {
		return pages{}, err
	}
	home, err := template.New("home").Funcs(funcs).Parse(homePageSource)
	return pages{list, home}, err
}

// byteText is a size for people.
func byteText(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, unit := float64(n), -1
	for v >= 1024 && unit < len(units)-1 {
		v /= 1024
		unit++
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + units[unit:unit+1] + "iB"
}

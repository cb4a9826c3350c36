package auth

import (
	"net/http"
	"net/url"
	"strings"
)

// devRequest reports whether a request without a token comes from a person at
// this machine, as far as a server can know. Loopback is not enough: behind a
// proxy everybody is loopback, and any web page can post to localhost. So it
// must not carry a trace of a proxy (which HTTP/1.0 is, too: some still speak it
// to their upstream), of a page of another origin, or of a name
// that only resolves to this machine (DNS rebinding).
func devRequest(r *http.Request, c Conn) bool {
	return !c.Proxy && plain(c.Remote).IsLoopback() && r.ProtoAtLeast(1, 1) &&
		!forwarded(r.Header) && !foreignPage(r) && IsLoopbackHost(r.Host)
}

// forwarded reports the headers that proxies add.
func forwarded(h http.Header) bool {
	for name := range h {
		switch name := strings.ToLower(name); {
		case name == "forwarded", name == "via", name == "x-real-ip", strings.HasPrefix(name, "x-forwarded-"):
			return true
		}
	}
	return false
}

// foreignPage reports whether a page of another origin may have sent r. What
// is not known to be harmless is foreign.
func foreignPage(r *http.Request) bool {
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if site != "same-origin" && site != "none" {
			return true
		}
	}
	for _, origin := range r.Header.Values("Origin") {
		if !ownOrigin(r, origin) {
			return true
		}
	}
	return false
}

// ownOrigin reports whether origin is where r was sent to.
func ownOrigin(r *http.Request, origin string) bool {
	scheme, port := "http", ":80"
	if r.TLS != nil {
		scheme, port = "https", ":443"
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != scheme || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return false // "null" too
	}
	return strings.EqualFold(strings.TrimSuffix(u.Host, port), strings.TrimSuffix(r.Host, port))
}

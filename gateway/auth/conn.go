package auth

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Conn is what the listener knows about a request's connection.
type Conn struct {
	// Proxy marks the listener that only the configured proxy can reach (a
	// unix socket): the only one whose forwarding headers are believed.
	Proxy bool
	// Remote is the peer's address; the zero value on a unix socket.
	Remote netip.Addr
}

// ConnOf returns the Conn of a request that net/http read from a listener.
func ConnOf(r *http.Request, proxy bool) Conn {
	c := Conn{Proxy: proxy}
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.Remote = plain(ap.Addr())
	}
	return c
}

// plain is an address without a zone, IPv4 as such.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// ClientAddr returns the address of the client of r, for limits and the
// access log: the peer's own, or on the proxy's listener what the proxy says.
// A proxy appends its word to what the client sent, so the last element counts
// and nothing before it. If X-Forwarded-For and Forwarded are both there and
// differ, one of them is the client's invention: then, as without any, the
// address is the zero Addr, which all who hide share.
func ClientAddr(r *http.Request, c Conn) netip.Addr {
	if !c.Proxy {
		return plain(c.Remote)
	}
	xff, hasXFF := lastElement(r.Header.Values("X-Forwarded-For"))
	fwd, hasFwd := lastElement(r.Header.Values("Forwarded"))
	switch {
	case hasXFF && hasFwd:
		if a := nodeAddr(xff); a == nodeAddr(forwardedFor(fwd)) {
			return a
		}
		return netip.Addr{}
	case hasXFF:
		return nodeAddr(xff)
	case hasFwd:
		return nodeAddr(forwardedFor(fwd))
	}
	return netip.Addr{}
}

// lastElement is the last element of a list header.
func lastElement(values []string) (string, bool) {
	if len(values) == 0 {
		return "", false
	}
	last := values[len(values)-1]
	return strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:]), true
}

// forwardedFor is the "for" parameter of an element of Forwarded (RFC 7239).
func forwardedFor(element string) string {
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(name, "for") {
			if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
				value = value[1 : n-1]
			}
			return value
		}
	}
	return ""
}

// nodeAddr reads an address with or without a port and brackets; the zero
// Addr if it is none ("unknown", "_hidden").
func nodeAddr(s string) netip.Addr {
	if a, err := netip.ParseAddr(s); err == nil {
		return plain(a)
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return plain(ap.Addr())
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			if a, err := netip.ParseAddr(inner); err == nil && a.Is6() {
				return plain(a)
			}
		}
	}
	return netip.Addr{}
}

// IsLoopbackHost reports whether a host, with or without a port, is a name or
// an address of this machine alone: localhost, *.localhost (RFC 6761),
// 127.0.0.0/8, [::1].
func IsLoopbackHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	} else if inner, ok := strings.CutPrefix(host, "["); ok {
		if name, ok = strings.CutSuffix(inner, "]"); !ok {
			return false
		}
	}
	if a, err := netip.ParseAddr(name); err == nil {
		return a.IsLoopback() && !a.Is4In6() && a.Zone() == ""
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

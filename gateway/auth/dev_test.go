package auth_test

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"inos.dev/edge/gateway/auth"
)

func request(host, remote string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/object", nil)
	r.Host, r.RemoteAddr = host, remote
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func TestDev(t *testing.T) {
	const host, lo = "localhost:8080", "127.0.0.1:5000"
	tests := []struct {
		name  string
		r     *http.Request
		proxy bool
		want  bool
	}{
		{"curl", request(host, lo), false, true},
		{"no port", request("localhost", lo), false, true},
		{"a name under it", request("console.localhost:8080", lo), false, true},
		{"upper case, dot", request("LocalHost.:8080", lo), false, true},
		{"IPv4", request("127.0.0.1:8080", lo), false, true},
		{"another of 127/8", request("127.8.9.10", "127.3.4.5:1"), false, true},
		{"IPv6", request("[::1]:8080", "[::1]:5000"), false, true},
		{"IPv6, no port", request("[::1]", "[::1]:5000"), false, true},
		{"mapped peer", request(host, "[::ffff:127.0.0.1]:5000"), false, true},
		{"own page", request(host, lo, "Origin", "http://localhost:8080", "Sec-Fetch-Site", "same-origin"), false, true},
		{"typed address", request(host, lo, "Sec-Fetch-Site", "none"), false, true},
		{"default port", request("localhost:80", lo, "Origin", "http://localhost"), false, true},

		{"peer of the LAN", request(host, "192.168.1.5:5000"), false, false},
		{"peer of the Internet", request(host, "[2001:db8::1]:5000"), false, false},
		{"no peer", request(host, ""), false, false},
		{"unix socket", request(host, "@"), false, false},
		{"proxy's listener", request(host, lo), true, false},

		{"Forwarded", request(host, lo, "Forwarded", "for=127.0.0.1"), false, false},
		{"Forwarded, empty", request(host, lo, "Forwarded", ""), false, false},
		{"X-Forwarded-For", request(host, lo, "X-Forwarded-For", "127.0.0.1"), false, false},
		{"X-Forwarded-Proto", request(host, lo, "x-forwarded-proto", "http"), false, false},
		{"X-Forwarded-anything", request(host, lo, "X-Forwarded-New", "1"), false, false},
		{"Via", request(host, lo, "Via", "1.1 p"), false, false},

		{"foreign page", request(host, lo, "Origin", "https://evil.example"), false, false},
		{"sandboxed page", request(host, lo, "Origin", "null"), false, false},
		{"another port", request(host, lo, "Origin", "http://localhost:3000"), false, false},
		{"another scheme", request(host, lo, "Origin", "https://localhost:8080"), false, false},
		{"another loopback name", request(host, lo, "Origin", "http://127.0.0.1:8080"), false, false},
		{"prefix of the name", request(host, lo, "Origin", "http://localhost:8080.evil.example"), false, false},
		{"user in the origin", request(host, lo, "Origin", "http://x@localhost:8080"), false, false},
		{"empty origin", request(host, lo, "Origin", ""), false, false},
		{"second origin", request(host, lo, "Origin", "http://localhost:8080", "Origin", "https://evil.example"), false, false},
		{"cross-site", request(host, lo, "Sec-Fetch-Site", "cross-site"), false, false},
		{"same-site", request(host, lo, "Sec-Fetch-Site", "same-site"), false, false},
		{"unknown site", request(host, lo, "Sec-Fetch-Site", "Same-Origin"), false, false},

		{"rebound name", request("evil.example:8080", lo), false, false},
		{"suffix only", request("notlocalhost", lo), false, false},
		{"prefix only", request("localhost.evil.example", lo), false, false},
		{"LAN address", request("192.168.1.5:8080", lo), false, false},
		{"any address", request("0.0.0.0:8080", lo), false, false},
		{"mapped host", request("[::ffff:127.0.0.1]:8080", lo), false, false},
		{"zone", request("[::1%25eth0]:8080", lo), false, false},
		{"short form", request("127.1", lo), false, false},
		{"no host", request("", lo), false, false},
		{"broken bracket", request("[::1", lo), false, false},
	}
	own := auth.NewSecretKey()
	dev := verifier(t, auth.Config{Own: own.Public(), Dev: true})
	strict := verifier(t, auth.Config{Own: own.Public()})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := auth.ConnOf(tt.r, tt.proxy)
			id, err := dev.FromRequest(tt.r, c)
			if err != nil || id.Operator != tt.want || id.Anonymous() == tt.want || (id.Rights == auth.All) != tt.want {
				t.Errorf("%+v, %v; want operator %v", id, err, tt.want)
			}
			if id, err := strict.FromRequest(tt.r, c); err != nil || !id.Anonymous() {
				t.Errorf("without dev: %+v, %v", id, err)
			}
		})
	}
	t.Run("over TLS", func(t *testing.T) {
		r := request(host, lo, "Origin", "https://localhost:8080")
		r.TLS = &tls.ConnectionState{}
		if id, err := dev.FromRequest(r, auth.ConnOf(r, false)); err != nil || !id.Operator {
			t.Errorf("%+v, %v", id, err)
		}
	})
	t.Run("a token is looked at even so", func(t *testing.T) {
		r := request(host, lo, "Authorization", "Bearer nonsense")
		if _, err := dev.FromRequest(r, auth.ConnOf(r, false)); !errors.Is(err, auth.ErrUnauthenticated) {
			t.Errorf("%v", err)
		}
		token := issue(t, own, "alice", auth.Read, time.Now(), time.Hour)
		r = request(host, lo, "Authorization", "Bearer "+token.Reveal())
		if id, err := dev.FromRequest(r, auth.ConnOf(r, false)); err != nil || id.Subject != "alice" || id.Operator {
			t.Errorf("%+v, %v", id, err)
		}
	})
}

func TestClientAddr(t *testing.T) {
	const xff, fwd = "X-Forwarded-For", "Forwarded"
	tests := []struct {
		name   string
		proxy  bool
		header []string
		want   string // "" is unknown
	}{
		{"direct", false, nil, "192.0.2.1"},
		{"direct with X-Forwarded-For", false, []string{xff, "10.0.0.1"}, "192.0.2.1"},
		{"direct with Forwarded", false, []string{fwd, "for=10.0.0.1"}, "192.0.2.1"},
		{"direct with X-Real-Ip", false, []string{"X-Real-Ip", "10.0.0.1"}, "192.0.2.1"},
		{"proxy without a word", true, nil, ""},
		{"proxy", true, []string{xff, "203.0.113.9"}, "203.0.113.9"},
		{"proxy appends", true, []string{xff, "10.0.0.1, 203.0.113.9"}, "203.0.113.9"},
		{"proxy adds a line", true, []string{xff, "10.0.0.1", xff, "203.0.113.9"}, "203.0.113.9"},
		{"port", true, []string{xff, "203.0.113.9:4711"}, "203.0.113.9"},
		{"IPv6", true, []string{xff, "2001:db8::1"}, "2001:db8::1"},
		{"IPv6 in brackets", true, []string{xff, "[2001:db8::1]"}, "2001:db8::1"},
		{"IPv6 and port", true, []string{xff, "[2001:db8::1]:80"}, "2001:db8::1"},
		{"mapped", true, []string{xff, "::ffff:203.0.113.9"}, "203.0.113.9"},
		{"nonsense", true, []string{xff, "unknown"}, ""},
		{"empty last", true, []string{xff, "203.0.113.9,"}, ""},
		{"Forwarded", true, []string{fwd, `for=10.0.0.1, For="[2001:db8::1]:80";proto=https`}, "2001:db8::1"},
		{"Forwarded after an open quote", true, []string{fwd, `for="10.0.0.1, for=203.0.113.9`}, "203.0.113.9"},
		{"Forwarded, hidden", true, []string{fwd, "for=_hidden"}, ""},
		{"Forwarded without for", true, []string{fwd, "proto=https"}, ""},
		{"both agree", true, []string{xff, "203.0.113.9", fwd, "for=203.0.113.9"}, "203.0.113.9"},
		{"both differ", true, []string{xff, "203.0.113.9", fwd, "for=10.0.0.1"}, ""},
	}
	for _, tt := range tests {
		r := request("node.example", "192.0.2.1:1234", tt.header...)
		if tt.proxy {
			r.RemoteAddr = "@"
		}
		got := auth.ClientAddr(r, auth.ConnOf(r, tt.proxy))
		var want netip.Addr
		if tt.want != "" {
			want = netip.MustParseAddr(tt.want)
		}
		if got != want {
			t.Errorf("%s: %v, want %q", tt.name, got, tt.want)
		}
	}
}

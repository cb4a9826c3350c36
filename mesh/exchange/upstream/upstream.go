// Package upstream is an exchange.Provider over HTTP: another node's address
// as a source of chunks, without any mesh.
//
// A chunk is fetched as GET URL/chunk/HASH?form=stored over HTTP/1.1 with
// connections kept alive, one request per connection at a time: for bodies of
// up to 1 MiB that costs less than HTTP/2. Every step has its own end: dial,
// response header, and a body that makes no progress; the whole ends with the
// caller's context. A body is bounded before it is read, and one that is cut
// off is an error. Redirects are not followed: an upstream is one address.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/mesh/exchange"
)

// HopsHeader says over how many nodes a request came: a decimal number.
const HopsHeader = "Inos-Hops"

// maxErrorText is the most of an error's body that is read.
const maxErrorText = 4 << 10

// MediaType asks for the stored bytes of a chunk, without a Content-Encoding.
const MediaType = "application/vnd.inos.chunk"

// Hops reads HopsHeader for exchange.WithHops. A value that is no small
// number counts as too many hops.
func Hops(h http.Header) int {
	v := h.Get(HopsHeader)
	if v == "" {
		return 0
	}
	n, err := strconv.ParseUint(v, 10, 8)
	if err != nil {
		return exchange.MaxHops
	}
	return min(int(n), exchange.MaxHops)
}

// Config names an upstream. URL is required; the zero value of every other
// field is its default.
type Config struct {
	// URL is the other node's base address: http or https, a host, and
	// perhaps a path. User names, queries and fragments are refused.
	URL string
	// DialTimeout bounds the connection, TLS included. Default 2 s.
	DialTimeout time.Duration
	// HeaderTimeout bounds the wait for the response header. Default 5 s.
	HeaderTimeout time.Duration
	// StallTimeout is how long a body may make no progress. Default 3 s.
	StallTimeout time.Duration
	// MaxConns bounds the connections. Default 64.
	MaxConns int
}

func (c Config) withDefaults() Config {
	if c.DialTimeout == 0 {
		c.DialTimeout = 2 * time.Second
	}
	if c.HeaderTimeout == 0 {
		c.HeaderTimeout = 5 * time.Second
	}
	if c.StallTimeout == 0 {
		c.StallTimeout = 3 * time.Second
	}
	if c.MaxConns == 0 {
		c.MaxConns = 64
	}
	return c
}

func (c Config) validate() (*url.URL, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, errors.New("upstream: the URL is malformed") // it may hold a password: not repeated
	}
	switch {
	case u.User != nil:
		return nil, errors.New("upstream: the URL must not hold a user name or password")
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return nil, fmt.Errorf("upstream: %q is no address like https://node.example", c.URL)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("upstream: %q must end before the query", c.URL)
	case c.DialTimeout < 0 || c.HeaderTimeout < 0 || c.StallTimeout < 0 || c.MaxConns < 0:
		return nil, errors.New("upstream: timeouts and limits must not be negative")
	}
	return u, nil
}

// Upstream fetches chunks from one address; make it with New. All methods may
// be called at the same time.
type Upstream struct {
	name   string
	base   string // without a slash at the end
	stall  time.Duration
	client *http.Client
}

var _ exchange.Provider = (*Upstream)(nil)

// New returns an Upstream. It connects to nothing before the first Fetch.
func New(cfg Config) (*Upstream, error) {
	u, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	var http1 http.Protocols
	http1.SetHTTP1(true)
	return &Upstream{
		name:  u.Host + strings.TrimRight(u.EscapedPath(), "/"),
		base:  strings.TrimRight(u.String(), "/"),
		stall: cfg.StallTimeout,
		client: &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				Protocols:              &http1,
				DialContext:            (&net.Dialer{Timeout: cfg.DialTimeout}).DialContext,
				TLSHandshakeTimeout:    cfg.DialTimeout,
				ResponseHeaderTimeout:  cfg.HeaderTimeout,
				MaxResponseHeaderBytes: 32 << 10,
				MaxConnsPerHost:        cfg.MaxConns,
				MaxIdleConnsPerHost:    cfg.MaxConns,
				IdleConnTimeout:        90 * time.Second,
				DisableCompression:     true,
				ReadBufferSize:         64 << 10,
			},
		},
	}, nil
}

// Name is the address without its scheme.
func (u *Upstream) Name() string { return u.name }

// Close closes the connections that are idle; those in use close when their
// Fetch ends.
func (u *Upstream) Close() { u.client.CloseIdleConnections() }

// Fetch implements exchange.Provider.
func (u *Upstream) Fetch(ctx context.Context, h cas.Hash) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.base+"/chunk/"+h.String()+"?form=stored", nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", exchange.ErrUnanswered, err)
	}
	req.Header = http.Header{
		"Accept":          {MediaType},
		"Accept-Encoding": {"identity"},
		"User-Agent":      {"inos"},
		HopsHeader:        {strconv.Itoa(exchange.Hops(ctx) + 1)},
	}
	resp, err := u.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", exchange.ErrUnanswered, err)
	}
	defer func() { _ = resp.Body.Close() }() // only read: nothing to lose
	body := newStallReader(resp.Body, u.stall, cancel)
	defer body.stop()
	if err := classify(resp, time.Now()); err != nil {
		// A short error text is read to its end, so that the connection can
		// be used again; if that fails it is closed, and nothing is lost.
		if resp.ContentLength <= maxErrorText {
			_, _ = io.CopyN(io.Discard, body, maxErrorText)
		}
		return nil, err
	}
	data, err := readBody(body, resp.ContentLength)
	if err != nil && context.Cause(ctx) != nil {
		err = fmt.Errorf("%w: after %d bytes: %w", exchange.ErrUnanswered, len(data), context.Cause(ctx))
	}
	return data, err
}

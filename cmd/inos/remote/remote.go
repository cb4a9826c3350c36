// Package remote is the client of a node: chunks over plain HTTP, everything
// else over the node's Connect services.
//
// Nothing that a node answers is believed. A chunk passes cas.Verify, a piece
// is compared with its link, an object with its digests; a node that sends
// other bytes than it was asked for gets an error that wraps
// cas.ErrHashMismatch, cas.ErrShape or cas.ErrCorrupt, never a second chance.
//
// What a node could not answer (no connection, cut off in the middle, too
// busy) is ErrUnavailable and is asked again a few times, with growing pauses:
// every request here may be repeated. A node that has never answered yet is
// not asked again, so that a wrong address is known at once.
//
// Writing goes through Upload, which asks for what is missing and sends only
// that, in batches; reading through Pieces, which reads ahead.
package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"inos.dev/edge/cas"
	"inos.dev/edge/proto/gen/inos/cas/v1/casv1connect"
	"inos.dev/edge/proto/gen/inos/credit/v1/creditv1connect"
	"inos.dev/edge/proto/gen/inos/event/v1/eventv1connect"
	"inos.dev/edge/proto/gen/inos/heat/v1/heatv1connect"
)

// Config says which node, and how to treat it. Node has to be set.
type Config struct {
	// Node is the node's address, such as http://127.0.0.1:8080. A path is
	// kept as a prefix of all requests.
	Node string
	// Token goes to Node, and nowhere else, with every request; "" sends none.
	Token string
	// TokenFound says that nobody named Token for Node: it lay where a node of
	// this machine may have left it. A node that answers it with 401 is asked
	// again without, and gets it no more.
	TokenFound bool
	// UserAgent names the program; "" means inos.
	UserAgent string
	// Timeout bounds one attempt of one request, none of which carries more
	// than a few MiB; 0 means 60 s.
	Timeout time.Duration
	// Retries is how often a request is repeated that the node could not
	// answer; 0 means 4, negative means never.
	Retries int
	// Connections is the most connections to the node; 0 means 16.
	Connections int
}

func (c *Config) validate() (*url.URL, error) {
	base, err := url.Parse(strings.TrimRight(c.Node, "/"))
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("%q is no address of a node; it looks like http://127.0.0.1:8080", c.Node)
	}
	if base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("a node's address has no user, query or fragment; a token comes from a file or from INOS_TOKEN")
	}
	if c.Timeout < 0 || c.Connections < 0 {
		return nil, errors.New("remote: Timeout and Connections are not negative; 0 means the default")
	}
	if c.UserAgent == "" {
		c.UserAgent = "inos"
	}
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	if c.Retries == 0 {
		c.Retries = 4
	}
	if c.Connections == 0 {
		c.Connections = 16
	}
	return base, nil
}

// maxAnswer is the most bytes of one call's answer: a page of objects takes
// some hundred KiB.
const maxAnswer = 8 << 20

// Node is one node. Its methods may be called at the same time.
type Node struct {
	cfg    Config
	base   *url.URL
	client *http.Client
	rpc    casv1connect.CasServiceClient
	// The further services; a node may lack them.
	credits creditv1connect.CreditServiceClient
	heat    heatv1connect.HeatServiceClient
	events  eventv1connect.EventServiceClient
	// delivery is what chunks are counted in; nil if nothing is to be confirmed.
	delivery atomic.Pointer[Delivery]
	// reached is set once the node has answered anything at all.
	reached atomic.Bool
}

// New returns a Node. It does not connect yet.
func New(cfg Config) (*Node, error) {
	base, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		ForceAttemptHTTP2:   true,
		MaxConnsPerHost:     cfg.Connections,
		MaxIdleConnsPerHost: cfg.Connections,
		IdleConnTimeout:     time.Minute,
		TLSHandshakeTimeout: 10 * time.Second,
		// Chunks are compressed already, and stored bytes are what is hashed.
		DisableCompression: true,
		ReadBufferSize:     64 << 10,
		WriteBufferSize:    64 << 10,
	}
	n := &Node{cfg: cfg, base: base}
	n.client = &http.Client{
		Transport: &credentials{next: transport, token: cfg.Token, found: cfg.TokenFound, agent: cfg.UserAgent},
		CheckRedirect: func(to *http.Request, _ []*http.Request) error {
			return fmt.Errorf("%w: it sends on to %s; name that address instead", ErrRefused, to.URL.Redacted())
		},
	}
	limit := connect.WithReadMaxBytes(maxAnswer)
	n.rpc = casv1connect.NewCasServiceClient(n.client, base.String(), limit)
	n.credits = creditv1connect.NewCreditServiceClient(n.client, base.String(), limit)
	n.heat = heatv1connect.NewHeatServiceClient(n.client, base.String(), limit)
	n.events = eventv1connect.NewEventServiceClient(n.client, base.String(), limit)
	return n, nil
}

// Close gives up idle connections.
func (n *Node) Close() { n.client.CloseIdleConnections() }

// Address is the node's address without a slash at its end.
func (n *Node) Address() string { return n.base.String() }

// URL is where an object is served.
func (n *Node) URL(h cas.Hash) string { return n.route("object", h) }

func (n *Node) route(kind string, h cas.Hash) string {
	return n.base.String() + "/" + kind + "/" + h.String()
}

// credentials adds the token and the program's name to every request.
type credentials struct {
	next         http.RoundTripper
	token, agent string
	found        bool        // as Config.TokenFound
	dropped      atomic.Bool // the token turned out to be another node's
}

func (c *credentials) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.token == "" || c.dropped.Load() {
		return c.next.RoundTrip(c.sign(r, ""))
	}
	resp, err := c.next.RoundTrip(c.sign(r, c.token))
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !c.found {
		return resp, err
	}
	c.dropped.Store(true)
	again := c.sign(r, "")
	if r.Body != nil && r.Body != http.NoBody {
		if r.GetBody == nil {
			return resp, nil // it cannot be sent twice; the next request goes without
		}
		if again.Body, err = r.GetBody(); err != nil {
			return nil, errors.Join(err, resp.Body.Close())
		}
	}
	if err := resp.Body.Close(); err != nil {
		return nil, err
	}
	return c.next.RoundTrip(again)
}

// sign returns a copy of r with a token, if there is one, and the program's
// name.
func (c *credentials) sign(r *http.Request, token string) *http.Request {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", c.agent)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

// CloseIdleConnections lets http.Client reach the transport.
func (c *credentials) CloseIdleConnections() {
	if t, ok := c.next.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

// do sends one request and returns the answer if its status is one of want.
// The caller closes the body.
func (n *Node) do(ctx context.Context, method, target string, body io.Reader, want ...int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if d := n.delivery.Load(); d != nil && method == http.MethodGet {
		req.Header.Set(deliveryHeader, d.nonce.String())
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	resp, err := n.client.Do(req)
	if err != nil {
		return nil, n.unreachable(err)
	}
	n.reached.Store(true)
	if slices.Contains(want, resp.StatusCode) {
		return resp, nil
	}
	return nil, errors.Join(n.answerError(resp), resp.Body.Close())
}

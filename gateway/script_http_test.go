package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
)

// clients speak HTTP/1.1 and HTTP/2 without TLS, and believe nobody: no
// compression, no redirects of their own.
type clients struct {
	transports map[string]*http.Transport // by protocol and socket
}

func newClients(t *testing.T) *clients {
	t.Helper()
	c := &clients{transports: map[string]*http.Transport{}}
	t.Cleanup(func() {
		for _, tr := range c.transports {
			tr.CloseIdleConnections()
		}
	})
	return c
}

// to returns a client for a protocol, h1 or h2c; socket is "" for TCP.
func (c *clients) to(protocol, socket string) *http.Client {
	tr := c.transports[protocol+socket]
	if tr == nil {
		var protocols http.Protocols
		protocols.SetHTTP1(protocol == "h1")
		protocols.SetUnencryptedHTTP2(protocol == "h2c")
		tr = &http.Transport{Protocols: &protocols, DisableCompression: true}
		if socket != "" {
			tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			}
		}
		c.transports[protocol+socket] = tr
	}
	return &http.Client{
		Transport: tr, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// exchanged is a request and its answer, if it was asked.
type exchanged struct {
	again  func() error // asks once more
	status int
	header http.Header
	body   []byte
	err    error // of reading the body
}

func (p *player) request(s step) error {
	method, target := s.words[1], p.expand(s.words[2])
	name, path, ok := strings.Cut(target, "/")
	if !ok {
		return errors.New("a path is needed")
	}
	if name == "" {
		name = p.first
	}
	name, proxy := strings.CutSuffix(name, ".proxy")
	node := p.nodes[name]
	if node == nil {
		return fmt.Errorf("no node %q", name)
	}
	socket := ""
	if proxy {
		socket = node.socket
	}
	x := &exchanged{}
	x.again = func() error { return p.ask(x, node, socket, method, "/"+path, s.lines) }
	p.pending = x
	return x.again()
}

func (p *player) ask(x *exchanged, node *process, socket, method, path string, lines []string) error {
	req, err := http.NewRequestWithContext(p.t.Context(), method, node.url, nil)
	if err != nil {
		return err
	}
	req.URL.Opaque = path // sent as it is, dots and escapes included
	if before, query, ok := strings.Cut(path, "?"); ok {
		req.URL = &url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Opaque: before, RawQuery: query}
	}
	for _, line := range lines {
		if words := strings.Fields(line); words[0] == "body" {
			b, ok := p.contents[words[1]]
			if !ok {
				return fmt.Errorf("no content %q", words[1])
			}
			req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
			if len(words) > 2 && words[2] == "chunked" {
				req.ContentLength = -1
			}
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			return fmt.Errorf("%q is no header", line)
		}
		value = p.expand(strings.TrimSpace(value))
		if key == "Host" {
			req.Host = value
			continue
		}
		req.Header[http.CanonicalHeaderKey(key)] = append(req.Header[http.CanonicalHeaderKey(key)], value)
	}
	x.status, x.err = 0, nil
	var resp *http.Response
	if resp, x.err = p.clients.to(p.protocol, socket).Do(req); x.err != nil {
		return nil //nolint:nilerr // for the check of the answer
	}
	x.status, x.header = resp.StatusCode, resp.Header
	x.body, x.err = io.ReadAll(resp.Body)
	return resp.Body.Close()
}

func (p *player) response(s step) error {
	x := p.pending
	if x == nil {
		return errors.New("there was no request")
	}
	if s.words[1] == "broken" {
		if x.err == nil {
			return fmt.Errorf("status %d, and %d bytes that end well", x.status, len(x.body))
		}
		return nil
	}
	want, err := strconv.Atoi(s.words[1])
	if err != nil {
		return err
	}
	if slices.Contains(s.words, "soon") {
		eventually(p.t, fmt.Sprintf("status %d (%s:%d)", want, p.path, s.line), func() bool {
			return x.status == want || x.again() == nil && x.status == want
		})
	}
	if x.err != nil {
		return fmt.Errorf("status %d, broken: %w", x.status, x.err)
	}
	if x.status != want {
		return fmt.Errorf("status %d\n%v\n%.300q", x.status, x.header, x.body)
	}
	for _, line := range s.lines {
		if err := p.check(x, line); err != nil {
			return fmt.Errorf("%s: %w\n%v\n%.300q", line, err, x.header, x.body)
		}
	}
	return nil
}

var errDiffers = errors.New("it is not so")

func (p *player) check(x *exchanged, line string) error {
	word, rest, _ := strings.Cut(line, " ")
	var holds bool
	switch word {
	case "empty":
		holds = len(x.body) == 0
	case "!":
		holds = len(x.header.Values(rest)) == 0
	case "~":
		holds = bytes.Contains(x.body, []byte(p.expand(rest)))
	case "!~":
		holds = !bytes.Contains(x.body, []byte(p.expand(rest)))
	case "=":
		holds = bytes.Equal(x.body, p.contents[rest])
	case "br=":
		raw, err := io.ReadAll(brotli.NewReader(bytes.NewReader(x.body)))
		if err != nil {
			return err
		}
		holds = bytes.Equal(raw, p.contents[rest])
	case "json":
		path, pattern, _ := strings.Cut(rest, " ")
		return p.checkJSON(x.body, path, pattern)
	default:
		name, pattern, ok := strings.Cut(line, ":")
		if !ok {
			return errors.New("what is this?")
		}
		return p.match(strings.Join(x.header.Values(name), ", "), strings.TrimSpace(pattern))
	}
	if !holds {
		return errDiffers
	}
	return nil
}

func (p *player) checkJSON(body []byte, path, pattern string) error {
	var v any
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return err
	}
	for name := range strings.SplitSeq(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(at) {
				return fmt.Errorf("no element %q", name)
			}
			v = at[i]
		default:
			return fmt.Errorf("%q leads nowhere", name)
		}
	}
	return p.match(fmt.Sprint(v), pattern)
}

var wild = regexp.MustCompile(`\\\*|\\\{[a-z0-9]+\\\}`)

// match compares a text with a pattern and keeps what {names} stand for.
func (p *player) match(text, pattern string) error {
	var names []string
	source := wild.ReplaceAllStringFunc(regexp.QuoteMeta(p.expand(pattern)), func(w string) string {
		if w == `\*` {
			return ".*"
		}
		names = append(names, strings.Trim(w, `\{}`))
		return "(.+)"
	})
	found := regexp.MustCompile("^" + source + "$").FindStringSubmatch(text)
	if found == nil {
		return fmt.Errorf("it is %q", text)
	}
	for i, name := range names {
		p.vars[name] = found[i+1]
	}
	return nil
}

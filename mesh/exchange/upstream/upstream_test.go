package upstream_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/mem"
	"inos.dev/edge/mesh/exchange"
	"inos.dev/edge/mesh/exchange/upstream"
)

// chunk returns the raw-form chunk of n equal bytes.
func chunk(tb testing.TB, n int) cas.Chunk {
	tb.Helper()
	head, block := cas.Head(), cas.RawHeader(n)
	c, err := cas.Seal(slices.Concat(head[:], block[:], make([]byte, n), []byte{0x06, cas.Tail()}))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// serve answers every request with h over TCP, and returns an Upstream there.
func serve(t *testing.T, h http.HandlerFunc) (*upstream.Upstream, *httptest.Server) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return dial(t, upstream.Config{URL: srv.URL}), srv
}

func dial(t *testing.T, cfg upstream.Config) *upstream.Upstream {
	t.Helper()
	u, err := upstream.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

func TestFetch(t *testing.T) {
	c := chunk(t, cas.PieceSize)
	var req atomic.Pointer[http.Request]
	var conns atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req.Store(r)
		if r.URL.Query().Has("miss") || !strings.HasSuffix(r.URL.Path, c.Hash().String()) {
			http.Error(w, "not here", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(c.Size(), 10))
		if _, err := w.Write(c.Bytes()); err != nil {
			t.Error(err)
		}
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	u := dial(t, upstream.Config{URL: srv.URL + "/under/"})
	for range 3 {
		b, err := u.Fetch(exchange.WithHops(t.Context(), 2), c.Hash())
		if err != nil || !slices.Equal(b, c.Bytes()) {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		if _, err := u.Fetch(t.Context(), cas.Hash{1}); !errors.Is(err, exchange.ErrSaidNo) || !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("404: %v", err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for six requests, want 1", n)
	}
	if _, err := u.Fetch(exchange.WithHops(t.Context(), 2), c.Hash()); err != nil {
		t.Fatal(err)
	}
	r := req.Load()
	if want := "/under/chunk/" + c.Hash().String() + "?form=stored"; r.RequestURI != want {
		t.Errorf("asked %s, want %s", r.RequestURI, want)
	}
	for name, want := range map[string]string{"Accept": upstream.MediaType, "Accept-Encoding": "identity", upstream.HopsHeader: "3"} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestStatuses(t *testing.T) {
	for code, want := range map[int]error{
		404: exchange.ErrSaidNo, 410: exchange.ErrSaidNo, 451: exchange.ErrSaidNo,
		204: exchange.ErrUnanswered, 206: exchange.ErrUnanswered, 301: exchange.ErrUnanswered, 308: exchange.ErrUnanswered,
		400: exchange.ErrUnanswered, 401: exchange.ErrUnanswered, 403: exchange.ErrUnanswered, 429: exchange.ErrUnanswered,
		500: exchange.ErrUnanswered, 502: exchange.ErrUnanswered, 503: exchange.ErrUnanswered, 504: exchange.ErrUnanswered,
	} {
		u, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(code)
		})
		b, err := u.Fetch(t.Context(), cas.Hash{1})
		if !errors.Is(err, want) || len(b) != 0 {
			t.Errorf("%d: %v, want %v", code, err, want)
		}
		if errors.Is(err, cas.ErrNotFound) != errors.Is(want, exchange.ErrSaidNo) {
			t.Errorf("%d: %v must not say that it is nowhere", code, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for v, want := range map[string]time.Duration{"7": 7 * time.Second, "Mon, 01 Jan 2001 00:00:00 GMT": 0, "soon": -1, "-1": -1, "": -1} {
		u, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", v)
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		_, err := u.Fetch(t.Context(), cas.Hash{1})
		r, ok := errors.AsType[*exchange.RetryError](err)
		if ok != (want >= 0) || ok && r.After != want || !errors.Is(err, exchange.ErrUnanswered) {
			t.Errorf("Retry-After %q: %v", v, err)
		}
	}
}

func TestBodies(t *testing.T) {
	c := chunk(t, 100_000)
	half := c.Bytes()[:c.Size()/2]
	length := strconv.FormatInt(c.Size(), 10)
	tests := []struct {
		name    string
		handler func(w http.ResponseWriter, r *http.Request) error
		want    error // nil: the bytes come, and the gate judges them
	}{
		{"no length", func(w http.ResponseWriter, _ *http.Request) error {
			_, err := w.Write(c.Bytes())
			return err
		}, nil},
		{"cut off with a length", func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Length", length)
			_, err := w.Write(half)
			return err // the server closes the connection
		}, exchange.ErrUnanswered},
		{"aborted without a length", func(w http.ResponseWriter, _ *http.Request) error {
			if _, err := w.Write(half); err != nil {
				return err
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return err
			}
			panic(http.ErrAbortHandler)
		}, exchange.ErrUnanswered},
		{"too large with a length", func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Length", strconv.Itoa(cas.MaxChunkSize+1))
			return http.NewResponseController(w).Flush()
		}, exchange.ErrLied},
		{"endless", func(w http.ResponseWriter, _ *http.Request) error {
			var err error
			for err == nil { // until the client leaves, as it should
				_, err = w.Write(half)
			}
			return nil
		}, exchange.ErrLied},
		{"encoded", func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Encoding", "br")
			_, err := w.Write(c.Bytes())
			return err
		}, exchange.ErrUnanswered},
		{"no HTTP", func(w http.ResponseWriter, _ *http.Request) error {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return err
			}
			_, err = conn.Write([]byte("220 mail.example ESMTP\r\n"))
			return errors.Join(err, conn.Close())
		}, exchange.ErrUnanswered},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if err := tt.handler(w, r); err != nil {
					t.Error(err)
				}
			})
			b, err := u.Fetch(t.Context(), c.Hash())
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if tt.want == nil && !slices.Equal(b, c.Bytes()) {
				t.Error("other bytes")
			}
		})
	}
}

func TestStalls(t *testing.T) {
	c := chunk(t, 1000)
	stall := func(before func(w http.ResponseWriter)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			before(w)
			<-r.Context().Done()
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"no header": stall(func(http.ResponseWriter) {}),
		"half a body": stall(func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", strconv.FormatInt(c.Size(), 10))
			if _, err := w.Write(c.Bytes()[:500]); err != nil {
				t.Error(err)
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
		}),
		"an error without its text": stall(func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusBadGateway)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			_, srv := serve(t, h)
			u := dial(t, upstream.Config{URL: srv.URL, HeaderTimeout: 100 * time.Millisecond, StallTimeout: 100 * time.Millisecond})
			start := time.Now()
			if _, err := u.Fetch(t.Context(), c.Hash()); !errors.Is(err, exchange.ErrUnanswered) {
				t.Errorf("error %v", err)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("took %v", d)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if _, err := u.Fetch(ctx, c.Hash()); !errors.Is(err, exchange.ErrUnanswered) {
				t.Errorf("deadline: error %v", err)
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	_, srv := serve(t, func(http.ResponseWriter, *http.Request) {})
	srv.Close()
	u := dial(t, upstream.Config{URL: srv.URL})
	if _, err := u.Fetch(t.Context(), cas.Hash{1}); !errors.Is(err, exchange.ErrUnanswered) {
		t.Errorf("error %v", err)
	}
}

// Five hundred clients, the first of which hangs up: one request upstream.
func TestThroughTheExchange(t *testing.T) {
	c := chunk(t, cas.PieceSize)
	var requests atomic.Int64
	arrived, release := make(chan struct{}), make(chan struct{})
	u, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 1 {
			close(arrived)
		}
		<-release
		if _, err := w.Write(c.Bytes()); err != nil {
			t.Error(err)
		}
	})
	store, err := mem.New(mem.Config{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := exchange.New(exchange.Config{Store: store, Providers: []exchange.Provider{u}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()

	first, hangUp := context.WithCancel(t.Context())
	errs := make(chan error, 500)
	fill := func(ctx context.Context) {
		_, err := e.FillWhole(ctx, c.Hash())
		errs <- err
	}
	go fill(first)
	<-arrived
	hangUp()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	for range 499 {
		go fill(t.Context())
	}
	close(release)
	for range 499 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests upstream, want 1", n)
	}
}

func TestHops(t *testing.T) {
	for v, want := range map[string]int{"": 0, "0": 0, "3": 3, "4": 4, "5": 4, "255": 4, "256": 4, "-1": 4, "x": 4, "1, 2": 4} {
		h := http.Header{}
		if v != "" {
			h.Set(upstream.HopsHeader, v)
		}
		if got := upstream.Hops(h); got != want {
			t.Errorf("%q: %d, want %d", v, got, want)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, url := range []string{
		"", "node.example", "ftp://node.example", "http://", "http://u:secret@node.example", "http://secret@h:port/",
		"http://node.example/?a=b", "http://node.example/#f", "http://[::1", "http://:80/",
	} {
		_, err := upstream.New(upstream.Config{URL: url})
		if err == nil {
			t.Errorf("%q: accepted", url)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error tells the password: %v", url, err)
		}
	}
	if _, err := upstream.New(upstream.Config{URL: "http://node.example", StallTimeout: -1}); err == nil {
		t.Error("negative timeout accepted")
	}
	if u := dial(t, upstream.Config{URL: "https://node.example:8443/edge/"}); u.Name() != "node.example:8443/edge" {
		t.Errorf("name %q", u.Name())
	}
}

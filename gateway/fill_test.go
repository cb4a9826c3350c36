package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
)

// bigChunk is a chunk of about 1 MiB.
func bigChunk(t *testing.T, name string) cas.Chunk {
	t.Helper()
	c, _, err := dag.EncodePiece(random(name, cas.PieceSize), 0)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func putChunk(t *testing.T, n *process, c cas.Chunk) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, n.url+"/chunk/"+c.Hash().String(), strings.NewReader(string(c.Bytes())))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+n.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusCreated {
		t.Fatalf("PUT: %s", resp.Status)
	}
}

// firstByteSpread is the bar for quiet machines; a busy one that also runs the
// race detector gets more time, since what is measured is mostly its queue.
const firstByteSpread = 50 * time.Millisecond

// waiter is a client of a cold chunk on a connection that is open already.
type waiter struct {
	conn  net.Conn
	first time.Time
	err   error
}

// get notes when the first byte came, and reads on once all have theirs: the
// clients of this test share a machine with the node.
func (w *waiter) get(path string, want []byte, met *sync.WaitGroup) {
	r := bufio.NewReader(w.conn)
	_, w.err = r.Peek(1)
	w.first = time.Now()
	met.Done()
	met.Wait()
	if w.err != nil {
		return
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		w.err = err
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		w.err = fmt.Errorf("%s: %s", path, resp.Status)
		return
	}
	rest := expected{want}
	_, w.err = io.CopyBuffer(&rest, resp.Body, make([]byte, 64<<10))
	if w.err == nil && len(rest.want) > 0 {
		w.err = io.ErrUnexpectedEOF
	}
}

// expected refuses other bytes than those it wants.
type expected struct{ want []byte }

func (e *expected) Write(b []byte) (int, error) {
	rest, ok := bytes.CutPrefix(e.want, b)
	if !ok {
		return 0, errors.New("wrong bytes")
	}
	e.want = rest
	return len(b), nil
}

// TestOneFill: 500 clients of a cold chunk, the first of whom hangs up at a
// tenth, are one request upstream, and 499 get the chunk at the same moment.
func TestOneFill(t *testing.T) {
	const clients = 500
	origin := start(t, t.TempDir(), nil)
	chunk := bigChunk(t, "one fill")
	putChunk(t, origin, chunk)
	slow := relay(t, strings.TrimPrefix(origin.url, "http://"))
	edge := start(t, t.TempDir(), nil, "--upstream", "http://"+slow.addr)
	path := "/chunk/" + chunk.Hash().String()

	idle := edge.metric(t, "go_goroutines")
	before := origin.metric(t, `inos_http_requests_total{route="chunk"}`)
	waiters := make([]*waiter, clients)
	for i := range waiters {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(edge.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		waiters[i] = &waiter{conn: conn}
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: edge\r\nAccept-Encoding: br\r\n\r\n", path); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "one request upstream", func() bool { return slow.waiting() == 1 })
	// A request that waits is two goroutines: its handler, and the one that
	// notices whether the client leaves.
	eventually(t, "all requests under way", func() bool { return edge.metric(t, "go_goroutines") >= idle+2*clients })
	slow.release()

	var all, met sync.WaitGroup
	met.Add(clients - 1)
	all.Go(func() { // the first takes a tenth and hangs up
		if _, err := io.CopyN(io.Discard, waiters[0].conn, cas.PieceSize/10); err != nil {
			waiters[0].err = err
		}
		waiters[0].conn.Close()
	})
	for _, w := range waiters[1:] {
		all.Go(func() { w.get(path, chunk.Bytes(), &met) })
	}
	all.Wait()
	var first []time.Time
	for i, w := range waiters {
		if w.err != nil {
			t.Fatalf("client %d: %v", i, w.err)
		}
		if i > 0 {
			first = append(first, w.first)
		}
	}
	slices.SortFunc(first, time.Time.Compare)
	spread := first[len(first)-1].Sub(first[0])
	t.Logf("first bytes of %d clients within %v", len(first), spread)
	if limit := 20 * firstByteSpread; spread > limit {
		t.Errorf("first bytes within %v, want %v even here", spread, limit)
	}
	if asked := origin.metric(t, `inos_http_requests_total{route="chunk"}`) - before; asked != 1 {
		t.Errorf("%v requests upstream, want 1", asked)
	}
	eventually(t, "the chunk stored", func() bool { return edge.metric(t, "inos_store_chunks") == 1 })
}

// relayed is a TCP relay that holds answers back until they are released.
type relayed struct {
	addr string
	gate chan struct{}

	mu    sync.Mutex
	conns int // guarded by mu: connections so far
}

func relay(t *testing.T, target string) *relayed {
	t.Helper()
	r := &relayed{gate: make(chan struct{})}
	r.addr = listen(t, func(conn net.Conn) {
		r.mu.Lock()
		r.conns++
		r.mu.Unlock()
		to, err := new(net.Dialer).DialContext(context.Background(), "tcp", target)
		if err != nil {
			return
		}
		defer to.Close()
		go func() {
			_, _ = io.Copy(to, conn) // ends with either connection
			to.Close()               // and ends the way back
		}()
		<-r.gate
		_, _ = io.Copy(conn, to) // what is missing, the clients miss
	})
	return r
}

func (r *relayed) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conns
}

func (r *relayed) release() { close(r.gate) }

// listen serves raw connections on loopback until the test ends.
func listen(t *testing.T, serve func(net.Conn)) (addr string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex // guards conns
	var conns []net.Conn
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			all.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return l.Addr().String()
}

// TestBadUpstream: what an upstream does wrong is stored nowhere, and whoever
// asked gets a clear answer in time.
func TestBadUpstream(t *testing.T) {
	chunk := bigChunk(t, "bad upstream")
	wrong := bigChunk(t, "something else")
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.inos.chunk\r\nContent-Length: %d\r\n\r\n", chunk.Size())
	hang := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) } // until the node hangs up
	for _, test := range []struct {
		name   string
		answer func(net.Conn)
		status int
		tried  string // empty where it is "asking" or "no answer", as the clock will have it
	}{
		{"truncates", func(c net.Conn) { fmt.Fprintf(c, "%s%s", head, chunk.Bytes()[:1000]) }, 504, "no answer"},
		{"lies", func(c net.Conn) { fmt.Fprintf(c, "%s%s", head, wrong.Bytes()) }, 504, "wrong bytes"},
		{"stalls", func(c net.Conn) { fmt.Fprintf(c, "%s%s", head, chunk.Bytes()[:1000]); hang(c) }, 504, ""},
		{"says nothing", hang, 504, ""},
		{"hangs up", func(net.Conn) {}, 504, "no answer"},
		{"talks too much", func(c net.Conn) {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n")
			hang(c)
		}, 504, "wrong bytes"},
		{"never ends", func(c net.Conn) {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for zeros := strings.Repeat("\x00", 1<<16); ; {
				if _, err := fmt.Fprintf(c, "10000\r\n%s\r\n", zeros); err != nil {
					return
				}
			}
		}, 504, "wrong bytes"},
		{"has no HTTP", func(c net.Conn) { fmt.Fprint(c, "220 smtp.example ESMTP\r\n") }, 504, "no answer"},
		{"redirects", func(c net.Conn) {
			fmt.Fprint(c, "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
		}, 504, "no answer"},
		{"says no", func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") }, 404, "said no"},
		{"says no and no more", func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 100000\r\n\r\n"); hang(c) }, 404, "said no"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			addr := listen(t, func(conn net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					test.answer(conn)
				}
			})
			edge := start(t, t.TempDir(), nil, "--upstream", "http://"+addr)
			began := time.Now()
			for _, form := range []string{"br", "identity"} {
				status, header, body := get(t, edge.url+"/chunk/"+chunk.Hash().String(), "Accept-Encoding", form)
				if status != test.status || !strings.Contains(body, `"answer":"`+test.tried) {
					t.Errorf("%s: status %d, want %d and %q: %s", form, status, test.status, test.tried, body)
				}
				if (header.Get("Retry-After") != "") != (status == 504) || header.Get("Cache-Control") != "no-store" {
					t.Errorf("%s: %v", form, header)
				}
			}
			if took := time.Since(began); took > 2*4*time.Second {
				t.Errorf("two answers took %v, want each first byte within 3 s", took)
			}
			if n := edge.metric(t, "inos_store_chunks"); n != 0 {
				t.Errorf("%v chunks were stored", n)
			}
		})
	}
}

// get asks with header name-value pairs.
func get(t *testing.T, url string, pairs ...string) (status int, header http.Header, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		req.Header.Set(pairs[i], pairs[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

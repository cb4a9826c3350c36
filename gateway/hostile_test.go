package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
)

func newRequest(t *testing.T, method, url string, body []byte) (*http.Request, error) {
	t.Helper()
	return http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
}

// say sends bytes as they are and returns the status line of each answer until
// the node closes the connection.
func say(t *testing.T, n *process, text string) (statuses []int) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(n.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go func() { // a node that answers early does not read all of it
		_, _ = io.WriteString(conn, text)
	}()
	r := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("no end after %.80q", text)
			}
			return statuses
		}
		statuses = append(statuses, resp.StatusCode)
		_, err = io.Copy(io.Discard, resp.Body)
		if resp.Body.Close(); err != nil {
			return statuses // a node that closes on unread bytes resets the connection
		}
	}
}

// TestHostileRequests: each gets one clear answer, in bounded time.
func TestHostileRequests(t *testing.T) {
	n := start(t, t.TempDir(), nil, "--dev")
	object := strings.TrimPrefix(uploadFile(t, n, sentences("hostile", 100_000)), n.url)
	var ranges []string
	for i := range 10_000 {
		ranges = append(ranges, fmt.Sprintf("%d-%d", 2*i, 2*i))
	}
	chunkPath := "/chunk/" + strings.Repeat("0", 63) + "1"
	host := "Host: " + strings.TrimPrefix(n.url, "http://") + "\r\n"
	for name, test := range map[string]struct {
		say  string
		want string
	}{
		"10,000 ranges":      {"GET " + object + " HTTP/1.1\r\n" + host + "Range: bytes=" + strings.Join(ranges, ",") + "\r\n\r\n", "[431]"},
		"3,000 ranges":       {"GET " + object + " HTTP/1.1\r\n" + host + "Connection: close\r\nRange: bytes=" + strings.Join(ranges[:3000], ",") + "\r\n\r\n", "[416]"},
		"commas":             {"GET " + object + " HTTP/1.1\r\n" + host + "Connection: close\r\nRange: bytes=" + strings.Repeat(",", 30_000) + "\r\n\r\n", "[416]"},
		"many headers":       {"GET / HTTP/1.1\r\n" + host + strings.Repeat("X-A: b\r\n", 100_000) + "\r\n", "[431]"},
		"one long header":    {"GET / HTTP/1.1\r\n" + host + "X-A: " + strings.Repeat("b", 1<<20) + "\r\n\r\n", "[431]"},
		"long path":          {"GET /object/" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\n" + host + "\r\n", "[431]"},
		"deep path":          {"GET " + object + "/" + strings.Repeat("a/", 12_000) + " HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n", "[413]"},
		"long query":         {"GET " + object + "?" + strings.Repeat("a=b&", 7_000) + " HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n", "[200]"},
		"many codings":       {"GET " + object + " HTTP/1.1\r\n" + host + "Connection: close\r\nAccept-Encoding: " + strings.Repeat("br;q=0,", 4_000) + "br\r\n\r\n", "[200]"},
		"many tags":          {"GET " + object + " HTTP/1.1\r\n" + host + "Connection: close\r\nIf-None-Match: " + strings.Repeat(`"x",`, 7_000) + `"y"` + "\r\n\r\n", "[200]"},
		"length and chunked": {"POST /object HTTP/1.1\r\n" + host + "Connection: close\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n" + host + "\r\n", "[201]"},
		"two lengths":        {"POST /object HTTP/1.1\r\n" + host + "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", "[400]"},
		"chunked twice":      {"POST /object HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "[501]"},
		"unknown transfer":   {"POST /object HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "[501]"},
		"negative length":    {"POST /object HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n", "[400]"},
		"bad chunk size":     {"POST /object HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", "[500]"},
		"no host":            {"GET / HTTP/1.1\r\n\r\n", "[400]"},
		"space in a name":    {"GET / HTTP/1.1\r\n" + host + "X-A : b\r\n\r\n", "[400]"},
		"not HTTP":           {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "[400]"},
		"2 GiB in one chunk": {"PUT " + chunkPath + " HTTP/1.1\r\n" + host + "Content-Length: 2147483648\r\n\r\n" + strings.Repeat("a", 1<<20), "[413]"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fmt.Sprint(say(t, n, test.say)); got != test.want {
				t.Errorf("answers %s, want %s", got, test.want)
			}
		})
	}
	if n := n.metric(t, "inos_store_chunks"); n != 2+1 { // the object's two, and an empty object
		t.Errorf("%v chunks in the store", n)
	}
}

// endless is a body without an end that counts what was taken of it.
type endless struct{ n atomic.Int64 }

func (e *endless) Read(b []byte) (int, error) {
	if e.n.Add(int64(len(b))) > 2<<30 {
		return 0, io.EOF
	}
	return len(b), nil
}

// TestHugeChunk: 2 GiB as one chunk, announced or not, over both protocols,
// are refused after little more than a chunk.
func TestHugeChunk(t *testing.T) {
	n := start(t, t.TempDir(), nil, "--dev")
	for _, protocol := range []string{"h1", "h2c"} {
		for _, length := range []int64{2 << 30, -1} {
			body := &endless{}
			req := must(http.NewRequestWithContext(t.Context(), http.MethodPut, n.url+"/chunk/"+strings.Repeat("0", 64), body))
			req.ContentLength = length
			resp, err := newClients(t).to(protocol, "").Do(req)
			if err != nil {
				t.Fatalf("%s, length %d: %v", protocol, length, err)
			}
			if resp.Body.Close(); resp.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("%s, length %d: %s", protocol, length, resp.Status)
			}
			if taken := body.n.Load(); taken > 64<<20 {
				t.Errorf("%s, length %d: %d bytes were taken", protocol, length, taken)
			}
		}
	}
	if c := n.metric(t, "inos_store_chunks"); c != 0 {
		t.Errorf("%v chunks in the store", c)
	}
	if rss := n.metric(t, "process_resident_memory_bytes"); rss > 200<<20 {
		t.Errorf("%v bytes of memory", rss)
	}
}

// TestBrokenBody: an object whose second piece is not to be had ends with a
// broken connection, never as if it were complete.
func TestBrokenBody(t *testing.T) {
	n := start(t, t.TempDir(), nil, "--dev")
	file := random("broken", 3*cas.PieceSize)
	m := cas.Manifest{Kind: cas.KindFile, Size: int64(len(file)), MediaType: "text/plain", SHA256: sha256.Sum256(file)}
	var sum dag.RawSum
	for i := range 3 {
		piece := file[i*cas.PieceSize:][:cas.PieceSize]
		c, link, err := dag.EncodePiece(piece, int64(i))
		if err != nil {
			t.Fatal(err)
		}
		sum.Add(piece)
		m.Pieces, m.Encoded, m.Count = append(m.Pieces, link), m.Encoded+link.Encoded, m.Count+1
		if i != 1 {
			putChunk(t, n, c)
		}
	}
	m.Raw = sum.Sum()
	root, err := dag.EncodeManifest(&m)
	if err != nil {
		t.Fatal(err)
	}
	putChunk(t, n, root)
	url := n.url + "/object/" + root.Hash().String()
	for _, protocol := range []string{"h1", "h2c"} {
		for _, encoding := range []string{"br", "identity"} {
			req := must(newRequest(t, http.MethodGet, url, nil))
			req.Header.Set("Accept-Encoding", encoding)
			resp, err := newClients(t).to(protocol, "").Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			want := "unexpected EOF"
			if protocol == "h2c" {
				want = "stream error"
			}
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %s: %d bytes end with %v, want %s", protocol, encoding, len(b), err, want)
			}
			if encoding == "identity" && !bytes.Equal(b, file[:len(b)]) {
				t.Errorf("%s: wrong bytes before the break", protocol)
			}
		}
	}
	// What is here can be had, and what is not says so before its head.
	status, _, body := get(t, url, "Range", "bytes="+strconv.Itoa(2*cas.PieceSize)+"-")
	if status != http.StatusPartialContent || body != string(file[2*cas.PieceSize:]) {
		t.Errorf("the third piece: status %d, %d bytes", status, len(body))
	}
	if status, _, _ := get(t, url, "Range", "bytes="+strconv.Itoa(cas.PieceSize)+"-"); status != http.StatusNotFound {
		t.Errorf("the second piece: status %d", status)
	}
}

// TestDrain: a node that is told to stop says so, finishes what it is at, and
// ends.
func TestDrain(t *testing.T) {
	n := start(t, t.TempDir(), nil, "--dev")
	r, w := io.Pipe()
	req := must(http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+"/object", r))
	answered := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			if resp.Body.Close(); resp.StatusCode != http.StatusCreated {
				err = errors.New(resp.Status)
			}
		}
		answered <- err
	}()
	if _, err := w.Write(random("drain", 100_000)); err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	eventually(t, "closed for new connections", func() bool {
		conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", strings.TrimPrefix(n.url, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if _, err := w.Write(random("drain 2", 100_000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("the upload under way: %v", err)
	}
	if err := <-n.done; err != nil {
		t.Errorf("the node ended with %v", err)
	}
	n.done <- nil
}

package gateway_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"inos.dev/edge/cas"
)

// uploadFile posts a file and returns its address.
func uploadFile(t *testing.T, n *process, b []byte) string {
	t.Helper()
	c := newClients(t).to("h1", "")
	req := must(newRequest(t, "POST", n.url+"/object", b))
	req.Header.Set("Authorization", "Bearer "+n.token)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusCreated {
		t.Fatalf("POST: %s", resp.Status)
	}
	return n.url + resp.Header.Get("Location")
}

// TestSendfileBytes: under the whole middleware, what a file holds reaches the
// connection through its ReadFrom, as the counter of direct bytes says.
func TestSendfileBytes(t *testing.T) {
	n := start(t, t.TempDir(), nil)
	chunk := bigChunk(t, "direct")
	putChunk(t, n, chunk)
	noise := random("direct object", 3<<20)
	object := uploadFile(t, n, noise)
	for _, test := range []struct {
		name, url, encoding string
		least, most         int
		pairs               []string
	}{
		{"chunk", n.url + "/chunk/" + chunk.Hash().String(), "br", int(chunk.Size()), int(chunk.Size()), nil},
		{"chunk, stored form", n.url + "/chunk/" + chunk.Hash().String() + "?form=stored", "br", int(chunk.Size()), int(chunk.Size()), nil},
		{"chunk in the raw form, decoded", n.url + "/chunk/" + chunk.Hash().String(), "identity", cas.PieceSize, cas.PieceSize, nil},
		{"range of a chunk", n.url + "/chunk/" + chunk.Hash().String(), "br", 500_000, 500_000, []string{"Range", "bytes=100000-599999"}},
		{"joined object", object, "br", 3 << 20, 3<<20 + 100, nil},
		{"raw object", object, "identity", 3 << 20, 3 << 20, nil},
		{"range of a raw object", object, "identity", 2_000_000, 2_000_000, []string{"Range", "bytes=500000-2499999"}},
	} {
		before := n.metric(t, "inos_http_direct_bytes_total")
		status, _, body := get(t, test.url, append(test.pairs, "Accept-Encoding", test.encoding)...)
		if status != 200 && status != 206 {
			t.Fatalf("%s: status %d", test.name, status)
		}
		direct := func() int { return int(n.metric(t, "inos_http_direct_bytes_total") - before) }
		eventually(t, test.name+": direct bytes counted", func() bool { return direct() >= test.least })
		if d := direct(); d > test.most || len(body) < d {
			t.Errorf("%s: %d direct bytes of %d, want %d to %d", test.name, d, len(body), test.least, test.most)
		}
	}
}

// TestSendfileSystemCall sees the kernel copy a chunk and an object from file
// to socket, in a trace of the binary that users run.
func TestSendfileSystemCall(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace")
	n := start(t, t.TempDir(), []string{"strace", "-D", "-f", "-q", "-e", "trace=sendfile,splice", "-o", trace})
	chunk := bigChunk(t, "system call")
	putChunk(t, n, chunk)
	noise := random("system call object", 2<<20)
	object := uploadFile(t, n, noise)
	for url, want := range map[string]int{n.url + "/chunk/" + chunk.Hash().String(): int(chunk.Size()), object: 2 << 20} {
		before := sendfileBytes(t, trace)
		if status, _, body := get(t, url, "Accept-Encoding", "br"); status != 200 || len(body) < want {
			t.Fatalf("status %d, %d bytes", status, len(body))
		}
		eventually(t, "sendfile of "+strconv.Itoa(want)+" bytes", func() bool { return sendfileBytes(t, trace)-before >= want-2*sniffed })
	}
	if status, _, body := get(t, object, "Accept-Encoding", "identity"); status != 200 || !bytes.Equal([]byte(body), noise) {
		t.Errorf("identity: status %d, %d bytes", status, len(body))
	}
}

// sniffed is more than what net/http reads of a file by itself, to send it
// along with the head.
const sniffed = 1 << 10

var sendfileCall = regexp.MustCompile(`sendfile.*= ([0-9]+)$`)

// sendfileBytes adds up what sendfile returned in a trace.
func sendfileBytes(t *testing.T, trace string) (n int) {
	t.Helper()
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if m := sendfileCall.FindStringSubmatch(line); m != nil {
			n += must(strconv.Atoi(m[1]))
		}
	}
	return n
}

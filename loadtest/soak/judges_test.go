package soak

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"inos.dev/edge/cas"
)

// repository is the root of the checkout.
const repository = "../.."

// TestForeignDecoders: the C decoder reads what is served, single chunks and
// joined objects; so does curl. (Node's zlib and Chromium do so in web/test.)
func TestForeignDecoders(t *testing.T) {
	n := startNode(t, "--scrub-rate", "0")
	for _, size := range []int{0, 1, 1000, cas.PieceSize, cas.PieceSize + 1, 5*cas.PieceSize + 77} {
		want, err := io.ReadAll(newGenerated(int64(size)))
		if err != nil {
			t.Fatal(err)
		}
		acked := newAcknowledged()
		if err := postObject(t.Context(), n.url, want, acked); err != nil {
			t.Fatal(err)
		}
		for url := range acked.sums {
			if got := pipe(t, "curl -sf -H 'Accept-Encoding: br' "+url+" | brotli -dc"); !bytes.Equal(got, want) {
				t.Errorf("%d bytes: brotli decodes %d others", size, len(got))
			}
			if got := pipe(t, "curl -sf --compressed "+url); !bytes.Equal(got, want) {
				t.Errorf("%d bytes: curl decodes %d others", size, len(got))
			}
			for _, chunk := range links(t, n.url, strings.TrimPrefix(url, n.url+"/object/")) {
				stored := pipe(t, "curl -sf '"+n.url+"/chunk/"+chunk+"?form=stored' | b3sum --no-names")
				if strings.TrimSpace(string(stored)) != chunk {
					t.Errorf("b3sum says %s of chunk %s", stored, chunk)
				}
			}
		}
	}
}

// links are the chunks of an object, by the client's word.
func links(t *testing.T, url, object string) []string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "stat", "--node", url, "--json", object).Output()
	if err != nil {
		t.Fatal(err)
	}
	var stat struct {
		Links []struct{ Hash string }
	}
	if err := json.Unmarshal(out, &stat); err != nil {
		t.Fatal(err)
	}
	var hashes []string
	for _, l := range stat.Links {
		hashes = append(hashes, l.Hash)
	}
	return hashes
}

func pipe(t *testing.T, script string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script).Output()
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return out
}

// TestH2spec: the gateway breaks no rule of HTTP/2 that net/http itself keeps.
func TestH2spec(t *testing.T) {
	n := startNode(t, "--scrub-rate", "0")
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	page := bytes.Repeat([]byte("a page "), 300)
	bare := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), Protocols: &protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := w.Write(page); err != nil {
			t.Log(err) // h2spec breaks off on purpose
		}
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- bare.Serve(l) }()
	t.Cleanup(func() {
		if err := bare.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	ran, excused := h2spec(t, l.Addr().String())
	judged, failed := h2spec(t, strings.TrimPrefix(n.url, "http://"))
	t.Logf("%d cases; net/http fails %d, the gateway %d", judged, len(excused), len(failed))
	if ran != judged || judged < 100 {
		t.Errorf("%d cases against net/http, %d against the gateway", ran, judged)
	}
	for _, name := range failed {
		if !slices.Contains(excused, name) && !passesOnce(t, strings.TrimPrefix(n.url, "http://"), name) {
			t.Errorf("the gateway alone fails: %s", name)
		}
	}
}

// passesOnce repeats the section of a failed case. Some cases race with the
// answer: they want an error about a stream that a fast server has ended by
// then. A rule that is really broken is broken every time.
func passesOnce(t *testing.T, addr, name string) bool {
	t.Helper()
	section, _, _ := strings.Cut(name, " ")
	for range 20 {
		if _, failed := h2spec(t, addr, section); !slices.Contains(failed, name) {
			return true
		}
	}
	return false
}

// h2spec runs the suite and returns the number of cases and the failed ones.
func h2spec(t *testing.T, addr string, sections ...string) (ran int, failed []string) {
	t.Helper()
	report := filepath.Join(t.TempDir(), "report.xml")
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-h", host, "-p", port, "-o", "2", "-j", report}, sections...)
	cmd := exec.CommandContext(t.Context(), filepath.Join(repository, "bin/h2spec"), args...)
	if out, err := cmd.CombinedOutput(); err != nil && cmd.ProcessState.ExitCode() != 1 {
		t.Fatalf("h2spec (make tools builds it): %v\n%.2000s", err, out)
	}
	b, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var suites struct {
		Suites []struct {
			Cases []struct {
				Package string    `xml:"package,attr"`
				Name    string    `xml:"classname,attr"`
				Failure *struct{} `xml:"failure"`
				Error   *struct{} `xml:"error"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(b, &suites); err != nil {
		t.Fatal(err)
	}
	for _, s := range suites.Suites {
		for _, c := range s.Cases {
			ran++
			if c.Failure != nil || c.Error != nil {
				failed = append(failed, c.Package+" "+c.Name)
			}
		}
	}
	return ran, failed
}

// TestReadme types what the README says.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(readme, -1)
	if len(blocks) < 2 {
		t.Fatal("the README has no commands")
	}
	n := startNode(t, "--scrub-rate", "0")
	dir := t.TempDir()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(dir, "docs"), os.DirFS(filepath.Join(repository, "docs"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "README.md"), readme, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(dir, "bin", "inos")); err != nil {
		t.Fatal(err)
	}
	// The last block is about a real node on other machines.
	script := string(blocks[0][1]) + string(blocks[1][1])
	script = strings.ReplaceAll(script, "http://127.0.0.1:8080", n.url)
	cmd := exec.CommandContext(t.Context(), "bash", "-euxo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "INOS_NODE="+n.url)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if copied, err := os.ReadFile(filepath.Join(dir, "copy.md")); err != nil || !bytes.Equal(copied, readme) {
		t.Errorf("inos get made something else: %v", err)
	}
	if !bytes.Contains(out, []byte(fmt.Sprint(len(readme)))) {
		t.Errorf("the size %d is nowhere in what the commands print:\n%s", len(readme), out)
	}
}

package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/credit/ledger"
)

// published is something to read, and the account that it is read on.
type published struct {
	owner  string // subject of the token that it was put with
	object string
	chunks []string
	size   int64
}

// token makes a token of the node.
func (n *node) token(subject string) string {
	n.t.Helper()
	return strings.TrimSpace(n.inos("token", "create", "--subject", subject))
}

// inos runs a client verb against the node and returns what it prints.
func (n *node) inos(args ...string) string {
	n.t.Helper()
	path, err := program()
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "INOS_NODE="+n.url, "INOS_DATA="+n.data)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		n.t.Fatalf("inos %v: %v\n%s", args, err, &stderr)
	}
	return string(out)
}

// publish puts noise of a size as somebody, and finds its chunks.
func (n *node) publish(subject, token string, rng *rand.Rand, size int) published {
	n.t.Helper()
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodPost, n.url+"/object", bytes.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Hash string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusCreated {
		n.t.Fatalf("put: %s, %v", resp.Status, err)
	}
	p := published{owner: subject, object: answer.Hash, size: int64(size)}
	manifest := n.call("inos.cas.v1.CasService/GetManifest", map[string]any{"hash": answer.Hash})["manifest"].(map[string]any)
	for _, piece := range manifest["pieces"].([]any) {
		p.chunks = append(p.chunks, piece.(map[string]any)["hash"].(string))
	}
	return p
}

// call is a unary Connect call in JSON, by the operator.
func (n *node) call(procedure string, message any) map[string]any {
	n.t.Helper()
	body, err := json.Marshal(message)
	if err != nil {
		n.t.Fatal(err)
	}
	resp, err := http.Post(n.url+"/"+procedure, "application/json", bytes.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusOK {
		n.t.Fatalf("%s: %s, %v, %v", procedure, resp.Status, answer, err)
	}
	return answer
}

// grant gives a subject whole credits.
func (n *node) grant(subject string, credits int64) {
	n.t.Helper()
	n.call("inos.credit.v1.CreditService/Grant", map[string]any{
		"account": credit.User(subject), "amount": strconv.FormatInt(credits*int64(credit.Credit), 10), "idempotencyKey": fmt.Sprintf("grant-%d", time.Now().UnixNano()),
	})
}

// balance is what the node says of an account.
func (n *node) balance(a credit.Account) (balance, leased int64, stale bool) {
	n.t.Helper()
	account := n.call("inos.credit.v1.CreditService/GetBalance", map[string]any{"account": a})["account"].(map[string]any)
	number := func(field string) int64 {
		text, ok := account[field].(string) // 0 is left out
		if !ok {
			return 0
		}
		v, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			n.t.Fatal(err)
		}
		return v
	}
	stale, _ = account["stale"].(bool)
	return number("balance"), number("leasedBytes"), stale
}

// received is what clients got of one owner's content: bytes of answers that
// were read to their end, and of those that were not.
type received struct {
	complete, partial atomic.Int64
	cut               atomic.Int64 // answers that were not read to their end
}

func (r *received) all() int64 { return r.complete.Load() + r.partial.Load() }

// readers read content until they are stopped, or the node is gone.
type readers struct {
	t       *testing.T
	got     map[string]*received // by owner; not written after newReaders
	answers chan struct{}        // one per answer, as far as somebody counts them
	mortal  bool                 // the node may die: that is no failure
	wg      sync.WaitGroup
}

func newReaders(t *testing.T, content []published, mortal bool) *readers {
	t.Helper()
	r := &readers{t: t, got: map[string]*received{}, answers: make(chan struct{}, 4096), mortal: mortal}
	for _, p := range content {
		if r.got[p.owner] == nil {
			r.got[p.owner] = &received{}
		}
	}
	return r
}

// start lets one more reader read from a node. One that is impatient hangs up
// in the middle of half of its answers.
func (r *readers) start(ctx context.Context, url string, content []published, seed uint64, impatient bool) {
	rng := rand.New(rand.NewPCG(seed, 1))
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	r.wg.Go(func() {
		defer client.CloseIdleConnections()
		for ctx.Err() == nil {
			p := content[rng.IntN(len(content))]
			if err := r.read(ctx, client, url, p, rng, impatient); err != nil {
				if !r.mortal {
					r.t.Errorf("a read failed: %v", err)
				}
				return
			}
			select {
			case r.answers <- struct{}{}:
			default:
			}
		}
	})
}

// read asks for an object, a part of one, or a chunk, and counts what it gets.
func (r *readers) read(ctx context.Context, client *http.Client, url string, p published, rng *rand.Rand, impatient bool) error {
	path := "/object/" + p.object
	if rng.IntN(2) == 0 {
		path = "/chunk/" + p.chunks[rng.IntN(len(p.chunks))]
	}
	// The context is not the request's: what is under way is read to its end.
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, url+path, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Accept-Encoding", []string{"br", "identity"}[rng.IntN(2)])
	if rng.IntN(3) == 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", rng.IntN(1000)))
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPartialContent {
		return errors.New(path + ": " + resp.Status)
	}
	want := resp.ContentLength
	if impatient && rng.IntN(2) == 0 {
		want = rng.Int64N(want)
	}
	n, err := io.CopyN(io.Discard, resp.Body, want)
	got := r.got[p.owner]
	if n == resp.ContentLength {
		got.complete.Add(n)
		return nil
	}
	got.partial.Add(n)
	got.cut.Add(1)
	return err
}

// await returns after n more answers.
func (r *readers) await(n int) {
	r.t.Helper()
	late := time.After(30 * time.Second)
	for range n {
		select {
		case <-r.answers:
		case <-late:
			r.t.Fatal("the readers get nothing any more")
		}
	}
}

// socketBuffers is the most that a loopback connection holds of what a server
// has written and the client has not read.
func socketBuffers(t *testing.T) int64 {
	t.Helper()
	var sum int64
	for _, file := range []string{"tcp_wmem", "tcp_rmem"} {
		text, err := os.ReadFile("/proc/sys/net/ipv4/" + file)
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(text)) // least, default, most
		most, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += most
	}
	return sum
}

// books reads the books of a node that does not run.
func (n *node) books() (ledger.Report, map[credit.Account]credit.State) {
	n.t.Helper()
	states := map[credit.Account]credit.State{}
	report, err := ledger.AuditDir(n.t.Context(), n.data+"/credit", func(a credit.Account, s credit.State) error {
		states[a] = s
		return nil
	})
	if err != nil || !report.OK || report.Sum != 0 {
		n.t.Fatalf("the books do not fit together: %v, %+v", err, report)
	}
	return report, states
}

// house finds the one house in the books of a node.
func house(t *testing.T, states map[credit.Account]credit.State) credit.Account {
	t.Helper()
	for a := range states {
		if a.IsHouse() {
			return a
		}
	}
	t.Fatal("the books have no house")
	return ""
}

// checkHashes looks at all hashes before anything is read: with a wrong one the
// test would test nothing.
func checkHashes(t *testing.T, content []published) {
	t.Helper()
	for _, p := range content {
		for _, h := range append([]string{p.object}, p.chunks...) {
			if _, err := cas.ParseHash(h); err != nil {
				t.Fatal(err)
			}
		}
	}
}

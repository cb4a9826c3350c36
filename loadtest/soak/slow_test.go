package soak

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// generated is n bytes of text and noise that need no memory: a block, with
// its number at the front, again and again.
type generated struct {
	block []byte
	left  int64
	at    int
	n     uint64
}

func newGenerated(size int64) *generated {
	block := make([]byte, 256<<10)
	rng := rand.New(rand.NewPCG(7, 7))
	for i := range block {
		if i%2048 < 512 {
			block[i] = byte(rng.Uint32())
		} else {
			block[i] = "some text that repeats itself, "[i%31]
		}
	}
	return &generated{block: block, left: size}
}

func (g *generated) Read(b []byte) (int, error) {
	if g.left == 0 {
		return 0, io.EOF
	}
	if g.at == 0 {
		copy(g.block, fmt.Sprintf("%016x", g.n))
		g.n++
	}
	n := copy(b[:min(int64(len(b)), g.left)], g.block[g.at:])
	g.at = (g.at + n) % len(g.block)
	g.left -= int64(n)
	return n, nil
}

// TestSlowClients: many clients read one large object at once, some of them
// hardly at all. The node's memory stays bounded, and the fast ones do not
// feel the slow ones.
func TestSlowClients(t *testing.T) {
	const clients, slow = 64, 16
	size := int64(192 << 20)
	if full() {
		size = 2 << 30
	}
	n := startNode(t, "--scrub-rate", "0")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+"/object", newGenerated(size))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	var object struct {
		Hash   string
		SHA256 string
	}
	if err := json.NewDecoder(resp.Body).Decode(&object); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	url := n.url + "/object/" + object.Hash

	checkWhole(t, url, object.SHA256)
	pairs := 1
	limit := 1.5 // one short pair on a shared machine
	if full() {
		pairs, limit = 5, 1.10
	}
	var ratios []float64
	for i := range pairs {
		times := [2]time.Duration{}
		for _, which := range [2]int{i % 2, 1 - i%2} { // in swapped order
			times[which] = readMany(t, url, clients-slow, which*slow)
		}
		ratios = append(ratios, times[1].Seconds()/times[0].Seconds())
		t.Logf("%d MiB: %d fast clients alone %v, beside %d slow ones %v", size>>20, clients-slow, times[0].Round(time.Millisecond), slow, times[1].Round(time.Millisecond))
	}
	slices.Sort(ratios)
	t.Logf("ratios %.2f, peak RSS %d MiB", ratios, n.peakRSS()>>20)
	if rss := n.peakRSS(); rss > 300<<20 {
		t.Errorf("peak RSS %d MiB, more than 300", rss>>20)
	}
	if ratio := ratios[len(ratios)/2]; ratio > limit {
		t.Errorf("the fast clients took %.2f times as long beside slow ones", ratio)
	}
}

func checkWhole(t *testing.T, url, want string) {
	t.Helper()
	resp, err := get(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, resp.Body); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", sum.Sum(nil)); got != want {
		t.Fatalf("SHA-256 %s, want %s", got, want)
	}
}

// readMany lets fast clients read the object as br to its end, while slow ones
// take a little now and then, and returns how long the fast ones needed.
func readMany(t *testing.T, url string, fast, slow int) time.Duration {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var slows, fasts sync.WaitGroup
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: fast + slow, DisableCompression: true}}
	defer client.CloseIdleConnections()
	open := func() (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept-Encoding", "br")
		return client.Do(req)
	}
	for range slow {
		resp, err := open()
		if err != nil {
			t.Fatal(err)
		}
		slows.Go(func() { dawdle(ctx, resp.Body) })
	}
	start := time.Now()
	for range fast {
		fasts.Go(func() {
			resp, err := open()
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			n, err := io.CopyBuffer(io.Discard, onlyReader{resp.Body}, make([]byte, 1<<20))
			if err != nil || n != resp.ContentLength {
				t.Errorf("%d of %d bytes: %v", n, resp.ContentLength, err)
			}
		})
	}
	fasts.Wait()
	took := time.Since(start)
	cancel()
	slows.Wait()
	return took
}

type onlyReader struct{ io.Reader }

// dawdle reads 16 KiB ten times a second.
func dawdle(ctx context.Context, body io.ReadCloser) {
	defer body.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, err := io.CopyN(io.Discard, body, 16<<10); err != nil {
			return
		}
	}
}

// TestDiskFull: a full store answers 507 for writes, goes on reading, and
// takes writes again when there is room.
func TestDiskFull(t *testing.T) {
	n := startNode(t, "--max-bytes", "3MiB", "--scrub-rate", "0", "--grace", "0s")
	noise := make([]byte, 1<<20)
	rng := rand.New(rand.NewPCG(1, 1))
	acked := newAcknowledged()
	var full *statusError
	for i := 0; full == nil; i++ {
		for j := range noise {
			noise[j] = byte(rng.Uint32())
		}
		err := postObject(t.Context(), n.url, bytes.Clone(noise), acked)
		if refused, ok := errors.AsType[*statusError](err); ok {
			full = refused
		} else if err != nil {
			t.Fatal(err)
		}
		if i > 10 {
			t.Fatal("the store never gets full")
		}
	}
	if full.text != "507 Insufficient Storage" {
		t.Errorf("a full store answers %s", full.text)
	}
	if len(acked.sums) == 0 {
		t.Fatal("nothing was stored at all")
	}
	verify(t, n.url, acked.sums, 0)
}

// TestDrain: on SIGTERM the node finishes what it is sending, and ends well.
func TestDrain(t *testing.T) {
	n := startNode(t, "--scrub-rate", "0")
	acked := newAcknowledged()
	body := make([]byte, 24<<20)
	rng := rand.New(rand.NewPCG(3, 3))
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	if err := postObject(t.Context(), n.url, body, acked); err != nil {
		t.Fatal(err)
	}
	for url, want := range acked.sums {
		resp, err := get(t.Context(), url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		ended := make(chan int, 1)
		go func() { ended <- n.stop() }()
		rest, err := io.ReadAll(resp.Body)
		if err != nil || len(rest) != len(body)-1 {
			t.Errorf("%d bytes came of %d: %v", len(rest)+1, len(body), err)
		}
		resp.Body.Close()
		if sum := sha256.Sum256(append(body[:1:1], rest...)); sum != want {
			t.Error("wrong bytes")
		}
		if code := <-ended; code != 0 {
			t.Errorf("exit code %d:\n%s", code, n.log)
		}
	}
}

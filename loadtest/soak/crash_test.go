package soak

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/brotli"
)

// acknowledged is what the node has said that it keeps, by its URL.
type acknowledged struct {
	news chan struct{} // one per acknowledgement, as far as somebody counts them
	mu   sync.Mutex
	sums map[string][32]byte // guarded by mu: SHA-256 of what the URL must return
	seen map[string]bool     // guarded by mu: URLs that a sample had
}

func newAcknowledged() *acknowledged {
	return &acknowledged{news: make(chan struct{}, 1024), sums: map[string][32]byte{}, seen: map[string]bool{}}
}

func (a *acknowledged) add(url string, body []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sums[url] = sha256.Sum256(body)
	select {
	case a.news <- struct{}{}:
	default:
	}
}

// sample is what was acknowledged since the last one, and some of the rest:
// all of it is read at the end.
func (a *acknowledged) sample(rng *rand.Rand) map[string][32]byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	some := make(map[string][32]byte)
	for url, sum := range a.sums {
		if !a.seen[url] || rng.IntN(20) == 0 {
			some[url] = sum
			a.seen[url] = true
		}
	}
	return some
}

// await returns after n more acknowledgements.
func (a *acknowledged) await(t *testing.T, n int) {
	t.Helper()
	for len(a.news) > 0 {
		<-a.news
	}
	late := time.After(30 * time.Second)
	for range n {
		select {
		case <-a.news:
		case <-late:
			t.Fatal("the node acknowledges nothing any more")
		}
	}
}

// TestCrashUploads kills the node at random moments of uploads. Whatever it
// has acknowledged is there afterwards, bit for bit, without repair by hand,
// and no partial file can be seen.
func TestCrashUploads(t *testing.T) {
	rounds := 20
	if full() {
		rounds = 200
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	n := startNode(t, "--scrub-rate", "0")
	acked := newAcknowledged()
	for round := range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for worker := range 6 {
			own := rand.New(rand.NewPCG(rng.Uint64(), uint64(worker)))
			wg.Go(func() { uploadUntilDeath(ctx, t, n.url, own, acked) })
		}
		// The moment is random: the other uploads are anywhere by then.
		acked.await(t, 1+rng.IntN(20))
		n.kill()
		cancel()
		wg.Wait()
		n.start()
		verify(t, n.url, acked.sample(rng), round)
		if round%10 == 0 {
			noPartialFiles(t, n.data)
		}
	}
	noPartialFiles(t, n.data)
	verify(t, n.url, acked.sums, rounds)
	if len(acked.sums) < rounds {
		t.Errorf("only %d uploads were acknowledged in %d rounds: the test does not test much", len(acked.sums), rounds)
	}
	t.Logf("%d rounds, %d acknowledged uploads", rounds, len(acked.sums))
}

// uploadUntilDeath sends objects and chunks until the node is gone.
func uploadUntilDeath(ctx context.Context, t *testing.T, url string, rng *rand.Rand, acked *acknowledged) {
	t.Helper()
	for ctx.Err() == nil {
		body := content(rng)
		var err error
		if len(body) <= cas.PieceSize && rng.IntN(2) == 0 {
			err = putChunk(ctx, url, body, acked)
		} else {
			err = postObject(ctx, url, body, acked)
		}
		if _, refused := errors.AsType[*statusError](err); refused {
			t.Errorf("an upload was refused: %v", err)
		}
		if err != nil {
			return
		}
	}
}

// content is noise and text, from one byte to a few pieces.
func content(rng *rand.Rand) []byte {
	n := 1 + rng.IntN(8<<10)
	if rng.IntN(4) == 0 {
		n = 1 + rng.IntN(3*cas.PieceSize)
	}
	b := make([]byte, n)
	for i := range b {
		if i < n/3 {
			b[i] = byte(rng.Uint32())
		} else {
			b[i] = "text "[i%5]
		}
	}
	return b
}

type statusError struct{ text string }

func (e *statusError) Error() string { return e.text }

func send(ctx context.Context, method, url string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		resp.Body.Close()
		return nil, &statusError{resp.Status}
	}
	return resp, nil
}

func putChunk(ctx context.Context, url string, piece []byte, acked *acknowledged) error {
	c, err := brotli.Encode(piece)
	if err != nil {
		return err
	}
	at := url + "/chunk/" + c.Hash().String()
	resp, err := send(ctx, http.MethodPut, at, c.Bytes())
	if err != nil {
		return err
	}
	acked.add(at, piece)
	return resp.Body.Close()
}

func postObject(ctx context.Context, url string, body []byte, acked *acknowledged) error {
	resp, err := send(ctx, http.MethodPost, url+"/object", body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct{ Hash string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err // the answer was cut off: nothing was acknowledged
	}
	acked.add(url+"/object/"+answer.Hash, body)
	return nil
}

// verify reads what was acknowledged, several at once.
func verify(t *testing.T, url string, acked map[string][32]byte, round int) {
	t.Helper()
	var wg sync.WaitGroup
	places := make(chan struct{}, 8)
	for at, want := range acked {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			b, err := fetch(t.Context(), at)
			if err != nil {
				t.Errorf("round %d: acknowledged and lost: %s: %v", round, strings.TrimPrefix(at, url), err)
			} else if sha256.Sum256(b) != want {
				t.Errorf("round %d: acknowledged and wrong: %s", round, strings.TrimPrefix(at, url))
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// noPartialFiles looks at every file below chunks: its name is its hash.
func noPartialFiles(t *testing.T, data string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(data, "chunks"), func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		h, err := cas.ParseHash(e.Name())
		if err != nil {
			return fmt.Errorf("%s is no chunk's name", path)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if _, err := cas.Verify(h, b); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/brotli"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cmd/inos/remote/remotetest"
)

func dial(t *testing.T, address string, cfg Config) *Node {
	t.Helper()
	cfg.Node = address
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func chunkOf(t *testing.T, piece []byte) cas.Chunk {
	t.Helper()
	c, err := brotli.Encode(piece)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNewRefusesAddresses(t *testing.T) {
	for _, address := range []string{"", "127.0.0.1:8080", "ftp://host", "http://", "http://a:b@host", "http://host?q=1", "http://ho st"} {
		if _, err := New(Config{Node: address}); err == nil {
			t.Errorf("%q was taken", address)
		}
	}
}

// TestFoundToken: a token that was only found does not keep a node from serving
// that needs none, and is sent once; one that was named is not left out.
func TestFoundToken(t *testing.T) {
	for _, named := range []bool{false, true} {
		var with, without atomic.Int64
		server := remotetest.New(t)
		inner := server.Config.Handler
		server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				with.Add(1)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			without.Add(1)
			inner.ServeHTTP(w, r)
		})
		n := dial(t, server.URL, Config{Token: "another-node's", TokenFound: !named})
		small, large := chunkOf(t, []byte("small")), chunkOf(t, randomBytes(cas.PieceSize))
		_, err := n.Upload(t.Context(), func(ctx context.Context, u *Upload) error {
			for _, c := range []cas.Chunk{small, large} {
				if _, err := u.Put(ctx, c); err != nil {
					return err
				}
			}
			return nil
		})
		if errors.Is(err, ErrNoRight) != named || named != (err != nil) {
			t.Errorf("named %v: %v", named, err)
		}
		if named && without.Load() > 0 {
			t.Errorf("%d requests went without the token that was named", without.Load())
		}
		if !named && with.Load() != 1 {
			t.Errorf("%d requests had the token, want the first alone", with.Load())
		}
	}
}

// TestFoundTokenBody: the body of the request that was refused is sent again.
func TestFoundTokenBody(t *testing.T) {
	server := remotetest.New(t)
	inner := server.Config.Handler
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	})
	n := dial(t, server.URL, Config{Token: "another-node's", TokenFound: true})
	c := chunkOf(t, randomBytes(cas.PieceSize))
	if added, err := n.putChunk(t.Context(), c); err != nil || !added {
		t.Errorf("put = %v, %v", added, err)
	}
}

func TestUploadSendsWhatIsMissing(t *testing.T) {
	server := remotetest.New(t)
	n := dial(t, server.URL, Config{})
	there := chunkOf(t, []byte("there already"))
	if _, err := server.Store.Put(t.Context(), there); err != nil {
		t.Fatal(err)
	}
	chunks := []cas.Chunk{there, chunkOf(t, randomBytes(cas.PieceSize)), chunkOf(t, randomBytes(300<<10))}
	for i := range 500 {
		chunks = append(chunks, chunkOf(t, fmt.Appendf(nil, "small %d", i)))
	}
	chunks = append(chunks, chunks[10]) // twice
	stats, err := n.Upload(t.Context(), func(ctx context.Context, u *Upload) error {
		g, ctx := errgroup.WithContext(ctx)
		for _, c := range chunks {
			g.Go(func() error {
				_, err := u.Put(ctx, c)
				return err
			})
		}
		return g.Wait()
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chunks {
		if _, err := server.Store.Stat(t.Context(), c.Hash()); err != nil {
			t.Error(err)
		}
	}
	if stats.Sent < 502 || stats.Sent > 503 || stats.Present < 1 { // the double one may travel with another batch
		t.Errorf("%+v", stats)
	}
	if puts := server.Puts.Load(); puts != 2 {
		t.Errorf("%d chunks travelled alone, want the 2 large ones", puts)
	}
	if calls := server.Calls.Load(); calls > 100 {
		t.Errorf("%d calls for 504 chunks", calls)
	}
}

func TestUploadEndsWithTheFirstFailure(t *testing.T) {
	server := remotetest.New(t)
	server.Token = "right"
	n := dial(t, server.URL, Config{Token: "wrong"})
	var failures atomic.Int64
	_, err := n.Upload(t.Context(), func(ctx context.Context, u *Upload) error {
		g, ctx := errgroup.WithContext(ctx)
		for i := range 50 {
			c := chunkOf(t, fmt.Appendf(nil, "chunk %d", i))
			g.Go(func() error {
				_, err := u.Put(ctx, c)
				if err != nil {
					failures.Add(1)
				}
				return err
			})
		}
		return g.Wait()
	})
	if !errors.Is(err, ErrNoRight) || failures.Load() != 50 {
		t.Errorf("%d puts failed, %v", failures.Load(), err)
	}
}

func TestWriterThroughUpload(t *testing.T) {
	server := remotetest.New(t)
	server.Token = "secret"
	n := dial(t, server.URL, Config{Token: "secret"})
	data := randomBytes(5*cas.PieceSize/2 + 1)
	var o dag.Object
	_, err := n.Upload(t.Context(), func(ctx context.Context, u *Upload) (err error) {
		o, err = dag.NewWriter(u, dag.WriterConfig{}).File(ctx, bytes.NewReader(data), dag.DefaultMediaType)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	expires := time.Unix(4e9, 0).UTC()
	committed, created, err := n.Commit(t.Context(), o.Hash, "data", Policy{RF: 3, Tier: TierCold, Expires: expires})
	if err != nil || !created || committed.Size != int64(len(data)) || committed.Policy.Expires != expires || committed.Policy.Tier != TierCold {
		t.Fatalf("%+v %v", committed, err)
	}
	listed, err := n.Object(t.Context(), o.Hash)
	if err != nil || listed != committed {
		t.Errorf("%+v, %v; want %+v", listed, err, committed)
	}
	var all []Object
	for o, err := range n.Objects(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	if !slices.Equal(all, []Object{committed}) {
		t.Errorf("%+v", all)
	}
	if err := n.Delete(t.Context(), o.Hash); err != nil {
		t.Error(err)
	}
	if err := n.Delete(t.Context(), o.Hash); !errors.Is(err, cas.ErrNotFound) {
		t.Error(err)
	}
}

// TestChunkBelievesNothing: whatever the node sends, wrong bytes are an error
// that says so, and a cut off answer is asked for again.
func TestChunkBelievesNothing(t *testing.T) {
	c := chunkOf(t, randomBytes(10_000))
	other := chunkOf(t, []byte("another chunk"))
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter, data []byte)
		want   error
	}{
		"another chunk": {func(w http.ResponseWriter, _ []byte) { _, _ = w.Write(other.Bytes()) }, cas.ErrHashMismatch},
		"one bit": {func(w http.ResponseWriter, data []byte) {
			data = bytes.Clone(data)
			data[len(data)/2] ^= 1
			_, _ = w.Write(data)
		}, cas.ErrHashMismatch},
		"short, cleanly ended": {func(w http.ResponseWriter, data []byte) { _, _ = w.Write(data[:len(data)-10]) }, cas.ErrShape},
		"empty":                {func(http.ResponseWriter, []byte) {}, cas.ErrShape},
		"a page": {func(w http.ResponseWriter, _ []byte) {
			_, _ = w.Write([]byte("<html>hotel wifi</html>"))
		}, cas.ErrShape},
		"too large": {func(w http.ResponseWriter, _ []byte) { _, _ = w.Write(make([]byte, cas.MaxChunkSize+1)) }, cas.ErrTooLarge},
		"too large, declared": {func(w http.ResponseWriter, _ []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(1<<40))
		}, cas.ErrTooLarge},
		"cut off": {func(w http.ResponseWriter, data []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			_, _ = w.Write(data[:100])
			panic(http.ErrAbortHandler)
		}, ErrUnavailable},
		"redirect": {func(w http.ResponseWriter, _ []byte) {
			w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
			w.WriteHeader(http.StatusFound)
		}, ErrRefused},
		"gone": {func(w http.ResponseWriter, _ []byte) { w.WriteHeader(http.StatusGone) }, cas.ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			server := remotetest.New(t)
			if _, err := server.Store.Put(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			n := dial(t, server.URL, Config{Retries: -1})
			server.SetAnswer(func(w http.ResponseWriter, _ cas.Hash, data []byte) bool {
				test.answer(w, data)
				return true
			})
			got, err := n.Chunk(t.Context(), c.Hash())
			if !errors.Is(err, test.want) || got.Size() != 0 {
				t.Errorf("%d bytes, %v; want %v", got.Size(), err, test.want)
			}
		})
	}
}

func TestCutOffAnswersAreAskedForAgain(t *testing.T) {
	server := remotetest.New(t)
	c := chunkOf(t, randomBytes(10_000))
	if _, err := server.Store.Put(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	var answers atomic.Int64
	server.SetAnswer(func(w http.ResponseWriter, _ cas.Hash, data []byte) bool {
		if answers.Add(1) > 1 {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data[:100])
		panic(http.ErrAbortHandler)
	})
	got, err := dial(t, server.URL, Config{}).Chunk(t.Context(), c.Hash())
	if err != nil || !bytes.Equal(got.Bytes(), c.Bytes()) || answers.Load() != 2 {
		t.Errorf("%v after %d answers", err, answers.Load())
	}
}

// TestRetryPauses runs on the bubble's clock: the pauses grow, the node's own
// wish counts, and a wish for an hour is passed on to the user.
func TestRetryPauses(t *testing.T) {
	for _, test := range []struct {
		after    time.Duration
		attempts int
		from, to time.Duration
	}{
		{0, 5, 1500 * time.Millisecond, 6 * time.Second},
		{20 * time.Second, 5, 80 * time.Second, 81 * time.Second},
		{time.Hour, 1, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := dial(t, "http://node.test", Config{})
			n.reached.Store(true)
			attempts, start := 0, time.Now()
			err := n.retry(t.Context(), func(context.Context) error {
				attempts++
				return &Error{Kind: ErrUnavailable, RetryAfter: test.after}
			})
			took := time.Since(start)
			if !errors.Is(err, ErrUnavailable) || attempts != test.attempts || took < test.from || took > test.to {
				t.Errorf("Retry-After %v: %d attempts in %v, %v", test.after, attempts, took, err)
			}
		})
	}
}

func TestNodeThatNeverAnsweredIsNotAskedAgain(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	start := time.Now()
	_, err := dial(t, server.URL, Config{}).Chunk(t.Context(), cas.Sum(nil))
	if !errors.Is(err, ErrUnavailable) || time.Since(start) > firstPause/2 {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func TestTokenGoesNowhereElse(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("asked, with %q", r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	n := dial(t, server.URL, Config{Token: "secret"})
	for _, err := range []error{
		func() error { _, err := n.Chunk(t.Context(), cas.Sum(nil)); return err }(),
		n.Delete(t.Context(), cas.Sum(nil)),
	} {
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Error(err)
		}
	}
}

func TestErrorsAreOneLineOfText(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInsufficientStorage)
		fmt.Fprintf(w, `{"detail":"no\u001b[31m room\n%s"}`, strings.Repeat("ä", 10_000))
	}))
	defer server.Close()
	n := dial(t, server.URL, Config{})
	_, err := n.putChunk(t.Context(), chunkOf(t, []byte("x")))
	if !errors.Is(err, cas.ErrNoSpace) || strings.ContainsAny(err.Error(), "\x1b\n") || len(err.Error()) > 2*maxText {
		t.Errorf("%q", err)
	}
}

func TestParseRef(t *testing.T) {
	h := cas.Sum([]byte("x"))
	for text, want := range map[string]Ref{
		h.String():               {Hash: h},
		h.String() + "/":         {Hash: h},
		h.String() + "/a/b%20c/": {Hash: h, Path: "a/b%20c"},
		"http://n:1/object/" + h.String() + "/a/b%20c": {Node: "http://n:1", Hash: h, Path: "a/b c"},
		"https://n/x/object/" + h.String():             {Node: "https://n/x", Hash: h},
	} {
		if got, err := ParseRef(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", strings.ToUpper(h.String()), "/" + h.String(), "ftp://n/object/" + h.String(), "http://n/chunk/" + h.String(), "http://u:p@n/object/" + h.String()} {
		if got, err := ParseRef(text); !errors.Is(err, cas.ErrBadHash) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

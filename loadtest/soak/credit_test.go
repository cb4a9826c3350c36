package soak

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"testing"
)

// TestOutOfCredit: on a fresh node nobody is refused; an owner who chose to be
// refused is, once his account is empty: readers get 503 and when to come
// again, he himself 402; a grant ends it.
func TestOutOfCredit(t *testing.T) {
	n := startNode(t, "--scrub-rate", "0")
	token := n.token("alice")
	p := n.publish("alice", token, rand.New(rand.NewPCG(1, 2)), 50_000)
	status := func(path, token string) (int, string, string) {
		t.Helper()
		header := http.Header{}
		if token != "" {
			header.Set("Authorization", "Bearer "+token)
		}
		resp, err := get(t.Context(), n.url+path, header)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var problem struct{ Type string }
		if resp.StatusCode != http.StatusOK {
			if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
				t.Fatal(err)
			}
		}
		return resp.StatusCode, problem.Type, resp.Header.Get("Retry-After")
	}
	paths := []string{"/object/" + p.object, "/chunk/" + p.chunks[0]}
	for range 20 { // several windows
		for _, path := range paths {
			if code, _, _ := status(path, ""); code != http.StatusOK {
				t.Fatalf("a fresh node answers %s with %d", path, code)
			}
		}
	}
	n.inos("credits", "terms", "alice", "--when-empty", "refuse")
	until(t, "reads on an empty account are refused", func() bool { code, _, _ := status(paths[0], ""); return code != http.StatusOK })
	const kind = "urn:inos:problem:publisher-out-of-credit"
	for _, path := range paths {
		if code, problem, retry := status(path, ""); code != http.StatusServiceUnavailable || problem != kind || retry == "" {
			t.Errorf("%s: a reader gets %d, %s, Retry-After %q", path, code, problem, retry)
		}
		if code, problem, _ := status(path, token); code != http.StatusPaymentRequired || problem != kind {
			t.Errorf("%s: the owner gets %d, %s", path, code, problem)
		}
	}
	n.inos("credits", "grant", "alice", "5")
	until(t, "reads are served after a grant", func() bool { code, _, _ := status(paths[1], ""); return code == http.StatusOK })
}

package soak

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTLS: HTTP/2 and HTTP/1.1 on the TLS listener, and a certificate that is
// replaced while the node runs.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key, 1)
	addr := freeAddr(t)
	n := prepareNode(t, "--tls-listen", addr, "--tls-cert", cert, "--tls-key", key, "--scrub-rate", "0")
	n.args = slices.DeleteFunc(n.args, func(s string) bool { return s == "--dev" })
	n.start()
	t.Cleanup(n.kill)
	serial := func(protocol string) (string, int64) {
		t.Helper()
		var protocols http.Protocols
		protocols.SetHTTP1(protocol == "HTTP/1.1")
		protocols.SetHTTP2(protocol == "HTTP/2.0")
		transport := &http.Transport{Protocols: &protocols, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get("https://" + addr + "/health/live")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.Proto, resp.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	for _, want := range []string{"HTTP/1.1", "HTTP/2.0"} {
		if proto, got := serial(want); proto != want || got != 1 {
			t.Errorf("%s with certificate %d, want %s with 1", proto, got, want)
		}
	}
	writeCertificate(t, cert, key, 2)
	late := time.Now().Add(20 * time.Second)
	for _, got := serial("HTTP/2.0"); got != 2; _, got = serial("HTTP/2.0") {
		if time.Now().After(late) {
			t.Fatal("the new certificate is not used")
		}
		<-time.After(50 * time.Millisecond)
	}
}

func writeCertificate(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLogs: no line per request by default, one with --access-log, and no
// token in either.
func TestLogs(t *testing.T) {
	for _, access := range []bool{false, true} {
		args := []string{"--scrub-rate", "0", "--log-level", "debug"}
		if access {
			args = append(args, "--access-log")
		}
		n := prepareNode(t, args...)
		n.args = slices.DeleteFunc(n.args, func(s string) bool { return s == "--dev" })
		n.start()
		token, err := os.ReadFile(filepath.Join(n.data, "token"))
		if err != nil {
			t.Fatal(err)
		}
		for _, bearer := range []string{strings.TrimSpace(string(token)), "v4.public.thisisnotatokenatall"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+"/object", strings.NewReader("logged or not"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+bearer)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		n.stop()
		if logged := bytes.Contains(n.log.Bytes(), []byte("/object")); logged != access {
			t.Errorf("access log %v: requests are logged: %v\n%s", access, logged, n.log)
		}
		for _, secret := range []string{strings.TrimSpace(string(token))[10:50], "thisisnotatokenatall"} {
			if bytes.Contains(n.log.Bytes(), []byte(secret)) {
				t.Errorf("access log %v: a token is in the log", access)
			}
		}
	}
}

// TestMetricNames: dashboards rely on these names, which docs/http.md lists.
func TestMetricNames(t *testing.T) {
	admin := freeAddr(t)
	n := prepareNode(t, "--scrub-rate", "0")
	n.args[slices.Index(n.args, "--admin")+1] = admin
	n.start()
	t.Cleanup(n.kill)
	if err := postObject(t.Context(), n.url, []byte("counted"), newAcknowledged()); err != nil {
		t.Fatal(err)
	}
	resp, err := get(t.Context(), "http://"+admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"inos_audit_dropped_total", "inos_content_bytes_total", "inos_credit_attested_bytes_total", "inos_credit_charged_bytes_total",
		"inos_credit_charged_microcredits_total", "inos_credit_flush_seconds", "inos_credit_journal_failing", "inos_credit_journal_failures_total",
		"inos_credit_lease_waits_total", "inos_credit_leased_bytes", "inos_credit_refused_total", "inos_credit_share_failures_total",
		"inos_credit_share_rebuilding", "inos_credit_share_syncs_total", "inos_credit_share_up", "inos_credit_throttled_total",
		"inos_delivery_sessions", "inos_event_gaps_total", "inos_event_streams", "inos_events_refused_total", "inos_events_total",
		"inos_fill_unstored_total", "inos_heat_flush_seconds", "inos_heat_frozen", "inos_heat_moved_bytes_total", "inos_heat_store_up",
		"inos_heat_tail_bytes_total", "inos_heat_tracked_chunks", "inos_http_direct_bytes_total", "inos_http_request_seconds",
		"inos_http_requests_total", "inos_http_sent_bytes_total", "inos_http_truncated_total", "inos_pledge_epochs_total",
		"inos_pledge_escrow_microcredits", "inos_pledge_failed_total", "inos_pledge_live", "inos_pledge_paid_microcredits_total",
		"inos_policy_decisions_total", "inos_store_bytes", "inos_store_chunks", "inos_store_commit_batches_total",
		"inos_store_directory_syncs_total", "inos_store_file_syncs_total", "inos_store_free_bytes", "inos_store_full",
		"inos_store_headroom_bytes", "inos_store_idle_handles", "inos_store_lost_total", "inos_store_put_failures_total",
		"inos_store_quarantined_total", "inos_store_scrubbed_bytes_total", "inos_upload_bytes_total",
	}
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (inos_\w+) `).FindAllSubmatch(b, -1) {
		got = append(got, string(m[1]))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("metrics\n%q, want\n%q", got, want)
	}
	for _, line := range []string{`inos_http_requests_total{route="object",status="201"} 1`, `inos_upload_bytes_total 7`, `inos_store_chunks 2`} {
		if !bytes.Contains(b, []byte(line+"\n")) {
			t.Errorf("no line %s", line)
		}
	}
}

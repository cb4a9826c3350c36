package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writePair writes a certificate with a serial number and its key.
func writePair(t *testing.T, cert, key string, serial int64, modified time.Time) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &secret.PublicKey, secret)
	if err != nil {
		t.Fatal(err)
	}
	secretDER, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secretDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
}

func serialOf(t *testing.T, c *Certificate) int64 {
	t.Helper()
	pair, err := c.Config().GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf.SerialNumber.Int64()
}

// TestCertificateReload: a new pair is taken up, also one that is older than
// the last and one that came before Run; a broken one is not.
func TestCertificateReload(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if _, err := OpenCertificate(cert, key, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("files that are not there are taken")
	}
	writePair(t, cert, key, 1, now)
	c, err := OpenCertificate(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	writePair(t, cert, key, 2, now.Add(time.Second)) // between Open and Run
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	wait := func(serial int64) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); serialOf(t, c) != serial; <-time.After(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("certificate %d is in force, want %d", serialOf(t, c), serial)
			}
		}
	}
	wait(2)
	if err := os.WriteFile(cert, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	writePair(t, filepath.Join(dir, "other"), key, 9, now.Add(2*time.Second))
	writePair(t, cert, key, 3, now.Add(-time.Hour))
	wait(3)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if cfg := c.Config(); cfg.MinVersion != tls.VersionTLS12 || cfg.NextProtos[0] != "h2" {
		t.Errorf("%+v", cfg)
	}
}

package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// Certificate is a TLS certificate from files, read again when they change.
type Certificate struct {
	cert, key string
	log       *slog.Logger
	current   atomic.Pointer[tls.Certificate]
}

// OpenCertificate reads a certificate chain and its key from PEM files.
func OpenCertificate(cert, key string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{cert: cert, key: key, log: log}
	return c, c.load()
}

func (c *Certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", c.cert, c.key, err)
	}
	c.current.Store(&pair)
	return nil
}

// Config is for a listener: TLS 1.2 and up, HTTP/2 and HTTP/1.1.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}

// Run looks once a second whether the files have changed, until ctx is done. A
// pair that cannot be used is logged, and the last good one stays.
func (c *Certificate) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	seen, _ := c.stamp()
	var failed time.Time // stamp of a pair that was refused already
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := c.stamp()
		if err != nil || now.Equal(seen) {
			continue // in the middle of a replacement
		}
		if err := c.load(); err != nil {
			// The key may follow a moment after the certificate.
			if !now.Equal(failed) {
				c.log.Warn("the new certificate cannot be used, the last one stays", "error", err)
				failed = now
			}
			continue
		}
		seen = now
		c.log.Info("certificate read again", "file", c.cert)
	}
}

// stamp is the later of the files' times.
func (c *Certificate) stamp() (time.Time, error) {
	a, errA := os.Stat(c.cert)
	b, errB := os.Stat(c.key)
	if err := errors.Join(errA, errB); err != nil {
		return time.Time{}, err
	}
	if a.ModTime().After(b.ModTime()) {
		return a.ModTime(), nil
	}
	return b.ModTime(), nil
}

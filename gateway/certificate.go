package gateway

import (
	"context"
	"crypto/tls"
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
	read      [2]fileState // of the pair in force; Run's after OpenCertificate
}

// fileState changes when a file does.
type fileState struct {
	size  int64
	mtime time.Time
}

// OpenCertificate reads a certificate chain and its key from PEM files.
func OpenCertificate(cert, key string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{cert: cert, key: key, log: log}
	return c, c.load()
}

func (c *Certificate) load() error {
	now, err := c.state() // before reading: what is written meanwhile is a change
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", c.cert, c.key, err)
	}
	c.current.Store(&pair)
	c.read = now
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
	var failed [2]fileState // of a pair that was refused already
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := c.state()
		if err != nil || now == c.read {
			continue // in the middle of a replacement
		}
		if err := c.load(); err != nil {
			// The key may follow a moment after the certificate.
			if now != failed {
				c.log.Warn("the new certificate cannot be used, the last one stays", "error", err)
				failed = now
			}
			continue
		}
		c.log.Info("certificate read again", "file", c.cert)
	}
}

// state is that of both files.
func (c *Certificate) state() (now [2]fileState, err error) {
	for i, path := range []string{c.cert, c.key} {
		info, err := os.Stat(path)
		if err != nil {
			return now, fmt.Errorf("certificate: %w", err)
		}
		now[i] = fileState{info.Size(), info.ModTime()}
	}
	return now, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// proxyMode lets the proxy's user connect, if it is in the node's group.
	proxyMode = 0o660
	// proxyDial bounds how long a socket is asked whether anybody listens.
	proxyDial = time.Second
)

// listenProxy listens on the Unix socket of a proxy in front.
func listenProxy(ctx context.Context, path string) (net.Listener, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, fmt.Errorf("--proxy: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, proxyMode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeStale removes a socket that a crash has left behind: one that nobody
// listens on. What else may be at path stays, and is an error.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%w: %s is there and is no socket; name another path, or move it away", errUsage, path)
	}
	c, err := (&net.Dialer{Timeout: proxyDial}).DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("another process listens on %s; stop it, or name another path", path), c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s is there, and whether it is in use cannot be told: %w", path, err)
	}
	return os.Remove(path)
}

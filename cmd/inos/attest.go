package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"inos.dev/edge/cmd/inos/remote"
	"inos.dev/edge/mesh"
)

// clientKeyFile has the key of this user's receipts, in the directory of the
// config file: 64 hexadecimal digits.
const clientKeyFile = "client.key"

// attested opens a delivery, reads, and confirms what came. What was read stays
// when the receipt fails, but the command fails as well: somebody relies on it.
func attested(ctx context.Context, c *console, node *remote.Node, quiet bool, read func() error) error {
	dir, err := os.UserConfigDir()
	if err != nil {
		return fmt.Errorf("no place for a key: %w", err)
	}
	secret, err := openClientKey(filepath.Join(dir, "inos"))
	if err != nil {
		return err
	}
	d, err := node.OpenDelivery(ctx, secret)
	if err != nil {
		return err
	}
	if err := read(); err != nil {
		return err
	}
	receipt, err := d.Confirm(ctx)
	if err != nil {
		return err
	}
	if !quiet {
		fmt.Fprintf(c.err, "confirmed %d chunks, %s, of which the node counts %s as attested, by the key %s\n",
			d.Chunks(), bytesText(receipt.Receipt.Bytes), bytesText(receipt.Attested), receipt.Receipt.Client)
	}
	return nil
}

// openClientKey reads the key in dir, or makes one. A file that is there and
// holds no key is an error and never replaced.
func openClientKey(dir string) (mesh.Secret, error) {
	path := filepath.Join(dir, clientKeyFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newClientKey(dir, path)
	}
	if err != nil {
		return mesh.Secret{}, fmt.Errorf("key of receipts: %w", err)
	}
	seed, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err == nil {
		var secret mesh.Secret
		if secret, err = mesh.SecretFromSeed(seed); err == nil {
			return secret, nil
		}
	}
	return mesh.Secret{}, fmt.Errorf("key of receipts: %s: it holds none; move it away, and a new one is made: %w", path, err)
}

// newClientKey writes a key for this user alone, under its name at once and
// whole. If another process did so meanwhile, it is that one's key.
func newClientKey(dir, path string) (secret mesh.Secret, err error) {
	if secret, err = mesh.NewSecret(); err != nil {
		return mesh.Secret{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return mesh.Secret{}, fmt.Errorf("key of receipts: %w", err)
	}
	f, err := os.CreateTemp(dir, clientKeyFile+".*") // mode 0600
	if err != nil {
		return mesh.Secret{}, fmt.Errorf("key of receipts: %w", err)
	}
	_, err = f.WriteString(hex.EncodeToString(secret.Seed()) + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Link(f.Name(), path)
	}
	lost := errors.Is(err, fs.ErrExist)
	if lost {
		err = nil
	}
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return mesh.Secret{}, fmt.Errorf("key of receipts: %w", err)
	}
	if lost {
		return openClientKey(dir)
	}
	return secret, nil
}

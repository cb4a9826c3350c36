package auth

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"inos.dev/edge/mesh"
)

// NodeKeyFile is the file of a data directory that has the node's own key: what
// it is called by, earns on, and signs publications with. It is as durable as
// KeyFile; see "Durability".
const NodeKeyFile = "node.key"

// nodePrefix starts the text of a node's key; base64url of the seed and the
// public key follows. Only both together show that no bit has been lost.
const nodePrefix = "inos.node."

// OpenNodeKey returns the node's key out of a data directory; it makes one if
// there is none. A key file that others may read, or that holds no key, is an
// error and never replaced: balances and publications hang on it.
func OpenNodeKey(dir string) (mesh.Secret, error) {
	path := filepath.Join(dir, NodeKeyFile)
	text, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeNodeKey(path)
	}
	if err != nil {
		return mesh.Secret{}, fmt.Errorf("auth: %w", err)
	}
	key, err := parseNodeKey(text)
	if err != nil {
		return mesh.Secret{}, fmt.Errorf("auth: %s holds no node key: %w; restore it, or remove it to become another node", path, err)
	}
	return key, nil
}

func makeNodeKey(path string) (mesh.Secret, error) {
	key, err := mesh.NewSecret()
	if err != nil {
		return mesh.Secret{}, err
	}
	public := key.Public()
	text := nodePrefix + keyText.EncodeToString(append(key.Seed(), public[:]...))
	if err := writeSecret(path, text); err != nil {
		return mesh.Secret{}, fmt.Errorf("auth: keep the node's key: %w", err)
	}
	return key, nil
}

// parseNodeKey reads the content of a key file. No error repeats it.
func parseNodeKey(s string) (mesh.Secret, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(s), nodePrefix)
	if !ok {
		return mesh.Secret{}, fmt.Errorf("it does not start with %s", nodePrefix)
	}
	b, err := keyText.DecodeString(text)
	if err != nil || len(b) != ed25519.PrivateKeySize {
		return mesh.Secret{}, errors.New("it is malformed")
	}
	key, err := mesh.SecretFromSeed(b[:ed25519.SeedSize])
	if err != nil {
		return mesh.Secret{}, errors.New("it is malformed")
	}
	if public := key.Public(); !bytes.Equal(public[:], b[ed25519.SeedSize:]) {
		return mesh.Secret{}, errors.New("its two halves do not fit")
	}
	return key, nil
}

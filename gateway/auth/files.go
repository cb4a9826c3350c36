package auth

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The files of a data directory.
const (
	KeyFile   = "issuer.key"
	TokenFile = "token"
)

const (
	// operatorTerm is how long an operator's token holds, and renewBefore how
	// long before its end a start replaces it.
	operatorTerm = 365 * 24 * time.Hour
	renewBefore  = 30 * 24 * time.Hour
)

// OpenIssuer returns the issuer key of a data directory, which it makes if
// there is none. A key file that others may read, or that holds no key, is an
// error: it is never replaced.
func OpenIssuer(dir string) (SecretKey, error) {
	path := filepath.Join(dir, KeyFile)
	text, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		key := NewSecretKey()
		if err := writeSecret(path, key.reveal()); err != nil {
			return SecretKey{}, fmt.Errorf("auth: keep the issuer key: %w", err)
		}
		return key, nil
	}
	if err != nil {
		return SecretKey{}, fmt.Errorf("auth: %w", err)
	}
	key, err := parseSecretKey(text)
	if err != nil {
		return SecretKey{}, fmt.Errorf("auth: %s holds no issuer key: %w; restore it, or remove it to void all tokens", path, err)
	}
	return key, nil
}

// OpenOperatorToken returns the operator's token of a data directory. It makes
// a new one, with all rights, if the file is missing, unusable, readable by
// others, or near its expiry.
func OpenOperatorToken(dir string, key SecretKey, now time.Time) (Token, error) {
	token, err := ReadOperatorToken(dir)
	if err == nil {
		v := Verifier{Config{Own: key.Public()}}
		if id, err := v.Verify(token, now); err == nil && id.Operator && id.Rights == All && id.Expires.Sub(now) > renewBefore {
			return token, nil
		}
	}
	token, err = key.Issue(OperatorSubject, All, now, now.Add(operatorTerm))
	if err != nil {
		return "", err
	}
	if err := writeSecret(filepath.Join(dir, TokenFile), token.Reveal()); err != nil {
		return "", fmt.Errorf("auth: keep the operator's token: %w", err)
	}
	return token, nil
}

// ReadOperatorToken returns the token that the node left in a data directory,
// as a client on the same machine does.
func ReadOperatorToken(dir string) (Token, error) {
	text, err := readSecret(filepath.Join(dir, TokenFile))
	if err != nil {
		return "", fmt.Errorf("auth: %w", err)
	}
	return Token(strings.TrimSpace(text)), nil
}

// readSecret reads a short file that only its owner may read.
func readSecret(path string) (text string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no file", path)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return "", fmt.Errorf("%s has mode %04o: others may read it; chmod 600 it", path, perm)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxToken {
		return "", fmt.Errorf("%s is longer than %d bytes", path, maxToken)
	}
	return string(b), nil
}

// writeSecret replaces a file durably; see "Durability".
func writeSecret(path, text string) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(text + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

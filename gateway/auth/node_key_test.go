package auth_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inos.dev/edge/gateway/auth"
)

func TestNodeKeyFile(t *testing.T) {
	dir := t.TempDir()
	key, err := auth.OpenNodeKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, auth.NodeKeyFile)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	again, err := auth.OpenNodeKey(dir)
	if err != nil || again.Public() != key.Public() {
		t.Errorf("another key: %v", err)
	}
	sig := again.Sign("test", []byte("x"))
	if err := key.Public().Verify("test", []byte("x"), sig); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("%d files left, %v", len(entries), err)
	}
	for name, bad := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"readable by others": {string(text), 0o644},
		"empty":              {"", 0o600},
		"cut off":            {string(text[:50]), 0o600},
		"a seed alone":       {string(text[:52]), 0o600},
		"halves differ":      {string(text[:20]) + "AAAA" + string(text[24:]), 0o600},
		"an issuer's":        {"k4.secret." + string(text[10:]), 0o600},
		"long":               {strings.Repeat("x", 10_000), 0o600},
	} {
		write(t, dir, auth.NodeKeyFile, bad.text, bad.mode)
		if _, err := auth.OpenNodeKey(dir); err == nil {
			t.Errorf("%s: accepted", name)
		} else if quotes(err.Error(), strings.TrimPrefix(string(text), "inos.node.")) {
			t.Errorf("%s: the error quotes the key: %v", name, err)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != bad.text {
			t.Errorf("%s: the file was replaced (%v)", name, err)
		}
	}
	if _, err := auth.OpenNodeKey(filepath.Join(dir, "missing")); err == nil {
		t.Error("a key without a directory")
	}
}

package auth_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inos.dev/edge/gateway/auth"
)

func write(t *testing.T, dir, name, text string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestIssuerFile(t *testing.T) {
	dir := t.TempDir()
	key, err := auth.OpenIssuer(dir)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, auth.KeyFile))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	again, err := auth.OpenIssuer(dir)
	if err != nil || again.Public().String() != key.Public().String() {
		t.Errorf("another key: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, auth.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%d files left, %v", len(entries), err)
	}
	for name, bad := range map[string]struct {
		text string
		mode os.FileMode
	}{
		"readable by others": {string(text), 0o644},
		"empty":              {"", 0o600},
		"cut off":            {string(text[:40]), 0o600},
		"halves differ":      {string(text[:20]) + "AAAA" + string(text[24:]), 0o600},
		"long":               {strings.Repeat("x", 10_000), 0o600},
	} {
		write(t, dir, auth.KeyFile, bad.text, bad.mode)
		if _, err := auth.OpenIssuer(dir); err == nil {
			t.Errorf("%s: accepted", name)
		} else if quotes(err.Error(), strings.TrimPrefix(string(text), "k4.secret.")) {
			t.Errorf("%s: the error quotes the key: %v", name, err)
		}
		if now, err := os.ReadFile(filepath.Join(dir, auth.KeyFile)); err != nil || string(now) != bad.text {
			t.Errorf("%s: the file was replaced (%v)", name, err)
		}
	}
	if _, err := auth.OpenIssuer(filepath.Join(dir, "missing")); err == nil {
		t.Error("a key without a directory")
	}
}

func TestOperatorTokenFile(t *testing.T) {
	dir, key := t.TempDir(), auth.NewSecretKey()
	first, err := auth.OpenOperatorToken(dir, key, now)
	if err != nil {
		t.Fatal(err)
	}
	v := verifier(t, auth.Config{Own: key.Public()})
	if id, err := v.Verify(first, now); err != nil || !id.Operator || id.Rights != auth.All {
		t.Fatalf("%+v, %v", id, err)
	}
	if read, err := auth.ReadOperatorToken(dir); err != nil || read != first {
		t.Errorf("a client reads another token: %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, auth.TokenFile))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if kept, err := auth.OpenOperatorToken(dir, key, now.Add(300*24*time.Hour)); err != nil || kept != first {
		t.Errorf("replaced without need: %v", err)
	}

	alice := issue(t, key, "alice", auth.All, now, 10_000*time.Hour).Reveal()
	other, err := auth.OpenOperatorToken(t.TempDir(), auth.NewSecretKey(), now)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func() time.Time{
		"near expiry":        func() time.Time { return now.Add(340 * 24 * time.Hour) },
		"expired":            func() time.Time { return now.Add(400 * 24 * time.Hour) },
		"damaged":            func() time.Time { write(t, dir, auth.TokenFile, "x", 0o600); return now },
		"readable by others": func() time.Time { write(t, dir, auth.TokenFile, first.Reveal(), 0o644); return now },
		"another key's":      func() time.Time { write(t, dir, auth.TokenFile, other.Reveal(), 0o600); return now },
		"another's":          func() time.Time { write(t, dir, auth.TokenFile, alice, 0o600); return now },
	} {
		write(t, dir, auth.TokenFile, first.Reveal(), 0o600)
		at := change()
		renewed, err := auth.OpenOperatorToken(dir, key, at)
		if err != nil || renewed == first {
			t.Errorf("%s: not renewed, %v", name, err)
			continue
		}
		if id, err := v.Verify(renewed, at); err != nil || !id.Operator {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
		if read, err := auth.ReadOperatorToken(dir); err != nil || read != renewed {
			t.Errorf("%s: file %v", name, err)
		}
	}
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"inos.dev/edge/mesh"
)

// TestClientKey: whoever comes first makes the key, and all others get that
// one; nothing else is left in the directory.
func TestClientKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "config", "inos")
	const users = 16
	keys := make([]mesh.Key, users)
	var g sync.WaitGroup
	for i := range users {
		g.Go(func() {
			secret, err := openClientKey(dir)
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = secret.Public()
		})
	}
	g.Wait()
	for _, k := range keys {
		if k.IsZero() || k != keys[0] {
			t.Fatalf("%s and %s", k, keys[0])
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 || files[0].Name() != clientKeyFile {
		t.Errorf("%v, %v", files, err)
	}
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestClientKeyRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, clientKeyFile)
	for _, text := range []string{"", "abc", strings.Repeat("ab", 31), strings.Repeat("zz", 32)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openClientKey(dir); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v", text, err)
		}
		if left, err := os.ReadFile(path); err != nil || string(left) != text {
			t.Errorf("%q became %q, %v", text, left, err)
		}
	}
}

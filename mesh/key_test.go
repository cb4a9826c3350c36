package mesh

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func secret(t *testing.T, first byte) Secret {
	t.Helper()
	s, err := SecretFromSeed(append([]byte{first}, make([]byte, 31)...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestKeyText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := Key(rapid.SliceOfN(rapid.Byte(), KeySize, KeySize).Draw(t, "key"))
		back, err := ParseKey(k.String())
		if k.IsZero() != (err != nil) || err == nil && back != k {
			t.Fatalf("%v came back as %v, %v", k, back, err)
		}
	})
}

func TestParseKeyRefuses(t *testing.T) {
	good := secret(t, 1).Public().String()
	for name, text := range map[string]string{
		"empty": "", "short": good[1:], "long": good + "a", "upper case": strings.ToUpper(good),
		"digit": "1" + good[1:], "spare bits": good[:51] + "b", "zero": strings.Repeat("a", 52),
	} {
		if _, err := ParseKey(text); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSign(t *testing.T) {
	s, message := secret(t, 1), []byte("message")
	sig := s.Sign("receipt 1", message)
	if err := s.Public().Verify("receipt 1", message, sig); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"kind":    s.Public().Verify("receipt 2", message, sig),
		"message": s.Public().Verify("receipt 1", []byte("massage"), sig),
		"key":     secret(t, 2).Public().Verify("receipt 1", message, sig),
		"nobody":  Key{}.Verify("receipt 1", message, sig),
	} {
		if !errors.Is(err, ErrSignature) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	s := secret(t, 1)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		if text := fmt.Sprintf(verb, s); text != "(secret key)" {
			t.Errorf("%s shows %q", verb, text)
		}
	}
}

package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"aidanwoods.dev/go-paseto"
)

// Token is a signed token, a secret. However it is printed, logged or
// marshalled, it shows nothing of itself; Reveal gives its text.
type Token string

const redacted = "(token)"

// Reveal returns the text to send or to store.
func (t Token) Reveal() string { return string(t) }

func (t Token) String() string { return redacted }

// Format implements fmt.Formatter, for every verb.
func (t Token) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, redacted) // a fmt.State has nowhere to report to
}

// LogValue implements slog.LogValuer.
func (t Token) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler.
func (t Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

const (
	maxToken   = 4 << 10 // bytes of a token
	maxSubject = 128
	maxTokenID = 64
	// clockSkew is how far the clocks of an issuer and of the node may be
	// apart where that takes no right away.
	clockSkew = 2 * time.Minute
)

// assertion is signed along with every token and not sent: it keeps a
// signature for another purpose from being a token.
var assertion = []byte("inos.dev/edge token 1")

// claims is the content of a token.
type claims struct {
	Subject  string    `json:"sub"`
	ID       string    `json:"jti"`
	Rights   []string  `json:"rights"`
	Issued   time.Time `json:"iat"`
	NotYet   time.Time `json:"nbf,omitzero"`
	Expires  time.Time `json:"exp"`
	Audience string    `json:"aud,omitempty"`
}

// audience is the only value that the optional aud claim may have.
const audience = "inos"

// Issue signs a token for subject that holds from now until expires.
func (k SecretKey) Issue(subject string, rights Rights, now, expires time.Time) (Token, error) {
	if err := checkSubject(subject); err != nil {
		return "", err
	}
	if !expires.After(now) {
		return "", errors.New("auth: the expiry is in the past")
	}
	if rights&^All != 0 || rights == None {
		return "", errors.New("auth: a token needs at least one right of read, write, admin")
	}
	var id [16]byte
	rand.Read(id[:]) // never fails: it would end the process
	data, err := json.Marshal(claims{
		Subject: subject, ID: hex.EncodeToString(id[:]), Rights: rights.names(),
		Issued: now.UTC().Truncate(time.Second), Expires: expires.UTC().Truncate(time.Second), Audience: audience,
	})
	if err != nil {
		return "", fmt.Errorf("auth: %w", err)
	}
	t, err := paseto.NewTokenFromClaimsJSON(data, nil)
	if err != nil {
		return "", fmt.Errorf("auth: %w", err)
	}
	return Token(t.V4Sign(*k.key, assertion)), nil
}

// Verify returns the identity that a token gives at now. Every error is
// ErrUnauthenticated and holds nothing of the token.
func (v *Verifier) Verify(token Token, now time.Time) (Identity, error) {
	t, own, err := v.open(token)
	if err != nil {
		return Identity{}, err
	}
	id, err := identify(t.ClaimsJSON(), now)
	if err != nil {
		return Identity{}, err
	}
	if id.Subject == OperatorSubject {
		if !own {
			return Identity{}, fmt.Errorf("%w: only the node itself may sign for %q", ErrUnauthenticated, OperatorSubject)
		}
		id.Operator = true
	}
	id.Issuer = IssuerOwn
	if !own {
		id.Issuer = IssuerTrusted
		id.Rights &^= Admin
	}
	return id, nil
}

// open checks the signature and says whether the node's own key made it.
func (v *Verifier) open(token Token) (t *paseto.Token, own bool, err error) {
	text := token.Reveal()
	switch {
	case len(text) > maxToken:
		return nil, false, fmt.Errorf("%w: it is longer than %d bytes", ErrUnauthenticated, maxToken)
	case !strings.HasPrefix(text, "v4.public."):
		return nil, false, fmt.Errorf("%w: it is no v4.public token", ErrUnauthenticated)
	}
	// What the library says is not passed on: it may quote the token.
	parser := paseto.MakeParser(nil)
	if t, err := parser.ParseV4Public(v.cfg.Own.key, text, assertion); err == nil {
		return t, true, nil
	}
	for _, issuer := range v.cfg.Trusted {
		if t, err := parser.ParseV4Public(issuer.key, text, assertion); err == nil {
			return t, false, nil
		}
	}
	return nil, false, fmt.Errorf("%w: it is damaged, or no issuer that this node trusts signed it", ErrUnauthenticated)
}

// identify reads the claims of a token whose signature holds.
func identify(data []byte, now time.Time) (Identity, error) {
	var c claims
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Identity{}, fmt.Errorf("%w: it has claims that this node does not know", ErrUnauthenticated)
	}
	rights, err := rightsOf(c.Rights)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: its rights are malformed", ErrUnauthenticated)
	}
	if err := checkSubject(c.Subject); err != nil {
		return Identity{}, fmt.Errorf("%w: its subject is malformed", ErrUnauthenticated)
	}
	latest := now.Add(clockSkew)
	switch {
	case c.ID == "" || len(c.ID) > maxTokenID || c.ID == devTokenID:
		return Identity{}, fmt.Errorf("%w: its id is malformed", ErrUnauthenticated)
	case c.Audience != "" && c.Audience != audience:
		return Identity{}, fmt.Errorf("%w: it is for another audience", ErrUnauthenticated)
	case !now.Before(c.Expires): // also if there is none
		return Identity{}, fmt.Errorf("%w: it expired, ask for a new one", ErrUnauthenticated)
	case c.Issued.After(latest) || c.NotYet.After(latest):
		return Identity{}, fmt.Errorf("%w: it is not valid yet; is a clock wrong?", ErrUnauthenticated)
	}
	return Identity{Subject: c.Subject, Rights: rights, TokenID: c.ID, Expires: c.Expires}, nil
}

// checkSubject accepts 1 … 128 bytes of printable text.
func checkSubject(s string) error {
	if !printable(s, maxSubject) {
		return fmt.Errorf("auth: a subject is 1 to %d bytes of printable text", maxSubject)
	}
	return nil
}

// printable reports whether s is 1 … limit bytes of text that prints.
func printable(s string, limit int) bool {
	return s != "" && len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

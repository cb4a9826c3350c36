// Package auth says who sends a request and what that one may do.
//
// An identity comes from a token (PASETO v4.public: Ed25519, no choice of
// algorithm) in the Authorization header. Tokens are signed by the node's own
// issuer key, DATA/issuer.key, or by a configured further issuer. What a token
// does not say is not allowed: rights are a closed set, expiry is required, a
// claim that is not known is refused (it may be a restriction). Tokens of
// further issuers never give the admin right nor the operator's name.
//
// What an identity may do is decided by rules (DefaultRules, Policy): one
// evaluator over verified metadata, at every door, which denies what no rule
// allows, and keeps a record.
//
// The node's operator has a token in DATA/token. With Config.Dev, a request
// from loopback without a token has the operator's identity too, unless
// something between or another web page may have caused it: see devRequest.
// A host name that serves uploaded pages must not lead to a route that writes:
// a page of x.localhost that posts to x.localhost is no foreign page.
//
// # Durability
//
// issuer.key and token are written to a temporary file (0600) that is synced,
// renamed, and the directory synced. A crash before the rename leaves the old
// file or none, and a later start writes a new one; after it, the new file. A
// key that is there but cannot be used is an error and never replaced: all
// tokens of the node hang on it. A token that cannot be used is replaced.
package auth

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

var (
	// ErrUnauthenticated says: no token, or one that does not hold. HTTP 401, with
	// Challenge as WWW-Authenticate.
	ErrUnauthenticated = errors.New("a valid token is needed")
	// ErrForbidden says: the identity is known but lacks a right. HTTP 403.
	ErrForbidden = errors.New("the token lacks a right")
)

// Challenge is the WWW-Authenticate header of a 401 (RFC 6750).
const Challenge = `Bearer realm="inos"`

// OperatorSubject is the subject of the node's operator. Only the node's own
// key may sign for it.
const OperatorSubject = "operator"

// devTokenID stands in for a token's id where Config.Dev needed none.
const devTokenID = "dev"

// Identity is who sends a request. The zero Identity is anybody, who has no
// right that needs one.
type Identity struct {
	Subject  string // owner of what is uploaded
	Rights   Rights
	TokenID  string // for logs and quotas
	Operator bool   // the node's own operator
	Issuer   Issuer // of the token
	Expires  time.Time
}

// Anonymous reports whether nothing is known about the sender.
func (id Identity) Anonymous() bool { return id.Subject == "" }

// issuer is what vouches for id, which may have been made by hand.
func (id *Identity) issuer() Issuer {
	if id.Anonymous() || id.Issuer >= numIssuers {
		return IssuerNone
	}
	return id.Issuer
}

// Require is nil if id has all the rights, else ErrUnauthenticated for anybody
// and ErrForbidden for somebody.
func (id Identity) Require(rights Rights) error {
	switch {
	case id.Anonymous():
		return fmt.Errorf("%w: send one with the right to %s as Authorization: Bearer", ErrUnauthenticated, rights)
	case !id.Rights.Has(rights):
		return fmt.Errorf("%w: %q may %s, and this needs %s", ErrForbidden, id.Subject, id.Rights, rights)
	}
	return nil
}

// Config says whom a Verifier believes.
type Config struct {
	// Own is the node's public issuer key. Required.
	Own PublicKey
	// Trusted are further issuers, at most MaxTrusted. Default: none.
	Trusted []PublicKey
	// Dev gives loopback the operator's identity; the caller has made sure
	// that every listener is on loopback.
	Dev bool
}

// MaxTrusted bounds the further issuers: each costs a signature check per
// request with a token that no earlier one signed.
const MaxTrusted = 16

func (c Config) validate() error {
	switch {
	case c.Own.IsZero():
		return errors.New("auth: the node's own issuer key is needed")
	case len(c.Trusted) > MaxTrusted:
		return fmt.Errorf("auth: %d further issuers, at most %d", len(c.Trusted), MaxTrusted)
	case slices.ContainsFunc(c.Trusted, PublicKey.IsZero):
		return errors.New("auth: a further issuer has an empty key")
	}
	return nil
}

// Verifier finds the identity behind a request. Its methods may be called at
// the same time.
type Verifier struct{ cfg Config }

// NewVerifier returns a Verifier.
func NewVerifier(cfg Config) (*Verifier, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.Trusted = slices.Clone(cfg.Trusted)
	return &Verifier{cfg}, nil
}

// FromRequest returns who sends r over c. A request without a token is
// anybody's, the zero Identity, or with Config.Dev perhaps the operator's. A
// token that does not hold is ErrUnauthenticated, whatever else is true.
func (v *Verifier) FromRequest(r *http.Request, c Conn) (Identity, error) {
	values := r.Header.Values("Authorization")
	switch len(values) {
	case 0:
		if v.cfg.Dev && devRequest(r, c) {
			return Identity{Subject: OperatorSubject, Rights: All, TokenID: devTokenID, Operator: true, Issuer: IssuerDev}, nil
		}
		return Identity{}, nil
	case 1:
		token, err := bearer(values[0])
		if err != nil {
			return Identity{}, err
		}
		return v.Verify(token, time.Now())
	default:
		return Identity{}, fmt.Errorf("%w: two Authorization headers", ErrUnauthenticated)
	}
}

// bearer reads the credentials of RFC 6750. No error repeats them.
func bearer(value string) (Token, error) {
	scheme, token, ok := strings.Cut(value, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", fmt.Errorf("%w: Authorization must be Bearer and a token", ErrUnauthenticated)
	}
	return Token(strings.Trim(token, " ")), nil
}

package remote

import (
	"fmt"
	"net/url"
	"strings"

	"inos.dev/edge/cas"
)

// Ref is what a user names: an object, or a path in one.
type Ref struct {
	// Node is the address of the node that a URL names, else "".
	Node string
	Hash cas.Hash
	// Path has no slash at either end; "" is the object itself.
	Path string
}

// ParseRef reads HASH, HASH/path or the URL of an object on a node. Errors:
// cas.ErrBadHash.
func ParseRef(s string) (Ref, error) {
	var ref Ref
	rest := s
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
			return Ref{}, fmt.Errorf("%w: %q is no http or https address of an object", cas.ErrBadHash, s)
		}
		prefix, object, ok := strings.Cut(u.Path, "/object/")
		if !ok {
			return Ref{}, fmt.Errorf("%w: %q has no /object/ and hash in it", cas.ErrBadHash, s)
		}
		ref.Node = (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: prefix}).String()
		rest = object
	}
	hash, path, _ := strings.Cut(rest, "/")
	h, err := cas.ParseHash(hash)
	if err != nil {
		return Ref{}, fmt.Errorf("%q: %w; name an object as HASH, HASH/path or by its URL", s, err)
	}
	ref.Hash, ref.Path = h, strings.Trim(path, "/")
	return ref, nil
}

// String writes the ref without its node.
func (r Ref) String() string {
	if r.Path == "" {
		return r.Hash.String()
	}
	return r.Hash.String() + "/" + r.Path
}

package gateway

import (
	"strings"
)

// form is a representation of a chunk or a file.
type form uint8

const (
	formIdentity form = iota // decoded, as the publisher had it
	formBrotli               // stored bytes as Content-Encoding: br
	formStored               // stored bytes as they are, to be hashed
	formNone                 // the client excluded everything
)

// chunkMediaType asks for a chunk's stored bytes without a content coding.
const chunkMediaType = "application/vnd.inos.chunk"

// etag returns the strong entity tag of a form: one per representation. hash is
// the hash as text.
func (f form) etag(hash string) string {
	switch f {
	case formBrotli:
		return `"` + hash + `"`
	case formStored:
		return `"` + hash + `-stored"`
	}
	return `"` + hash + `-raw"`
}

// encodingForm reads Accept-Encoding (RFC 9110, section 12.5.3). br is sent
// whenever its weight is above 0, also through *, unless identity is named
// with a higher one. Absent means identity.
func encodingForm(values []string) form {
	if len(values) == 0 {
		return formIdentity
	}
	br, star, identity := -1, -1, -1 // thousandths; -1: not named
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			coding, q := weighted(item)
			switch {
			case strings.EqualFold(coding, "br"):
				br = max(br, q)
			case coding == "*":
				star = max(star, q)
			case strings.EqualFold(coding, "identity"):
				identity = max(identity, q)
			}
		}
	}
	if br < 0 {
		br = star
	}
	if br > 0 && br >= identity {
		return formBrotli
	}
	if identity > 0 || identity < 0 && star != 0 {
		return formIdentity
	}
	return formNone
}

// weighted splits "coding;q=0.5" into the coding and its weight in
// thousandths. A weight that is none counts as 0: what cannot be read is not
// taken for a wish.
func weighted(item string) (token string, q int) {
	token, params, _ := strings.Cut(item, ";")
	token = strings.Trim(token, " \t")
	q = 1000
	for p := range strings.SplitSeq(params, ";") {
		name, value, ok := strings.Cut(p, "=")
		if ok && strings.EqualFold(strings.Trim(name, " \t"), "q") {
			q = qvalue(strings.Trim(value, " \t"))
		}
	}
	return token, q
}

// qvalue reads 0, 1, and up to three decimals (RFC 9110, section 12.4.2).
func qvalue(s string) int {
	whole, decimals, _ := strings.Cut(s, ".")
	if whole != "0" && whole != "1" || len(decimals) > 3 {
		return 0
	}
	q := 0
	for i := range 3 {
		q *= 10
		if i < len(decimals) {
			if decimals[i] < '0' || decimals[i] > '9' {
				return 0
			}
			q += int(decimals[i] - '0')
		}
	}
	if whole == "1" {
		if q != 0 {
			return 0
		}
		return 1000
	}
	return q
}

// accepts reports whether Accept names a media type with a weight above 0. It
// does not look at ranges: only who asks for the type by name gets it.
func accepts(values []string, mediaType string) bool {
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			if t, q := weighted(item); q > 0 && strings.EqualFold(t, mediaType) {
				return true
			}
		}
	}
	return false
}

// prefersJSON reports whether Accept wants JSON more than HTML.
func prefersJSON(values []string) bool {
	json, html := 0, 0
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			t, q := weighted(item)
			switch {
			case strings.EqualFold(t, "application/json"):
				json = max(json, q)
			case strings.EqualFold(t, "text/html"):
				html = max(html, q)
			}
		}
	}
	return json > html
}

// matches reports whether a list of entity tags, or *, names tag. weak is the
// comparison of If-None-Match, without it that of If-Match (RFC 9110, section
// 8.8.3.2).
func matches(values []string, tag string, weak bool) bool {
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			item = strings.Trim(item, " \t")
			if weak {
				item = strings.TrimPrefix(item, "W/")
			}
			if item == tag || item == "*" {
				return true
			}
		}
	}
	return false
}

package gateway

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// span is bytes [start, start+length) of a representation.
type span struct{ start, length int64 }

// contentRange is the value of Content-Range for s in a whole of size bytes.
func (s span) contentRange(size int64) string {
	return "bytes " + strconv.FormatInt(s.start, 10) + "-" + strconv.FormatInt(s.start+s.length-1, 10) + "/" + strconv.FormatInt(size, 10)
}

// maxRanges is the most ranges of one request.
const maxRanges = 32

// errRange: no range of the request can be served; HTTP 416.
var errRange = errors.New("none of the requested ranges lies within the representation, there are more than 32, or they overlap")

// parseRange reads a Range header against a representation of size bytes (RFC
// 9110, section 14.2). nil without an error means that the header is to be
// ignored: another unit, or not well formed. Ranges that begin behind the end
// are left out; if none is left, or there are too many, or they overlap, it is
// errRange.
func parseRange(header string, size int64) ([]span, error) {
	unit, set, ok := strings.Cut(header, "=")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return nil, nil
	}
	if strings.Count(set, ",") >= 2*maxRanges {
		return nil, errRange
	}
	var spans []span
	named := 0
	for item := range strings.SplitSeq(set, ",") {
		item = strings.Trim(item, " \t")
		if item == "" {
			continue
		}
		named++
		s, valid := parseSpan(item, size)
		if !valid {
			return nil, nil
		}
		if s.length > 0 {
			spans = append(spans, s)
		}
	}
	switch {
	case named == 0:
		return nil, nil
	case len(spans) == 0, named > maxRanges, overlap(spans):
		return nil, errRange
	}
	return spans, nil
}

// parseSpan reads first-last, first- or -suffix. A span that cannot be
// satisfied has the length 0.
func parseSpan(item string, size int64) (s span, valid bool) {
	first, last, ok := strings.Cut(item, "-")
	if !ok {
		return span{}, false
	}
	if first == "" {
		n, ok := position(last)
		n = min(n, size)
		return span{size - n, n}, ok
	}
	start, ok := position(first)
	if !ok {
		return span{}, false
	}
	end := size - 1
	if last != "" {
		n, ok := position(last)
		if !ok || n < start {
			return span{}, false
		}
		end = min(n, end)
	}
	return span{start, max(0, end-start+1)}, true
}

// position reads digits and nothing else; what is too large for an int64 is
// behind every end.
func position(s string) (int64, bool) {
	if s == "" || len(s) > 40 {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 1<<63 - 1, true
	}
	return n, true
}

func overlap(spans []span) bool {
	sorted := slices.Clone(spans)
	slices.SortFunc(sorted, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].start < sorted[i-1].start+sorted[i-1].length {
			return true
		}
	}
	return false
}

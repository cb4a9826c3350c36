package brotli

import (
	"fmt"

	"inos.dev/edge/cas"
)

// Join appends the stream of the whole object to dst: HEAD, the BODY of each
// chunk in turn, TAIL. Nodes do this on the wire, from files; Join is the
// same in memory.
func Join(dst []byte, chunks ...[]byte) ([]byte, error) {
	head := cas.Head()
	dst = append(dst, head[:]...)
	for i, c := range chunks {
		if len(c) < cas.MinChunkSize {
			return nil, fmt.Errorf("%w: chunk %d of %d bytes", cas.ErrShape, i, len(c))
		}
		dst = append(dst, c[cas.BodyOffset:len(c)-1]...)
	}
	return append(dst, cas.Tail()), nil
}

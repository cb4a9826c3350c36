package gateway

import (
	"io"
	"net/http"
	"strings"
)

// privateWriter takes "public" out of Cache-Control: an answer that only
// somebody may read must not be kept where others read.
type privateWriter struct {
	http.ResponseWriter
	begun bool
}

// private makes an answer that has not begun one that no shared cache keeps.
func (w *recorder) private() {
	if w.ResponseWriter == nil {
		return // the admin listener has its own
	}
	p := &privateWriter{ResponseWriter: w.ResponseWriter}
	w.ResponseWriter = p
	if rf, ok := p.ResponseWriter.(io.ReaderFrom); ok {
		w.ResponseWriter = privateReaderFrom{p, rf}
	}
}

func (p *privateWriter) begin() {
	if p.begun {
		return
	}
	p.begun = true
	header := p.Header()
	if cc := header["Cache-Control"]; len(cc) > 0 {
		header["Cache-Control"] = []string{strings.Replace(cc[0], "public", "private", 1)}
		return
	}
	header["Cache-Control"] = []string{"private"}
}

func (p *privateWriter) WriteHeader(status int) {
	if status >= http.StatusOK {
		p.begin()
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *privateWriter) Write(b []byte) (int, error) {
	p.begin()
	return p.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (p *privateWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// privateReaderFrom keeps the way to sendfile, where there is one.
type privateReaderFrom struct {
	*privateWriter
	from io.ReaderFrom
}

func (p privateReaderFrom) ReadFrom(r io.Reader) (int64, error) {
	p.begin()
	return p.from.ReadFrom(r)
}

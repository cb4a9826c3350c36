package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/mesh/exchange"
)

// classify turns a response's head into nil (the body is worth reading) or
// into the error of an exchange.Provider.
func classify(resp *http.Response, now time.Time) error {
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		if enc := resp.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
			return fmt.Errorf("%w: it encoded the stored form as %.20q; is something between that changes bytes?", exchange.ErrUnanswered, enc)
		}
		if resp.ContentLength > cas.MaxChunkSize {
			return fmt.Errorf("%w: %w: %d bytes announced", exchange.ErrLied, cas.ErrTooLarge, resp.ContentLength)
		}
		return nil
	case code == http.StatusNotFound, code == http.StatusGone, code == http.StatusUnavailableForLegalReasons:
		return fmt.Errorf("%w (status %d)", exchange.ErrSaidNo, code)
	case code >= 300 && code < 400:
		return fmt.Errorf("%w: status %d: it redirects, which is not followed; name the final address", exchange.ErrUnanswered, code)
	case code == http.StatusTooManyRequests, code >= 500:
		err := fmt.Errorf("%w: status %d", exchange.ErrUnanswered, code)
		if after, ok := retryAfter(resp.Header.Get("Retry-After"), now); ok {
			return &exchange.RetryError{After: after, Err: err}
		}
		return err
	default:
		return fmt.Errorf("%w: status %d: is this the address of a node?", exchange.ErrUnanswered, code)
	}
}

// retryAfter reads a Retry-After header: seconds or a date.
func retryAfter(v string, now time.Time) (time.Duration, bool) {
	if n, err := strconv.ParseUint(v, 10, 16); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(t.Sub(now), 0), true
	}
	return 0, false
}

// readBody reads all of a body whose announced length is at most
// cas.MaxChunkSize, or -1 if none was announced. With an error it returns what
// came.
func readBody(r io.Reader, announced int64) ([]byte, error) {
	if announced >= 0 {
		data := make([]byte, announced)
		n, err := io.ReadFull(r, data)
		if err != nil {
			return data[:n], fmt.Errorf("%w: cut off after %d of %d bytes: %w", exchange.ErrUnanswered, n, announced, err)
		}
		return data, nil
	}
	data, err := io.ReadAll(io.LimitReader(r, cas.MaxChunkSize+1))
	switch {
	case err != nil:
		return data, fmt.Errorf("%w: cut off after %d bytes: %w", exchange.ErrUnanswered, len(data), err)
	case len(data) > cas.MaxChunkSize:
		return nil, fmt.Errorf("%w: %w: it sends more than a chunk", exchange.ErrLied, cas.ErrTooLarge)
	}
	return data, nil
}

// errStalled is the cause of a fetch whose body made no progress.
var errStalled = errors.New("the body makes no progress")

// stallReader cancels its request if no byte comes for a while.
type stallReader struct {
	r       io.Reader
	timeout time.Duration
	timer   *time.Timer
}

func newStallReader(r io.Reader, timeout time.Duration, cancel context.CancelCauseFunc) *stallReader {
	return &stallReader{r, timeout, time.AfterFunc(timeout, func() { cancel(errStalled) })}
}

func (s *stallReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if n > 0 {
		s.timer.Reset(s.timeout)
	}
	return n, err
}

func (s *stallReader) stop() { s.timer.Stop() }

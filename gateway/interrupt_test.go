package gateway

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"
)

// deadlines is a ResponseWriter that keeps the last read deadline, and calls
// before in front of setting the first.
type deadlines struct {
	http.ResponseWriter
	before func()
	last   time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	if before := d.before; before != nil {
		d.before = nil
		before()
	}
	d.last = at
	return nil
}

// hung is the body of a client that is gone: to read it after the deadline was
// renewed is to hang.
type hung struct{ t *testing.T }

func (h hung) Read([]byte) (int, error) {
	h.t.Error("the body is read although the part was interrupted")
	return 0, os.ErrDeadlineExceeded
}

// TestInterruptIsKept interrupts a part while its reader renews the deadline,
// which undoes the deadline of the interrupt.
func TestInterruptIsKept(t *testing.T) {
	d := &deadlines{ResponseWriter: httptest.NewRecorder()}
	g := &Gateway{cfg: Config{MinRate: 1 << 10, IOGrace: time.Second}}
	p := &pacedReader{w: &recorder{ResponseWriter: d, g: g}, src: hung{t}}
	d.before = p.interrupt
	for range 2 {
		if n, err := p.Read(make([]byte, 10)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read = %d, %v", n, err)
		}
	}
	if !d.last.After(time.Unix(1, 0)) {
		t.Error("the test needs a deadline that was renewed")
	}
}

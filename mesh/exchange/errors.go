package exchange

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"inos.dev/edge/cas"
)

var (
	// ErrSaidNo says: the provider answered that it does not have the chunk.
	ErrSaidNo = fmt.Errorf("the source does not have it: %w", cas.ErrNotFound)
	// ErrUnanswered says: no usable answer in time: network, deadline, overload.
	ErrUnanswered = errors.New("the source did not answer")
	// ErrLied says: the provider sent bytes that are not the chunk.
	ErrLied = errors.New("the source sent wrong bytes")
	// ErrBusy says: too many chunks are being waited for; try again soon.
	ErrBusy = errors.New("too many fills at the same time")
	// ErrClosed says: the node is going down.
	ErrClosed = errors.New("the exchange is closed")
)

// RetryError is a provider's wish to be asked again later. It wraps
// ErrUnanswered.
type RetryError struct {
	After time.Duration
	Err   error
}

func (e *RetryError) Error() string {
	return fmt.Sprintf("%v (try again in %v)", e.Err, e.After)
}

func (e *RetryError) Unwrap() error { return e.Err }

// Local is the name of the node's own store among the sources.
const Local = "local"

// Outcome is what came of asking one source.
type Outcome uint8

// The outcomes. Their texts stand in answers and metrics.
const (
	Asking     Outcome = iota // no answer yet when the caller's time was over
	Served                    // sent the verified chunk
	SaidNo                    // does not have it
	Unanswered                // did not answer in time, or not usably
	Lied                      // sent wrong bytes
	Outrun                    // another source was faster
)

var outcomeText = [...]string{"asking", "served", "said no", "no answer", "wrong bytes", "outrun"}

func (o Outcome) String() string {
	if int(o) < len(outcomeText) {
		return outcomeText[o]
	}
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}

// Attempt is one source that was asked.
type Attempt struct {
	Source   string
	Outcome  Outcome
	Duration time.Duration
	Bytes    int64 // verified bytes, if Served
	Err      error // why not, for the log: it may name addresses
}

func (a Attempt) String() string {
	return fmt.Sprintf("%s: %s (%v)", a.Source, a.Outcome, a.Duration.Round(time.Millisecond))
}

// MissError says that a chunk was not to be had, and what was tried. It
// unwraps to cas.ErrNotFound if every source said no, else to ErrUnanswered.
type MissError struct {
	Hash  cas.Hash
	Tried []Attempt
	// Unanswered is set if at least one source neither had the chunk nor said
	// that it has not: asking again may help.
	Unanswered bool
	// RetryAfter is when to ask again; set if Unanswered, 1 s … 60 s.
	RetryAfter time.Duration
}

const (
	minRetry = time.Second
	maxRetry = time.Minute
)

// newMiss judges what was tried; it keeps the slice.
func newMiss(h cas.Hash, tried []Attempt) *MissError {
	m := &MissError{Hash: h, Tried: tried}
	m.Unanswered = slices.ContainsFunc(tried, func(a Attempt) bool { return a.Outcome != SaidNo })
	if !m.Unanswered {
		return m
	}
	m.RetryAfter = minRetry
	for _, a := range tried {
		if r, ok := errors.AsType[*RetryError](a.Err); ok {
			m.RetryAfter = min(max(m.RetryAfter, r.After), maxRetry)
		}
	}
	return m
}

func (m *MissError) Error() string {
	tried := make([]string, len(m.Tried))
	for i, a := range m.Tried {
		tried[i] = a.String()
	}
	return fmt.Sprintf("chunk %s: %v; tried %s", m.Hash, m.Unwrap(), strings.Join(tried, ", "))
}

// Unwrap implements errors.Is.
func (m *MissError) Unwrap() error {
	if m.Unanswered {
		return ErrUnanswered
	}
	return cas.ErrNotFound
}

// outcomeOf classifies what a provider returned.
func outcomeOf(err error) Outcome {
	switch {
	case err == nil:
		return Served
	case errors.Is(err, ErrLied):
		return Lied
	case errors.Is(err, cas.ErrNotFound):
		return SaidNo
	default:
		return Unanswered
	}
}

package remote

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"inos.dev/edge/cas"
	eventv1 "inos.dev/edge/proto/gen/inos/event/v1"
)

// Event is an event as a node keeps it, or that some are lost.
type Event struct {
	Sequence     uint64
	ID, Name     string // the name is service:action:vN:state
	Time         time.Time
	User, Device string // subject and id of its publisher's token
	Trace        map[string]string
	Payload      []byte
	// Lost is the last number of those from Sequence on that the node has no
	// longer; 0 if this is an event.
	Lost uint64
}

// EventQuery says which events are wanted. What is empty is not asked.
type EventQuery struct {
	Service, Action string
	Hash            cas.Hash // that the payload names
	// From is the first number wanted; 0 is what comes from now on, 1 all that
	// is kept.
	From uint64
	// Follow waits for more at the end of what is kept, and comes back to a node
	// that went away.
	Follow bool
}

// streamIdle is how long a stream may be silent before it is taken for dead;
// nodes send something more often.
const streamIdle = 2 * time.Minute

// Events returns events in their order. Without Follow they end with the last
// one that there was at the beginning.
func (n *Node) Events(ctx context.Context, q EventQuery) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		t := &tail{node: n, query: q, yield: yield}
		if err := t.run(ctx); err != nil {
			yield(Event{}, fmt.Errorf("events: %w", err))
		}
	}
}

// tail is one loop over Events.
type tail struct {
	node  *Node
	query EventQuery
	yield func(Event, error) bool
	end   uint64 // of a query that does not follow
	moved bool   // something came since the last attempt
	over  bool
}

func (t *tail) run(ctx context.Context) error {
	if !t.query.Follow {
		// What comes from now on begins behind the last event that there is.
		at := &tail{node: t.node, yield: func(Event, error) bool { return false }}
		if err := t.node.retry(ctx, func(ctx context.Context) error { return at.once(ctx, true) }); err != nil {
			return err
		}
		t.end = at.query.From - 1
		t.query.From = max(t.query.From, 1)
		t.over = t.query.From > t.end
	}
	for pause := firstPause; !t.over; pause = min(2*pause, maxPause) {
		t.moved = false
		err := t.once(ctx, false)
		if t.over || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !errors.Is(err, ErrUnavailable) || !t.node.reached.Load() {
			return err
		}
		if t.moved {
			pause = firstPause
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
	return nil
}

// once reads one stream to its end, which is always an error unless the loop is
// over. With place it ends with the first message, which says where the stream
// begins.
func (t *tail) once(ctx context.Context, place bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	idle := time.AfterFunc(streamIdle, cancel)
	defer idle.Stop()
	stream, err := t.node.events.Subscribe(ctx, t.request())
	if err != nil {
		return t.node.callError(err)
	}
	for stream.Receive() {
		t.node.reached.Store(true)
		idle.Reset(streamIdle)
		if t.take(stream.Msg()); t.over || place {
			cancel()           // or Close would wait for the end
			_ = stream.Close() // of a stream that was cut off: nothing to learn
			return nil
		}
	}
	err = stream.Err()
	if err == nil || !idle.Stop() {
		err = fmt.Errorf("%w: the stream ended", ErrUnavailable)
	} else {
		err = t.node.callError(err)
	}
	return errors.Join(err, stream.Close())
}

func (t *tail) request() *eventv1.SubscribeRequest {
	req := &eventv1.SubscribeRequest{FromSequence: t.query.From}
	q := t.query
	if q.Service != "" || q.Action != "" || !q.Hash.IsZero() {
		filter := &eventv1.Filter{Service: q.Service, Action: q.Action}
		if !q.Hash.IsZero() {
			filter.Hash = q.Hash.String()
		}
		req.Filters = []*eventv1.Filter{filter}
	}
	return req
}

// take hands one message on. The next stream begins behind it.
func (t *tail) take(m *eventv1.SubscribeResponse) {
	t.moved = true
	var last uint64
	switch m := m.GetMessage().(type) {
	case *eventv1.SubscribeResponse_Event:
		last = m.Event.GetSequence()
		if t.query.Follow || last <= t.end {
			t.over = !t.yield(decodeEvent(m.Event), nil)
		}
	case *eventv1.SubscribeResponse_Missed:
		last = m.Missed.GetToSequence()
		t.over = !t.yield(Event{Sequence: m.Missed.GetFromSequence(), Lost: last}, nil)
	case *eventv1.SubscribeResponse_KeepAlive:
		last = m.KeepAlive.GetSequence()
	default:
		return // what a later node adds
	}
	t.query.From = max(t.query.From, last+1)
	t.over = t.over || !t.query.Follow && t.query.From > t.end
}

func decodeEvent(m *eventv1.Event) Event {
	e := m.GetEnvelope()
	return Event{
		Sequence: m.GetSequence(), ID: printable(e.GetId()), Name: printable(e.GetEventType()), Time: time.Unix(0, e.GetTimestamp()),
		User: printable(e.GetMetadata().GetUserId()), Device: printable(e.GetMetadata().GetDeviceId()),
		Trace: e.GetMetadata().GetTraceContext(), Payload: e.GetPayload(),
	}
}

// Publish publishes one event, and returns its number and its id, which the
// node makes up if id is "". Errors: ErrNoRight, ErrRefused.
func (n *Node) Publish(ctx context.Context, name, id string, payload []byte) (Event, error) {
	resp, err := call(ctx, n, n.events.Publish, &eventv1.PublishRequest{Envelopes: []*eventv1.Envelope{{Id: id, EventType: name, Payload: payload}}})
	if err != nil {
		return Event{}, fmt.Errorf("publish %s: %w", name, err)
	}
	if len(resp.GetPublished()) != 1 {
		return Event{}, fmt.Errorf("%w: it published %d events instead of one", ErrRefused, len(resp.GetPublished()))
	}
	p := resp.GetPublished()[0]
	return Event{Sequence: p.GetSequence(), ID: printable(p.GetId()), Name: name, Time: time.Unix(0, p.GetTimestamp())}, nil
}

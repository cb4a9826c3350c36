package heat

import (
	"context"
	_ "embed" // the functions
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"inos.dev/edge/cas"
)

//go:embed heat.lua
var functions string

// Redis is a Store for many nodes: Functions inside of a Redis 7.0 or newer, one
// command per call. Its keys are of one hash tag, so that they are together in
// a cluster, and expire when nobody comes any more; the library of functions
// stays. A library is named by what is in it: nodes of different versions work
// side by side on the same keys.
//
// It speaks to one server: in a cluster to that which has the slot of {heat:0},
// or to a proxy.
//
// What it keeps may be lost at any time: see "Counting once" in the package's
// doc. Its clock is that of Redis.
type Redis struct {
	client  *redis.Client
	library string // its name
	code    string
}

var _ Store = (*Redis)(nil)

// dialTimeout bounds the making of a connection; all else is bounded by the
// context of the call.
const dialTimeout = 500 * time.Millisecond

// OpenRedis returns a Store in the Redis at a URL, such as
// redis://user:password@host:6379/0, rediss:// for TLS, or unix://path. It does
// not connect yet. Close ends its connections.
func OpenRedis(url string) (*Redis, error) {
	logging.Disable() // what fails is returned, and logged once by who called
	options, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("heat: the URL of Redis: %w", err)
	}
	// A write that is tried again by the client could count twice, and one that
	// waits for a pool could come after its successor.
	options.MaxRetries = -1
	options.DialerRetries = 1
	options.ContextTimeoutEnabled = true
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout, options.PoolTimeout = dialTimeout, dialTimeout, dialTimeout, dialTimeout
	options.PoolSize, options.MinIdleConns = 2, 0
	// No commands that nobody asked for.
	options.Protocol = 2
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	body := fmt.Sprintf("local fast_constant, slow_constant = %v, %v\nlocal max_tracked, max_decisions, max_view = %d, %d, %d\n%s",
		fastConstant, slowConstant, MaxTracked, MaxDecisions, MaxView, functions)
	library := "inos_heat_" + cas.Sum([]byte(body)).String()[:16]
	return &Redis{
		client: redis.NewClient(options), library: library,
		code: fmt.Sprintf("#!lua name=%s\nlocal library = '%s'\n%s", library, library, body),
	}, nil
}

// Close ends the connections.
func (r *Redis) Close() error { return r.client.Close() }

// keys are the KEYS of every function.
func keys() []string {
	return []string{"{heat:0}:fast", "{heat:0}:slow", "{heat:0}:decisions", "{heat:0}:nodes", "{heat:0}:state"}
}

// call runs a function, and loads the library before if Redis has none.
func (r *Redis) call(ctx context.Context, function string, args ...any) (any, error) {
	answer, err := r.client.FCall(ctx, r.library+"_"+function, keys(), args...).Result()
	if err != nil && strings.Contains(err.Error(), "Function not found") {
		if err := r.client.FunctionLoad(ctx, r.code).Err(); err != nil && !strings.Contains(err.Error(), "already exists") {
			return nil, fmt.Errorf("heat: the functions cannot be loaded into Redis, which must be 7.0 or newer: %w", err)
		}
		answer, err = r.client.FCall(ctx, r.library+"_"+function, keys(), args...).Result()
	}
	if err != nil {
		return nil, fmt.Errorf("heat: Redis: %w", err)
	}
	return answer, nil
}

// Apply implements Store.
func (r *Redis) Apply(ctx context.Context, w Window) (View, error) {
	fast, slow := w.shares()
	on, by, at := switchArgs(w.Switch)
	answer, err := r.call(ctx, "apply", w.Node, w.Epoch, w.Base, w.Seq, exact(fast), exact(slow), exact(w.Above), w.BytesPerMinute, on, by, at,
		appendDeltas(nil, w.Deltas), appendProposals(nil, w.Proposals, w.Node), appendKnown(nil, w.Known))
	if err != nil {
		return View{}, err
	}
	f := fields{list: asList(answer)}
	v := View{Now: time.UnixMicro(f.number()).UTC(), Epoch: uint64(f.number()), LastSeq: uint64(f.number()), Budget: f.number(), Tracked: int(f.number())}
	v.Switch = f.toggle()
	if v.Rates, err = parseRates([]byte(f.text())); err != nil {
		return View{}, err
	}
	slices.SortFunc(v.Rates, hottest)
	refused := fields{list: asList(f.next())}
	for len(refused.list) > 0 {
		h := reader{b: []byte(refused.text())}
		v.Refused = append(v.Refused, Refusal{h.chunk(), Reason(refused.text())})
		f.failed = f.failed || h.failed
	}
	if f.failed || refused.failed {
		return View{}, errWire
	}
	return v, nil
}

// Top implements Store.
func (r *Redis) Top(ctx context.Context, n int) ([]Rate, error) {
	answer, err := r.call(ctx, "top", min(max(n, 1), MaxTop))
	if err != nil {
		return nil, err
	}
	f := fields{list: []any{answer}}
	rates, err := parseRates([]byte(f.text()))
	if err == nil && f.failed {
		err = errWire
	}
	slices.SortFunc(rates, hottest)
	return rates, err
}

// Freeze implements Store.
func (r *Redis) Freeze(ctx context.Context, on bool, by string) (Switch, error) {
	flag, by, _ := switchArgs(Switch{On: on, By: by})
	answer, err := r.call(ctx, "freeze", flag, by)
	if err != nil {
		return Switch{}, err
	}
	f := fields{list: asList(answer)}
	s := f.toggle()
	if f.failed {
		return Switch{}, errWire
	}
	return s, nil
}

func switchArgs(s Switch) (on, by string, at int64) {
	on = "0"
	if s.On {
		on = "1"
	}
	if !s.At.IsZero() {
		at = s.At.UnixMicro()
	}
	return on, s.By, at
}

// exact writes a number so that it is read as the same one.
func exact(f float64) string { return strconv.FormatFloat(f, 'g', 17, 64) }

func asList(answer any) []any {
	list, _ := answer.([]any) // what is no list has no fields, and that fails
	return list
}

// fields reads an answer field by field. After the first that is not there, or
// of another type, failed is true.
type fields struct {
	list   []any
	failed bool
}

func (f *fields) next() any {
	if len(f.list) == 0 {
		f.failed = true
		return nil
	}
	v := f.list[0]
	f.list = f.list[1:]
	return v
}

func (f *fields) number() int64 {
	n, ok := f.next().(int64)
	f.failed = f.failed || !ok
	return n
}

func (f *fields) text() string {
	s, ok := f.next().(string)
	f.failed = f.failed || !ok
	return s
}

func (f *fields) toggle() Switch {
	s := Switch{On: f.text() == "1", By: f.text()}
	if at := f.number(); at != 0 {
		s.At = time.UnixMicro(at).UTC()
	}
	return s
}

package gateway

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/rpc"
)

// caller is who sends a request, for the policy's questions. Its token is
// looked at once, and not before somebody asks.
type caller struct {
	w     *recorder
	r     *http.Request
	doors auth.Door
	conn  auth.Conn

	once sync.Once // guards the fields below
	id   auth.Identity
	err  error
}

// callerKey is where a request's context has its caller.
type callerKey struct{}

func newCaller(w *recorder, r *http.Request, door auth.Door) *caller {
	if w.proxy {
		door |= auth.DoorProxy
	}
	return &caller{w: w, r: r, doors: door, conn: w.conn(r)}
}

// withCaller gives a request's context its caller.
func withCaller(r *http.Request, c *caller) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, c))
}

func callerIn(ctx context.Context) (*caller, error) {
	if c, ok := ctx.Value(callerKey{}).(*caller); ok {
		return c, nil
	}
	return nil, fmt.Errorf("%w: the call did not come through the gateway", auth.ErrUnauthenticated)
}

// identity is who c is: anybody, without a token.
func (c *caller) identity() (auth.Identity, error) {
	c.once.Do(func() { c.id, c.err = c.w.g.cfg.Auth.FromRequest(c.r, c.conn) })
	return c.id, c.err
}

// request is what c wants to do, with all that is verified about him.
func (c *caller) request(action auth.Action, object auth.Object, resource string) (auth.Request, error) {
	req := auth.Request{Action: action, Doors: c.doors, Object: object, Resource: resource, Client: auth.ClientAddr(c.r, c.conn)}
	var err error
	req.Identity, err = c.identity()
	return req, err
}

// may asks the policy whether c may do something, and returns who he is. What
// only somebody may read is kept out of shared caches.
func (g *Gateway) may(c *caller, action auth.Action, object auth.Object, resource string) (auth.Identity, error) {
	if action == auth.ActionRead && g.policy.OpenRead(c.doors) {
		return auth.Identity{}, nil
	}
	now := time.Now()
	req, err := c.request(action, object, resource)
	if err != nil {
		return auth.Identity{}, g.policy.Refuse(&req, now, err)
	}
	if action == auth.ActionRead {
		c.w.private()
	}
	return req.Identity, g.policy.Check(&req, now)
}

// mayRead is nil if the sender of r may read. As long as the rules do not ask
// who that is, it is not looked at.
func (g *Gateway) mayRead(w *recorder, r *http.Request) error {
	doors := auth.DoorHTTP
	if w.proxy {
		doors |= auth.DoorProxy
	}
	if g.policy.OpenRead(doors) {
		return nil
	}
	_, err := g.may(newCaller(w, r, auth.DoorHTTP), auth.ActionRead, auth.ObjectNone, r.URL.Path)
	return err
}

// requireWrite returns who sends the request, if he may write.
func (g *Gateway) requireWrite(w *recorder, r *http.Request) (auth.Identity, error) {
	c, err := callerIn(r.Context())
	if err != nil {
		c = newCaller(w, r, auth.DoorHTTP)
	}
	return g.may(c, auth.ActionWrite, auth.ObjectNone, r.URL.Path)
}

// requireObject is nil if who is behind a context may change an object of his
// own, or one of others.
func (g *Gateway) requireObject(ctx context.Context, object auth.Object, resource string) error {
	c, err := callerIn(ctx)
	if err != nil {
		return err
	}
	_, err = g.may(c, auth.ActionWrite, object, resource)
	return err
}

// authorize is rpc.Authorize.
func (g *Gateway) authorize(ctx context.Context, action auth.Action, resource string) error {
	c, err := callerIn(ctx)
	if err != nil {
		return err
	}
	_, err = g.may(c, action, auth.ObjectNone, resource)
	return err
}

// again is authorize for a stream that goes on: a yes is neither counted nor
// recorded.
func (g *Gateway) again(ctx context.Context, action auth.Action, resource string) error {
	c, err := callerIn(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	if req, err := c.request(action, auth.ObjectNone, resource); err == nil && g.policy.Decide(&req, now).Allow {
		return nil
	}
	_, err = g.may(c, action, auth.ObjectNone, resource)
	return err
}

// withToken returns a context whose caller is the one that a token names, as
// if it had come in the Authorization header. If there is one, both must be
// the same subject's.
func (g *Gateway) withToken(ctx context.Context, token auth.Token) (context.Context, error) {
	c, err := callerIn(ctx)
	if err != nil {
		return nil, err
	}
	id, err := g.cfg.Auth.Verify(token, time.Now())
	if err != nil {
		return nil, err
	}
	if c.r.Header["Authorization"] != nil {
		if had, err := c.identity(); err != nil || had.Subject != id.Subject {
			return nil, fmt.Errorf("%w: security_token and the Authorization header name different subjects", auth.ErrForbidden)
		}
	}
	named := &caller{w: c.w, r: c.r, doors: c.doors, conn: c.conn}
	named.once.Do(func() { named.id = id })
	return context.WithValue(ctx, callerKey{}, named), nil
}

// callerOf is who makes a Connect call: anybody, without a token.
func (g *Gateway) callerOf(ctx context.Context) (rpc.Caller, error) {
	c, err := callerIn(ctx)
	if err != nil {
		return rpc.Caller{}, err
	}
	id, err := c.identity()
	if err != nil {
		return rpc.Caller{}, err
	}
	return rpc.Caller{Identity: id, Quota: auth.KeyOf(id, auth.ClientAddr(c.r, c.conn))}, nil
}

// Admits is nil if the sender of a request may do an action at the admin
// listener, which is not the gateway's own.
func (g *Gateway) Admits(r *http.Request, action auth.Action) error {
	w := &recorder{g: g}
	c := newCaller(w, r, auth.DoorAdmin)
	_, err := g.may(c, action, auth.ObjectNone, r.URL.Path)
	return err
}

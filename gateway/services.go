package gateway

import (
	"context"
	"errors"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/auth"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/gateway/content"
	"inos.dev/edge/gateway/rpc"
	"inos.dev/edge/mesh"
)

// services are the Connect services over the gateway's content.
func (g *Gateway) services() ([]rpc.Route, error) {
	return rpc.New(rpc.Config{
		Chunks:    chunkService{g.content},
		Objects:   objectService{g.content, g},
		Node:      g.cfg.Node,
		Authorize: g.authorize,
		Caller:    g.callerOf,
		Credits:   g.cfg.Credits,
		Heat:      g.cfg.HeatAPI,
		Events:    g.events(),
		Ready:     func() bool { return g.ready() == nil },
		Log:       g.log,
	})
}

// keepAlive is the most time between two messages of a stream: less than what
// proxies and browsers wait for.
const keepAlive = 15 * time.Second

// events is what EventService works with; nil: there is none.
func (g *Gateway) events() *rpc.Events {
	if g.cfg.Events == nil {
		return nil
	}
	return &rpc.Events{
		Bus: g.cfg.Events, WithToken: g.withToken, Again: g.again,
		KeepAlive: min(keepAlive, g.cfg.IOGrace/2), // the deadline of one message is that of the next, too
		Extend: func(ctx context.Context, n int64) {
			if c, err := callerIn(ctx); err == nil {
				c.w.extend(n)
			}
		},
	}
}

// chunkService is Content as rpc.Chunks.
type chunkService struct{ *content.Content }

// Put stores the chunks of one message, several at once.
func (s chunkService) Put(ctx context.Context, uploads []rpc.Upload) ([]rpc.PutResult, error) {
	batch := make([]content.Upload, len(uploads))
	for i, u := range uploads {
		batch[i] = content.Upload{Hash: u.Hash, Data: u.Data}
	}
	results := make([]rpc.PutResult, len(uploads))
	err := s.PutBatch(ctx, batch, func(i int, added bool, err error) { results[i] = rpc.PutResult{Added: added, Err: err} })
	return results, err
}

// objectService is Content as rpc.Objects, for those whom the objects belong
// to.
type objectService struct {
	*content.Content
	g *Gateway
}

// Object hides the owner from those who may not write: the subject of a token
// may be the name of a person.
func (s objectService) Object(ctx context.Context, h cas.Hash) (catalog.Record, error) {
	r, err := s.Content.Object(ctx, h)
	if err == nil && !s.mayWrite(ctx) {
		r.Owner = ""
	}
	return r, err
}

// Objects is Object for a page of the list.
func (s objectService) Objects(ctx context.Context, after cas.Hash, limit int) ([]catalog.Record, error) {
	list, err := s.Content.Objects(ctx, after, limit)
	if err == nil && !s.mayWrite(ctx) {
		for i := range list {
			list[i].Owner = ""
		}
	}
	return list, err
}

func (s objectService) mayWrite(ctx context.Context) bool {
	who, err := s.g.callerOf(ctx)
	return err == nil && who.Rights.Has(auth.Write)
}

func (s objectService) Commit(ctx context.Context, h cas.Hash, name string, policy *mesh.Policy) (catalog.Record, bool, error) {
	who, err := s.g.callerOf(ctx) // whom the gate has let in
	if err != nil {
		return catalog.Record{}, false, err
	}
	return s.g.commit(ctx, who.Identity, content.Commit{Hash: h, Name: name, Policy: policy})
}

func (s objectService) Remove(ctx context.Context, h cas.Hash) error {
	who, err := s.g.callerOf(ctx) // whom the gate has let in
	if err != nil {
		return err
	}
	return s.g.remove(ctx, who.Identity, h)
}

func (s objectService) SetPolicy(ctx context.Context, h cas.Hash, p mesh.Policy) (catalog.Record, error) {
	who, err := s.g.callerOf(ctx) // whom the gate has let in
	if err != nil {
		return catalog.Record{}, err
	}
	return s.g.setPolicy(ctx, who.Identity, h, p)
}

// commit publishes an object for id.
func (g *Gateway) commit(ctx context.Context, id auth.Identity, c content.Commit) (catalog.Record, bool, error) {
	c.Owner = id.Subject
	return g.content.Commit(ctx, c)
}

// remove withdraws id's publication of an object. Who has none, and may change
// what is others' (an administrator), takes the object off the list for
// everybody.
func (g *Gateway) remove(ctx context.Context, id auth.Identity, h cas.Hash) error {
	if err := g.content.Denied(h); err != nil {
		return err
	}
	if err := g.requireObject(ctx, auth.ObjectOwn, h.String()); err != nil {
		return err
	}
	err := g.content.Remove(ctx, h, id.Subject)
	if !errors.Is(err, content.ErrNotOwner) {
		return err
	}
	if err := g.requireObject(ctx, auth.ObjectOthers, h.String()); err != nil {
		return err
	}
	return g.content.RemoveAll(ctx, h)
}

// setPolicy changes the policy of id's publication of an object; that of the
// oldest one if he has none, and may change what is others' (an administrator).
func (g *Gateway) setPolicy(ctx context.Context, id auth.Identity, h cas.Hash, p mesh.Policy) (catalog.Record, error) {
	r, err := g.content.Object(ctx, h)
	if err != nil {
		return catalog.Record{}, err
	}
	if err := g.requireObject(ctx, auth.ObjectOwn, h.String()); err != nil {
		return catalog.Record{}, err
	}
	now, err := g.content.SetPolicy(ctx, h, id.Subject, p)
	if !errors.Is(err, content.ErrNotOwner) {
		return now, err
	}
	if err := g.requireObject(ctx, auth.ObjectOthers, h.String()); err != nil {
		return catalog.Record{}, err
	}
	return g.content.SetPolicy(ctx, h, r.Owner, p)
}

package gateway

import (
	"context"
	"errors"
	"fmt"

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
		Chunks:  chunkService{g.content},
		Objects: objectService{g.content, g},
		Node:    g.cfg.Node,
		Authorize: func(ctx context.Context, action auth.Action, _ string) error {
			_, err := g.requireContext(ctx, action)
			return err
		},
		Caller:  g.callerOf,
		Credits: g.cfg.Credits,
		Heat:    g.cfg.HeatAPI,
		Ready:   func() bool { return g.ready() == nil },
		Log:     g.log,
	})
}

// callerOf is who makes a Connect call: anybody, without a token.
func (g *Gateway) callerOf(ctx context.Context) (rpc.Caller, error) {
	c, ok := ctx.Value(connKey{}).(caller)
	if !ok {
		return rpc.Caller{}, fmt.Errorf("%w: the call did not come through the gateway", auth.ErrUnauthenticated)
	}
	id, err := g.cfg.Auth.FromRequest(c.r, c.conn)
	if err != nil {
		return rpc.Caller{}, err
	}
	return rpc.Caller{Identity: id, Quota: auth.KeyOf(id, auth.ClientAddr(c.r, c.conn))}, nil
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

func (s objectService) Commit(ctx context.Context, h cas.Hash, name string, policy *mesh.Policy) (catalog.Record, bool, error) {
	id, err := s.g.requireContext(ctx, auth.ActionWrite)
	if err != nil {
		return catalog.Record{}, false, err
	}
	return s.g.commit(ctx, id, content.Commit{Hash: h, Name: name, Policy: policy})
}

func (s objectService) Remove(ctx context.Context, h cas.Hash) error {
	id, err := s.g.requireContext(ctx, auth.ActionWrite)
	if err != nil {
		return err
	}
	return s.g.remove(ctx, id, h)
}

func (s objectService) SetPolicy(ctx context.Context, h cas.Hash, p mesh.Policy) (catalog.Record, error) {
	id, err := s.g.requireContext(ctx, auth.ActionWrite)
	if err != nil {
		return catalog.Record{}, err
	}
	return s.g.setPolicy(ctx, id, h, p)
}

// commit publishes an object for id.
func (g *Gateway) commit(ctx context.Context, id auth.Identity, c content.Commit) (catalog.Record, bool, error) {
	c.Owner = id.Subject
	return g.content.Commit(ctx, c)
}

// remove withdraws id's publication of an object. An administrator who has
// none takes the object off the list for everybody.
func (g *Gateway) remove(ctx context.Context, id auth.Identity, h cas.Hash) error {
	if err := g.content.Denied(h); err != nil {
		return err
	}
	err := g.content.Remove(ctx, h, id.Subject)
	if errors.Is(err, content.ErrNotOwner) && id.Rights.Has(auth.Admin) {
		return g.content.RemoveAll(ctx, h)
	}
	return forbidden(err)
}

// setPolicy changes the policy of id's publication of an object; that of the
// oldest one if an administrator asks who has none.
func (g *Gateway) setPolicy(ctx context.Context, id auth.Identity, h cas.Hash, p mesh.Policy) (catalog.Record, error) {
	r, err := g.content.Object(ctx, h)
	if err != nil {
		return catalog.Record{}, err
	}
	now, err := g.content.SetPolicy(ctx, h, id.Subject, p)
	if errors.Is(err, content.ErrNotOwner) && id.Rights.Has(auth.Admin) {
		return g.content.SetPolicy(ctx, h, r.Owner, p)
	}
	return now, forbidden(err)
}

// forbidden gives content.ErrNotOwner the face of a right that is missing.
func forbidden(err error) error {
	if errors.Is(err, content.ErrNotOwner) {
		return fmt.Errorf("%w: %w", auth.ErrForbidden, err)
	}
	return err
}

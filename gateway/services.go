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
		Ready: func() bool { return g.ready() == nil },
		Log:   g.log,
	})
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
	if err := s.g.mayChange(ctx, id, h); err != nil {
		return catalog.Record{}, err
	}
	return s.Content.SetPolicy(ctx, h, p)
}

// commit puts an object on the list for id. What belongs to somebody else can
// be committed again, since its bytes are the same, but keeps its policy.
func (g *Gateway) commit(ctx context.Context, id auth.Identity, c content.Commit) (catalog.Record, bool, error) {
	c.Owner = id.Subject
	if c.Policy != nil {
		if err := g.mayChange(ctx, id, c.Hash); err != nil && !errors.Is(err, cas.ErrNotFound) {
			return catalog.Record{}, false, err
		}
	}
	return g.content.Commit(ctx, c)
}

// remove takes an object off the list for its owner or an administrator.
func (g *Gateway) remove(ctx context.Context, id auth.Identity, h cas.Hash) error {
	if err := g.mayChange(ctx, id, h); err != nil {
		return err
	}
	return g.content.Remove(ctx, h)
}

// mayChange is nil if id owns the object or is an administrator.
func (g *Gateway) mayChange(ctx context.Context, id auth.Identity, h cas.Hash) error {
	r, err := g.content.Object(ctx, h)
	if err != nil {
		return err
	}
	if r.Owner == id.Subject || id.Rights.Has(auth.Admin) {
		return nil
	}
	return fmt.Errorf("%w: the object belongs to somebody else", auth.ErrForbidden)
}

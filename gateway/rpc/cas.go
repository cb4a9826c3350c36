package rpc

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	"inos.dev/edge/cas"
	casv1 "inos.dev/edge/proto/gen/inos/cas/v1"
)

// casService is inos.cas.v1.CasService.
type casService struct {
	chunks  Chunks
	objects Objects
	node    func(context.Context) (NodeInfo, error)
}

func (s *casService) Stat(ctx context.Context, req *casv1.StatRequest) (*casv1.StatResponse, error) {
	hashes, err := decodeHashes(req.GetHashes(), MaxStat)
	if err != nil {
		return nil, err
	}
	resp := &casv1.StatResponse{Chunks: make([]*casv1.ChunkStat, len(hashes))}
	for i, h := range hashes {
		if resp.Chunks[i], err = s.stat(ctx, h, req.GetObjects()); err != nil {
			return nil, about(h, err)
		}
	}
	return resp, nil
}

func (s *casService) stat(ctx context.Context, h cas.Hash, objects bool) (*casv1.ChunkStat, error) {
	info, err := s.chunks.Stat(ctx, h)
	switch {
	case errors.Is(err, cas.ErrDenied):
		return &casv1.ChunkStat{State: casv1.ChunkState_CHUNK_STATE_DENIED}, nil
	case errors.Is(err, cas.ErrNotFound):
		return &casv1.ChunkStat{State: casv1.ChunkState_CHUNK_STATE_MISSING}, nil
	case err != nil:
		return nil, err
	}
	out := &casv1.ChunkStat{State: casv1.ChunkState_CHUNK_STATE_HERE, Size: info.Size}
	if !objects {
		return out, nil
	}
	o, err := s.objects.Object(ctx, h)
	switch {
	case err == nil:
		out.Object = encodeObject(o)
	case !errors.Is(err, cas.ErrNotFound):
		return nil, err
	}
	return out, nil
}

func (s *casService) Has(ctx context.Context, req *casv1.HasRequest) (*casv1.HasResponse, error) {
	hashes, err := decodeHashes(req.GetHashes(), MaxHas)
	if err != nil {
		return nil, err
	}
	missing, err := s.chunks.Touch(ctx, hashes)
	if err != nil {
		return nil, err
	}
	resp := &casv1.HasResponse{Missing: make([]uint32, len(missing))}
	for i, at := range missing {
		resp.Missing[i] = uint32(at)
	}
	return resp, nil
}

func (s *casService) PutChunks(ctx context.Context, req *casv1.PutChunksRequest) (*casv1.PutChunksResponse, error) {
	uploads, err := decodePut(req)
	if err != nil {
		return nil, err
	}
	results, err := s.chunks.Put(ctx, uploads)
	if err != nil {
		return nil, err
	}
	resp := &casv1.PutChunksResponse{Results: make([]*casv1.PutResult, len(results))}
	for i, r := range results {
		resp.Results[i] = encodePut(r)
	}
	return resp, nil
}

func (s *casService) GetManifest(ctx context.Context, req *casv1.GetManifestRequest) (*casv1.GetManifestResponse, error) {
	h, from, n, err := decodeManifest(req)
	if err != nil {
		return nil, err
	}
	m, err := s.chunks.Manifest(ctx, h)
	if err != nil {
		return nil, about(h, err)
	}
	page, next := encodeManifest(m, from, n)
	resp := &casv1.GetManifestResponse{Manifest: page}
	if next > 0 {
		resp.NextPageToken = encodeLinkToken(next)
	}
	cacheable(ctx)
	return resp, nil
}

func (s *casService) Commit(ctx context.Context, req *casv1.CommitRequest) (*casv1.CommitResponse, error) {
	h, name, policy, err := decodeCommit(req)
	if err != nil {
		return nil, err
	}
	o, created, err := s.objects.Commit(ctx, h, name, policy)
	if err != nil {
		return nil, about(h, err)
	}
	return &casv1.CommitResponse{Object: encodeObject(o), Created: created}, nil
}

func (s *casService) GetObject(ctx context.Context, req *casv1.GetObjectRequest) (*casv1.GetObjectResponse, error) {
	h, err := decodeHash(req.GetHash())
	if err != nil {
		return nil, err
	}
	o, err := s.objects.Object(ctx, h)
	if err != nil {
		return nil, about(h, err)
	}
	return &casv1.GetObjectResponse{Object: encodeObject(o)}, nil
}

func (s *casService) ListObjects(ctx context.Context, req *casv1.ListObjectsRequest) (*casv1.ListObjectsResponse, error) {
	after, n, err := decodeList(req)
	if err != nil {
		return nil, err
	}
	objects, err := s.objects.Objects(ctx, after, n)
	if err != nil {
		return nil, err
	}
	resp := &casv1.ListObjectsResponse{}
	if len(objects) == n {
		resp.NextPageToken = encodeObjectToken(objects[n-1].Hash)
	}
	for _, o := range objects {
		resp.Objects = append(resp.Objects, encodeObject(o))
	}
	return resp, nil
}

func (s *casService) DeleteObject(ctx context.Context, req *casv1.DeleteObjectRequest) (*casv1.DeleteObjectResponse, error) {
	h, err := decodeHash(req.GetHash())
	if err != nil {
		return nil, err
	}
	if err := s.objects.Remove(ctx, h); err != nil {
		return nil, about(h, err)
	}
	return &casv1.DeleteObjectResponse{}, nil
}

func (s *casService) GetPolicy(ctx context.Context, req *casv1.GetPolicyRequest) (*casv1.GetPolicyResponse, error) {
	h, err := decodeHash(req.GetHash())
	if err != nil {
		return nil, err
	}
	o, err := s.objects.Object(ctx, h)
	if err != nil {
		return nil, about(h, err)
	}
	return &casv1.GetPolicyResponse{Policy: encodePolicy(o.Policy)}, nil
}

func (s *casService) SetPolicy(ctx context.Context, req *casv1.SetPolicyRequest) (*casv1.SetPolicyResponse, error) {
	h, policy, err := decodeSetPolicy(req)
	if err != nil {
		return nil, err
	}
	o, err := s.objects.SetPolicy(ctx, h, policy)
	if err != nil {
		return nil, about(h, err)
	}
	return &casv1.SetPolicyResponse{Policy: encodePolicy(o.Policy)}, nil
}

func (s *casService) GetNode(ctx context.Context, _ *casv1.GetNodeRequest) (*casv1.GetNodeResponse, error) {
	info, err := s.node(ctx)
	if err != nil {
		return nil, err
	}
	return encodeNode(info), nil
}

// cacheable lets caches keep the answer to a GET: what a hash names never
// changes, only how it is told may, with the next release.
func cacheable(ctx context.Context) {
	info, ok := connect.CallInfoForHandlerContext(ctx)
	if !ok || info.HTTPMethod() != "GET" {
		return
	}
	info.ResponseHeader().Set("Cache-Control", "public, max-age=86400")
	info.ResponseHeader().Set("Vary", "Accept-Encoding")
}

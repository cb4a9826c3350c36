package remotetest

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/timestamppb"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	casv1 "inos.dev/edge/proto/gen/inos/cas/v1"
	"inos.dev/edge/proto/gen/inos/cas/v1/casv1connect"
)

// service answers the calls that clients of the command line make.
type service struct {
	casv1connect.UnimplementedCasServiceHandler
	n *Node
}

// failure is an error with a reason, as a node gives it.
func failure(code connect.Code, reason string) error {
	e := connect.NewError(code, errors.New("the node says "+reason))
	if d, err := connect.NewErrorDetail(&errdetails.ErrorInfo{Reason: reason, Domain: "inos.dev"}); err == nil {
		e.AddDetail(d)
	}
	return e
}

func (s *service) Has(ctx context.Context, req *casv1.HasRequest) (*casv1.HasResponse, error) {
	resp := &casv1.HasResponse{}
	for i, text := range req.GetHashes() {
		h, err := cas.ParseHash(text)
		if err != nil {
			return nil, failure(connect.CodeInvalidArgument, "MALFORMED_HASH")
		}
		if _, err := s.n.Store.Stat(ctx, h); err != nil {
			resp.Missing = append(resp.Missing, uint32(i))
		}
	}
	return resp, nil
}

func (s *service) PutChunks(ctx context.Context, req *casv1.PutChunksRequest) (*casv1.PutChunksResponse, error) {
	resp := &casv1.PutChunksResponse{}
	size := 0
	for _, c := range req.GetChunks() {
		size += len(c.GetData())
		result := &casv1.PutResult{State: casv1.PutState_PUT_STATE_PRESENT}
		added, err := s.n.put(ctx, c.GetHash(), c.GetData())
		switch {
		case errors.Is(err, cas.ErrNoSpace):
			return nil, failure(connect.CodeResourceExhausted, "NO_SPACE")
		case err != nil:
			result.State, result.Reason, result.Message = casv1.PutState_PUT_STATE_REFUSED, "HASH_MISMATCH", err.Error()
		case added:
			result.State = casv1.PutState_PUT_STATE_STORED
		}
		resp.Results = append(resp.Results, result)
	}
	if len(resp.GetResults()) > 4096 || size > 4<<20 {
		return nil, failure(connect.CodeInvalidArgument, "TOO_LARGE")
	}
	return resp, nil
}

func (s *service) Commit(ctx context.Context, req *casv1.CommitRequest) (*casv1.CommitResponse, error) {
	h, err := cas.ParseHash(req.GetHash())
	if err != nil {
		return nil, failure(connect.CodeInvalidArgument, "MALFORMED_HASH")
	}
	m, err := dag.Root(ctx, dag.Manifests{Getter: s.n.Store}, h)
	switch {
	case errors.Is(err, cas.ErrNotFound):
		return nil, failure(connect.CodeFailedPrecondition, "MISSING_CHUNKS")
	case err != nil:
		return nil, failure(connect.CodeNotFound, "NOT_AN_OBJECT")
	}
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	o, there := s.n.objects[h]
	if !there {
		o = &casv1.Object{Hash: req.GetHash(), Kind: casv1.ObjectKind(m.Kind), Size: m.Size, Encoded: m.Encoded,
			Chunks: m.Count, MediaType: m.MediaType, Name: req.GetName(), CommitTime: &timestamppb.Timestamp{Seconds: 1}}
		s.n.objects[h] = o
	}
	if req.GetPolicy() != nil {
		o.Policy = req.GetPolicy()
	}
	return &casv1.CommitResponse{Object: o, Created: !there}, nil
}

func (s *service) GetObject(_ context.Context, req *casv1.GetObjectRequest) (*casv1.GetObjectResponse, error) {
	for _, o := range s.n.list() {
		if o.GetHash() == req.GetHash() {
			return &casv1.GetObjectResponse{Object: o}, nil
		}
	}
	return nil, failure(connect.CodeNotFound, "NOT_FOUND")
}

// ListObjects gives small pages.
func (s *service) ListObjects(_ context.Context, req *casv1.ListObjectsRequest) (*casv1.ListObjectsResponse, error) {
	resp := &casv1.ListObjectsResponse{}
	for _, o := range s.n.list() {
		if o.GetHash() <= req.GetPageToken() {
			continue
		}
		if resp.Objects = append(resp.Objects, o); len(resp.GetObjects()) == 3 {
			resp.NextPageToken = o.GetHash()
			break
		}
	}
	return resp, nil
}

func (s *service) DeleteObject(_ context.Context, req *casv1.DeleteObjectRequest) (*casv1.DeleteObjectResponse, error) {
	h, err := cas.ParseHash(req.GetHash())
	if err != nil {
		return nil, failure(connect.CodeInvalidArgument, "MALFORMED_HASH")
	}
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	if s.n.objects[h] == nil {
		return nil, failure(connect.CodeNotFound, "NOT_FOUND")
	}
	delete(s.n.objects, h)
	return &casv1.DeleteObjectResponse{}, nil
}

// list returns the objects in the order of their hashes.
func (n *Node) list() []*casv1.Object {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]*casv1.Object, 0, len(n.objects))
	for _, o := range n.objects {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b *casv1.Object) int { return bytes.Compare([]byte(a.GetHash()), []byte(b.GetHash())) })
	return list
}

package rpc

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/auth"
	casv1 "inos.dev/edge/proto/gen/inos/cas/v1"
	creditv1 "inos.dev/edge/proto/gen/inos/credit/v1"
	eventv1 "inos.dev/edge/proto/gen/inos/event/v1"
	heatv1 "inos.dev/edge/proto/gen/inos/heat/v1"
)

func TestRights(t *testing.T) {
	for _, tc := range []struct {
		answer error
		code   connect.Code
		reason string
	}{
		{auth.Identity{}.Require(auth.Write), connect.CodeUnauthenticated, "UNAUTHENTICATED"},
		{auth.Identity{Subject: "me"}.Require(auth.Write), connect.CodePermissionDenied, "FORBIDDEN"},
	} {
		for _, protocol := range [][]connect.ClientOption{nil, {connect.WithGRPCWeb()}} {
			n := newFakeNode(t)
			n.rights = tc.answer
			c := client(t, serve(t, n), protocol...)
			h := cas.Hash{1}.String()
			for name, call := range map[string]func() error{
				"Has":          func() error { _, err := c.Has(t.Context(), &casv1.HasRequest{}); return err },
				"PutChunks":    func() error { _, err := c.PutChunks(t.Context(), &casv1.PutChunksRequest{}); return err },
				"Commit":       func() error { _, err := c.Commit(t.Context(), &casv1.CommitRequest{}); return err },
				"DeleteObject": func() error { _, err := c.DeleteObject(t.Context(), &casv1.DeleteObjectRequest{}); return err },
				"SetPolicy":    func() error { _, err := c.SetPolicy(t.Context(), &casv1.SetPolicyRequest{}); return err },
			} {
				err := call()
				check(t, name, nil, connect.CodeOf(err).String()+" "+reason(err), tc.code.String()+" "+tc.reason)
			}
			_, err := c.Stat(t.Context(), &casv1.StatRequest{Hashes: []string{h}})
			check(t, "Stat", err, "", "")
		}
	}
}

// TestEveryProcedure: what the schema calls free of side effects is a read, or
// an administrator's; all else is in the table, and what is in no schema and in
// no table is refused.
func TestEveryProcedure(t *testing.T) {
	for _, file := range []protoreflect.FileDescriptor{
		casv1.File_inos_cas_v1_service_proto, creditv1.File_inos_credit_v1_service_proto,
		eventv1.File_inos_event_v1_service_proto, heatv1.File_inos_heat_v1_service_proto,
	} {
		service := file.Services().Get(0)
		for i := range service.Methods().Len() {
			m := service.Methods().Get(i)
			options, ok := m.Options().(*descriptorpb.MethodOptions)
			if !ok {
				t.Fatalf("%s: %T", m.Name(), m.Options())
			}
			spec := connect.Spec{Procedure: fmt.Sprintf("/%s/%s", service.FullName(), m.Name())}
			pure := options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS
			if pure {
				spec.IdempotencyLevel = connect.IdempotencyNoSideEffects
			}
			to, known := accessTo(spec)
			if !known || to.open || pure && to.action != auth.ActionRead && to.action != auth.ActionAdmin {
				t.Errorf("%s: %+v, known: %t", spec.Procedure, to, known)
			}
		}
	}
	if to, known := accessTo(connect.Spec{Procedure: "/inos.cas.v1.CasService/New"}); known {
		t.Errorf("a procedure in no table: %+v", to)
	}
}

// TestRefusedUnread: a stranger's message is refused before it has come.
func TestRefusedUnread(t *testing.T) {
	n := newFakeNode(t)
	n.rights = auth.ErrUnauthenticated
	srv := serve(t, n)
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "POST /inos.cas.v1.CasService/PutChunks HTTP/1.1\r\nHost: node\r\n"+
		"Content-Type: application/proto\r\nContent-Length: 4000000\r\nExpect: 100-continue\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") != auth.Challenge {
		t.Errorf("%s, WWW-Authenticate %q", resp.Status, resp.Header.Get("WWW-Authenticate"))
	}
}

// TestReadLimits: neither a long message nor a short one that inflates gets
// past the limit.
func TestReadLimits(t *testing.T) {
	srv := serve(t, newFakeNode(t))
	long := []string{strings.Repeat("0", readLimit+1)}
	for _, opts := range [][]connect.ClientOption{nil, {connect.WithSendGzip()}, {connect.WithGRPCWeb(), connect.WithSendGzip()}} {
		_, err := client(t, srv, opts...).Stat(t.Context(), &casv1.StatRequest{Hashes: long})
		check(t, "Stat", nil, connect.CodeOf(err).String(), "resource_exhausted")
	}
	_, err := client(t, srv).PutChunks(t.Context(), &casv1.PutChunksRequest{Chunks: []*casv1.Chunk{{Data: make([]byte, putReadLimit)}}})
	check(t, "PutChunks", nil, connect.CodeOf(err).String(), "resource_exhausted")
}

// TestLargestRequests: what the limits allow fits through the read limits in
// the longest encoding.
func TestLargestRequests(t *testing.T) {
	srv := serve(t, newFakeNode(t))
	c := client(t, srv, connect.WithProtoJSON())
	hashes := make([]string, MaxHas)
	for i := range hashes {
		hashes[i] = cas.Hash{byte(i), byte(i >> 8), 1}.String()
	}
	has, err := c.Has(t.Context(), &casv1.HasRequest{Hashes: hashes})
	check(t, "Has", err, fmt.Sprint(len(has.GetMissing())), fmt.Sprint(MaxHas))
	stat, err := c.Stat(t.Context(), &casv1.StatRequest{Hashes: hashes[:MaxStat], Objects: true})
	check(t, "Stat", err, fmt.Sprint(len(stat.GetChunks())), fmt.Sprint(MaxStat))

	chunks := make([]*casv1.Chunk, MaxPut)
	for i := range chunks {
		chunks[i] = &casv1.Chunk{Hash: hashes[i], Data: make([]byte, MaxPutBytes/MaxPut)}
	}
	put, err := c.PutChunks(t.Context(), &casv1.PutChunksRequest{Chunks: chunks})
	check(t, "PutChunks", err, fmt.Sprint(len(put.GetResults()), put.GetResults()[0].GetReason()), fmt.Sprint(MaxPut, "NOT_BR1"))
}

package rpc

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"inos.dev/edge/cas"
	casv1 "inos.dev/edge/proto/gen/inos/cas/v1"
	"inos.dev/edge/proto/gen/inos/cas/v1/casv1connect"
)

// TestProtocols walks through every method with every protocol and encoding
// that the gateway offers.
func TestProtocols(t *testing.T) {
	for name, tc := range map[string]struct {
		h2   bool
		opts []connect.ClientOption
	}{
		"connect proto":      {false, nil},
		"connect json":       {false, []connect.ClientOption{connect.WithProtoJSON()}},
		"connect get":        {false, []connect.ClientOption{connect.WithHTTPGet()}},
		"connect json get":   {false, []connect.ClientOption{connect.WithProtoJSON(), connect.WithHTTPGet()}},
		"connect h2c":        {true, nil},
		"connect gzip":       {false, []connect.ClientOption{connect.WithSendGzip()}},
		"grpc":               {true, []connect.ClientOption{connect.WithGRPC()}},
		"grpc json gzip":     {true, []connect.ClientOption{connect.WithGRPC(), connect.WithProtoJSON(), connect.WithSendGzip()}},
		"grpc-web http/1.1":  {false, []connect.ClientOption{connect.WithGRPCWeb()}},
		"grpc-web json, h2c": {true, []connect.ClientOption{connect.WithGRPCWeb(), connect.WithProtoJSON()}},
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, newFakeNode(t))
			hc := srv.Client()
			if tc.h2 {
				hc = h2c(t)
			}
			walk(t, casv1connect.NewCasServiceClient(hc, srv.URL, tc.opts...))
		})
	}
}

// walk uploads a file, commits it, reads it back in every way and deletes it.
func walk(t *testing.T, c casv1connect.CasServiceClient) {
	t.Helper()
	ctx := t.Context()
	piece, root := file(t, strings.Repeat("the quick brown fox ", 99))
	hashes := []string{piece.Hash().String(), root.Hash().String()}

	has, err := c.Has(ctx, &casv1.HasRequest{Hashes: hashes})
	check(t, "Has before", err, fmt.Sprint(has.GetMissing()), "[0 1]")

	_, err = c.Commit(ctx, &casv1.CommitRequest{Hash: hashes[1]})
	check(t, "Commit of nothing", nil, connect.CodeOf(err).String(), "not_found")

	put, err := c.PutChunks(ctx, &casv1.PutChunksRequest{Chunks: []*casv1.Chunk{
		{Hash: hashes[1], Data: root.Bytes()},
		{Hash: hashes[1], Data: root.Bytes()},
		{Hash: hashes[0], Data: root.Bytes()},
	}})
	var states []string
	for _, r := range put.GetResults() {
		states = append(states, strings.TrimPrefix(r.GetState().String(), "PUT_STATE_")+r.GetReason())
	}
	check(t, "PutChunks", err, fmt.Sprint(states), "[STORED PRESENT REFUSEDHASH_MISMATCH]")

	_, err = c.Commit(ctx, &casv1.CommitRequest{Hash: hashes[1]})
	check(t, "Commit without pieces", nil, connect.CodeOf(err).String(), "failed_precondition")
	if lacks := detail[*casv1.MissingChunks](err); !slices.Equal(lacks.GetHashes(), hashes[:1]) || lacks.GetMore() {
		t.Fatalf("missing chunks: %v", lacks)
	}

	_, err = c.PutChunks(ctx, &casv1.PutChunksRequest{Chunks: []*casv1.Chunk{{Hash: hashes[0], Data: piece.Bytes()}}})
	check(t, "PutChunks of the piece", err, "", "")
	commit, err := c.Commit(ctx, &casv1.CommitRequest{Hash: hashes[1], Name: "fox", Policy: &casv1.Policy{Rf: 3, MaxRf: 9, Tier: casv1.Tier_TIER_COLD, PriceCap: 7}})
	check(t, "Commit", err, fmt.Sprint(commit.GetCreated(), commit.GetObject().GetSize(), commit.GetObject().GetKind()), "true 1980 OBJECT_KIND_FILE")
	commit, err = c.Commit(ctx, &casv1.CommitRequest{Hash: hashes[1]})
	check(t, "Commit again", err, fmt.Sprint(commit.GetCreated(), commit.GetObject().GetPolicy().GetRf()), "false 3")

	walkReads(t, c, hashes, piece.Size())

	when := &timestamppb.Timestamp{Seconds: 2_000_000_000}
	set, err := c.SetPolicy(ctx, &casv1.SetPolicyRequest{Hash: hashes[1], Policy: &casv1.Policy{Rf: 1, ExpireTime: when}})
	check(t, "SetPolicy", err, fmt.Sprint(set.GetPolicy().GetRf(), set.GetPolicy().GetExpireTime().GetSeconds()), "1 2000000000")
	_, err = c.DeleteObject(ctx, &casv1.DeleteObjectRequest{Hash: hashes[1]})
	check(t, "DeleteObject", err, "", "")
	_, err = c.DeleteObject(ctx, &casv1.DeleteObjectRequest{Hash: hashes[1]})
	check(t, "DeleteObject again", nil, connect.CodeOf(err).String(), "not_found")
}

func walkReads(t *testing.T, c casv1connect.CasServiceClient, hashes []string, encoded int64) {
	t.Helper()
	ctx := t.Context()
	stat, err := c.Stat(ctx, &casv1.StatRequest{Hashes: append(hashes, cas.Hash{5}.String()), Objects: true})
	var got []string
	for _, s := range stat.GetChunks() {
		got = append(got, strings.TrimPrefix(s.GetState().String(), "CHUNK_STATE_")+s.GetObject().GetMediaType())
	}
	check(t, "Stat", err, fmt.Sprint(got), "[HERE HEREtext/plain MISSING]")

	m, err := c.GetManifest(ctx, &casv1.GetManifestRequest{Hash: hashes[1]})
	check(t, "GetManifest", err, fmt.Sprint(m.GetManifest().GetSize(), m.GetManifest().GetJoined() == encoded, len(m.GetNextPageToken())), "1980 true 0")
	check(t, "its link", nil, m.GetManifest().GetPieces()[0].GetHash(), hashes[0])
	_, err = c.GetManifest(ctx, &casv1.GetManifestRequest{Hash: hashes[0]})
	check(t, "GetManifest of a piece", nil, connect.CodeOf(err).String()+" "+reason(err), "not_found NOT_AN_OBJECT")

	o, err := c.GetObject(ctx, &casv1.GetObjectRequest{Hash: hashes[1]})
	check(t, "GetObject", err, fmt.Sprint(o.GetObject().GetHash(), o.GetObject().GetName(), o.GetObject().GetOwner(), o.GetObject().GetPublications()), hashes[1]+"foxalice1")
	list, err := c.ListObjects(ctx, &casv1.ListObjectsRequest{})
	check(t, "ListObjects", err, fmt.Sprint(len(list.GetObjects()), len(list.GetNextPageToken())), "1 0")
	p, err := c.GetPolicy(ctx, &casv1.GetPolicyRequest{Hash: hashes[1]})
	check(t, "GetPolicy", err, fmt.Sprint(p.GetPolicy().GetMaxRf(), p.GetPolicy().GetTier(), p.GetPolicy().GetPriceCap()), "9 TIER_COLD 7")
	n, err := c.GetNode(ctx, &casv1.GetNodeRequest{})
	check(t, "GetNode", err, fmt.Sprintf("%s %d %v", n.GetVersion(), n.GetLimits().GetHasHashes(), n.GetFormats()), "v1.2.3 10000 [br1]")
}

func check(t *testing.T, what string, err error, got, want string) {
	t.Helper()
	if err != nil || got != want {
		t.Fatalf("%s: %s, %v; want %s", what, got, err, want)
	}
}

func TestTouchedAndDenied(t *testing.T) {
	n := newFakeNode(t)
	piece, root := file(t, "some text")
	n.denied = root.Hash()
	c := client(t, serve(t, n))
	for _, chunk := range []cas.Chunk{piece, root} {
		if _, err := n.store.Put(t.Context(), chunk); err != nil {
			t.Fatal(err)
		}
	}
	has, err := c.Has(t.Context(), &casv1.HasRequest{Hashes: []string{cas.Hash{9}.String(), piece.Hash().String()}})
	check(t, "Has", err, fmt.Sprint(has.GetMissing()), "[0]")
	if !slices.Equal(n.touched, []cas.Hash{piece.Hash()}) {
		t.Errorf("touched %v", n.touched)
	}
	stat, err := c.Stat(t.Context(), &casv1.StatRequest{Hashes: []string{root.Hash().String()}})
	check(t, "Stat", err, stat.GetChunks()[0].GetState().String(), "CHUNK_STATE_DENIED")
}

// TestCaching: what a hash names may be cached, all else may not; errors and
// answers to POST neither.
func TestCaching(t *testing.T) {
	n := newFakeNode(t)
	srv := serve(t, n)
	_, root := file(t, "x")
	if _, err := n.store.Put(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ method, message, want string }{
		{"GetManifest", `{"hash":"` + root.Hash().String() + `"}`, "public, max-age=86400"},
		{"GetManifest", `{"hash":"` + cas.Hash{7}.String() + `"}`, "no-store"},
		{"GetManifest", `{"hash":"bad"}`, "no-store"},
		{"GetNode", `{}`, "no-store"},
	} {
		url := srv.URL + "/inos.cas.v1.CasService/" + tc.method
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.RawQuery = "encoding=json&message=" + strings.NewReplacer("{", "%7B", "}", "%7D", `"`, "%22").Replace(tc.message)
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Values("Cache-Control"); !slices.Equal(got, []string{tc.want}) {
			t.Errorf("GET %s %s: %d, Cache-Control %q, want %q", tc.method, tc.message, resp.StatusCode, got, tc.want)
		}
	}
	c := client(t, srv)
	ctx, info := connect.NewClientContext(t.Context())
	if _, err := c.GetManifest(ctx, &casv1.GetManifestRequest{Hash: root.Hash().String()}); err != nil {
		t.Fatal(err)
	}
	check(t, "POST GetManifest", nil, info.ResponseHeader().Get("Cache-Control"), "no-store")
}

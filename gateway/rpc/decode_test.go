package rpc

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/mesh"
	casv1 "inos.dev/edge/proto/gen/inos/cas/v1"
)

// decode runs the decoder that belongs to the request's type.
func decode(m proto.Message) (err error) {
	switch m := m.(type) {
	case *casv1.StatRequest:
		_, err = decodeHashes(m.GetHashes(), MaxStat)
	case *casv1.HasRequest:
		_, err = decodeHashes(m.GetHashes(), MaxHas)
	case *casv1.PutChunksRequest:
		_, err = decodePut(m)
	case *casv1.GetManifestRequest:
		_, _, _, err = decodeManifest(m)
	case *casv1.ListObjectsRequest:
		_, _, err = decodeList(m)
	case *casv1.CommitRequest:
		_, _, _, err = decodeCommit(m)
	case *casv1.SetPolicyRequest:
		_, _, err = decodeSetPolicy(m)
	case *casv1.GetObjectRequest:
		_, err = decodeHash(m.GetHash())
	default:
		err = fmt.Errorf("no decoder for %T", m)
	}
	return err
}

func TestViolations(t *testing.T) {
	good := cas.Hash{1}.String()
	policy := func(p *casv1.Policy) proto.Message { return &casv1.SetPolicyRequest{Hash: good, Policy: p} }
	many := func(n int) []string { return slices.Repeat([]string{good}, n) }
	chunk := func(n int) *casv1.Chunk { return &casv1.Chunk{Hash: good, Data: make([]byte, n)} }
	for _, tc := range []struct {
		name   string
		req    proto.Message
		fields string // at fault, or empty
	}{
		{"stat", &casv1.StatRequest{Hashes: many(MaxStat)}, ""},
		{"stat of nothing", &casv1.StatRequest{}, "hashes"},
		{"stat of too much", &casv1.StatRequest{Hashes: many(MaxStat + 1)}, "hashes"},
		{"stat of others", &casv1.StatRequest{Hashes: []string{"", good, strings.ToUpper(cas.Hash{0xab}.String())}}, "hashes[0] hashes[2]"},
		{"has", &casv1.HasRequest{Hashes: many(MaxHas)}, ""},
		{"has too much", &casv1.HasRequest{Hashes: many(MaxHas + 1)}, "hashes"},
		{"put", &casv1.PutChunksRequest{Chunks: []*casv1.Chunk{chunk(8), chunk(cas.MaxChunkSize)}}, ""},
		{"put nothing", &casv1.PutChunksRequest{}, "chunks"},
		{"put null", &casv1.PutChunksRequest{Chunks: []*casv1.Chunk{nil}}, "chunks[0].data chunks[0].hash"},
		{"put sizes", &casv1.PutChunksRequest{Chunks: []*casv1.Chunk{chunk(7), chunk(cas.MaxChunkSize + 1)}}, "chunks[0].data chunks[1].data"},
		{"put too many", &casv1.PutChunksRequest{Chunks: slices.Repeat([]*casv1.Chunk{chunk(8)}, MaxPut+1)}, "chunks"},
		{"put too much", &casv1.PutChunksRequest{Chunks: slices.Repeat([]*casv1.Chunk{chunk(1 << 20)}, 5)}, "chunks"},
		{"manifest", &casv1.GetManifestRequest{Hash: good, PageSize: MaxLinks, PageToken: encodeLinkToken(4000)}, ""},
		{"manifest limits", &casv1.GetManifestRequest{Hash: "x", PageSize: MaxLinks + 1, PageToken: encodeObjectToken(cas.Hash{})}, "hash page_size page_token"},
		{"list", &casv1.ListObjectsRequest{PageSize: MaxObjects, PageToken: encodeObjectToken(cas.Hash{7})}, ""},
		{"list limits", &casv1.ListObjectsRequest{PageSize: 1 << 31, PageToken: "!"}, "page_size page_token"},
		{"commit", &casv1.CommitRequest{Hash: good}, ""},
		{"commit policy", &casv1.CommitRequest{Hash: good, Policy: &casv1.Policy{Rf: 65}}, "policy.rf"},
		{"policy", policy(&casv1.Policy{Rf: mesh.MaxRF, MaxRf: mesh.LimitRF, Tier: casv1.Tier_TIER_HOT, ExpireTime: &timestamppb.Timestamp{Seconds: 1}, PriceCap: mesh.LimitPrice}), ""},
		{"policy missing", policy(nil), "policy"},
		{"policy limits", policy(&casv1.Policy{Rf: 65, MaxRf: 1025, Tier: 9, ExpireTime: &timestamppb.Timestamp{Seconds: -1}}), "policy.rf policy.max_rf policy.tier policy.expire_time"},
		{"price cap", policy(&casv1.Policy{PriceCap: mesh.LimitPrice + 1}), "policy.price_cap"},
		{"negative price cap", policy(&casv1.Policy{PriceCap: -1}), "policy.price_cap"},
		{"policy order", policy(&casv1.Policy{Rf: 5, MaxRf: 4}), "policy.max_rf"},
		{"policy below the default", policy(&casv1.Policy{MaxRf: 2}), "policy.max_rf"},
		{"commit name", &casv1.CommitRequest{Hash: good, Name: strings.Repeat("x", 256)}, "name"},
		{"object", &casv1.GetObjectRequest{Hash: good + "0"}, "hash"},
	} {
		err := decode(tc.req)
		var fields []string
		for _, v := range detail[*errdetails.BadRequest](err).GetFieldViolations() {
			fields = append(fields, v.GetField())
		}
		if got := strings.Join(fields, " "); got != tc.fields || (err == nil) != (tc.fields == "") {
			t.Errorf("%s: %q (%v), want %q", tc.name, got, err, tc.fields)
		}
		if err != nil && connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// TestViolationsAreBounded: ten thousand bad hashes do not make ten thousand
// details.
func TestViolationsAreBounded(t *testing.T) {
	err := decode(&casv1.HasRequest{Hashes: slices.Repeat([]string{"bad"}, MaxHas)})
	if n := len(detail[*errdetails.BadRequest](err).GetFieldViolations()); n != maxViolations || !strings.Contains(err.Error(), "9999 more") {
		t.Errorf("%d violations: %v", n, err)
	}
}

// TestPages: any division of a list into pages is the list.
func TestPages(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		m := &cas.Manifest{Kind: cas.KindFile}
		for i := range rapid.IntRange(0, 50).Draw(r, "links") {
			m.Pieces = append(m.Pieces, cas.Piece{Hash: cas.Hash{byte(i), 1}})
		}
		var got []*casv1.Piece
		token := ""
		for {
			req := &casv1.GetManifestRequest{Hash: cas.Hash{1}.String(), PageToken: token, PageSize: rapid.Uint32Range(1, 60).Draw(r, "size")}
			_, from, n, err := decodeManifest(req)
			if err != nil {
				r.Fatal(err)
			}
			page, next := encodeManifest(m, from, n)
			got = append(got, page.GetPieces()...)
			if page.GetLinks() != uint32(len(m.Pieces)) || len(page.GetPieces()) > n {
				r.Fatalf("page of %d, %d links", len(page.GetPieces()), page.GetLinks())
			}
			if next == 0 {
				break
			}
			token = encodeLinkToken(next)
		}
		if !slices.EqualFunc(got, m.Pieces, func(p *casv1.Piece, want cas.Piece) bool { return p.GetHash() == want.Hash.String() }) {
			r.Fatalf("%d of %d links", len(got), len(m.Pieces))
		}
	})
}

// TestObjectPages is the same over the wire, for the list of objects.
func TestObjectPages(t *testing.T) {
	n := newFakeNode(t)
	for i := range 23 {
		h := cas.Sum([]byte{byte(i)})
		n.objects[h] = catalog.Record{Hash: h}
	}
	c := client(t, serve(t, n))
	for size := range uint32(25) {
		var got []string
		req := &casv1.ListObjectsRequest{PageSize: size}
		for first := true; first || req.PageToken != ""; first = false {
			resp, err := c.ListObjects(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range resp.GetObjects() {
				got = append(got, o.GetHash())
			}
			req.PageToken = resp.GetNextPageToken()
		}
		if len(got) != 23 || !slices.IsSortedFunc(got, cmp.Compare[string]) {
			t.Errorf("pages of %d: %d objects", size, len(got))
		}
	}
}

// FuzzDecode: whatever bytes come, a decoder refuses them or stays within its
// limits.
func FuzzDecode(f *testing.F) {
	kinds := []proto.Message{
		&casv1.StatRequest{}, &casv1.HasRequest{}, &casv1.PutChunksRequest{}, &casv1.GetManifestRequest{},
		&casv1.ListObjectsRequest{}, &casv1.CommitRequest{}, &casv1.SetPolicyRequest{}, &casv1.GetObjectRequest{},
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		req := kinds[int(kind)%len(kinds)].ProtoReflect().New().Interface()
		if proto.Unmarshal(b, req) != nil {
			return
		}
		err := decode(req)
		if err != nil {
			if connect.CodeOf(err) != connect.CodeInvalidArgument || len(detail[*errdetails.BadRequest](err).GetFieldViolations()) > maxViolations {
				t.Fatalf("%T: %v", req, err)
			}
			return
		}
		switch req := req.(type) {
		case *casv1.HasRequest:
			if n := len(req.GetHashes()); n < 1 || n > MaxHas {
				t.Fatalf("%d hashes", n)
			}
		case *casv1.PutChunksRequest:
			uploads, _ := decodePut(req)
			for i, u := range uploads {
				if !bytes.Equal(u.Data, req.GetChunks()[i].GetData()) || u.Hash.String() != req.GetChunks()[i].GetHash() {
					t.Fatalf("chunk %d is another", i)
				}
			}
		case *casv1.SetPolicyRequest:
			_, p, _ := decodeSetPolicy(req)
			again := encodePolicy(p)
			want := proto.CloneOf(req.GetPolicy())
			want.ProtoReflect().SetUnknown(nil)
			if want.GetExpireTime() != nil {
				want.GetExpireTime().ProtoReflect().SetUnknown(nil)
			}
			if !proto.Equal(again, want) {
				t.Fatalf("%v became %v", want, again)
			}
		}
	})
}

// FuzzToken: a token that is accepted is the one that would be given out for
// what it says.
func FuzzToken(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		if from, err := decodeLinkToken(s); err == nil && s != "" && encodeLinkToken(from) != s {
			t.Fatalf("%q is %d, which is %q", s, from, encodeLinkToken(from))
		}
		if after, err := decodeObjectToken(s); err == nil && s != "" && encodeObjectToken(after) != s {
			t.Fatalf("%q is %s, which is %q", s, after, encodeObjectToken(after))
		}
	})
}

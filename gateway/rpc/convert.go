package rpc

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/mesh"
	casv1 "inos.dev/edge/proto/gen/inos/cas/v1"
)

// text writes a hash, and the zero hash as nothing.
func text(h cas.Hash) string {
	if h.IsZero() {
		return ""
	}
	return h.String()
}

func encodeTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func encodeKind(k cas.Kind) casv1.ObjectKind {
	switch k {
	case cas.KindFile:
		return casv1.ObjectKind_OBJECT_KIND_FILE
	case cas.KindDirectory:
		return casv1.ObjectKind_OBJECT_KIND_DIRECTORY
	case cas.KindNode:
		return casv1.ObjectKind_OBJECT_KIND_NODE
	}
	return casv1.ObjectKind_OBJECT_KIND_UNSPECIFIED
}

func encodeMode(m cas.Mode) casv1.EntryMode {
	switch m {
	case cas.ModeFile:
		return casv1.EntryMode_ENTRY_MODE_FILE
	case cas.ModeExecutable:
		return casv1.EntryMode_ENTRY_MODE_EXECUTABLE
	case cas.ModeDirectory:
		return casv1.EntryMode_ENTRY_MODE_DIRECTORY
	case cas.ModeSymlink:
		return casv1.EntryMode_ENTRY_MODE_SYMLINK
	}
	return casv1.EntryMode_ENTRY_MODE_UNSPECIFIED
}

func encodeTier(t mesh.Tier) casv1.Tier {
	switch t {
	case mesh.Hot:
		return casv1.Tier_TIER_HOT
	case mesh.Cold:
		return casv1.Tier_TIER_COLD
	case mesh.AnyTier:
	}
	return casv1.Tier_TIER_UNSPECIFIED
}

func encodePolicy(p mesh.Policy) *casv1.Policy {
	return &casv1.Policy{
		Rf:         uint32(p.RF),
		MaxRf:      uint32(p.MaxRF),
		Tier:       encodeTier(p.Tier),
		ExpireTime: encodeTime(p.Expires),
		PriceCap:   p.PriceCap,
	}
}

func encodeObject(r catalog.Record) *casv1.Object {
	return &casv1.Object{
		Hash:          text(r.Hash),
		Kind:          encodeKind(r.Kind),
		Size:          r.Size,
		Encoded:       r.Encoded,
		Chunks:        r.Pieces,
		MediaType:     r.MediaType,
		CommitTime:    encodeTime(r.Created),
		Policy:        encodePolicy(r.Policy),
		Name:          r.Name,
		DigestChecked: r.DigestChecked,
		Owner:         r.Owner,
		Publications:  uint32(r.Owners),
	}
}

func encodePut(r PutResult) *casv1.PutResult {
	switch {
	case r.Err != nil:
		return &casv1.PutResult{
			State:   casv1.PutState_PUT_STATE_REFUSED,
			Reason:  faceOf(r.Err).reason,
			Message: r.Err.Error(),
		}
	case r.Added:
		return &casv1.PutResult{State: casv1.PutState_PUT_STATE_STORED}
	}
	return &casv1.PutResult{State: casv1.PutState_PUT_STATE_PRESENT}
}

func encodeNode(n NodeInfo) *casv1.GetNodeResponse {
	return &casv1.GetNodeResponse{
		Version: n.Version,
		Uptime:  durationpb.New(n.Uptime),
		Chunks:  n.Chunks,
		Bytes:   n.Bytes,
		Free:    n.Free,
		Objects: n.Objects,
		Limits: &casv1.Limits{
			StatHashes:  MaxStat,
			HasHashes:   MaxHas,
			PutChunks:   MaxPut,
			PutBytes:    MaxPutBytes,
			ChunkBytes:  cas.MaxChunkSize,
			ObjectBytes: n.ObjectBytes,
			PageObjects: MaxObjects,
			PageLinks:   MaxLinks,
		},
		Features: n.Features,
		Formats:  n.Formats,
	}
}

// encodeManifest writes the record with its links [from, from+n). next is the
// first link that is left, or 0 if none is.
func encodeManifest(m *cas.Manifest, from, n int) (out *casv1.Manifest, next int) {
	links := max(len(m.Pieces), len(m.Nodes), len(m.Entries), len(m.Parts))
	out = &casv1.Manifest{
		Kind:      encodeKind(m.Kind),
		Size:      m.Size,
		Encoded:   m.Encoded,
		Count:     m.Count,
		MediaType: m.MediaType,
		Raw:       text(m.Raw),
		Sha256:    text(m.SHA256),
		Links:     uint32(links),
		Pieces:    encodePage(m.Pieces, from, n, encodePiece),
		Nodes:     encodePage(m.Nodes, from, n, encodeInner),
		Entries:   encodePage(m.Entries, from, n, encodeEntry),
		Parts:     encodePage(m.Parts, from, n, encodePart),
	}
	if m.Kind != cas.KindDirectory {
		out.Joined = m.JoinedSize()
	}
	if from+n < links {
		next = from + n
	}
	return out, next
}

func encodePage[T, P any](links []T, from, n int, encode func(T) P) []P {
	from = min(from, len(links))
	page := links[from:min(from+n, len(links))]
	out := make([]P, len(page))
	for i, l := range page {
		out[i] = encode(l)
	}
	return out
}

func encodePiece(p cas.Piece) *casv1.Piece {
	return &casv1.Piece{Hash: text(p.Hash), Size: p.Size, Encoded: p.Encoded, Raw: text(p.Raw), ChainingValue: text(p.CV)}
}

func encodeInner(n cas.Node) *casv1.Node {
	return &casv1.Node{Hash: text(n.Hash), Count: n.Count, Size: n.Size, Encoded: n.Encoded}
}

func encodeEntry(e cas.Entry) *casv1.Entry {
	return &casv1.Entry{Name: e.Name, Mode: encodeMode(e.Mode), Hash: text(e.Hash), Size: e.Size, Target: e.Target}
}

func encodePart(p cas.Part) *casv1.Part {
	return &casv1.Part{Hash: text(p.Hash), First: p.First, Count: p.Count, Size: p.Size}
}

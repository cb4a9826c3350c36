package rpc

import (
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/timestamppb"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/catalog"
	"inos.dev/edge/mesh"
	casv1 "inos.dev/edge/proto/gen/inos/cas/v1"
)

// maxViolations bounds how many faults one answer lists.
const maxViolations = 16

// violations collects the fields of a request that break a limit, so that a
// client hears of all of them at once. The zero value is ready to use.
type violations struct {
	list []*errdetails.BadRequest_FieldViolation
	more int
}

func (v *violations) add(field, format string, args ...any) {
	if len(v.list) == maxViolations {
		v.more++
		return
	}
	v.list = append(v.list, &errdetails.BadRequest_FieldViolation{
		Field:       field,
		Description: fmt.Sprintf(format, args...),
	})
}

// err is nil if nothing was added.
func (v *violations) err() error {
	if len(v.list) == 0 {
		return nil
	}
	first := v.list[0]
	text := fmt.Errorf("%s: %s", first.GetField(), first.GetDescription())
	if n := len(v.list) + v.more - 1; n > 0 {
		text = fmt.Errorf("%w (and %d more)", text, n)
	}
	ce := connect.NewError(connect.CodeInvalidArgument, text)
	addDetail(ce, &errdetails.BadRequest{FieldViolations: v.list})
	addDetail(ce, &errdetails.ErrorInfo{Reason: "BAD_REQUEST", Domain: errorDomain})
	return ce
}

func (v *violations) hash(field, s string) cas.Hash {
	h, err := cas.ParseHash(s)
	if err != nil {
		v.add(field, "%v", err)
	}
	return h
}

// count accepts 1 to limit entries. If it refuses, the caller must not look
// at them.
func (v *violations) count(field string, n, limit int) bool {
	if n < 1 || n > limit {
		v.add(field, "has %d entries; 1 to %d are possible", n, limit)
		return false
	}
	return true
}

func (v *violations) hashes(field string, list []string, limit int) []cas.Hash {
	if !v.count(field, len(list), limit) {
		return nil
	}
	out := make([]cas.Hash, len(list))
	for i, s := range list {
		h, err := cas.ParseHash(s)
		if err != nil {
			v.add(fmt.Sprintf("%s[%d]", field, i), "%v", err)
		}
		out[i] = h
	}
	return out
}

// pageSize accepts 0, which means byDefault, to limit.
func (v *violations) pageSize(n uint32, byDefault, limit int) int {
	switch {
	case n == 0:
		return byDefault
	case n > uint32(limit):
		v.add("page_size", "is %d; at most %d", n, limit)
	}
	return int(n)
}

func decodeHash(s string) (cas.Hash, error) {
	var v violations
	h := v.hash("hash", s)
	return h, v.err()
}

func decodeHashes(list []string, limit int) ([]cas.Hash, error) {
	var v violations
	hashes := v.hashes("hashes", list, limit)
	return hashes, v.err()
}

// decodePut checks number and sizes; whether bytes are what they claim is a
// question for the store.
func decodePut(req *casv1.PutChunksRequest) ([]Upload, error) {
	var v violations
	if !v.count("chunks", len(req.GetChunks()), MaxPut) {
		return nil, v.err()
	}
	total := 0
	uploads := make([]Upload, len(req.GetChunks()))
	for i, c := range req.GetChunks() {
		n := len(c.GetData())
		if n < cas.MinChunkSize || n > cas.MaxChunkSize {
			v.add(fmt.Sprintf("chunks[%d].data", i), "has %d bytes; %d to %d are possible", n, cas.MinChunkSize, cas.MaxChunkSize)
		}
		uploads[i] = Upload{Hash: v.hash(fmt.Sprintf("chunks[%d].hash", i), c.GetHash()), Data: c.GetData()}
		total += n
	}
	if total > MaxPutBytes {
		v.add("chunks", "carry %d bytes; at most %d", total, MaxPutBytes)
	}
	return uploads, v.err()
}

func decodeManifest(req *casv1.GetManifestRequest) (h cas.Hash, from, n int, err error) {
	var v violations
	h = v.hash("hash", req.GetHash())
	n = v.pageSize(req.GetPageSize(), MaxLinks, MaxLinks)
	from, err = decodeLinkToken(req.GetPageToken())
	if err != nil {
		v.add("page_token", "%v", err)
	}
	return h, from, n, v.err()
}

func decodeList(req *casv1.ListObjectsRequest) (after cas.Hash, n int, err error) {
	var v violations
	n = v.pageSize(req.GetPageSize(), DefaultObjects, MaxObjects)
	after, err = decodeObjectToken(req.GetPageToken())
	if err != nil {
		v.add("page_token", "%v", err)
	}
	return after, n, v.err()
}

func decodeCommit(req *casv1.CommitRequest) (h cas.Hash, name string, policy *mesh.Policy, err error) {
	var v violations
	h = v.hash("hash", req.GetHash())
	name = req.GetName()
	if len(name) > catalog.MaxName {
		v.add("name", "has %d bytes; at most %d", len(name), catalog.MaxName)
	}
	if req.GetPolicy() != nil {
		p := v.policy(req.GetPolicy())
		policy = &p
	}
	return h, name, policy, v.err()
}

func decodeSetPolicy(req *casv1.SetPolicyRequest) (cas.Hash, mesh.Policy, error) {
	var v violations
	h := v.hash("hash", req.GetHash())
	if req.GetPolicy() == nil {
		v.add("policy", "is missing")
		return h, mesh.Policy{}, v.err()
	}
	p := v.policy(req.GetPolicy())
	return h, p, v.err()
}

// policy checks each field for itself and rf against max_rf. Whether an
// expiry lies in the past is for the catalog, which knows the time.
func (v *violations) policy(p *casv1.Policy) mesh.Policy {
	rf, maxRF := p.GetRf(), p.GetMaxRf()
	floor := rf
	if floor == 0 {
		floor = mesh.DefaultRF
	}
	if rf > mesh.MaxRF {
		v.add("policy.rf", "is %d; at most %d", rf, mesh.MaxRF)
	}
	if maxRF > mesh.LimitRF {
		v.add("policy.max_rf", "is %d; at most %d", maxRF, mesh.LimitRF)
	} else if maxRF != 0 && maxRF < floor {
		v.add("policy.max_rf", "is %d, less than rf, which is %d", maxRF, floor)
	}
	tier, ok := decodeTier(p.GetTier())
	if !ok {
		v.add("policy.tier", "is %d, which is no tier", p.GetTier())
	}
	if price := p.GetPriceCap(); price < 0 || price > mesh.LimitPrice {
		v.add("policy.price_cap", "is %d; 0 to %d are possible", price, mesh.LimitPrice)
	}
	return mesh.Policy{
		RF:       int(min(rf, mesh.MaxRF)),
		MaxRF:    int(min(maxRF, mesh.LimitRF)),
		Tier:     tier,
		Expires:  v.time("policy.expire_time", p.GetExpireTime()),
		PriceCap: p.GetPriceCap(),
	}
}

func decodeTier(t casv1.Tier) (mesh.Tier, bool) {
	switch t {
	case casv1.Tier_TIER_UNSPECIFIED:
		return mesh.AnyTier, true
	case casv1.Tier_TIER_HOT:
		return mesh.Hot, true
	case casv1.Tier_TIER_COLD:
		return mesh.Cold, true
	}
	return mesh.AnyTier, false
}

// time accepts absent, which is the zero Time, or a moment after 1970.
func (v *violations) time(field string, t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	if err := t.CheckValid(); err != nil || t.GetSeconds() <= 0 {
		v.add(field, "is no time after 1970 and before 10000")
		return time.Time{}
	}
	return t.AsTime()
}

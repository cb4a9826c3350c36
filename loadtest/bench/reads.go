package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// The only request header that the cases differ in.
const (
	acceptBrotli   = "Accept-Encoding: br"
	acceptIdentity = "Accept-Encoding: identity"
)

// arena is both servers, running, with the same content.
type arena struct {
	dir   string
	size  sizes
	nginx *nginx
	node  *node
	bytes corpus
}

// measureReads starts both servers, fills them, and runs the contests.
func measureReads(ctx context.Context, c Config, size sizes, dir string, out io.Writer) ([]outcome, error) {
	a := arena{dir: dir, size: size}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if a.bytes, err = newCorpus(ctx); err != nil {
		return nil, err
	}
	cert, err := makeCertificate(dir)
	if err != nil {
		return nil, err
	}
	if a.nginx, err = startNginx(ctx, c, filepath.Join(dir, "nginx"), cert); err != nil {
		return nil, err
	}
	defer a.nginx.stop()
	if a.node, err = startNode(ctx, c, dir, serverCore, cert); err != nil {
		return nil, err
	}
	defer a.node.stop()

	chunks, err := a.chunkContests(ctx)
	if err != nil {
		return nil, err
	}
	object, err := a.objectContests(ctx)
	if err != nil {
		return nil, err
	}
	var all []outcome
	for _, contest := range append(chunks, object...) {
		o, err := fight(ctx, contest, a.nginx, a.node, c.Pairs, out)
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}

// The tables of chunk reads.
const (
	groupBrotli  = "chunk, br"
	groupRaw     = "chunk, identity, raw form"
	groupDecoded = "chunk, identity, decoded"
	groupTLS     = "chunk, br, TLS 1.3"
	groupObject  = "object, br"
)

// chunkBars is the most CPU that a chunk with br may cost over nginx' static
// file of the same bytes. Raw-form identity reads have one bar for all sizes.
func chunkBars() map[int64]float64 {
	return map[int64]float64{kib: 2.0, 16 * kib: 2.7, 64 * kib: 2.0, 256 * kib: 2.3, mib: 1.6}
}

const rawBar = 1.6

// chunkContests stores chunks of each size, in both forms, and makes their
// cases.
func (a arena) chunkContests(ctx context.Context) ([]contest, error) {
	noise := stream(ctx, func(w io.Writer) error { return random(w, 1<<62) })
	defer noise.Close()
	text := stream(ctx, func(w io.Writer) error { return a.bytes.source(w, 1<<62) })
	defer text.Close()

	var br, raw, decoded, tls []contest
	for _, size := range a.size.chunks {
		random, err := a.storePieces(ctx, "random", noise, size)
		if err != nil {
			return nil, err
		}
		source, err := a.storePieces(ctx, "source", text, size)
		if err != nil {
			return nil, err
		}
		for _, c := range []struct {
			to    *[]contest
			group string
			set   pieces
			coded bool
			tls   bool
			bar   float64
		}{
			{&br, groupBrotli, random, true, false, chunkBars()[size]},
			{&raw, groupRaw, random, false, false, rawBar},
			{&decoded, groupDecoded, source, false, false, 0},
			{&tls, groupTLS, random, true, true, 0},
		} {
			made, err := a.chunkContest(c.group, c.set, c.coded, c.tls)
			if err != nil {
				return nil, err
			}
			made.Bar = c.bar
			*c.to = append(*c.to, made)
		}
	}
	return append(append(append(br, raw...), decoded...), tls...), nil
}

// chunkContest reads a set of chunks in turn: their stored bytes, or their
// pieces.
func (a arena) chunkContest(group string, set pieces, coded, tls bool) (contest, error) {
	c := contest{Group: group, Name: sizeName(set.size), Size: set.size, header: acceptIdentity}
	folder := "/piece/"
	if coded {
		folder, c.header = "/chunk/", acceptBrotli
	}
	theirs, ours := a.nginx.plain, a.node.plain
	if tls {
		theirs, ours = a.nginx.tls, a.node.tls
	}
	c.nginxProbe, c.oursURL = theirs+folder+set.hashes[0], ours+"/chunk/"+set.hashes[0]

	scripts := [2]string{}
	for i, prefix := range []string{folder, "/chunk/"} {
		paths := make([]string, len(set.hashes))
		for j, h := range set.hashes {
			paths[j] = prefix + h
		}
		scripts[i] = filepath.Join(a.dir, fmt.Sprintf("%s-%d%s.lua", set.kind, set.size, filepath.Dir(prefix)[1:]))
		if err := writeRotation(scripts[i], paths); err != nil {
			return contest{}, err
		}
	}
	c.nginx = wrk(theirs, scripts[0], c.header, a.size.period)
	c.inos = wrk(ours, scripts[1], c.header, a.size.period)
	return c, nil
}

// objectContests stores one large object and makes its cases.
func (a arena) objectContests(ctx context.Context) ([]contest, error) {
	const name = "source.tar"
	file := filepath.Join(a.nginx.root, "object", name)
	if err := writeFile(file, func(w io.Writer) error { return a.bytes.source(w, a.size.object) }); err != nil {
		return nil, err
	}
	put, _, err := a.node.put(ctx, file)
	if err != nil {
		return nil, err
	}
	url := a.node.plain + "/object/" + put[0].Hash
	prepared := filepath.Join(a.nginx.root, "prepared")
	joined, err := saveJoined(ctx, url, filepath.Join(prepared, "joined.br"))
	if err != nil {
		return nil, err
	}
	if _, err := output(ctx, "brotli", "--quality=6", "--output="+filepath.Join(prepared, "six.br"), file); err != nil {
		return nil, err
	}
	ours := curl(url, acceptBrotli, a.size.gets, joined)
	row := func(what, path string, bar float64, gets int, size int64) contest {
		return contest{
			Group: groupObject, Name: sizeName(a.size.object) + " against " + what, Size: a.size.object, Bar: bar,
			nginx: curl(a.nginx.plain+path, acceptBrotli, gets, size), inos: ours,
			nginxProbe: a.nginx.plain + path, oursURL: url, header: acceptBrotli, otherBytes: size == 0,
		}
	}
	return []contest{
		row("the brotli filter at its default level", "/filter/"+name, 0.01, 1, 0),
		row("brotli_static of the same bytes", "/static/joined", 2, a.size.gets, joined),
		row("brotli_static of brotli -q 6", "/static/six", 0, a.size.gets, 0),
	}, nil
}

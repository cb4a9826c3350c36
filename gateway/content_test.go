package gateway_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/castest"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/gateway/auth"
)

// keep gives bytes a name and its variables.
func (p *player) keep(name string, b []byte) {
	sum := sha256.Sum256(b)
	p.contents[name] = b
	p.vars[name+".hash"] = cas.Sum(b).String()
	p.vars[name+".size"] = strconv.Itoa(len(b))
	p.vars[name+".sha256"] = base64.StdEncoding.EncodeToString(sum[:])
}

// makeContent makes the bytes that a script names:
//
//	text                  the | lines
//	random N, words N     bytes that do not compress, that do
//	zeros N
//	gzip X, br X, zstd X  compressed
//	cut X N, flip X N     the first N bytes; with the bits of byte N turned over
//	join X Y…             one after the other
//	part X FROM TO
//	chunk X, raw X        the stored bytes of a piece; in the raw form, canonical or not
//	manifest X TYPE [LIE] the manifest of a file of one piece, perhaps with a lie
//	tar                   | lines: name/, name = text, name -> target, name => hard link, name !, name @CONTENT
func (p *player) makeContent(name string, words, lines []string) ([]byte, error) {
	if len(words) == 0 {
		return nil, fmt.Errorf("content %s: of which kind?", name)
	}
	number := func(i int) int { return must(strconv.Atoi(words[i])) }
	from := func(i int) []byte {
		b, ok := p.contents[words[i]]
		if !ok {
			panic("no content " + words[i])
		}
		return b
	}
	switch words[0] {
	case "text":
		return []byte(p.expand(strings.Join(lines, "\n") + "\n")), nil
	case "random":
		return random(name, number(1)), nil
	case "words":
		return sentences(name, number(1)), nil
	case "zeros":
		return make([]byte, number(1)), nil
	case "gzip", "br", "zstd":
		return compress(words[0], from(1))
	case "cut":
		return from(1)[:number(2)], nil
	case "part":
		return from(1)[number(2):number(3)], nil
	case "flip":
		b := slices.Clone(from(1))
		b[number(2)] ^= 0xff
		return b, nil
	case "join":
		var b []byte
		for i := range words[1:] {
			b = append(b, from(i+1)...)
		}
		return b, nil
	case "chunk":
		c, _, err := dag.EncodePiece(from(1), 0)
		return c.Bytes(), err
	case "raw":
		return castest.Raw(from(1)), nil
	case "manifest":
		return manifest(from(1), words[2], strings.Join(words[3:], " "))
	case "tar":
		return p.archive(lines)
	}
	return nil, fmt.Errorf("content %s: what is %q?", name, words[0])
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func source(name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(h.Sum64(), 1))
}

func random(name string, n int) []byte {
	r, b := source(name), make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func sentences(name string, n int) []byte {
	r, b := source(name), make([]byte, 0, n+16)
	list := strings.Fields("a chunk is named by the bytes it has and a manifest lists what belongs together")
	for len(b) < n {
		b = append(append(b, list[r.IntN(len(list))]...), " \n"[min(r.IntN(12)/11, 1)])
	}
	return b[:n]
}

func compress(kind string, b []byte) ([]byte, error) {
	var out bytes.Buffer
	var w interface {
		Write(b []byte) (int, error)
		Close() error
	}
	switch kind {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "br":
		w = brotli.NewWriter(&out)
	case "zstd":
		w = must(zstd.NewWriter(&out))
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	err := w.Close()
	return out.Bytes(), err
}

// manifest describes a file of one piece.
func manifest(piece []byte, mediaType, lie string) ([]byte, error) {
	c, link, err := dag.EncodePiece(piece, 0)
	if err != nil {
		return nil, err
	}
	m := cas.Manifest{
		Kind: cas.KindFile, Size: link.Size, Encoded: c.Size(), Count: 1, MediaType: mediaType,
		Raw: link.Raw, SHA256: cas.Hash(sha256.Sum256(piece)), Pieces: []cas.Piece{link},
	}
	switch lie {
	case "":
	case "sha256":
		m.SHA256[0] ^= 1
	case "encoded":
		m.Pieces[0].Encoded++
		m.Encoded++
	case "size":
		m.Pieces[0].Size--
		m.Size--
	case "raw":
		m.Pieces[0].Raw[0] ^= 1
		m.Raw = m.Pieces[0].Raw
	default:
		return nil, fmt.Errorf("no lie %q", lie)
	}
	chunk, err := dag.EncodeManifest(&m)
	return chunk.Bytes(), err
}

func (p *player) archive(lines []string) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, line := range lines {
		h := &tar.Header{Name: line, Mode: 0o644, Format: tar.FormatPAX}
		var body []byte
		for _, mark := range []string{" = ", " -> ", " => ", " @"} {
			if name, rest, ok := strings.Cut(line, mark); ok {
				h.Name = name
				switch mark {
				case " = ":
					h.Typeflag, body = tar.TypeReg, []byte(rest)
				case " -> ":
					h.Typeflag, h.Linkname = tar.TypeSymlink, rest
				case " => ":
					h.Typeflag, h.Linkname = tar.TypeLink, rest
				case " @":
					h.Typeflag, body = tar.TypeReg, p.contents[rest]
				}
				break
			}
		}
		if name, ok := strings.CutSuffix(line, " !"); ok {
			h.Name, h.Typeflag = name, tar.TypeChar
		}
		h.Size = int64(len(body))
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(body); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

// token issues a token with the key of a node.
func (p *player) token(name string, n *process, rights string) error {
	key, err := auth.OpenIssuer(n.dir)
	if err != nil {
		return err
	}
	r, err := auth.ParseRights(rights)
	if err != nil {
		return err
	}
	now := time.Now()
	token, err := key.Issue(name, r, now, now.Add(time.Hour))
	p.vars[name] = token.Reveal()
	return err
}

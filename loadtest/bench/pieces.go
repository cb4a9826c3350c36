package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"inos.dev/edge/cas"
)

// pieces is a set of chunks of one raw size, stored in the node, with their
// stored bytes in nginx' folder chunk and their pieces in its folder piece,
// both under the chunk's hash.
type pieces struct {
	kind   string
	size   int64
	hashes []string
}

// storePieces cuts the next pieces out of from and gives them to both servers.
func (a arena) storePieces(ctx context.Context, kind string, from io.Reader, size int64) (pieces, error) {
	set := pieces{kind: kind, size: size}
	dir := filepath.Join(a.dir, fmt.Sprintf("%s-%d", kind, size))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return pieces{}, err
	}
	files := make([]string, a.size.files)
	for i := range files {
		files[i] = filepath.Join(dir, fmt.Sprintf("%02d", i))
		err := writeFile(files[i], func(w io.Writer) error {
			_, err := io.CopyN(w, from, size)
			return err
		})
		if err != nil {
			return pieces{}, err
		}
	}
	objects, _, err := a.node.put(ctx, files...)
	if err != nil {
		return pieces{}, err
	}
	for i, o := range objects {
		hash, err := a.copyChunk(ctx, o.Hash, files[i])
		if err != nil {
			return pieces{}, err
		}
		set.hashes = append(set.hashes, hash.String())
	}
	return set, nil
}

// copyChunk gives nginx the stored bytes of an object of one piece, and the
// piece, and returns the chunk's hash.
func (a arena) copyChunk(ctx context.Context, object, piece string) (cas.Hash, error) {
	links, err := a.node.links(ctx, object)
	if err != nil {
		return cas.Hash{}, err
	}
	if len(links) != 1 {
		return cas.Hash{}, fmt.Errorf("object %s has %d links, want one", object, len(links))
	}
	hash := links[0].Hash
	body, _, err := fetch(ctx, a.node.plain+"/chunk/"+hash.String()+"?form=stored", "")
	if err != nil {
		return cas.Hash{}, err
	}
	if _, err := cas.Verify(hash, body); err != nil {
		return cas.Hash{}, err
	}
	if err := os.WriteFile(filepath.Join(a.nginx.root, "chunk", hash.String()), body, 0o644); err != nil {
		return cas.Hash{}, err
	}
	return hash, os.Rename(piece, filepath.Join(a.nginx.root, "piece", hash.String()))
}

// saveJoined writes the object's joined Brotli stream to a file and returns
// its length.
func saveJoined(ctx context.Context, url, file string) (n int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Accept-Encoding", "br")
	resp, err := httpClient().Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ContentLength < 0 || resp.Header.Get("Content-Encoding") != "br" {
		return 0, fmt.Errorf("%s: %s, %q, length %d: want a Brotli stream of known length", url, resp.Status,
			resp.Header.Get("Content-Encoding"), resp.ContentLength)
	}
	err = writeFile(file, func(w io.Writer) error {
		n, err = io.Copy(w, resp.Body)
		return err
	})
	return n, err
}

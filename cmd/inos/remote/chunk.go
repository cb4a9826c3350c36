package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"inos.dev/edge/cas"
)

// Chunk fetches one chunk and verifies it. Errors: cas.ErrNotFound,
// cas.ErrDenied, ErrUnavailable; cas.ErrHashMismatch, cas.ErrShape or
// cas.ErrTooLarge if the node sent something else.
func (n *Node) Chunk(ctx context.Context, h cas.Hash) (cas.Chunk, error) {
	var c cas.Chunk
	err := n.retry(ctx, func(ctx context.Context) (err error) {
		c, err = n.getChunk(ctx, h)
		return err
	})
	if err != nil {
		return cas.Chunk{}, fmt.Errorf("chunk %s: %w", h, err)
	}
	return c, nil
}

// Open implements dag.Getter; the Body is cas.InMemory.
func (n *Node) Open(ctx context.Context, h cas.Hash) (cas.Body, error) {
	c, err := n.Chunk(ctx, h)
	if err != nil {
		return nil, err
	}
	return cas.BytesBody(c.Bytes()), nil
}

func (n *Node) getChunk(ctx context.Context, h cas.Hash) (c cas.Chunk, err error) {
	resp, err := n.do(ctx, http.MethodGet, n.route("chunk", h)+"?form=stored", nil, http.StatusOK)
	if err != nil {
		return cas.Chunk{}, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	data, err := readBody(resp)
	if err != nil {
		if errors.Is(err, cas.ErrTooLarge) {
			return cas.Chunk{}, err
		}
		return cas.Chunk{}, n.unreachable(fmt.Errorf("the answer broke off after %d bytes: %w", len(data), err))
	}
	c, err = cas.Verify(h, data)
	if err != nil {
		return cas.Chunk{}, fmt.Errorf("%s sent wrong bytes: %w", n.base.Host, err)
	}
	n.delivery.Load().received(h, c.Size())
	return c, nil
}

// readBody reads at most a chunk.
func readBody(resp *http.Response) ([]byte, error) {
	size := resp.ContentLength
	if size > cas.MaxChunkSize {
		return nil, fmt.Errorf("%w: an answer of %d bytes, a chunk has at most %d", cas.ErrTooLarge, size, cas.MaxChunkSize)
	}
	if size >= 0 {
		data := make([]byte, size)
		m, err := io.ReadFull(resp.Body, data)
		return data[:m], err
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, cas.MaxChunkSize+1))
	if err == nil && len(data) > cas.MaxChunkSize {
		err = fmt.Errorf("%w: a chunk has at most %d bytes", cas.ErrTooLarge, cas.MaxChunkSize)
	}
	return data, err
}

// putChunk sends one chunk by itself.
func (n *Node) putChunk(ctx context.Context, c cas.Chunk) (added bool, err error) {
	err = n.retry(ctx, func(ctx context.Context) error {
		resp, err := n.do(ctx, http.MethodPut, n.route("chunk", c.Hash()), bytes.NewReader(c.Bytes()), http.StatusCreated, http.StatusOK, http.StatusNoContent)
		if err != nil {
			return err
		}
		added = resp.StatusCode == http.StatusCreated
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
		return errors.Join(err, resp.Body.Close())
	})
	if err != nil {
		return false, fmt.Errorf("chunk %s: %w", c.Hash(), err)
	}
	return added, nil
}

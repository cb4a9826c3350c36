package dag_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"testing"
	"testing/synctest"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
)

// TestSlowUploadsHoldNoPlace stops more uploads in the middle of a piece than
// there are places in flight: others get through all the same.
func TestSlowUploadsHoldNoPlace(t *testing.T) {
	archive := tarHead(t, tar.Header{Name: "small", Typeflag: tar.TypeReg, Size: 1000, Mode: 0o644})
	for name, upload := range map[string]func(context.Context, *dag.Writer, io.Reader) error{
		"file": func(ctx context.Context, w *dag.Writer, r io.Reader) error {
			_, err := w.File(ctx, r, "text/plain")
			return err
		},
		"tar": func(ctx context.Context, w *dag.Writer, r io.Reader) error {
			_, _, err := w.Unpack(ctx, io.MultiReader(bytes.NewReader(archive), r))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := dag.NewWriter(store(t), dag.WriterConfig{InFlight: 2})
				slow, silent := io.Pipe()
				done := make(chan error, 4)
				for range cap(done) {
					go func() { done <- upload(t.Context(), w, slow) }()
				}
				synctest.Wait() // all of them have begun to read
				if _, err := w.File(t.Context(), bytes.NewReader(mixed(5*cas.PieceSize, 1)), "text/plain"); err != nil {
					t.Error(err)
				}
				_ = silent.CloseWithError(errBroken) // always nil
				for range cap(done) {
					if err := <-done; err == nil {
						t.Error("an upload that broke off went well")
					}
				}
			})
		})
	}
}

// tarHead is a header without the file behind it.
func tarHead(t *testing.T, h tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

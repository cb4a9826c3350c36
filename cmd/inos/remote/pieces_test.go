package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
	"inos.dev/edge/cas/mem"
	"inos.dev/edge/cmd/inos/remote/remotetest"
)

// stored writes a file into a store of its own.
func stored(t *testing.T, store dag.Putter, source dag.Source, data []byte) *cas.Manifest {
	t.Helper()
	o, err := dag.NewWriter(store, dag.WriterConfig{}).File(t.Context(), bytes.NewReader(data), dag.DefaultMediaType)
	if err != nil {
		t.Fatal(err)
	}
	m, err := dag.Root(t.Context(), source, o.Hash)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestPiecesAgainstSlice: any range, with any pieces there already, right or
// wrong, gives the bytes of the file.
func TestPiecesAgainstSlice(t *testing.T) {
	store, err := mem.New(mem.Config{})
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat(randomBytes(1000), 4700) // 4.5 pieces
	source := dag.Manifests{Getter: store}
	m := stored(t, store, source, data)
	reader := NewReader(store, source, 3)
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.Int64Range(0, m.Size).Draw(t, "from")
		to := rapid.Int64Range(from, m.Size).Draw(t, "to")
		kept := rapid.SliceOfN(rapid.IntRange(0, 2), 5, 5).Draw(t, "kept")
		keep := func(span *dag.Span, dst []byte) ([]byte, bool) {
			dst = append(dst, data[span.Offset:span.Offset+span.Size]...)
			if kept[span.Index] == 2 {
				dst[len(dst)/2] ^= 1
			}
			return dst, kept[span.Index] > 0
		}
		var got []byte
		for piece, err := range reader.Pieces(context.Background(), m, from, to, keep) {
			if err != nil {
				t.Fatal(err)
			}
			if piece.Kept != (kept[piece.Index] == 1) {
				t.Fatalf("piece %d: kept is %v", piece.Index, piece.Kept)
			}
			raw := piece.Raw[:min(piece.Size, to-piece.Offset)]
			got = append(got, raw[max(0, from-piece.Offset):]...)
		}
		if !bytes.Equal(got, data[from:to]) {
			t.Fatalf("%d bytes, want %d", len(got), to-from)
		}
	})
	if held := len(reader.flight); held != 0 {
		t.Errorf("%d places of flight are lost", held)
	}
}

func TestPiecesEndWithTheLoop(t *testing.T) {
	server := remotetest.New(t)
	n := dial(t, server.URL, Config{})
	source := dag.Manifests{Getter: n}
	m := stored(t, server.Store, source, randomBytes(8*cas.PieceSize))
	reader := NewReader(n, source, 4)
	for piece, err := range reader.Pieces(t.Context(), m, 0, m.Size, nil) {
		if err != nil || piece.Index != 0 {
			t.Fatalf("piece %d, %v", piece.Index, err)
		}
		break
	}
	if held := len(reader.flight); held != 0 {
		t.Errorf("%d places of flight are lost", held)
	}
}

func TestPiecesFailWithTheFirstWrongOne(t *testing.T) {
	server := remotetest.New(t)
	n := dial(t, server.URL, Config{})
	source := dag.Manifests{Getter: n}
	m := stored(t, server.Store, source, randomBytes(6*cas.PieceSize))
	bad := m.Pieces[3].Hash
	server.SetAnswer(func(w http.ResponseWriter, h cas.Hash, data []byte) bool {
		if h != bad {
			return false
		}
		data = bytes.Clone(data)
		data[5000] ^= 1
		_, _ = w.Write(data)
		return true
	})
	reader := NewReader(n, source, 0)
	var last error
	count := 0
	for _, err := range reader.Pieces(t.Context(), m, 0, m.Size, nil) {
		if last = err; err == nil {
			count++
		}
	}
	if !errors.Is(last, cas.ErrHashMismatch) || count > 3 {
		t.Errorf("%d pieces, %v", count, last)
	}
	if held := len(reader.flight); held != 0 {
		t.Errorf("%d places of flight are lost", held)
	}
}

// TestReadAhead: the fetches of several pieces are under way at once.
func TestReadAhead(t *testing.T) {
	server := remotetest.New(t)
	n := dial(t, server.URL, Config{})
	source := dag.Manifests{Getter: n}
	m := stored(t, server.Store, source, randomBytes(6*cas.PieceSize))
	const ahead = 3
	var waiting atomic.Int64
	all := make(chan struct{})
	server.SetAnswer(func(http.ResponseWriter, cas.Hash, []byte) bool {
		if waiting.Add(1) == ahead {
			close(all)
		}
		<-all
		return false
	})
	pieces := 0
	for _, err := range NewReader(n, source, ahead).Pieces(t.Context(), m, 0, m.Size, nil) {
		if err != nil {
			t.Fatal(err)
		}
		pieces++
	}
	if pieces != 6 {
		t.Error(fmt.Sprint(pieces, " pieces"))
	}
}

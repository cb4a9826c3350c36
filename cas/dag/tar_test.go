package dag_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/dag"
)

// archive packs headers, each with as many zeros as it asks for.
func archive(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := errors.Join(w.WriteHeader(&h), writeString(w, strings.Repeat("\x00", int(h.Size)))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unpack(t *testing.T, r io.Reader) error {
	t.Helper()
	_, _, err := dag.NewWriter(store(t), dag.WriterConfig{}).Unpack(t.Context(), r)
	return err
}

// paxMember is a file with PAX records that package tar does not write.
func paxMember(t *testing.T, records ...string) []byte {
	t.Helper()
	var pax strings.Builder
	for _, r := range records {
		n := len(r) + 3 // " ", "\n" and at least one digit
		for n != len(r)+2+len(fmt.Sprint(n)) {
			n++
		}
		fmt.Fprintf(&pax, "%d %s\n", n, r)
	}
	head := archive(t, tar.Header{Name: "x", Typeflag: tar.TypeReg, Size: int64(pax.Len()), Mode: 0o644, Format: tar.FormatUSTAR})
	copy(head[512:], pax.String())
	head = retype(head, tar.TypeXHeader)
	member := archive(t, tar.Header{Name: "bomb", Typeflag: tar.TypeReg, Size: 1024, Mode: 0o644, Format: tar.FormatUSTAR})
	copy(member[512:], "1\n0\n512\n") // the map of format 1.0
	return append(head[:1024], member...)
}

// retype changes the type of a header and makes its checksum right again.
func retype(b []byte, flag byte) []byte {
	b[156] = flag
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b[:512] {
		sum += int(c)
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// TestUnpackRefusesSparse: a hole costs the sender nothing, and must not make
// the node write its zeros.
func TestUnpackRefusesSparse(t *testing.T) {
	const huge = "1099511627776"
	for name, b := range map[string][]byte{
		"0.0": paxMember(t, "GNU.sparse.size="+huge, "GNU.sparse.numblocks=1", "GNU.sparse.offset=0", "GNU.sparse.numbytes=1024"),
		"0.1": paxMember(t, "GNU.sparse.size="+huge, "GNU.sparse.map=0,1024", "GNU.sparse.numblocks=1"),
		"1.0": paxMember(t, "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize="+huge, "GNU.sparse.name=bomb"),
		"old": retype(archive(t, tar.Header{Name: "bomb", Typeflag: tar.TypeReg, Size: 512, Mode: 0o644, Format: tar.FormatGNU}), tar.TypeGNUSparse),
	} {
		if err := unpack(t, bytes.NewReader(b)); !errors.Is(err, cas.ErrCorrupt) || !strings.Contains(err.Error(), "sparse") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnpackBlames tells a bad archive from a stream that failed.
func TestUnpackBlames(t *testing.T) {
	long := archive(t, tar.Header{Name: "x", Typeflag: tar.TypeReg, Size: 2 << 20, Mode: 0o644, Format: tar.FormatUSTAR})
	if err := unpack(t, bytes.NewReader(retype(long, tar.TypeGNULongName))); !errors.Is(err, tar.ErrFieldTooLong) || !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("an endless name: %v", err)
	}
	good := archive(t, tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: 5000, Mode: 0o644})
	for _, n := range []int{100, 512, 600, 5000, 512 + 5120} {
		err := unpack(t, io.MultiReader(bytes.NewReader(good[:n]), iotest.ErrReader(errBroken)))
		if !errors.Is(err, errBroken) || errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("the stream fails after %d bytes: %v", n, err)
		}
	}
	for _, n := range []int{100, 600, 5000} {
		if err := unpack(t, bytes.NewReader(good[:n])); !errors.Is(err, cas.ErrCorrupt) {
			t.Errorf("the stream ends after %d bytes: %v", n, err)
		}
	}
}

// TestUnpackHardLinks: a second name for a link counts from its own place.
func TestUnpackHardLinks(t *testing.T) {
	deep := tar.Header{Name: "a/b/link", Typeflag: tar.TypeSymlink, Linkname: "../../target"}
	if err := unpack(t, bytes.NewReader(archive(t, deep, tar.Header{Name: "c/d/link", Typeflag: tar.TypeLink, Linkname: "a/b/link"}))); err != nil {
		t.Errorf("a link that stays inside: %v", err)
	}
	if err := unpack(t, bytes.NewReader(archive(t, deep, tar.Header{Name: "link", Typeflag: tar.TypeLink, Linkname: "a/b/link"}))); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("a link that its new place leads outside: %v", err)
	}
}

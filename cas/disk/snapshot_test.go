package disk

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/cas/castest"
)

// fill puts n chunks and returns them.
func fill(t testing.TB, s *Store, n int) []cas.Chunk {
	t.Helper()
	chunks := make([]cas.Chunk, n)
	for i := range chunks {
		chunks[i] = castest.Random(t, uint64(i), 100+i)
		if _, err := s.Put(t.Context(), chunks[i]); err != nil {
			t.Fatal(err)
		}
	}
	return chunks
}

func wantChunks(t *testing.T, s *Store, chunks []cas.Chunk) {
	t.Helper()
	want := map[cas.Hash]bool{}
	for _, c := range chunks {
		want[c.Hash()] = true
	}
	wantAll(t, s, want)
	if n := s.Stats().Chunks; n != len(want) {
		t.Errorf("%d chunks, want %d", n, len(want))
	}
}

func reopen(t *testing.T, s *Store, between func(dir string)) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	between(s.cfg.Dir)
	return openTest(t, Config{Dir: s.cfg.Dir})
}

// age sets the mtimes of all chunk directories back, as far as a snapshot
// trusts.
func age(t *testing.T, s *Store) {
	t.Helper()
	old := time.Now().Add(-time.Minute)
	for i := range s.shards {
		if err := s.root.Chtimes(filepath.Join(chunksName, shardName(i)), old, old); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReopen(t *testing.T) {
	s := openTest(t, Config{})
	chunks := fill(t, s, 40)
	s = reopen(t, s, func(string) {})
	wantChunks(t, s, chunks)
	age(t, s)
	s = reopen(t, s, func(dir string) {
		// A directory that looks unchanged is taken from the snapshot: a file
		// that comes in by hand and covers its traces is not seen.
		hidden := castest.Random(t, 1000, 200).Hash()
		sub := filepath.Join(dir, chunksName, hidden.String()[:2])
		info, err := os.Stat(sub)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sub, hidden.String()), make([]byte, 100), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(sub, time.Time{}, info.ModTime()); err != nil {
			t.Fatal(err)
		}
	})
	wantChunks(t, s, chunks)
}

// TestDamagedIndex flips bytes, cuts and removes: the directories are the
// truth.
func TestDamagedIndex(t *testing.T) {
	s := openTest(t, Config{})
	chunks := fill(t, s, 40)
	age(t, s)
	flip := func(at int) func(string) {
		return func(dir string) {
			name := filepath.Join(dir, indexName)
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			b[(at+len(b))%len(b)] ^= 0x10
			if err := os.WriteFile(name, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, damage := range map[string]func(string){
		"magic": flip(0), "version": flip(7), "time": flip(9), "mtime": flip(20), "count": flip(25),
		"first entry": flip(headerSize + 3), "last byte": flip(-1), "middle": flip(-700),
		"cut": func(dir string) {
			if err := os.Truncate(filepath.Join(dir, indexName), 5000); err != nil {
				t.Fatal(err)
			}
		},
		"empty": func(dir string) {
			if err := os.Truncate(filepath.Join(dir, indexName), 0); err != nil {
				t.Fatal(err)
			}
		},
		"missing": func(dir string) {
			if err := os.Remove(filepath.Join(dir, indexName)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Log(name)
		s = reopen(t, s, damage)
		wantChunks(t, s, chunks)
	}
}

// TestMovingIsNotTrusted: a snapshot that is taken between a rename and the
// entry in the index does not stand for the directory.
func TestMovingIsNotTrusted(t *testing.T) {
	s := openTest(t, Config{})
	c := castest.Random(t, 1, 100)
	w := &write{chunk: c}
	if err := s.writeTemp(w); err != nil {
		t.Fatal(err)
	}
	s.syncFile(w)
	if err := s.rename(s.shard(c.Hash()), w); err != nil || w.err != nil {
		t.Fatal(err, w.err)
	}
	age(t, s)
	s = reopen(t, s, func(string) {})
	wantChunks(t, s, []cas.Chunk{c})
}

func TestForeignFiles(t *testing.T) {
	s := openTest(t, Config{})
	chunks := fill(t, s, 3)
	short, long := testHash(1).String(), testHash(2).String()
	s = reopen(t, s, func(dir string) {
		put := func(name string, size int) {
			if err := os.WriteFile(filepath.Join(dir, chunksName, name), make([]byte, size), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		put("00/README", 10)
		put("00/"+chunks[0].Hash().String()[:63], 10)
		put("01/"+"00"+chunks[0].Hash().String()[2:], 100) // another shard's
		put(short[:2]+"/"+short, cas.MinChunkSize-1)
		put(long[:2]+"/"+long, cas.MaxChunkSize+1)
		link := "02" + short[2:]
		if err := os.Symlink("/etc/passwd", filepath.Join(dir, chunksName, "02", link)); err != nil {
			t.Fatal(err)
		}
	})
	wantForeign(t, s, chunks, short, long)
}

func wantForeign(t *testing.T, s *Store, chunks []cas.Chunk, quarantined ...string) {
	t.Helper()
	st := s.Stats()
	if st.Chunks != len(chunks) || st.Foreign != 4 || st.Quarantined != 2 {
		t.Errorf("%d chunks, %d foreign, %d in quarantine; want %d, 4, 2", st.Chunks, st.Foreign, st.Quarantined, len(chunks))
	}
	for _, name := range quarantined {
		if _, err := s.root.Stat(filepath.Join(quarantineName, name)); err != nil {
			t.Error(err)
		}
	}
}

// FuzzIndex: no index file makes the decoder fail otherwise than by an error,
// or gives it more entries than the file's size allows. Each input is read as
// it is, and with its checksums made right.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(indexMagic)) // whole files are in testdata/fuzz
	f.Fuzz(func(t *testing.T, data []byte) {
		readAllIndex(t, data)
		readAllIndex(t, reseal(bytes.Clone(data)))
	})
}

func readAllIndex(t *testing.T, data []byte) {
	t.Helper()
	x, err := readIndex(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return
	}
	total := 0
	for i := range shardCount {
		part := table{seed: 1}
		if x.shard(i, &part) != nil {
			continue
		}
		for _, e := range part.appendTo(nil) {
			total++
			if int(e.hash[0]) != i || !goodSize(e.size()) || e.has(verified|exact) {
				t.Errorf("shard %02x took the entry %+v", i, e)
			}
		}
	}
	if total*entrySize > len(data) {
		t.Errorf("%d entries out of %d bytes", total, len(data))
	}
}

// reseal makes the checksums of an index file right, as far as it can be read.
func reseal(data []byte) []byte {
	if len(data) < headerSize {
		return data
	}
	body := data[:headerSize-cas.HashSize]
	sum := cas.Sum(body)
	copy(data[len(body):], sum[:])
	x, err := readIndex(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return data
	}
	for i, at := range x.offset {
		list := data[at : at+int64(x.count[i]*entrySize)]
		sum := cas.Sum(list)
		copy(data[at+int64(len(list)):], sum[:])
	}
	return data
}

func indexBytes(t testing.TB, s *Store) []byte {
	t.Helper()
	if err := s.saveIndex(); err != nil {
		t.Fatal(err)
	}
	b, err := s.root.ReadFile(indexName)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

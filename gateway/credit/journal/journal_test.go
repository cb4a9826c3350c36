package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// config is for tests in which no process and no disk dies: it spares the
// fsyncs.
func config(dir string) Config {
	return Config{Dir: dir, Disk: quickDisk{}, Logger: slog.New(slog.DiscardHandler)}
}

type quickDisk struct{ realDisk }

func (quickDisk) Sync(*os.File) error { return nil }

// reading keeps what a journal reads back.
type reading struct{ records []Record }

func (r *reading) visit(rec *Record) error {
	kept := *rec
	kept.Accounts = slices.Clone(rec.Accounts)
	kept.Entries = slices.Clone(rec.Entries)
	for i := range kept.Entries {
		kept.Entries[i].Doc = slices.Clone(kept.Entries[i].Doc)
	}
	r.records = append(r.records, kept)
	return nil
}

func open(t testing.TB, cfg Config) (*Journal, []Record) {
	t.Helper()
	var r reading
	j, err := Open(context.Background(), cfg, Mark{}, r.visit)
	if err != nil {
		t.Fatal(err)
	}
	return j, r.records
}

func closed(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// stage stages a record that says its seq.
func stage(j *Journal) (Mark, error) {
	seq := j.Tip().Seq + 1
	d, err := j.Draft(time.Unix(1e9, 0), fmt.Sprint("id", seq), 1, []credit.Account{credit.User(fmt.Sprint("u", seq))}, 1)
	if err != nil {
		return Mark{}, err
	}
	d.Add(&Entry{Pos: d.Next(), Kind: credit.KindGrant, From: 1, To: 2, Amount: credit.Amount(seq), Object: cas.Hash{1}, Bytes: 7, Rest: 9, Ref: "why"})
	return j.Stage(d)
}

func write(t testing.TB, j *Journal) Mark {
	t.Helper()
	m, err := stage(j)
	if err == nil {
		err = j.Sync(t.Context(), m.Seq)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// wantRecords checks that the records are 1 to n.
func wantRecords(t testing.TB, records []Record, n int) {
	t.Helper()
	if len(records) != n {
		t.Fatalf("%d records, want %d", len(records), n)
	}
	for i, r := range records {
		seq := uint64(i + 1)
		if r.Seq != seq || r.ID != fmt.Sprint("id", seq) || len(r.Entries) != 1 || r.Entries[0].Amount != credit.Amount(seq) || r.Accounts[0] != credit.User(fmt.Sprint("u", seq)) {
			t.Fatalf("record %d is %+v", seq, r)
		}
	}
}

func TestReopen(t *testing.T) {
	cfg := config(filepath.Join(t.TempDir(), "a", "journal"))
	cfg.SegmentBytes = 1000
	var marks []Mark
	var origin cas.Hash
	for round := range 5 {
		j, records := open(t, cfg)
		wantRecords(t, records, 10*round)
		if round > 0 && j.Origin() != origin {
			t.Error("another origin")
		}
		origin = j.Origin()
		for range 10 {
			marks = append(marks, write(t, j))
		}
		closed(t, j)
	}
	list, err := os.ReadDir(cfg.Dir)
	if err != nil || len(list) < 5 {
		t.Fatalf("%d segments, %v", len(list), err)
	}
	for i, m := range marks {
		var r reading
		j, err := Open(t.Context(), cfg, m, r.visit)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.records) != len(marks)-1-i || j.Origin() != origin || j.Tip() != marks[len(marks)-1] {
			t.Errorf("from record %d: %d records, tip %+v", m.Seq, len(r.records), j.Tip())
		}
		closed(t, j)
	}
	m := marks[len(marks)-1]
	m.Hash[0]++
	if _, err := Open(t.Context(), cfg, m, func(*Record) error { return nil }); !errors.Is(err, ErrDamaged) {
		t.Errorf("a mark of another journal: %v", err)
	}
	m = marks[len(marks)-1]
	m.Last, m.Pos, m.Seq = m.Pos, m.Pos+100, m.Seq+1
	if _, err := Open(t.Context(), cfg, m, func(*Record) error { return nil }); !errors.Is(err, ErrDamaged) {
		t.Errorf("a mark behind the end: %v", err)
	}
}

func TestOrigins(t *testing.T) {
	a, _ := open(t, config(t.TempDir()))
	b, _ := open(t, config(t.TempDir()))
	defer closed(t, a)
	defer closed(t, b)
	if a.Origin() == b.Origin() || write(t, a).Hash == write(t, b).Hash {
		t.Error("two journals share a chain")
	}
}

func TestTimeNeverGoesBack(t *testing.T) {
	j, _ := open(t, config(t.TempDir()))
	defer closed(t, j)
	for _, sec := range []int64{100, 50, 101} {
		d, err := j.Draft(time.Unix(sec, 0), "", 0, nil, 1)
		if err != nil {
			t.Fatal(err)
		}
		d.Add(&Entry{Pos: d.Next(), Kind: credit.KindLease, From: 1})
		m, err := j.Stage(d)
		if err != nil || m.Time < 100e9 {
			t.Error(m.Time, err)
		}
	}
}

func TestReader(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.SegmentBytes = 3000
	j, _ := open(t, cfg)
	defer closed(t, j)
	for range 100 {
		write(t, j)
	}
	long := strings.Repeat("x", credit.MaxDoc)
	d, err := j.Draft(time.Unix(2e9, 0), "", 0, nil, 20)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		d.Add(&Entry{Pos: d.Next(), Kind: credit.KindDoc, From: 3, Ref: strings.Repeat("r", credit.MaxRef), Doc: []byte(long)})
	}
	m, err := j.Stage(d)
	if err == nil {
		err = j.Sync(t.Context(), m.Seq)
	}
	if err != nil {
		t.Fatal(err)
	}
	var all reading
	if _, _, err := Scan(t.Context(), cfg.Dir, Mark{}, all.visit); err != nil {
		t.Fatal(err)
	}
	r := j.Reader()
	defer r.Close()
	n := 0
	for _, rec := range slices.Backward(all.records) {
		for _, want := range slices.Backward(rec.Entries) {
			got, seq, at, err := r.Entry(want.Pos)
			if err != nil || seq != rec.Seq || !at.Equal(rec.Time) || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("at %d: %+v of %d, %v; want %+v of %d", want.Pos, got, seq, err, want, rec.Seq)
			}
			n++
		}
	}
	if n != 120 {
		t.Errorf("%d entries", n)
	}
	for _, pos := range []Position{0, 1, all.records[3].Pos, all.records[3].Entries[0].Pos + 1, m.Pos, m.Pos + 1, 1 << 60} {
		if e, _, _, err := r.Entry(pos); !errors.Is(err, ErrDamaged) {
			t.Errorf("at %d: %+v, %v", pos, e, err)
		}
	}
}

func TestLimits(t *testing.T) {
	j, _ := open(t, config(t.TempDir()))
	defer closed(t, j)
	for _, c := range []struct {
		id      string
		entries int
	}{{strings.Repeat("x", MaxID+1), 1}, {"", 0}, {"", MaxEntries + 1}} {
		if _, err := j.Draft(time.Now(), c.id, 0, nil, c.entries); !errors.Is(err, credit.ErrEntry) {
			t.Errorf("%d entries, an id of %d bytes: %v", c.entries, len(c.id), err)
		}
	}
	d, err := j.Draft(time.Now(), "", 0, nil, 2000)
	if err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		d.Add(&Entry{Pos: d.Next(), Kind: credit.KindDoc, From: 1, Doc: make([]byte, credit.MaxDoc+100)})
	}
	if _, err := j.Stage(d); !errors.Is(err, credit.ErrEntry) {
		t.Errorf("a record of %d bytes: %v", len(d.b), err)
	}
	write(t, j) // what was refused has left nothing
}

// TestTogether stages from many goroutines: records share the syncs, and each
// is durable when Sync says so.
func TestTogether(t *testing.T) {
	cfg := config(t.TempDir())
	disk := &faultyDisk{}
	cfg.Disk, cfg.SegmentBytes = disk, 20_000
	j, _ := open(t, cfg)
	var mu sync.Mutex // of the one who stages
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range 30 {
				if err := j.Room(t.Context()); err != nil {
					t.Error(err)
				}
				mu.Lock()
				m, err := stage(j)
				mu.Unlock()
				if err == nil {
					err = j.Sync(t.Context(), m.Seq)
				}
				if err != nil || j.Durable().Seq < m.Seq {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	closed(t, j)
	j, records := open(t, cfg)
	wantRecords(t, records, 960)
	closed(t, j)
	if n := disk.syncs.Load(); n > 900 {
		t.Errorf("%d syncs for 960 records", n)
	}
}

func TestClosed(t *testing.T) {
	j, _ := open(t, config(t.TempDir()))
	m, err := stage(j)
	if err != nil {
		t.Fatal(err)
	}
	closed(t, j) // waits for what is staged
	if j.Durable() != m {
		t.Error("Close has left a staged record behind")
	}
	if _, err := stage(j); !errors.Is(err, os.ErrClosed) {
		t.Errorf("stage: %v", err)
	}
	if err := errors.Join(j.Sync(t.Context(), m.Seq)); err != nil {
		t.Errorf("sync of what is durable: %v", err)
	}
	if err := j.Sync(t.Context(), m.Seq+1); !errors.Is(err, os.ErrClosed) {
		t.Errorf("sync: %v", err)
	}
	if err := j.Room(t.Context()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("room: %v", err)
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{{}, {Dir: t.TempDir(), SegmentBytes: -1}} {
		if _, err := Open(t.Context(), cfg, Mark{}, nil); err == nil {
			t.Errorf("Open takes %+v", cfg)
		}
	}
}

func TestForeignNames(t *testing.T) {
	cfg := config(t.TempDir())
	j, _ := open(t, cfg)
	write(t, j)
	closed(t, j)
	if err := os.WriteFile(filepath.Join(cfg.Dir, "notes.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	j, records := open(t, cfg)
	wantRecords(t, records, 1)
	closed(t, j)
	if err := os.WriteFile(filepath.Join(cfg.Dir, "1.log"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), cfg, Mark{}, nil); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Error(err)
	}
}

// copyDir copies the files of a directory.
func copyDir(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lastSegment is the path of the newest file.
func lastSegment(t testing.TB, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil || len(list) == 0 {
		t.Fatal(err, io.EOF)
	}
	return filepath.Join(dir, list[len(list)-1].Name())
}

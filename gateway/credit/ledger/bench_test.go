package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
)

// BenchmarkAppend writes records of one charge, one after the other and from
// 64 goroutines, which share their syncs.
func BenchmarkAppend(b *testing.B) {
	entries := []credit.Entry{{Kind: credit.KindServe, From: ann, To: node, Amount: 1, Bytes: 1 << 20, Object: cas.Hash{1}}}
	b.Run("alone", func(b *testing.B) {
		l := open(b, config(b.TempDir()))
		for b.Loop() {
			mustAppend(b, l, "", entries...)
		}
		closed(b, l)
	})
	b.Run("together", func(b *testing.B) {
		l := open(b, config(b.TempDir()))
		b.SetParallelism(64)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				mustAppend(b, l, "", entries...)
			}
		})
		closed(b, l)
	})
}

// BenchmarkScale fills books and measures what an operator waits for:
//
//	go test -run - -bench Scale ./gateway/credit/ledger
//
// INOS_SCALE_ACCOUNTS and INOS_SCALE_ENTRIES are how many there will be;
// 1,000,000 and 10,000,000 if they are not set. The journal has 8 in 10
// charges on 1 in 50 accounts, and one account with a charge in every 20,000,
// whose statement is spread over all of it.
func BenchmarkScale(b *testing.B) {
	s := &scale{b: b, accounts: fromEnv(b, "INOS_SCALE_ACCOUNTS", 1_000_000), cfg: config(b.TempDir()), rand: rand.New(rand.NewPCG(1, 2))}
	entries := fromEnv(b, "INOS_SCALE_ENTRIES", 10_000_000)
	for b.Loop() {
		s.l = open(b, s.cfg)
		for part := 1; part <= 4; part++ {
			s.fill(entries * part / 4)
			s.restart(fmt.Sprintf("restart-at-%d/4", part))
		}
		s.sizes()
		s.balances("warm", 100_000)
		s.statements("warm", 1000)
		s.cold()
		s.audit()
		closed(b, s.l)
	}
}

func fromEnv(b *testing.B, name string, value int) int {
	b.Helper()
	text := os.Getenv(name)
	if text == "" {
		return value
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("%s is %q", name, text)
	}
	return n
}

type scale struct {
	b        *testing.B
	cfg      Config
	l        *Ledger
	rand     *rand.Rand
	accounts int
	written  int
	spent    time.Duration // appending
}

const (
	perRecord = 1000
	wide      = credit.Account("user:wide") // has lines everywhere
	wideEvery = 20_000
)

func (s *scale) user(i int) credit.Account {
	return credit.User(fmt.Sprintf("%08d.someone.of.many@example.org", i))
}

// fill appends until there are n entries.
func (s *scale) fill(n int) {
	start := time.Now()
	for s.written < n {
		s.record()
	}
	s.spent += time.Since(start)
}

func (s *scale) record() {
	entries := make([]credit.Entry, perRecord)
	for i := range entries {
		n := s.written + i
		e := credit.Entry{Kind: credit.KindServe, To: node, Amount: credit.Amount(s.rand.IntN(100_000)), Bytes: s.rand.Int64N(1 << 30), Rest: s.rand.Uint32N(1 << 30)}
		switch {
		case n < s.accounts:
			e.From = s.user(n) // everybody once
		case n%5 > 0:
			e.From = s.user(s.rand.IntN(s.accounts/50 + 1))
		default:
			e.From = s.user(s.rand.IntN(s.accounts))
		}
		if n%wideEvery == 0 {
			e.From = wide
		}
		e.Object = cas.Hash{byte(n), byte(n >> 8), byte(n >> 16), 1}
		entries[i] = e
	}
	mustAppend(s.b, s.l, fmt.Sprint("record ", s.written), entries...)
	s.written += perRecord
}

// restart kills the ledger when a checkpoint is almost due, the worst moment,
// and measures the start.
func (s *scale) restart(name string) {
	for s.l.dirty.weight < s.cfg.withDefaults().MaxDirty*9/10 && int64(s.l.tip.Pos-s.l.saved.Pos) < s.cfg.withDefaults().CheckpointBytes*9/10 {
		s.record()
	}
	behind := float64(s.l.tip.Pos-s.l.saved.Pos) / (1 << 20)
	drop(s.b, s.l)
	start := time.Now()
	s.l = open(s.b, s.cfg)
	s.b.Logf("%s: %v with %.1f MiB behind the checkpoint, journal of %.0f MiB", name, time.Since(start).Round(time.Millisecond), behind, float64(s.l.tip.Pos)/(1<<20))
	s.b.ReportMetric(float64(time.Since(start).Milliseconds()), name+"-ms")
}

func (s *scale) sizes() {
	info, err := os.Stat(filepath.Join(s.cfg.Dir, File))
	if err != nil {
		s.b.Fatal(err)
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.b.ReportMetric(float64(s.l.tip.Pos)/float64(s.written), "bytes/entry")
	s.b.ReportMetric(float64(s.written)/s.spent.Seconds(), "entries/s")
	s.b.ReportMetric(float64(info.Size())/(1<<20), "checkpoint-MiB")
	s.b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MiB")
	s.b.ReportMetric(peakMiB(s.b), "peak-rss-MiB")
}

// peakMiB is the most memory that the process has had, mapped files included.
func peakMiB(b *testing.B) float64 {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Maxrss) / 1024
}

func (s *scale) balances(name string, n int) {
	s.percentiles("balance-"+name, n, func() {
		i := s.rand.IntN(s.accounts)
		st, err := s.l.State(context.Background(), s.user(i))
		if err != nil || st.Entries == 0 && i%wideEvery > 0 { // whose only line may have gone to the wide account
			s.b.Fatal(i, st, err)
		}
	})
}

// statements reads pages of 50 of the account with lines everywhere, and of
// others.
func (s *scale) statements(name string, n int) {
	page := func(a credit.Account, before Cursor, want int) Cursor {
		lines, next, err := s.l.Statement(context.Background(), a, before, 50)
		if err != nil || len(lines) < want {
			s.b.Fatal(len(lines), err)
		}
		return next
	}
	before := Cursor("")
	pages := n // what is read again is not cold
	if name == "cold" {
		pages = max(1, s.written/wideEvery/50)
	}
	s.percentiles("wide-page-"+name, pages, func() { before = page(wide, before, 1) })
	s.percentiles("page-"+name, n, func() { page(s.user(s.rand.IntN(s.accounts/50+1)), "", 1) })
	s.percentiles("node-page-"+name, min(n, 50), func() { page(node, "", 50) })
}

func (s *scale) percentiles(name string, n int, f func()) {
	times := make([]time.Duration, n)
	for i := range times {
		start := time.Now()
		f()
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	for _, p := range []int{50, 99} {
		s.b.ReportMetric(float64(times[n*p/100].Nanoseconds())/1000, fmt.Sprintf("%s-p%d-us", name, p))
	}
}

// cold forgets what the kernel has in memory of the files, and measures again.
func (s *scale) cold() {
	closed(s.b, s.l)
	s.forget()
	start := time.Now()
	s.l = open(s.b, s.cfg)
	s.b.ReportMetric(float64(time.Since(start).Milliseconds()), "restart-clean-cold-ms")
	s.balances("cold", 500)
	s.statements("cold", 100)
}

func (s *scale) forget() {
	err := filepath.WalkDir(s.cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".lock") {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
	})
	if err != nil {
		s.b.Fatal(err)
	}
}

func (s *scale) audit() {
	start := time.Now()
	r, err := s.l.Audit(context.Background())
	if err != nil || !r.OK {
		s.b.Fatalf("%+v, %v", r, err)
	}
	s.b.Logf("audit of %d records, %d entries, %d accounts: %v", r.Records, r.Entries, r.Accounts, time.Since(start).Round(time.Millisecond))
	s.b.ReportMetric(time.Since(start).Seconds(), "audit-s")
	s.b.ReportMetric(peakMiB(s.b), "peak-rss-with-audit-MiB")
}

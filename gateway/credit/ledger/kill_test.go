package ledger

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"inos.dev/edge/gateway/credit"
)

// childEnv names the directory of a child process of TestKill.
const childEnv = "INOS_LEDGER_CHILD"

func TestMain(m *testing.M) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		m.Run()
		return
	}
	if err := appendForEver(dir, os.Args[1]); err != nil {
		panic(err)
	}
}

// childConfig has many checkpoints and segments.
func childConfig(dir string) Config {
	return Config{Dir: dir, MaxDirty: 300, SegmentBytes: 20_000, CheckpointEvery: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
}

// childWriters is how many goroutines of a child append; each has a user.
const childWriters = 8

// charge is what a writer appends n times: the lease is the number of bytes
// that it has charged.
func charge(user credit.Account, n int) []credit.Entry {
	return []credit.Entry{
		{Kind: credit.KindServe, From: user, To: node, Amount: 3, Bytes: 10},
		{Kind: credit.KindLease, From: user, Bytes: int64(n)},
		{Kind: credit.KindDoc, From: user, Ref: "n/" + user.Subject(), Doc: []byte(strconv.Itoa(n))},
	}
}

// appendForEver says what it is about to append, and when it was acknowledged.
// The words begin with the round, so that ids are never the same by chance.
func appendForEver(dir, round string) error {
	l, err := Open(childConfig(dir))
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(context.Background())
	g.Go(func() error { return l.Run(ctx) })
	for w := range childWriters {
		user := credit.User(fmt.Sprint("w", w))
		g.Go(func() error {
			for n := 1; ; n++ {
				id := fmt.Sprint(round, "-", w, "-", n)
				if _, err := os.Stdout.WriteString("try " + id + "\n"); err != nil {
					return err
				}
				if _, _, err := l.Append(ctx, id, charge(user, n)); err != nil {
					return err
				}
				if _, err := os.Stdout.WriteString("done " + id + "\n"); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// heard is what a child has said: for each writer, how often it tried, and how
// often that was acknowledged. A writer tries again only when it was.
type heard struct{ tried, done [childWriters]int }

// TestKill kills a process that appends, at random moments. What was
// acknowledged is in the books, once; what was not is in them once or not at
// all; the journal gives the balances, off line and after a restart.
func TestKill(t *testing.T) {
	const perDir = 10
	rounds := 200
	if v := os.Getenv("INOS_SOAK"); v == "" || v == "0" {
		rounds /= 10
	}
	total := 0
	for first := 0; first < rounds; first += perDir {
		dir := t.TempDir()
		var served [childWriters]int64
		for r := first; r < min(first+perDir, rounds); r++ {
			h := killOne(t, dir, r)
			for _, n := range h.done {
				total += n
			}
			afterKill(t, dir, r, h, &served)
		}
	}
	t.Logf("%d kills, %d acknowledged records, all here, none twice", rounds, total)
	if total < rounds {
		t.Errorf("only %d records in %d rounds: the test tests nothing", total, rounds)
	}
}

func killOne(t *testing.T, dir string, round int) (h heard) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self, strconv.Itoa(round))
	child.Env = append(os.Environ(), childEnv+"="+dir)
	child.Stderr = os.Stderr
	pipe, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(pipe)
	for left := 1 + rand.IntN(1500); ; left-- {
		if left == 0 {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		line, err := out.ReadString('\n')
		if err != nil {
			break // its last word may be cut off
		}
		verb, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		var r, w, n int
		if _, err := fmt.Sscanf(id, "%d-%d-%d", &r, &w, &n); err != nil || r != round {
			t.Fatalf("the child says %q: %v", line, err)
		}
		if verb == "done" {
			h.done[w] = n
		} else {
			h.tried[w] = n
		}
	}
	if err := child.Wait(); child.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return h
}

// afterKill compares the books with what the child has said; served is what
// was in them before.
func afterKill(t *testing.T, dir string, round int, h heard, served *[childWriters]int64) {
	t.Helper()
	states := map[credit.Account]credit.State{}
	r, err := AuditDir(t.Context(), dir, func(a credit.Account, s credit.State) error { states[a] = s; return nil })
	if err != nil || !r.OK {
		t.Fatalf("off line: %+v, %v", r, err)
	}
	l := open(t, childConfig(dir))
	defer func() { closed(t, l) }()
	for w := range childWriters {
		user := credit.User(fmt.Sprint("w", w))
		s, err := l.State(t.Context(), user)
		if err != nil || s != states[user] {
			t.Fatalf("%s: %+v, %v; off line %+v", user, s, err, states[user])
		}
		n := int(s.Served-served[w]) / 10
		if n < h.done[w] || n > max(h.tried[w], h.done[w])+1 { // its last "try" may not have been heard
			t.Fatalf("%s: %d were acknowledged and %d tried, %d are in the books", user, h.done[w], h.tried[w], n)
		}
		if n > 0 {
			wantWhole(t, l, user, s, n)
		}
		for i := max(1, h.done[w]-2); i <= n; i++ {
			if _, again, err := l.Append(t.Context(), fmt.Sprint(round, "-", w, "-", i), charge(user, i)); !again || err != nil {
				t.Fatalf("%s: record %d of %d can be written again: %v", user, i, n, err)
			}
		}
		served[w] = s.Served
	}
	wantAudit(t, l)
}

// wantWhole checks that all entries of a writer's last record are there.
func wantWhole(t *testing.T, l *Ledger, user credit.Account, s credit.State, n int) {
	t.Helper()
	doc, err := l.Doc(t.Context(), "n/"+user.Subject())
	if err != nil || string(doc) != strconv.Itoa(n) || s.Leased != int64(n) || s.Entries != 3*s.Served/10 || s.Balance != -credit.Amount(3*s.Served/10) {
		t.Fatalf("%s: %+v, document %q, %v; want the record %d whole", user, s, doc, err, n)
	}
}

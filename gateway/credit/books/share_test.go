package books

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/gateway/redistest"
	"inos.dev/edge/mesh"
)

// openRedis returns the Share in a server.
func openRedis(t testing.TB, s *redistest.Server) *Redis {
	t.Helper()
	r, err := OpenRedis(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestMemoryShare(t *testing.T) {
	s := NewMemoryShare()
	contract(t, s, s.forget)
}

func TestRedisShare(t *testing.T) {
	server := redistest.Start(t)
	r := openRedis(t, server)
	contract(t, r, func() {
		// The function is lost, too: it has to be loaded again.
		if err := errors.Join(r.client.FlushAll(t.Context()).Err(), r.client.FunctionFlush(t.Context()).Err()); err != nil {
			t.Fatal(err)
		}
	})
}

// contract is what every Share does. lose has it lose everything.
func contract(t *testing.T, s Share, lose func()) {
	t.Helper()
	sync := func(t testing.TB, r Request) Reply {
		t.Helper()
		reply, err := s.Sync(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	t.Run("others", func(t *testing.T) {
		lose()
		sync(t, Request{Gateway: key(1), Seq: 1, Sums: []Sum{{"user:a", -5, 100}, {"user:b", 7, 0}}})
		sync(t, Request{Gateway: key(2), Seq: 1, Sums: []Sum{{"user:a", 12, 10}}})
		got := sync(t, Request{Gateway: key(3), Seq: 9, Ask: []credit.Account{"user:b", "user:none", "user:a", "user:b"}})
		want := []Others{{7, 0}, {}, {7, 110}, {7, 0}}
		if fmt.Sprint(got.Others) != fmt.Sprint(want) || len(got.Peers) != 2 || got.LastSeq != 0 {
			t.Errorf("a third one gets %+v", got)
		}
		// What is said and asked in one request: one's own is not in it.
		got = sync(t, Request{Gateway: key(1), Seq: 2, Sums: []Sum{{"user:a", 0, 0}}, Ask: []credit.Account{"user:a", "user:b"}})
		if fmt.Sprint(got.Others) != fmt.Sprint([]Others{{12, 10}, {}}) || got.LastSeq != 1 {
			t.Errorf("the first one gets %+v", got)
		}
		if got = sync(t, Request{Gateway: key(3), Seq: 10, Ask: []credit.Account{"user:a"}}); got.Others[0] != (Others{12, 10}) {
			t.Errorf("after a sum of zero: %+v", got)
		}
	})
	t.Run("numbers are exact", func(t *testing.T) {
		lose()
		for i, n := range []credit.Amount{math.MaxInt64, math.MinInt64, 1<<53 + 1, -(1<<53 + 1)} {
			seq := uint64(math.MaxUint64) - 4 + uint64(i)
			sync(t, Request{Gateway: key(1), Seq: seq, Sums: []Sum{{"user:a", n, math.MaxInt64}}})
			got := sync(t, Request{Gateway: key(2), Seq: seq, Ask: []credit.Account{"user:a"}})
			if got.Others[0] != (Others{n, math.MaxInt64}) {
				t.Errorf("%d became %+v", n, got.Others)
			}
			if again := sync(t, Request{Gateway: key(1), Seq: 1}); again.LastSeq != seq {
				t.Errorf("seq %d became %d", seq, again.LastSeq)
			}
		}
	})
	t.Run("late, twice, in any order", rapid.MakeCheck(func(t *rapid.T) {
		lose()
		requests := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Request {
			return Request{
				Gateway: key(rapid.ByteRange(1, 2).Draw(t, "gateway")), Seq: rapid.Uint64Range(1, 20).Draw(t, "seq"),
				Sums: []Sum{{"user:a", credit.Amount(rapid.Int64Range(-9, 9).Draw(t, "balance")), rapid.Int64Range(0, 9).Draw(t, "leased")}},
			}
		}), 1, 20).Draw(t, "requests")
		last, want := map[mesh.Key]uint64{}, map[mesh.Key]Sum{}
		for _, r := range requests {
			got, err := s.Sync(context.Background(), r)
			if err != nil || got.LastSeq != last[r.Gateway] {
				t.Fatalf("%+v, %v; the last seq was %d", got, err, last[r.Gateway])
			}
			if r.Seq > last[r.Gateway] {
				last[r.Gateway], want[r.Gateway] = r.Seq, r.Sums[0]
			}
		}
		got, err := s.Sync(context.Background(), Request{Gateway: key(3), Seq: 1, Ask: []credit.Account{"user:a"}})
		all := Others{want[key(1)].Balance + want[key(2)].Balance, want[key(1)].Leased + want[key(2)].Leased}
		if err != nil || got.Others[0] != all {
			t.Fatalf("%+v, %v; want %+v", got, err, all)
		}
	}))
	t.Run("generations", func(t *testing.T) {
		lose()
		first := sync(t, Request{Gateway: key(1), Seq: 5, Whole: true, Generation: "another"})
		if second := sync(t, Request{Gateway: key(1), Seq: 6, Whole: true, Generation: first.Generation}); second.Generation != first.Generation || first.Generation == "" {
			t.Errorf("generations %q and %q", first.Generation, second.Generation)
		}
		if got := sync(t, Request{Gateway: key(2), Seq: 1}); !got.Peers[key(1)] {
			t.Errorf("who has said all is not whole: %+v", got)
		}
		lose()
		got := sync(t, Request{Gateway: key(1), Seq: 7, Whole: true, Generation: first.Generation, Ask: []credit.Account{"user:a"}})
		if got.Generation == first.Generation || got.LastSeq != 0 || len(got.Peers) != 0 {
			t.Errorf("after a loss: %+v", got)
		}
		if got := sync(t, Request{Gateway: key(2), Seq: 1}); len(got.Peers) != 1 || got.Peers[key(1)] {
			t.Errorf("who was whole in the generation before is whole: %+v", got)
		}
	})
	t.Run("a page", func(t *testing.T) {
		lose()
		r := Request{Gateway: key(1), Seq: 1}
		for i := range MaxPage {
			r.Sums = append(r.Sums, Sum{credit.User(fmt.Sprint(i)), credit.Amount(i), 1})
		}
		sync(t, r)
		ask := Request{Gateway: key(2), Seq: 1}
		for _, sum := range r.Sums {
			ask.Ask = append(ask.Ask, sum.Account)
		}
		start := time.Now()
		for i, o := range sync(t, ask).Others {
			if o.Sum != r.Sums[i].Balance {
				t.Fatalf("%s has %d", r.Sums[i].Account, o.Sum)
			}
		}
		t.Logf("asking for %d accounts took %v", MaxPage, time.Since(start))
		r.Sums = append(r.Sums, Sum{Account: "user:more"})
		if _, err := s.Sync(t.Context(), r); err == nil {
			t.Error("more than a page: no error")
		}
	})
	t.Run("context", func(t *testing.T) {
		if _, err := s.Sync(ended(), Request{Gateway: key(1), Seq: 1}); err == nil {
			t.Error("no error after the end")
		}
	})
}

func TestRedisGone(t *testing.T) {
	server := redistest.Start(t)
	r := openRedis(t, server)
	try := func() error {
		start := time.Now()
		_, err := r.Sync(t.Context(), Request{Gateway: key(1), Seq: 1})
		if took := time.Since(start); took > 3*redisTimeout {
			t.Errorf("an answer took %v", took)
		}
		return err
	}
	if err := try(); err != nil {
		t.Fatal(err)
	}
	before := server.CommandCount()
	for range 10 {
		if err := try(); err != nil {
			t.Fatal(err)
		}
	}
	if n := server.CommandCount() - before; n != 10 {
		t.Errorf("10 exchanges are %d commands: %v", n, server.Commands())
	}
	server.Freeze()
	if try() == nil {
		t.Error("a frozen server answers")
	}
	server.Thaw()
	if err := try(); err != nil {
		t.Errorf("thawed: %v", err)
	}
	server.Kill()
	if try() == nil {
		t.Error("a dead server answers")
	}
	server.Restart()
	eventually(t, "restarted", func() bool { return try() == nil })
	if _, err := OpenRedis("http://localhost"); err == nil {
		t.Error("http is not Redis, and no error")
	}
}

func TestParseReply(t *testing.T) {
	own, other := key(1), key(2)
	k := string(other[:])
	gateways := []any{string(own[:]), "000000000000000000011", k, "000000000000000000021"}
	good := []any{"generation", "00000000000000000001", gateways, []any{k, "-5 7"}}
	got, err := parseReply(good, own, 1)
	if err != nil || got.Others[0] != (Others{-5, 7}) || got.LastSeq != 1 || len(got.Peers) != 1 || !got.Peers[other] {
		t.Fatalf("%+v, %v", got, err)
	}
	for name, bad := range map[string][]any{
		"nothing":    nil,
		"short":      good[:3],
		"generation": {int64(1), good[1], good[2], good[3]},
		"seq":        {good[0], "x", good[2], good[3]},
		"no hash":    {good[0], good[1], "x", good[3]},
		"odd":        {good[0], good[1], gateways[:3], good[3]},
		"gateway":    {good[0], good[1], []any{k, "1"}, good[3]},
		"key":        {good[0], good[1], []any{"key", gateways[1]}, good[3]},
		"balance":    {good[0], good[1], good[2], []any{k, "x 7"}},
		"lease":      {good[0], good[1], good[2], []any{k, "5"}},
	} {
		if _, err := parseReply(bad, own, 1); !errors.Is(err, errReply) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

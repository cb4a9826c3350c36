package redistest

import (
	"bufio"
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func client(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries, o.DialerRetries, o.DisableIdentity, o.Protocol = -1, 1, true, 2
	o.ContextTimeoutEnabled = true
	c := redis.NewClient(o)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestCounts(t *testing.T) {
	s := Start(t)
	c, direct := client(t, s.URL()), client(t, s.Direct())
	for range 10 {
		if err := c.Eval(t.Context(), `redis.call('INCR', KEYS[1]) return redis.call('INCR', KEYS[1])`, []string{"n"}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := direct.Get(t.Context(), "n").Int(); err != nil || n != 20 {
		t.Fatalf("n is %d, %v", n, err)
	}
	counts := s.Commands()
	if counts["EVAL"] != 10 || counts["INCR"] != 0 || counts["GET"] != 0 {
		t.Errorf("counted %v", counts)
	}
	sum := int64(0)
	for n := range maps.Values(counts) {
		sum += n
	}
	if sum != s.CommandCount() {
		t.Errorf("%d commands, by name %d", s.CommandCount(), sum)
	}
}

func TestFreezeAndThaw(t *testing.T) {
	s := Start(t)
	c := client(t, s.URL())
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Get(ctx, "k").Err(); !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "timeout") {
		t.Errorf("a frozen server: %v", err)
	}
	s.Thaw()
	if v, err := c.Get(t.Context(), "k").Result(); err != nil || v != "v" {
		t.Errorf("thawed: %q, %v", v, err)
	}
}

func TestKillLosesMemory(t *testing.T) {
	s := Start(t)
	c := client(t, s.URL())
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	if err := c.Get(t.Context(), "k").Err(); err == nil || errors.Is(err, redis.Nil) {
		t.Errorf("a dead server: %v", err)
	}
	s.Restart()
	// A connection of before may be found broken once.
	deadline := time.Now().Add(5 * time.Second)
	err := c.Get(t.Context(), "k").Err()
	for ; !errors.Is(err, redis.Nil) && time.Now().Before(deadline); err = c.Get(t.Context(), "k").Err() {
		continue
	}
	if !errors.Is(err, redis.Nil) {
		t.Errorf("after the restart: %v", err)
	}
}

func TestReadCommand(t *testing.T) {
	for _, c := range []struct{ in, name, left string }{
		{"PING\r\nrest", "PING", "rest"},
		{"set a b\r\n", "SET", ""},
		{"*2\r\n$3\r\nget\r\n$3\r\na\r\n\r\nrest", "GET", "rest"},
	} {
		r := bufio.NewReader(strings.NewReader(c.in))
		name, b, err := readCommand(r, nil)
		left := c.in[len(b):]
		if err != nil || name != c.name || left != c.left {
			t.Errorf("%q: %q, left %q, %v", c.in, name, left, err)
		}
	}
	for _, in := range []string{"", "*1\r\n", "*x\r\n", "*1\r\n:1\r\n", "*1\r\n$-1\r\n", "*1\r\n$5\r\nab"} {
		if _, _, err := readCommand(bufio.NewReader(strings.NewReader(in)), nil); err == nil {
			t.Errorf("%q is a command", in)
		}
	}
}

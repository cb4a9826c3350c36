package auth_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"inos.dev/edge/gateway/auth"
)

func quota(t *testing.T, cfg auth.QuotaConfig) *auth.Quota {
	t.Helper()
	q, err := auth.NewQuota(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func retryAfter(t *testing.T, err error) time.Duration {
	t.Helper()
	e, ok := errors.AsType[*auth.QuotaError](err)
	if !ok || !errors.Is(err, auth.ErrQuota) {
		t.Fatalf("error %v, want a *QuotaError", err)
	}
	return e.RetryAfter
}

func TestQuotaRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quota(t, auth.QuotaConfig{RequestsPerSecond: 0.5, BurstRequests: 3})
		for range 3 {
			if err := q.Admit("a"); err != nil {
				t.Fatal(err)
			}
		}
		wait := retryAfter(t, q.Admit("a"))
		if wait != 2*time.Second {
			t.Errorf("told to wait %v, want 2s", wait)
		}
		if err := q.Admit("b"); err != nil {
			t.Errorf("another key: %v", err)
		}
		time.Sleep(wait)
		if err := q.Admit("a"); err != nil {
			t.Errorf("after the wait: %v", err)
		}
	})
}

func TestQuotaBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quota(t, auth.QuotaConfig{BytesPerSecond: 1000, BurstBytes: 4000})
		if d := q.Charge("a", 4000); d != 0 {
			t.Errorf("the burst costs %v", d)
		}
		if err := q.Admit("a"); err != nil {
			t.Errorf("not in debt: %v", err)
		}
		if d := q.Charge("a", 10_000); d != 10*time.Second {
			t.Errorf("debt of %v, want 10s", d)
		}
		wait := retryAfter(t, q.Admit("a"))
		if wait != 10*time.Second {
			t.Errorf("told to wait %v, want 10s", wait)
		}
		time.Sleep(wait)
		if err := q.Admit("a"); err != nil {
			t.Errorf("after the wait: %v", err)
		}
		q.Charge("a", 1<<40)
		if wait := retryAfter(t, q.Admit("a")); wait > 24*time.Hour {
			t.Errorf("told to wait %v", wait)
		}
	})
}

func TestQuotaIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quota(t, auth.QuotaConfig{RequestsPerSecond: 1, BurstRequests: 1, MaxKeys: 10})
		for i := range 1000 {
			if err := q.Admit("busy"); i > 0 {
				retryAfter(t, err)
			}
			if err := q.Admit(auth.Key(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		if n := q.Keys(); n > 10 {
			t.Errorf("%d keys, want at most 10", n)
		}
	})
}

func TestNoQuota(t *testing.T) {
	q := quota(t, auth.QuotaConfig{})
	for range 100 {
		if err := q.Admit("a"); err != nil || q.Charge("a", 1<<40) != 0 {
			t.Fatal(err)
		}
	}
	if q.Keys() != 0 {
		t.Error("keys are kept for nothing")
	}
	if _, err := auth.NewQuota(auth.QuotaConfig{BytesPerSecond: -1}); err == nil {
		t.Error("a negative quota")
	}
}

func TestKeyOf(t *testing.T) {
	alice := auth.Identity{Subject: "alice", TokenID: "t1"}
	for _, tt := range []struct {
		id   auth.Identity
		addr string
		want auth.Key
	}{
		{alice, "192.0.2.1", "token t1"},
		{auth.Identity{}, "192.0.2.1", "net 192.0.2.1/32"},
		{auth.Identity{}, "2001:db8:1:2:3:4:5:6", "net 2001:db8:1:2::/64"},
		{auth.Identity{}, "", "unknown"},
	} {
		var a netip.Addr
		if tt.addr != "" {
			a = netip.MustParseAddr(tt.addr)
		}
		if got := auth.KeyOf(tt.id, a); got != tt.want {
			t.Errorf("%+v at %q: %q, want %q", tt.id, tt.addr, got, tt.want)
		}
	}
}

package heat_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"inos.dev/edge/gateway/heat"
	"inos.dev/edge/gateway/redistest"
)

func openRedis(t testing.TB, server *redistest.Server) *heat.Redis {
	t.Helper()
	s, err := heat.OpenRedis(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// direct is a client of the server itself, whose commands are not counted.
func direct(t testing.TB, server *redistest.Server) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(server.Direct())
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(options)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func flush(t testing.TB, server *redistest.Server) {
	t.Helper()
	if err := direct(t, server).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}

package books

import (
	"context"
	"crypto/rand"
	_ "embed" // the library
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"inos.dev/edge/cas"
	"inos.dev/edge/gateway/credit"
	"inos.dev/edge/mesh"
)

// syncLua is the source of the function that Redis runs.
//
//go:embed sync.lua
var syncLua string

// The keys. Their common hash tag keeps them on one node of a cluster. An
// account's is a hash: gateway → "balance leased"; so is that of the
// gateways: gateway → seq (20 digits) and whole (1 digit).
const (
	redisPrefix     = "{credit:0}:"
	redisGeneration = redisPrefix + "generation"
	redisGateways   = redisPrefix + "gateways"
	redisAccount    = redisPrefix + "account:"
)

// redisTimeout bounds each step of a command.
const redisTimeout = time.Second

// Redis is a Share in a Redis server, 7.0 or newer; get it with OpenRedis.
//
// Each Sync is one command, FCALL, of a function whose name carries the hash
// of its source: nodes of different builds do not meet in one function. It is
// loaded when the server does not know it. Every key of the command is
// declared and has the same hash tag, and nothing expires: the server must not
// evict keys (maxmemory-policy noeviction), since a lost key would look like
// an account without a balance. Losing all of them is noticed: then the
// generation is gone, too. An account takes some 200 bytes.
//
// Commands are never retried; see Share for why late ones do no harm.
type Redis struct {
	client  *redis.Client
	name    string // of the function and its library
	library string
}

var _ Share = (*Redis)(nil)

// OpenRedis returns the Share at a URL: redis://, rediss:// or unix://. It does
// not connect before the first Sync. The caller closes it.
func OpenRedis(url string) (*Redis, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("books: the URL of Redis: %w", err)
	}
	o.MaxRetries, o.DialerRetries = -1, 1
	o.Protocol, o.DisableIdentity = 2, true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = redisTimeout, redisTimeout, redisTimeout, redisTimeout
	o.ContextTimeoutEnabled = true
	o.PoolSize, o.MaxActiveConns, o.PipelinePoolSize = 1, 1, -1
	logging.Disable() // what fails is returned, and logged once
	hash := cas.Sum([]byte(syncLua)).String()
	name := "inos_credit_" + hash[:16]
	return &Redis{
		client: redis.NewClient(o), name: name,
		library: "#!lua name=" + name + "\n" + syncLua + "redis.register_function('" + name + "', sync)\n",
	}, nil
}

// Close ends the connection.
func (r *Redis) Close() error { return r.client.Close() }

// Sync implements Share.
func (r *Redis) Sync(ctx context.Context, req Request) (Reply, error) {
	if err := req.check(); err != nil {
		return Reply{}, err
	}
	keys := make([]string, 0, 2+len(req.Sums)+len(req.Ask))
	args := make([]any, 0, 6+len(req.Sums))
	whole := "0"
	if req.Whole {
		whole = "1"
	}
	keys = append(keys, redisGeneration, redisGateways)
	args = append(args, string(req.Gateway[:]), fmt.Sprintf("%020d", req.Seq), whole, req.Generation, rand.Text(), len(req.Sums))
	for _, s := range req.Sums {
		keys = append(keys, redisAccount+string(s.Account))
		args = append(args, strconv.FormatInt(int64(s.Balance), 10)+" "+strconv.FormatInt(s.Leased, 10))
	}
	for _, a := range req.Ask {
		keys = append(keys, redisAccount+string(a))
	}
	got, err := r.call(ctx, keys, args)
	if err != nil {
		return Reply{}, fmt.Errorf("books: redis: %w", err)
	}
	reply, err := parseReply(got, req.Gateway, len(req.Ask))
	if err != nil {
		return Reply{}, fmt.Errorf("books: the answer of redis: %w", err)
	}
	return reply, nil
}

// call calls the function, and loads it if the server does not know it.
func (r *Redis) call(ctx context.Context, keys []string, args []any) ([]any, error) {
	got, err := r.client.FCall(ctx, r.name, keys, args...).Slice()
	if err == nil || !strings.Contains(err.Error(), "Function not found") {
		return got, err
	}
	if err := r.client.FunctionLoad(ctx, r.library).Err(); err != nil && !strings.Contains(err.Error(), "already exists") {
		return nil, fmt.Errorf("load the function: %w", err)
	}
	return r.client.FCall(ctx, r.name, keys, args...).Slice()
}

// errReply says: an answer does not have the form that sync.lua gives it.
var errReply = errors.New("not in the form that the function answers")

// parseReply reads what sync.lua returns.
func parseReply(got []any, own mesh.Key, asked int) (Reply, error) {
	if len(got) != 3+asked {
		return Reply{}, fmt.Errorf("%w: %d parts", errReply, len(got))
	}
	reply := Reply{Peers: make(map[mesh.Key]bool), Others: make([]Others, asked)}
	var ok bool
	if reply.Generation, ok = got[0].(string); !ok || reply.Generation == "" {
		return Reply{}, fmt.Errorf("%w: generation %v", errReply, got[0])
	}
	last, _ := got[1].(string)
	var err error
	if reply.LastSeq, err = strconv.ParseUint(last, 10, 64); err != nil {
		return Reply{}, fmt.Errorf("%w: seq: %w", errReply, err)
	}
	err = eachPair(got[2], own, func(key mesh.Key, said string) error {
		if len(said) != 21 {
			return fmt.Errorf("%w: a gateway that said %q", errReply, said)
		}
		reply.Peers[key] = said[20] == '1'
		return nil
	})
	for i := 0; i < asked && err == nil; i++ {
		err = eachPair(got[3+i], own, func(_ mesh.Key, text string) error {
			balance, leased, _ := strings.Cut(text, " ")
			n, err := strconv.ParseInt(balance, 10, 64)
			if err != nil {
				return fmt.Errorf("%w: a balance: %w", errReply, err)
			}
			bytes, err := strconv.ParseInt(leased, 10, 64)
			if err != nil {
				return fmt.Errorf("%w: a lease: %w", errReply, err)
			}
			reply.Others[i].add(credit.Amount(n), bytes)
			return nil
		})
	}
	return reply, err
}

// eachPair calls f for the fields of a hash that are not the own gateway's.
func eachPair(hash any, own mesh.Key, f func(mesh.Key, string) error) error {
	list, ok := hash.([]any)
	if !ok || len(list)%2 != 0 {
		return fmt.Errorf("%w: a hash is %T", errReply, hash)
	}
	for i := 0; i < len(list); i += 2 {
		field, _ := list[i].(string)
		value, _ := list[i+1].(string)
		if len(field) != mesh.KeySize {
			return fmt.Errorf("%w: a gateway's key has %d bytes", errReply, len(field))
		}
		if key := mesh.Key([]byte(field)); key != own {
			if err := f(key, value); err != nil {
				return err
			}
		}
	}
	return nil
}

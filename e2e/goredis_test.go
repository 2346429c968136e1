package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/quipudb/quipu"
)

// goRedis connects without retries: each call is sent once, or a lost answer
// could be counted twice.
func (s *server) goRedis(t *testing.T, protocol, db int) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.resp, Protocol: protocol, DB: db, MaxRetries: -1})
	t.Cleanup(func() { c.Close() })
	return c
}

// TestGoRedis: go-redis works as it is, with both versions of the protocol.
func TestGoRedis(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a node")
	}
	s := newServer(t)
	s.start()
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("resp%d", protocol), func(t *testing.T) {
			for _, sub := range []struct {
				name string
				run  func(*testing.T, *server, *redis.Client)
			}{
				{"values and errors", goValues},
				{"pipeline", goPipeline},
				{"transactions", goTransactions},
				{"sets", goSets},
				{"scan", goScan},
				{"expiry", goExpiry},
				{"request ids", goOnce},
				{"databases and tenants", goTenants},
				{"publish and subscribe", goPubSub},
				{"concurrent", goConcurrent},
			} {
				t.Run(sub.name, func(t *testing.T) {
					c := s.goRedis(t, protocol, 0)
					if err := c.FlushAll(t.Context()).Err(); err != nil {
						t.Fatal(err)
					}
					sub.run(t, s, c)
				})
			}
		})
	}
}

func goValues(t *testing.T, _ *server, c *redis.Client) {
	ctx := t.Context()
	if v, err := c.IncrBy(ctx, "a", 5).Result(); err != nil || v != 5 {
		t.Errorf("INCRBY answered %d, %v", v, err)
	}
	if err := c.Set(ctx, "a", 7, 0).Err(); err != nil {
		t.Errorf("SET: %v", err)
	}
	if v, err := c.Get(ctx, "a").Int64(); err != nil || v != 7 {
		t.Errorf("GET answered %d, %v", v, err)
	}
	if err := c.Get(ctx, "none").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("GET of an absent key: %v", err)
	}
	if v := c.MGet(ctx, "a", "none").Val(); len(v) != 2 || v[0] != "7" || v[1] != nil {
		t.Errorf("MGET answered %v", v)
	}
	for _, row := range []struct {
		err  error
		want string
	}{
		{c.Set(ctx, "a", "text", 0).Err(), "ERR value is not an integer or out of range"},
		{c.SAdd(ctx, "a", "x").Err(), "WRONGTYPE Operation against a key holding the wrong kind of value"},
		{c.LPush(ctx, "l", "x").Err(), "ERR unknown command 'lpush', with args beginning with: 'l' 'x' "},
		{c.Incr(ctx, strings.Repeat("k", 513)).Err(), "ERR invalid key: has 513 bytes: the limit is 512"},
	} {
		if row.err == nil || row.err.Error() != row.want {
			t.Errorf("got error %v, want %s", row.err, row.want)
		}
	}
	if v := c.Incr(ctx, "a").Val(); v != 8 {
		t.Errorf("after the errors INCR answered %d", v)
	}
}

func goPipeline(t *testing.T, _ *server, c *redis.Client) {
	ctx := t.Context()
	const n = 5000
	cmds, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for range n {
			p.Incr(ctx, "hot")
		}
		p.Set(ctx, "hot", "text", 0)
		p.Get(ctx, "hot")
		return nil
	})
	if err == nil || err.Error() != "ERR value is not an integer or out of range" {
		t.Fatalf("the pipeline's error is %v", err)
	}
	for i := range n {
		if v := cmds[i].(*redis.IntCmd).Val(); v != int64(i+1) {
			t.Fatalf("answer %d is %d", i, v)
		}
	}
	if v := cmds[n+1].(*redis.StringCmd).Val(); v != fmt.Sprint(n) {
		t.Fatalf("behind the error GET answered %s", v)
	}
}

func goTransactions(t *testing.T, _ *server, c *redis.Client) {
	ctx := t.Context()
	cmds, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.IncrBy(ctx, "a", 3)
		p.SAdd(ctx, "s", "x", "y")
		p.Get(ctx, "a")
		return nil
	})
	if err != nil || cmds[0].(*redis.IntCmd).Val() != 3 || cmds[1].(*redis.IntCmd).Val() != 2 || cmds[2].(*redis.StringCmd).Val() != "3" {
		t.Fatalf("EXEC answered %v, %v", cmds, err)
	}
	// double doubles a by WATCH; between may write in between.
	double := func(between func()) error {
		return c.Watch(ctx, func(tx *redis.Tx) error {
			v, err := tx.Get(ctx, "a").Int64()
			if err != nil {
				return err
			}
			between()
			_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "a", 2*v, 0); return nil })
			return err
		}, "a")
	}
	if err := double(func() {}); err != nil {
		t.Fatalf("undisturbed: %v", err)
	}
	if err := double(func() { c.Incr(ctx, "a") }); !errors.Is(err, redis.TxFailedErr) {
		t.Fatalf("with a write in between: %v", err)
	}
	if v := c.Get(ctx, "a").Val(); v != "7" {
		t.Fatalf("a stands at %s, want 7", v)
	}
}

func goSets(t *testing.T, _ *server, c *redis.Client) {
	ctx := t.Context()
	if n := c.SAdd(ctx, "s", "x", "y", "é", "x").Val(); n != 3 {
		t.Errorf("SADD answered %d", n)
	}
	if m, err := c.SMembersMap(ctx, "s").Result(); err != nil || len(m) != 3 {
		t.Errorf("SMEMBERS answered %v, %v", m, err)
	}
	if is, err := c.SMIsMember(ctx, "s", "x", "z").Result(); err != nil || !is[0] || is[1] {
		t.Errorf("SMISMEMBER answered %v, %v", is, err)
	}
	if n := c.SRem(ctx, "s", "x", "z").Val(); n != 1 || c.SCard(ctx, "s").Val() != 2 {
		t.Errorf("SREM answered %d", n)
	}
}

func goScan(t *testing.T, _ *server, c *redis.Client) {
	ctx := t.Context()
	const n = 2500
	if _, err := c.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range n {
			p.Set(ctx, fmt.Sprintf("key:%04d", i), i, 0)
			p.SAdd(ctx, "set", fmt.Sprintf("member:%04d", i))
		}
		p.Set(ctx, "other", 1, 0)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, it := range []*redis.ScanIterator{
		c.Scan(ctx, 0, "key:*", 100).Iterator(),
		c.SScan(ctx, "set", 0, "member:*", 100).Iterator(),
		c.ScanType(ctx, 0, "key:*", 1000, "string").Iterator(),
	} {
		seen := make(map[string]bool)
		for it.Next(ctx) {
			seen[it.Val()] = true
		}
		if it.Err() != nil || len(seen) != n {
			t.Errorf("the scan met %d of %d, %v", len(seen), n, it.Err())
		}
	}
}

func goExpiry(t *testing.T, _ *server, c *redis.Client) {
	ctx := t.Context()
	c.Set(ctx, "a", 1, time.Hour)
	if ttl := c.TTL(ctx, "a").Val(); ttl <= 59*time.Minute || ttl > time.Hour {
		t.Errorf("TTL answered %v", ttl)
	}
	if !c.Persist(ctx, "a").Val() || c.TTL(ctx, "a").Val() != -1 {
		t.Error("PERSIST left a time")
	}
	start := time.Now()
	c.PExpire(ctx, "a", 200*time.Millisecond)
	for c.Exists(ctx, "a").Val() == 1 {
		if time.Since(start) > 30*time.Second {
			t.Fatal("a never expired")
		}
	}
	if gone := time.Since(start); gone < 190*time.Millisecond {
		t.Errorf("a expired after %v", gone)
	}
}

func goOnce(t *testing.T, _ *server, c *redis.Client) {
	ctx := t.Context()
	id := quipu.NewIDSource(nil).Next().String()
	for range 3 {
		if v, err := c.Do(ctx, "QUIPU.ONCE", id, "INCRBY", "a", 5).Int64(); err != nil || v != 5 {
			t.Fatalf("answered %d, %v", v, err)
		}
	}
	if v, err := c.Do(ctx, "QUIPU.ONCE", id, "REPLAYED", "INCRBY", "a", 5).Int64Slice(); err != nil || len(v) != 2 || v[0] != 1 || v[1] != 5 {
		t.Fatalf("REPLAYED answered %v, %v", v, err)
	}
	if err := c.Do(ctx, "QUIPU.ONCE", id, "INCRBY", "a", 6).Err(); err == nil || !strings.HasPrefix(err.Error(), "IDREUSED ") {
		t.Fatalf("the id with another operation: %v", err)
	}
	if v := c.Get(ctx, "a").Val(); v != "5" {
		t.Fatalf("a stands at %s", v)
	}
}

func goTenants(t *testing.T, s *server, c *redis.Client) {
	ctx := t.Context()
	third := s.goRedis(t, c.Options().Protocol, 3)
	named := c.Conn()
	defer named.Close()
	if err := named.Do(ctx, "SELECT", "team").Err(); err != nil {
		t.Fatal(err)
	}
	c.Set(ctx, "a", 1, 0)
	third.Set(ctx, "a", 3, 0)
	named.Set(ctx, "a", 9, 0)
	for _, row := range []struct {
		got  string
		want string
	}{{c.Get(ctx, "a").Val(), "1"}, {third.Get(ctx, "a").Val(), "3"}, {named.Get(ctx, "a").Val(), "9"}} {
		if row.got != row.want {
			t.Errorf("got %q, want %q", row.got, row.want)
		}
	}
	if err := third.FlushDB(ctx).Err(); err != nil || third.DBSize(ctx).Val() != 0 || c.DBSize(ctx).Val() != 1 {
		t.Errorf("FLUSHDB of one database: %v", err)
	}
}

func goPubSub(t *testing.T, _ *server, c *redis.Client) {
	ctx := t.Context()
	sub := c.Subscribe(ctx, "news")
	defer sub.Close()
	if _, err := sub.Receive(ctx); err == nil || !strings.HasPrefix(err.Error(), "ERR unknown command 'subscribe'") {
		t.Errorf("SUBSCRIBE: %v", err)
	}
	if err := c.Publish(ctx, "news", "x").Err(); err == nil || !strings.HasPrefix(err.Error(), "ERR unknown command 'publish'") {
		t.Errorf("PUBLISH: %v", err)
	}
}

// goConcurrent: many clients count exactly, by INCR, in transactions, and by
// WATCH, where each tries until nobody was in between.
func goConcurrent(t *testing.T, _ *server, c *redis.Client) {
	ctx := t.Context()
	const clients, rounds = 16, 50
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := range rounds {
				if err := c.Incr(ctx, "plain").Err(); err != nil {
					t.Error(err)
				}
				if _, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "tx"); p.DecrBy(ctx, "minus", 2); return nil }); err != nil {
					t.Error(err)
				}
				for i%10 == 0 {
					err := c.Watch(ctx, func(tx *redis.Tx) error {
						v, err := tx.Get(ctx, "watched").Int64()
						if err != nil && !errors.Is(err, redis.Nil) {
							return err
						}
						_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "watched", v+1, 0); return nil })
						return err
					}, "watched")
					if errors.Is(err, redis.TxFailedErr) {
						continue
					}
					if err != nil {
						t.Error(err)
					}
					break
				}
			}
		})
	}
	wg.Wait()
	got := fmt.Sprint(c.MGet(ctx, "plain", "tx", "minus", "watched").Val())
	if want := fmt.Sprint([]any{clients * rounds, clients * rounds, -2 * clients * rounds, clients * rounds / 10}); got != want {
		t.Errorf("counted %s, want %s", got, want)
	}
}

// TestGoRedisRestart: a client goes on by itself after the node was killed and
// started again, and what was acknowledged is there.
func TestGoRedisRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a node")
	}
	s := newServer(t)
	s.start()
	c := s.goRedis(t, 3, 0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for round := range int64(3) {
		if v, err := c.Incr(ctx, "a").Result(); err != nil || v != round+1 {
			t.Fatalf("round %d: INCR answered %d, %v", round, v, err)
		}
		s.kill()
		if err := c.Get(ctx, "a").Err(); err == nil || errors.Is(err, redis.Nil) {
			t.Fatalf("round %d: a killed node answered: %v", round, err)
		}
		s.start()
	}
}

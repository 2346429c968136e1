package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quipudb/quipu/internal/history"
)

// TestHistoryUnderKills: clients of both edges, kill -9 after a number of
// answers, restart: one order explains all that was answered before and after.
func TestHistoryUnderKills(t *testing.T) {
	cycles := 12
	if testing.Short() {
		cycles = 2
	}
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, 0))
	s := newServer(t)
	s.start()
	var r history.Recorder
	for cycle := range cycles {
		// Names of the cycle's own: what it leaves unknown does not burden the
		// search in the next.
		names := []string{fmt.Sprint("a", cycle), fmt.Sprint("b", cycle)}
		var answers atomic.Int64
		enough := make(chan struct{})
		until := int64(50 + rng.IntN(500))
		var wg sync.WaitGroup
		for client := range 6 {
			rng := rand.New(rand.NewPCG(uint64(cycle), uint64(client)))
			c := s.caller([]string{"http", "resp"}[client%2])
			wg.Go(func() {
				defer c.close()
				for {
					op := add(names[rng.IntN(2)], int64(1+rng.IntN(3)))
					if rng.IntN(4) == 0 {
						op = get(op.Name)
					}
					call := r.Invoke(client, op)
					res, err := c.call(op, "")
					if err != nil {
						return // the call stays without a return: unknown
					}
					call.Return(res)
					if answers.Add(1) == until {
						close(enough)
					}
				}
			})
		}
		<-enough
		s.kill()
		wg.Wait()
		s.start()
		for i, edge := range []string{"http", "resp"} {
			c := s.caller(edge)
			for _, name := range names {
				call := r.Invoke(6+i, get(name))
				res, err := c.call(get(name), "")
				if err != nil {
					t.Fatal(err)
				}
				call.Return(res)
				if err := r.CheckSum(name, res.Value); err != nil {
					t.Errorf("cycle %d: %v", cycle, err)
				}
			}
			c.close()
		}
	}
	applied, notApplied, unknown := r.Counts()
	t.Logf("%d applied, %d not applied, %d unknown", applied, notApplied, unknown)
	if err := r.Check(time.Minute); err != nil {
		t.Fatal(err)
	}
}

// TestLostAnswers: a proxy loses requests and answers on both edges. With
// request ids and retries the count is exact; without, each counter stands at
// what was acknowledged and what was delivered without its answer.
func TestLostAnswers(t *testing.T) {
	calls := 300
	if testing.Short() {
		calls = 60
	}
	s := newServer(t)
	s.start()
	for _, edge := range []string{"http", "resp"} {
		t.Run(edge, func(t *testing.T) {
			direct := s.caller(edge)
			defer direct.close()
			t.Run("with ids", func(t *testing.T) {
				p := newProxy(t, direct.addr, 1)
				var wg sync.WaitGroup
				for client := range 4 {
					c := &caller{edge: edge, addr: p.addr()}
					wg.Go(func() {
						defer c.close()
						for i := range calls {
							id := fmt.Sprintf("%s-%d-%d", edge, client, i)
							for {
								res, err := c.call(add("once-"+edge, 1), id)
								if err == nil && res.Code != 0 {
									t.Errorf("call %s: %v", id, res.Code)
								}
								if err == nil {
									break
								}
							}
						}
					})
				}
				wg.Wait()
				requests, answers := p.lost()
				t.Logf("%d requests and %d answers were lost", requests, answers)
				res, err := direct.call(get("once-"+edge), "")
				if err != nil || res.Value != int64(4*calls) {
					t.Fatalf("the counter stands at %d (%v), %d were sent", res.Value, err, 4*calls)
				}
				if requests == 0 || answers == 0 {
					t.Fatal("the proxy lost nothing")
				}
			})
			t.Run("without ids", func(t *testing.T) {
				p := newProxy(t, direct.addr, 2)
				var acked atomic.Int64
				var wg sync.WaitGroup
				for range 4 {
					c := &caller{edge: edge, addr: p.addr()}
					wg.Go(func() {
						defer c.close()
						for range calls {
							_, err := c.call(add("plain-"+edge, 1), "")
							if err == nil {
								acked.Add(1)
							} else if errors.Is(err, errNotSent) {
								t.Error(err)
							}
						}
					})
				}
				wg.Wait()
				_, answers := p.lost()
				res, err := direct.call(get("plain-"+edge), "")
				if want := acked.Load() + answers; err != nil || res.Value != want || want >= int64(4*calls) {
					t.Fatalf("the counter stands at %d (%v); %d acknowledged, %d delivered without an answer, %d sent", res.Value, err, acked.Load(), answers, 4*calls)
				}
			})
		})
	}
}

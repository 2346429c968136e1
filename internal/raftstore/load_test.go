package raftstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/pool"
)

// TestManyBytes: more than raft may hand out to be applied at once goes
// through, in many entries.
func TestManyBytes(t *testing.T) {
	cfg := testConfig(vfs.NewMem())
	cfg.SegmentBytes, cfg.LogBytes, cfg.HandoverOps, cfg.CacheBytes = 1<<20, 8<<20, 1<<20, 256<<20
	s := open(t, cfg)
	p := newPool(t, s)
	var ops []quipu.Op
	for i := range 2000 {
		ops = append(ops, add(fmt.Sprintf("%0100d", i), 1, quipu.RequestID{}))
	}
	for i := range int64(3 * maxApplyBytes / 200_000) {
		if r := do(t, p, ops...); r[0].Value != i+1 {
			t.Fatalf("round %d: %+v", i, r[0])
		}
	}
	p.Close()
	s.Close()
}

// TestLoad: many callers on the machine's own disk, in batches small and large,
// some of which the log's own goroutine writes; the sum is exact.
func TestLoad(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), NodeName: "n", SegmentBytes: 1 << 20, LogBytes: 4 << 20, HandoverOps: 100, FreeSpaceFloorBytes: 1}
	s := open(t, cfg)
	p := newPool(t, s)
	const callers, rounds, each, names = 50, 200, 16, 30_000
	var wg sync.WaitGroup
	for c := range callers {
		rng := rand.New(rand.NewPCG(1, uint64(c)))
		wg.Go(func() {
			ended := make(chan struct{}, 1)
			sub := &pool.Submission{Done: func(*pool.Submission) { ended <- struct{}{} }}
			for range rounds {
				sub.Ops = sub.Ops[:0]
				for range each {
					sub.Ops = append(sub.Ops, add(fmt.Sprint("c", rng.IntN(names)), 1, quipu.RequestID{}))
				}
				p.Submit(sub)
				<-ended
				for i := range sub.Results {
					if sub.Results[i].Code != quipu.CodeOK {
						t.Errorf("an add answered %v", sub.Results[i].Code)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	total := int64(0)
	for i := range names {
		results := make([]quipu.Result, 1)
		ops := []quipu.Op{{Kind: quipu.KindGet, Tenant: quipu.DefaultTenant, Name: fmt.Sprint("c", i)}}
		if err := p.Read(context.Background(), ops, results); err != nil {
			t.Fatal(err)
		}
		total += results[0].Value
	}
	if total != callers*rounds*each {
		t.Fatalf("the counters sum to %d, want %d", total, callers*rounds*each)
	}
	p.Close()
	s.Close()
}

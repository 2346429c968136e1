package history_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/history"
	"github.com/quipudb/quipu/internal/memstore"
	"github.com/quipudb/quipu/internal/pool"
	"github.com/quipudb/quipu/internal/raftstore"
	"github.com/quipudb/quipu/internal/store"
	"github.com/quipudb/quipu/internal/wal"
)

// TestStores: concurrent clients of a pool in front of each store see one
// order of things; the reference store loses answers and refuses meanwhile.
func TestStores(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		var mu sync.Mutex
		rng := rand.New(rand.NewPCG(1, 2))
		linearizable(t, memstore.New(memstore.Config{Fault: func(*store.Batch) memstore.Fault {
			mu.Lock()
			defer mu.Unlock()
			switch rng.IntN(40) {
			case 0:
				return memstore.LoseAnswer
			case 1:
				return memstore.FailBefore
			}
			return memstore.NoFault
		}}))
	})
	t.Run("raft", func(t *testing.T) {
		s, err := raftstore.Open(raftstore.Config{
			Dir: "data", NodeName: "n", FS: wal.VFS(vfs.NewMem()), SegmentBytes: 64 << 10, LogBytes: 32 << 10, CacheBytes: 1 << 20,
			HandoverOps: 3, FreeSpaceFloorBytes: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		linearizable(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// linearizable lets clients loose on a store, round by round on names of their
// own, so that what is unknown in one does not burden the search in the next.
func linearizable(t *testing.T, s store.Store) {
	p, err := pool.New(pool.Config{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	var r history.Recorder
	for round := range rounds {
		var wg sync.WaitGroup
		for client := range 6 {
			rng := rand.New(rand.NewPCG(uint64(round), uint64(client)))
			wg.Go(func() {
				for range 40 {
					act(p, &r, rng, round, client)
				}
			})
		}
		wg.Wait()
	}
	applied, notApplied, unknown := r.Counts()
	t.Logf("%d applied, %d not applied, %d unknown", applied, notApplied, unknown)
	if err := r.Check(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	for round := range rounds {
		results := make([]quipu.Result, 1)
		name := fmt.Sprint("sum", round)
		if err := p.Read(context.Background(), []quipu.Op{{Kind: quipu.KindGet, Tenant: quipu.DefaultTenant, Name: name}}, results); err != nil {
			t.Fatal(err)
		}
		if err := r.CheckSum(name, results[0].Value); err != nil {
			t.Error(err)
		}
	}
}

// act does one operation and records it.
func act(p *pool.Pool, r *history.Recorder, rng *rand.Rand, round, client int) {
	op := quipu.Op{Tenant: quipu.DefaultTenant, Name: fmt.Sprint("sum", round), Kind: quipu.KindAdd, Value: int64(1 + rng.IntN(3))}
	switch n := rng.IntN(20); {
	case n < 4:
	case n < 6:
		op.Kind, op.Value = quipu.KindGet, 0
	default:
		// The other names see everything else.
		op.Name, op.Value = fmt.Sprint("c", rng.IntN(2), " ", round), 1
		switch n {
		case 6, 7, 8:
		case 9:
			op.Options = &quipu.Options{HasUpper: true, Upper: 3}
		case 10:
			op.Kind, op.Value = quipu.KindSet, int64(rng.IntN(3))
		case 11:
			op.Kind, op.Value = quipu.KindReset, 0
		case 12:
			op.Kind, op.Value = quipu.KindDelete, 0
		case 13, 14, 15:
			op.Kind, op.Value = quipu.KindGet, 0
		default:
			op.Name, op.Value, op.Item = fmt.Sprint("s", round), 0, fmt.Sprint("i", rng.IntN(3))
			op.Kind = []quipu.Kind{quipu.KindAddItem, quipu.KindRemoveItem, quipu.KindHasItem, quipu.KindCount}[n-16]
			if op.Kind == quipu.KindCount {
				op.Item = ""
			}
		}
	}
	results := make([]quipu.Result, 1)
	call := r.Invoke(client, op)
	if op.Kind.Reads() && rng.IntN(2) == 0 {
		if err := p.Read(context.Background(), []quipu.Op{op}, results); err != nil {
			panic(err) // no read of these stores fails
		}
	} else {
		p.Do(context.Background(), []quipu.Op{op}, nil, results)
	}
	call.Return(results[0])
}

package raftstore

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/pool"
)

// BenchmarkBursts is an increment's way from the pool to its answer, without an
// edge: 50 connections send bursts of adds on 100,000 names, which are hot. Run
// it with TMPDIR on a memory file system to see the processor's part alone.
func BenchmarkBursts(b *testing.B) {
	const connections, names = 50, 100_000
	for _, burst := range []int{1, 16, 128} {
		for _, keyed := range []bool{false, true} {
			b.Run(fmt.Sprintf("burst=%d/keyed=%t", burst, keyed), func(b *testing.B) {
				s, err := Open(Config{Dir: b.TempDir(), NodeName: "n", FreeSpaceFloorBytes: 1})
				if err != nil {
					b.Fatal(err)
				}
				defer s.Close()
				p, err := pool.New(pool.Config{Store: s})
				if err != nil {
					b.Fatal(err)
				}
				defer p.Close()
				rng := rand.New(rand.NewPCG(1, 2))
				ids := quipu.NewIDSource(nil)
				var landed sync.WaitGroup
				subs := make([]*pool.Submission, connections)
				for i := range subs {
					subs[i] = &pool.Submission{Ops: make([]quipu.Op, burst), Done: func(*pool.Submission) { landed.Done() }}
					for j := range subs[i].Ops {
						subs[i].Ops[j] = quipu.Op{Kind: quipu.KindAdd, Tenant: quipu.DefaultTenant, Value: 1}
					}
				}
				round := func(name func() int, id bool) {
					for _, sub := range subs {
						for j := range sub.Ops {
							op := &sub.Ops[j]
							op.Name = fmt.Sprintf("counter:%012d", name())
							op.Options = nil
							if id {
								op.Options = &quipu.Options{ID: ids.Next()}
							}
						}
					}
				}
				submit := func() {
					landed.Add(len(subs))
					p.SubmitAll(subs)
					landed.Wait()
				}
				for n := 0; n < names; {
					round(func() int { n++; return n % names }, false)
					submit()
				}
				b.ResetTimer()
				for b.Loop() {
					b.StopTimer()
					round(func() int { return rng.IntN(names) }, keyed)
					b.StartTimer()
					submit()
				}
				b.StopTimer()
				for i := range subs {
					for j := range subs[i].Results {
						if c := subs[i].Results[j].Code; c != quipu.CodeOK {
							b.Fatalf("an add answered %v", c)
						}
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*connections*burst), "ns/add")
			})
		}
	}
}

package memstore_test

import (
	"sync/atomic"
	"testing"

	"github.com/quipudb/quipu/internal/memstore"
	"github.com/quipudb/quipu/internal/store"
	"github.com/quipudb/quipu/internal/storetest"
)

// TestConformance holds the store to the contract of stores.
func TestConformance(t *testing.T) {
	storetest.Run(t, "memory", func(_ *testing.T, cfg storetest.Config) *storetest.Subject {
		var fault atomic.Int32
		s := memstore.New(memstore.Config{
			Settings: cfg.Settings(), Now: cfg.Now,
			Fault: func(*store.Batch) memstore.Fault { return memstore.Fault(fault.Swap(int32(memstore.NoFault))) },
		})
		return &storetest.Subject{
			Store: s,
			Begin: func(node string, incarnation [16]byte) error { s.Begin(node, incarnation); return nil },
			Apply: func(incarnation [16]byte, number uint64, b *store.Batch) (store.Fate, error) {
				return s.Apply(incarnation, number, b), nil
			},
			Inject: func(f storetest.Fault) {
				fault.Store(int32(map[storetest.Fault]memstore.Fault{
					storetest.FailBefore: memstore.FailBefore, storetest.LoseAnswer: memstore.LoseAnswer,
				}[f]))
			},
			Restart: func() {},
		}
	})
}

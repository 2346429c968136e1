package raftstore

import (
	"context"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/ledger"
	"github.com/quipudb/quipu/internal/store"
)

// A single voter's applied state holds all that was acknowledged, and nothing
// that is not durable: reads of it are linearizable as they are.

// Resident implements store.Store.
func (s *Store) Resident(ops []quipu.Op, hashes []uint64, hints []uint32) bool {
	return s.ledger.Resident(ops, hashes, hints)
}

// Load implements store.Store.
func (s *Store) Load(ctx context.Context, ops []quipu.Op) error { return s.ledger.Load(ctx, ops) }

// TryRead implements store.Store.
func (s *Store) TryRead(ops []quipu.Op, results []quipu.Result) bool {
	return s.ledger.TryRead(s.stamp(), ops, results)
}

// Read implements store.Store.
func (s *Store) Read(ctx context.Context, ops []quipu.Op, results []quipu.Result) error {
	return s.ledger.Read(ctx, s.stamp(), ops, results)
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, req store.ListRequest) (store.ListPage, error) {
	return s.ledger.List(ctx, req)
}

// Size implements store.Store.
func (s *Store) Size(ctx context.Context, tenant string) (int64, error) {
	return s.ledger.Size(ctx, tenant)
}

// Random implements store.Store.
func (s *Store) Random(ctx context.Context, tenant string) (string, bool, error) {
	return s.ledger.Random(ctx, tenant)
}

// Stats are figures of the store; Writes and WrittenBytes are monotonic.
type Stats struct {
	Ledger       ledger.Stats
	Writes       uint64 // durable writes of the log
	WrittenBytes uint64 // of entries, without padding
	LogBytes     int64  // entries since the last checkpoint
	WriteMethod  string
	DiskFull     bool
	LogTime      int64 // milliseconds
	Incarnation  string
	Cluster      string
}

// Stats returns the store's figures.
func (s *Store) Stats() Stats {
	return Stats{
		Ledger: s.ledger.Stats(), Writes: s.writes.Load(), WrittenBytes: s.writtenBytes.Load(),
		LogBytes: s.checkpoints.behind.Load(), LogTime: s.ledger.LogTime(), WriteMethod: s.log.Method(), DiskFull: s.checkpoints.diskFull(),
		Incarnation: s.incarnation.String(), Cluster: s.dir.Node().Cluster.String(),
	}
}

package raftstore

import (
	"context"
	"math"
	"time"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

const (
	// sweepPeriod is the least time between two sweeps.
	sweepPeriod = 10 * time.Millisecond
	// sweepOps bounds the names of one sweep.
	sweepOps = 1_000
)

// sweep proposes the removal of names whose expiry has passed. An entry that
// does so moves log time as well, so that an expiry shows though nobody writes.
func (s *Store) sweep() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.sweepSoon:
		case <-s.stop:
			return
		}
		s.sweepDue(ctx)
		timer.Reset(s.untilSweep())
	}
}

// untilSweep tells how long to wait for the next expiry.
func (s *Store) untilSweep() time.Duration {
	due, ok := s.ledger.NextExpiry()
	if !ok {
		s.sweepAt.Store(math.MaxInt64)
		return time.Hour
	}
	s.sweepAt.Store(due)
	wait := min(max(due-s.stamp(), 0), time.Hour.Milliseconds())
	return max(time.Duration(wait)*time.Millisecond, sweepPeriod)
}

func (s *Store) sweepDue(ctx context.Context) {
	now := s.stamp()
	if due, ok := s.ledger.NextExpiry(); !ok || due > now || s.Ready() != nil {
		return
	}
	ops, err := s.ledger.DueSweeps(ctx, now, sweepOps)
	if err != nil {
		s.logger.Error("expired names can't be found", "error", err)
		return
	}
	if len(ops) == 0 {
		return
	}
	if err := s.ledger.Load(ctx, ops); err != nil {
		s.logger.Error("expired names can't be read", "error", err)
		return
	}
	var b store.Batch
	b.Reset()
	for i := range ops {
		b.Add(&ops[i], store.Hash(ops[i].Tenant, ops[i].Name), false)
	}
	swept := make(chan quipu.Code, 1)
	s.Submit(&b, func(b *store.Batch) { swept <- b.Code })
	if code := <-swept; code != quipu.CodeOK {
		s.logger.Warn("expired names were not swept", "names", len(ops), "code", code.String())
	}
}

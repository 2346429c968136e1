package pool

import (
	"sync/atomic"
	"time"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

// Stats are figures since the start, monotonic but for QueuedOps, QueuedBytes
// and InFlight.
type Stats struct {
	Batches  uint64
	Ops      uint64 // operations in batches that were answered
	Records  uint64 // what they were folded to
	Replayed uint64 // operations answered as replays
	Unknown  uint64 // operations whose outcome was unknown to the caller
	Refused  uint64 // operations refused before a batch
	Busy     uint64 // of these, because the queue was full
	Loads    uint64 // submissions that waited for a disk read

	QueuedOps   int
	QueuedBytes int
	InFlight    int
}

type counters struct {
	batches, ops, records, replayed, unknown, refusedOps, busy, loads atomic.Uint64
	now                                                               atomic.Pointer[time.Time]
}

func (c *counters) setCoarse(t time.Time) { c.now.Store(&t) }

// coarse is the clock as the expirer last saw it.
func (c *counters) coarse() time.Time { return *c.now.Load() }

func (c *counters) refused(code quipu.Code, ops int) {
	switch code {
	case quipu.CodeUnknown:
		c.unknown.Add(uint64(ops))
		return
	case quipu.CodeBusy:
		c.busy.Add(uint64(ops))
	}
	c.refusedOps.Add(uint64(ops))
}

func (c *counters) landed(b *store.Batch) {
	c.batches.Add(1)
	switch b.Code {
	case quipu.CodeOK:
		c.ops.Add(uint64(b.Ops))
		c.records.Add(uint64(len(b.Records)))
	case quipu.CodeUnknown:
		c.unknown.Add(uint64(b.Ops))
	default:
		c.refusedOps.Add(uint64(b.Ops))
	}
}

// Stats returns the pool's figures.
func (p *Pool) Stats() Stats {
	c := &p.stats
	s := Stats{
		Batches: c.batches.Load(), Ops: c.ops.Load(), Records: c.records.Load(), Replayed: c.replayed.Load(),
		Unknown: c.unknown.Load(), Refused: c.refusedOps.Load(), Busy: c.busy.Load(), Loads: c.loads.Load(),
	}
	p.mu.Lock()
	s.QueuedOps, s.QueuedBytes, s.InFlight = p.waiting.ops, p.waiting.bytes, len(p.flying)
	p.mu.Unlock()
	return s
}

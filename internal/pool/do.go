package pool

import (
	"context"
	"sync"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

// call is a submission of a caller that waits for it.
type call struct {
	Submission
	ended chan struct{} // holds one
}

var calls = sync.Pool{New: func() any {
	c := &call{ended: make(chan struct{}, 1)}
	c.Done = func(*Submission) { c.ended <- struct{}{} }
	return c
}}

// Do submits the operations and waits for their results, which it writes to
// results (of the length of ops). The submission's end, whatever it is, is in
// the results' codes. If ctx ends first the operations are taken back where
// they still wait (CodeDeadline, not applied); else they answer CodeUnknown,
// while their batch goes on to its definite end. Then ops must not be changed
// afterwards. groups may be nil.
func (p *Pool) Do(ctx context.Context, ops []quipu.Op, groups []store.Group, results []quipu.Result) {
	c := calls.Get().(*call)
	c.Ops, c.Groups = ops, groups
	c.Deadline, _ = ctx.Deadline()
	p.Submit(&c.Submission)
	select {
	case <-c.ended:
	default:
		select {
		case <-c.ended:
		case <-ctx.Done():
			p.giveUp(c, results)
			return
		}
	}
	copy(results, c.Results)
	p.release(c)
}

// giveUp ends a call whose context has ended.
func (p *Pool) giveUp(c *call, results []quipu.Result) {
	p.mu.Lock()
	gone := p.queue.removeIf(func(s *Submission) bool { return s == &c.Submission }, nil)
	for _, s := range gone {
		p.left(s)
	}
	p.mu.Unlock()
	code := quipu.CodeUnknown
	if len(gone) > 0 {
		code = quipu.CodeDeadline
		p.stats.refused(code, len(c.Ops))
	}
	for i := range results {
		results[i] = quipu.Result{Code: code}
	}
	// Unless it was taken back the call may still be ended by its batch: it is
	// left to the garbage collector.
	if len(gone) > 0 {
		p.release(c)
	}
}

func (p *Pool) release(c *call) {
	c.Ops, c.Groups = nil, nil
	if cap(c.Results) > maxKeptResults {
		c.Results, c.hashes, c.hints = nil, nil, nil
	}
	calls.Put(c)
}

const maxKeptResults = 16 << 10

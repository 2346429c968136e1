package pool

import (
	"time"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

// Submission is what one caller commits together: the operations of one HTTP
// request, or of one pipelined burst of a connection. The pool never splits it
// over two batches, so that nothing comes between its operations but plain
// adds on other names that were folded ahead.
//
// The caller fills Ops, Groups, Deadline and Done, hands it to Pool.Submit,
// and leaves it alone, with all bytes it points at, until Done is called. It
// may then be used again.
type Submission struct {
	// Ops are the operations in order; reads among them see the writes before.
	Ops []quipu.Op
	// Groups count Ops; they are sorted by First and do not overlap.
	Groups []store.Group
	// Requests is how many requests of clients the submission holds, for the
	// node's own figures; 0 counts as one, and a negative number as none.
	Requests int
	// Deadline ends the caller's wait; the zero time is the pool's own deadline
	// from the call of Submit.
	Deadline time.Time
	// Results has one entry an operation when Done is called. Where the whole
	// submission was refused or is unknown each holds that code. A slice of
	// sufficient capacity is used again.
	Results []quipu.Result
	// Done is called exactly once, perhaps before Submit returns, on any
	// goroutine. It must not block and may call Submit.
	Done func(*Submission)

	// All below belongs to the pool, from Submit until Done.

	hashes []uint64
	hints  []uint32  // the store's own
	bytes  int       // upper estimate of what it adds to an entry
	until  time.Time // Deadline, or the pool's own
	warm   bool      // its names were loaded
}

// fill gives all results the one code.
func (s *Submission) fill(code quipu.Code) {
	s.grow()
	for i := range s.Results {
		s.Results[i] = quipu.Result{Code: code}
	}
}

func (s *Submission) grow() {
	if cap(s.Results) < len(s.Ops) {
		s.Results = make([]quipu.Result, len(s.Ops))
	}
	s.Results = s.Results[:len(s.Ops)]
}

// prepare computes what the pool needs to know of the submission, outside any
// lock.
func (s *Submission) prepare() {
	if cap(s.hashes) < len(s.Ops) {
		s.hashes = make([]uint64, len(s.Ops), max(len(s.Ops), 16))
	}
	if cap(s.hints) < len(s.Ops) {
		s.hints = make([]uint32, len(s.Ops), max(len(s.Ops), 16))
	}
	s.hashes, s.hints = s.hashes[:len(s.Ops)], s.hints[:len(s.Ops)]
	clear(s.hints)
	s.warm = false
	bytes := 0
	for i := range s.Ops {
		op := &s.Ops[i]
		s.hashes[i] = store.Hash(op.Tenant, op.Name)
		bytes += store.EncodedBound(op)
	}
	for i := range s.Groups {
		bytes += store.GroupBound(&s.Groups[i])
	}
	s.bytes = bytes
}

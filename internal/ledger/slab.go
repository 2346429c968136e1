package ledger

import "math"

// slab gives out places for values of one type by number, and never moves them.
type slab[T any] struct {
	chunks []*[chunkLength]T
	free   []uint32
	next   uint32 // first number never given
	// region makes the memory of so many chunks; nil is the garbage collector's,
	// one by one.
	region func(chunks int) []*[chunkLength]T
}

const (
	chunkLength = 1 << 12
	// maxRegion is the most chunks that are made at once; a slab doubles up to
	// it, so that a small one stays small.
	maxRegion = 64
)

func (s *slab[T]) at(n uint32) *T { return &s.chunks[n/chunkLength][n%chunkLength] }

// take returns the number of a zero value.
func (s *slab[T]) take() uint32 {
	if n := len(s.free); n > 0 {
		at := s.free[n-1]
		s.free = s.free[:n-1]
		return at
	}
	if s.next == math.MaxUint32-1 { // grave, and 0 for none, are taken
		panic("ledger: more than four billion names in memory")
	}
	if int(s.next/chunkLength) == len(s.chunks) {
		s.grow()
	}
	s.next++
	return s.next - 1
}

func (s *slab[T]) grow() {
	if s.region == nil {
		s.chunks = append(s.chunks, new([chunkLength]T))
		return
	}
	s.chunks = append(s.chunks, s.region(min(max(1, len(s.chunks)), maxRegion))...)
}

// give takes a place back.
func (s *slab[T]) give(n uint32) {
	var zero T
	*s.at(n) = zero
	s.free = append(s.free, n)
}

package storetest

import (
	"sync"
	"testing"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

// lossy is a way to a store that numbers batches itself, as a node does that
// hands them to another one, and has each of them suffer both faults: it comes
// first while the one before it seems lost (a gap, which applies nothing), and
// its answer is lost once, so that it is sent again and answered from what was
// kept.
type lossy struct {
	*Subject
	t           *testing.T
	incarnation [16]byte

	mu     sync.Mutex
	number uint64
}

var _ store.Store = (*lossy)(nil)

func newLossy(t *testing.T, s *Subject) *lossy {
	l := &lossy{Subject: s, t: t, incarnation: [16]byte{'l', 'o', 's', 's', 'y'}}
	if err := s.Begin("lossy", l.incarnation); err != nil {
		t.Fatal(err)
	}
	return l
}

// Submit implements store.Store.
func (l *lossy) Submit(b *store.Batch, done func(*store.Batch)) {
	l.mu.Lock()
	l.number++
	for _, sent := range []struct {
		number uint64
		fate   store.Fate
	}{{l.number + 1, store.Gap}, {l.number, store.Applied}, {l.number, store.Duplicate}} {
		b.Results = b.Results[:0]
		fate, err := l.Apply(l.incarnation, sent.number, b)
		if err != nil || fate != sent.fate {
			l.t.Errorf("batch %d after %d: %v, want %v (%v)", sent.number, l.number-1, fate, sent.fate, err)
			b.Code = quipu.CodeUnknown
			break
		}
	}
	l.mu.Unlock()
	done(b)
}

package store

import (
	"hash/maphash"
	"math/bits"

	"github.com/quipudb/quipu"
)

// seed is drawn once a process: no peer can choose names that collide.
var seed = maphash.MakeSeed()

// Hash returns the hash of a tenant and a name by which a process finds them.
// It differs from process to process: it never enters a log or a file.
func Hash(tenant, name string) uint64 {
	h := maphash.String(seed, name)
	if tenant != quipu.DefaultTenant {
		h ^= bits.RotateLeft64(maphash.String(seed, tenant), 23)
	}
	return h
}

// foldTable finds the record into which the next plain add on a counter can be
// folded: an open-addressing table of small slots, since a batch looks all over
// it. It is emptied by raising floor, so that a small batch after a large one
// costs nothing.
type foldTable struct {
	slots []foldSlot // length a power of two, at most half used
	// Records are counted over all batches of the table's life, from 1: start
	// is the count before this batch. A slot is in use if its count is above
	// floor.
	start, floor uint32
	used         int
}

type foldSlot struct {
	tag uint32 // the hash's upper half
	at  uint32 // the record's count
}

// reset empties the table behind a batch of so many records.
func (t *foldTable) reset(records int) {
	t.close(records)
	if t.start = t.floor; t.start > 1<<31 {
		clear(t.slots)
		t.start, t.floor = 0, 0
	}
}

// close empties the table within a batch that holds so many records.
func (t *foldTable) close(records int) {
	t.used = 0
	t.floor = t.start + uint32(records)
}

// slot returns the slot of the name, or the free one where it belongs.
func (t *foldTable) slot(b *Batch, hash uint64, tenant, name string) *foldSlot {
	mask, tag := uint64(len(t.slots)-1), uint32(hash>>32)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.at <= t.floor {
			return s
		}
		if s.tag != tag {
			continue
		}
		if r := t.record(b, s); r.Hash == hash && r.Op.Name == name && r.Op.Tenant == tenant {
			return s
		}
	}
}

func (t *foldTable) record(b *Batch, s *foldSlot) *Record { return &b.Records[s.at-t.start-1] }

func (t *foldTable) find(b *Batch, hash uint64, op *quipu.Op) (uint32, bool) {
	if t.used == 0 {
		return 0, false
	}
	s := t.slot(b, hash, op.Tenant, op.Name)
	if s.at <= t.floor {
		return 0, false
	}
	r := t.record(b, s)
	return s.at - t.start - 1, !r.closed && r.Ops < maxFolded
}

// maxFolded bounds the operations of one record.
const maxFolded = 1 << 30

func (t *foldTable) put(b *Batch, hash uint64, at uint32) {
	if 2*(t.used+1) > len(t.slots) {
		t.grow(b)
	}
	r := &b.Records[at]
	s := t.slot(b, hash, r.Op.Tenant, r.Op.Name)
	if s.at <= t.floor {
		t.used++
	}
	*s = foldSlot{tag: uint32(hash >> 32), at: t.start + at + 1}
}

// remove closes the name's record: what comes later on that name must not be
// applied before what was just added.
func (t *foldTable) remove(b *Batch, hash uint64, op *quipu.Op) {
	if t.used == 0 {
		return
	}
	if s := t.slot(b, hash, op.Tenant, op.Name); s.at > t.floor {
		t.record(b, s).closed = true
	}
}

func (t *foldTable) grow(b *Batch) {
	old := t.slots
	t.slots = make([]foldSlot, max(64, 2*len(old)))
	mask := uint64(len(t.slots) - 1)
	t.used = 0
	for _, s := range old {
		if s.at <= t.floor {
			continue
		}
		i := t.record(b, &s).Hash & mask
		for t.slots[i].at > t.floor {
			i = (i + 1) & mask
		}
		t.slots[i] = s
		t.used++
	}
}

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
// folded: an open-addressing table that is emptied by counting its generation
// up, so that a small batch after a large one costs nothing.
type foldTable struct {
	slots []foldSlot // length a power of two, at most half used
	gen   uint32
	used  int
}

type foldSlot struct {
	hash uint64
	gen  uint32 // in use if equal to the table's
	at   uint32 // record, or noRecord
}

const noRecord = ^uint32(0)

func (t *foldTable) reset() {
	t.used = 0
	t.gen++
	if t.gen == 0 { // wrapped: old slots would look alive
		clear(t.slots)
		t.gen = 1
	}
}

// slot returns the slot of the name, or the free one where it belongs.
func (t *foldTable) slot(b *Batch, hash uint64, tenant, name string) *foldSlot {
	mask := uint64(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.gen != t.gen {
			return s
		}
		if s.hash != hash {
			continue
		}
		// A slot without a record is one of a name with this hash: two names
		// with one 64-bit hash only lose a chance to fold.
		if s.at == noRecord {
			return s
		}
		if r := &b.Records[s.at]; r.Op.Name == name && r.Op.Tenant == tenant {
			return s
		}
	}
}

func (t *foldTable) find(b *Batch, hash uint64, op *quipu.Op) (uint32, bool) {
	if t.used == 0 {
		return 0, false
	}
	s := t.slot(b, hash, op.Tenant, op.Name)
	if s.gen != t.gen || s.at == noRecord {
		return 0, false
	}
	return s.at, b.Records[s.at].Ops < maxFolded
}

// maxFolded bounds the operations of one record.
const maxFolded = 1 << 30

func (t *foldTable) put(b *Batch, hash uint64, at uint32) {
	if 2*(t.used+1) > len(t.slots) {
		t.grow(b)
	}
	r := &b.Records[at]
	s := t.slot(b, hash, r.Op.Tenant, r.Op.Name)
	if s.gen != t.gen {
		t.used++
	}
	*s = foldSlot{hash: hash, gen: t.gen, at: at}
}

// remove closes the name's record: what comes later on that name must not be
// applied before what was just added.
func (t *foldTable) remove(b *Batch, hash uint64, op *quipu.Op) {
	if t.used == 0 {
		return
	}
	if s := t.slot(b, hash, op.Tenant, op.Name); s.gen == t.gen {
		s.at = noRecord
	}
}

func (t *foldTable) grow(b *Batch) {
	if t.gen == 0 {
		t.gen = 1
	}
	old := t.slots
	t.slots = make([]foldSlot, max(64, 2*len(old)))
	mask := uint64(len(t.slots) - 1)
	for _, s := range old {
		if s.gen != t.gen || s.at == noRecord {
			continue
		}
		i := s.hash & mask
		for t.slots[i].gen == t.gen {
			i = (i + 1) & mask
		}
		t.slots[i] = s
	}
	t.used = 0
	for i := range t.slots {
		if t.slots[i].gen == t.gen {
			t.used++
		}
	}
}

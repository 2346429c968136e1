package ledger

import (
	"strings"

	"github.com/quipudb/quipu"
)

// nameState is what the state holds of a name.
type nameState struct {
	value    int64 // a counter's value, a set's count
	revision uint64
	expireAt int64 // log time, 0 is none
	set      uint64
	kind     quipu.NameKind // KindNone: the name is known to be absent
}

// entry is a name in memory. Entries lie in slabs and never move, so that a
// checkpoint can name them by number.
type entry struct {
	nameState
	// generation is that of the checkpoint which will write the entry: the
	// present one, the frozen one, or 0 if Pebble holds it as it is.
	generation uint32
	// used is the clock bit; live that the entry is in the table; copied that
	// the checkpoint under way has its frozen value.
	used, live, copied bool
	// indexed is the expiry under which Pebble's index knows it, or will once
	// the checkpoint under way is installed; 0 is none.
	indexed int64
	space   uint64
	hash    uint64
	name    string
	tenant  *tenant
}

// entryBytes is what an entry costs in memory beside its name: itself and its
// part of the index.
const entryBytes = 112

// table finds entries: an open-addressing index of entry numbers over slabs.
// Linear probing; a slot holds a part of the hash, so that a probe rarely
// touches an entry that is not the one.
type table struct {
	slots []slot // length a power of two, at most 3/4 used
	used  int    // slots in use, graves included
	slabs [][]entry
	free  []uint32
	next  uint32 // first entry never used
	count int
	bytes int64
	hand  uint32 // of the clock
}

type slot struct {
	tag uint32 // the hash's upper half
	at  uint32 // entry + 1; 0 is free, grave was one
}

const (
	slabEntries = 1 << 12
	grave       = ^uint32(0)
)

func newTable() *table { return &table{slots: make([]slot, 1024)} }

func (t *table) entry(at uint32) *entry { return &t.slabs[at/slabEntries][at%slabEntries] }

// find returns the number of the entry of a name.
func (t *table) find(hash, space uint64, name string) (uint32, bool) {
	mask := uint64(len(t.slots) - 1)
	tag := uint32(hash >> 32)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := t.slots[i]
		if s.at == 0 {
			return 0, false
		}
		if s.tag != tag || s.at == grave {
			continue
		}
		if e := t.entry(s.at - 1); e.hash == hash && e.space == space && e.name == name {
			return s.at - 1, true
		}
	}
}

// mayHold tells whether a name of this hash is there, with one error in billions
// to the yes side: it looks at the index alone, which is a third of the waits
// for memory that find has.
func (t *table) mayHold(hash uint64) bool {
	mask := uint64(len(t.slots) - 1)
	tag := uint32(hash >> 32)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := t.slots[i]
		if s.at == 0 {
			return false
		}
		if s.tag == tag && s.at != grave {
			return true
		}
	}
}

// touch reads the first slot of a hash, so that a stretch of look-ups waits for
// memory once and not one by one.
func (t *table) touch(hash uint64) uint32 { return t.slots[hash&uint64(len(t.slots)-1)].at }

// insert adds a name that is not there.
func (t *table) insert(hash, space uint64, name string, tn *tenant, s nameState) uint32 {
	if 4*(t.used+1) > 3*len(t.slots) {
		t.rehash()
	}
	var at uint32
	if n := len(t.free); n > 0 {
		at, t.free = t.free[n-1], t.free[:n-1]
	} else {
		if int(t.next/slabEntries) == len(t.slabs) {
			t.slabs = append(t.slabs, make([]entry, slabEntries))
		}
		at = t.next
		t.next++
	}
	e := t.entry(at)
	*e = entry{nameState: s, used: true, live: true, indexed: s.expireAt, space: space, hash: hash, name: strings.Clone(name), tenant: tn}
	t.place(hash, at)
	t.count++
	t.bytes += entryBytes + int64(len(name))
	return at
}

func (t *table) place(hash uint64, at uint32) {
	mask := uint64(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		if s := &t.slots[i]; s.at == 0 || s.at == grave {
			if s.at == 0 {
				t.used++
			}
			*s = slot{tag: uint32(hash >> 32), at: at + 1}
			return
		}
	}
}

// rehash doubles the index, or only clears it of graves.
func (t *table) rehash() {
	size := len(t.slots)
	if 2*t.count > size {
		size *= 2
	}
	t.slots = make([]slot, size)
	t.used = 0
	for at := uint32(0); at < t.next; at++ {
		if e := t.entry(at); e.live {
			t.place(e.hash, at)
		}
	}
}

// remove takes an entry out of the table.
func (t *table) remove(at uint32) {
	e := t.entry(at)
	mask := uint64(len(t.slots) - 1)
	for i := e.hash & mask; ; i = (i + 1) & mask {
		if t.slots[i].at == at+1 {
			t.slots[i].at = grave
			break
		}
	}
	t.bytes -= entryBytes + int64(len(e.name))
	t.count--
	*e = entry{}
	t.free = append(t.free, at)
}

// evict frees clean entries, those not used lately first, until bytes are at
// most budget or it has looked at as many entries as it may.
func (t *table) evict(budget int64, look int, gone func(*entry)) {
	for ; t.bytes > budget && look > 0 && t.next > 0; look-- {
		if t.hand >= t.next {
			t.hand = 0
		}
		at := t.hand
		t.hand++
		e := t.entry(at)
		switch {
		case !e.live || e.generation != 0:
		case e.used:
			e.used = false
		default:
			gone(e)
			t.remove(at)
		}
	}
}

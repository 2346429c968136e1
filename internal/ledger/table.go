package ledger

import (
	"strings"
	"unsafe"

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

// entry is a name in memory. It is one line of the processor's cache, so that a
// look-up waits for memory twice, for the index and for the entry; and it holds
// no pointer, so that the garbage collector does not look at millions of them.
// What few names have lies in table.rare and table.long.
//
// Entries never move, so that a checkpoint can name them by number.
type entry struct {
	value    int64
	revision uint64
	hash     uint64
	// generation is that of the checkpoint which will write the entry: the
	// present one, the frozen one, or 0 if Pebble holds it as it is.
	generation uint32
	owner      uint32 // in table.owners
	rare       uint32 // number in table.rare, plus 1; 0 is none
	long       uint32 // number in table.long, plus 1, of a name longer than head
	kind       quipu.NameKind
	flags      entryFlags
	length     uint16 // of the name
	head       [headBytes]byte
}

// headBytes is how long a name may be to lie in its entry.
const headBytes = 20

type entryFlags uint8

const (
	// entryUsed is the clock bit.
	entryUsed entryFlags = 1 << iota
	// entryLive: the entry is in the table.
	entryLive
	// entryCopied: the checkpoint under way has the entry's frozen value.
	entryCopied
)

// rare is what only names that expire, and sets, have.
type rare struct {
	expireAt int64
	set      uint64
	// indexed is the expiry under which Pebble's index knows the name, or will
	// once the checkpoint under way is installed; 0 is none.
	indexed int64
}

// owner is a tenant with one of the spaces it has had. It lives as long as it
// has entries.
type owner struct {
	tenant  *tenant
	space   uint64 // 0: free
	entries int
}

// What an entry costs in memory, with its part of the index, beside a name that
// is longer than headBytes.
const (
	entryBytes = 80
	rareBytes  = 24
	longBytes  = 24 // the string's header, and what its size is rounded up by
)

// table finds entries: an open-addressing index of entry numbers over slabs.
// Linear probing; a slot holds a part of the hash, so that a probe rarely
// touches an entry that is not the one. The index lies in parts that grow one
// by one: growing it whole would hold up the log for a second at ten million
// names.
type table struct {
	parts   [indexParts]part
	entries slab[entry]
	rare    slab[rare]
	long    slab[string]
	owners  []owner           // the first is no owner
	spaces  map[uint64]uint32 // space to owner
	freed   []uint32          // owners
	count   int
	bytes   int64
	hand    uint32 // of the clock
}

// part is the index of the names whose hashes begin alike.
type part struct {
	slots []slot // length a power of two, at most 3/4 used
	used  int    // slots in use, graves included
	live  int
}

type slot struct {
	tag uint32 // bits of the hash
	at  uint32 // entry + 1; 0 is free, grave was one
}

const (
	indexPartBits = 10
	indexParts    = 1 << indexPartBits
	firstSlots    = 8
	grave         = ^uint32(0)
)

// partOf, place and tag of a hash: its highest bits, its lowest, and those
// below the highest.
func (t *table) partOf(hash uint64) *part { return &t.parts[hash>>(64-indexPartBits)] }

func tagOf(hash uint64) uint32 { return uint32(hash >> (64 - indexPartBits - 32)) }

func newTable() *table {
	t := &table{owners: make([]owner, 1), spaces: make(map[uint64]uint32)}
	t.entries.region = t.entryRegion
	slots := make([]slot, indexParts*firstSlots)
	for i := range t.parts {
		t.parts[i].slots = slots[i*firstSlots : (i+1)*firstSlots : (i+1)*firstSlots]
	}
	return t
}

func (t *table) entry(at uint32) *entry { return t.entries.at(at) }

// find returns the number of the entry of a name.
func (t *table) find(hash uint64, owner uint32, name string) (uint32, bool) {
	p := t.partOf(hash)
	mask, tag := uint64(len(p.slots)-1), tagOf(hash)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := p.slots[i]
		if s.at == 0 {
			return 0, false
		}
		if s.tag == tag && s.at != grave && t.is(s.at-1, hash, owner, name) {
			return s.at - 1, true
		}
	}
}

// is reports whether the entry is that of the name.
func (t *table) is(at uint32, hash uint64, owner uint32, name string) bool {
	e := t.entry(at)
	return e.hash == hash && e.owner == owner && int(e.length) == len(name) && t.name(e) == name
}

// candidate returns the entry that is most likely that of the hash, by the
// index alone; false says for certain that there is none. It errs once in
// billions of names, and costs half of the waits for memory that find has.
func (t *table) candidate(hash uint64) (uint32, bool) {
	p := t.partOf(hash)
	mask, tag := uint64(len(p.slots)-1), tagOf(hash)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := p.slots[i]
		if s.at == 0 {
			return 0, false
		}
		if s.tag == tag && s.at != grave {
			return s.at - 1, true
		}
	}
}

// name returns an entry's name. It is good until the entry is removed: who keeps
// it longer copies it.
func (t *table) name(e *entry) string {
	if e.long != 0 {
		return *t.long.at(e.long - 1)
	}
	return unsafe.String(&e.head[0], int(e.length))
}

func (t *table) tenant(e *entry) *tenant { return t.owners[e.owner].tenant }
func (t *table) space(e *entry) uint64   { return t.owners[e.owner].space }

// more returns what few entries have.
func (t *table) more(e *entry) rare {
	if e.rare == 0 {
		return rare{}
	}
	return *t.rare.at(e.rare - 1)
}

func (t *table) setMore(e *entry, m rare) {
	switch {
	case e.rare != 0 && m == rare{}:
		t.rare.give(e.rare - 1)
		e.rare = 0
		t.bytes -= rareBytes
	case e.rare != 0:
		*t.rare.at(e.rare - 1) = m
	case m != rare{}:
		n := t.rare.take()
		*t.rare.at(n) = m
		e.rare = n + 1
		t.bytes += rareBytes
	}
}

func (t *table) expireAt(e *entry) int64 {
	if e.rare == 0 {
		return 0
	}
	return t.rare.at(e.rare - 1).expireAt
}

func (t *table) state(e *entry) nameState {
	s := nameState{value: e.value, revision: e.revision, kind: e.kind}
	if e.rare != 0 {
		m := t.rare.at(e.rare - 1)
		s.expireAt, s.set = m.expireAt, m.set
	}
	return s
}

func (t *table) setState(e *entry, s nameState) {
	e.value, e.revision, e.kind = s.value, s.revision, s.kind
	if e.rare != 0 || s.expireAt != 0 || s.set != 0 {
		t.setMore(e, rare{expireAt: s.expireAt, set: s.set, indexed: t.more(e).indexed})
	}
}

// owner returns the number of a tenant's present space; false if no name of it
// is in memory.
func (t *table) owner(tn *tenant) (uint32, bool) {
	if t.owners[tn.owner].space == tn.space {
		return tn.owner, true
	}
	n, ok := t.spaces[tn.space]
	if ok {
		tn.owner = n
	}
	return n, ok
}

// own makes the tenant's present space an owner.
func (t *table) own(tn *tenant) uint32 {
	n, ok := t.owner(tn)
	if ok {
		return n
	}
	if f := len(t.freed); f > 0 {
		n, t.freed = t.freed[f-1], t.freed[:f-1]
	} else {
		n = uint32(len(t.owners))
		t.owners = append(t.owners, owner{})
	}
	t.owners[n] = owner{tenant: tn, space: tn.space}
	t.spaces[tn.space] = n
	tn.owner = n
	return n
}

// insert adds a name that is not there.
func (t *table) insert(hash uint64, tn *tenant, name string, s nameState) uint32 {
	p := t.partOf(hash)
	if 4*(p.used+1) > 3*len(p.slots) {
		t.grow(p)
	}
	o := t.own(tn)
	t.owners[o].entries++
	at := t.entries.take()
	e := t.entry(at)
	*e = entry{hash: hash, owner: o, flags: entryUsed | entryLive, length: uint16(len(name))}
	if copy(e.head[:], name) < len(name) {
		n := t.long.take()
		*t.long.at(n) = strings.Clone(name)
		e.long = n + 1
	}
	t.setState(e, s)
	if s.expireAt != 0 {
		t.setMore(e, rare{expireAt: s.expireAt, set: s.set, indexed: s.expireAt})
	}
	p.put(hash, at)
	p.live++
	t.count++
	t.bytes += bytesOf(e)
	return at
}

// bytesOf is what an entry costs without what is in rare.
func bytesOf(e *entry) int64 {
	if e.long == 0 {
		return entryBytes
	}
	return entryBytes + longBytes + int64(e.length)
}

func (p *part) put(hash uint64, at uint32) {
	mask := uint64(len(p.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		if s := &p.slots[i]; s.at == 0 || s.at == grave {
			if s.at == 0 {
				p.used++
			}
			*s = slot{tag: tagOf(hash), at: at + 1}
			return
		}
	}
}

// grow doubles a part of the index, or only clears it of graves.
func (t *table) grow(p *part) {
	old := p.slots
	size := len(old)
	if 2*p.live > size {
		size *= 2
	}
	p.slots, p.used = make([]slot, size), 0
	for _, s := range old {
		if s.at != 0 && s.at != grave {
			p.put(t.entry(s.at-1).hash, s.at-1)
		}
	}
}

// remove takes an entry out of the table.
func (t *table) remove(at uint32) {
	e := t.entry(at)
	p := t.partOf(e.hash)
	mask := uint64(len(p.slots) - 1)
	for i := e.hash & mask; ; i = (i + 1) & mask {
		if p.slots[i].at == at+1 {
			p.slots[i].at = grave
			break
		}
	}
	p.live--
	t.count--
	t.bytes -= bytesOf(e)
	t.setMore(e, rare{})
	if e.long != 0 {
		t.long.give(e.long - 1)
	}
	o := &t.owners[e.owner]
	if o.entries--; o.entries == 0 {
		delete(t.spaces, o.space)
		t.freed = append(t.freed, e.owner)
		*o = owner{}
	}
	t.entries.give(at)
}

// evict frees clean entries, those not used lately first, until bytes are at
// most budget or it has looked at as many entries as it may.
func (t *table) evict(budget int64, look int, gone func(*entry)) {
	for ; t.bytes > budget && look > 0 && t.entries.next > 0; look-- {
		if t.hand >= t.entries.next {
			t.hand = 0
		}
		at := t.hand
		t.hand++
		e := t.entry(at)
		switch {
		case e.flags&entryLive == 0 || e.generation != 0:
		case e.flags&entryUsed != 0:
			e.flags &^= entryUsed
		default:
			gone(e)
			t.remove(at)
		}
	}
}

package ledger

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/cockroachdb/pebble/v2"

	"github.com/quipudb/quipu"
)

// coldName is a name that Apply will need and that is not in memory.
type coldName struct {
	key    []byte // in Pebble
	hash   uint64
	tenant *tenant
	state  nameState
}

// nameAt is where the name begins in a key of names.
const nameAt = 1 + 8

// Preload reads into memory the names that Apply of the encoded entries will
// need. It is for replay: nothing else may use the ledger meanwhile. Apply
// would read name by name, in the order of the log; here each processor walks
// through Pebble once, in the order of the keys. What Preload leaves out Apply
// reads by itself.
func (l *Ledger) Preload(entries [][]byte) error {
	shares := split(entries, runtime.GOMAXPROCS(0))
	found, absent := make([][]coldName, len(shares)), make([]map[string]bool, len(shares))
	list := func(i int) (err error) {
		found[i], absent[i], err = l.coldNames(shares[i])
		return err
	}
	if err := each(len(shares), list); err != nil {
		return err
	}
	// A name's key begins with its tenant's space.
	brought := false
	for _, tenants := range absent {
		for name := range tenants {
			if err := l.loadTenant(name); err != nil {
				return err
			}
			brought = brought || l.tenants[name] != nil
		}
	}
	if brought {
		if err := each(len(shares), list); err != nil {
			return err
		}
	}
	if err := each(len(shares), func(i int) error { return l.readSorted(found[i]) }); err != nil {
		return err
	}
	for i := range found {
		l.admitAll(found[i])
	}
	return nil
}

// split cuts entries into n shares of about the same length.
func split(entries [][]byte, n int) [][][]byte {
	shares := make([][][]byte, n)
	for i := range shares {
		shares[i] = entries[i*len(entries)/n : (i+1)*len(entries)/n]
	}
	return shares
}

// each runs do for 0 to n-1 at once and returns the first error.
func each(n int, do func(i int) error) error {
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs[i] = do(i) })
	}
	group.Wait()
	return cmp.Or(errs...)
}

// eachOp decodes entries and calls do with each operation on a name.
func eachOp(entries [][]byte, do func(op *quipu.Op, hash uint64)) error {
	var e Entry
	for _, data := range entries {
		if len(data) == 0 {
			continue
		}
		if err := DecodeEntry(data, &e); err != nil {
			return err
		}
		if e.Type != EntryBatch {
			continue
		}
		for i := range e.Batch.Records {
			if r := &e.Batch.Records[i]; r.Op.Name != "" {
				do(&r.Op, r.Hash)
			}
		}
	}
	return nil
}

// coldNames lists the names that are not in memory, each once, and the tenants
// that are not. It changes nothing, so that several may run at once.
func (l *Ledger) coldNames(entries [][]byte) (cold []coldName, absent map[string]bool, err error) {
	absent = make(map[string]bool)
	var (
		chunk []byte // of keys
		seen  hashSet
	)
	err = eachOp(entries, func(op *quipu.Op, hash uint64) {
		t := l.tenants[op.Tenant]
		if t == nil && !absent[op.Tenant] {
			absent[strings.Clone(op.Tenant)] = true
		}
		if t == nil || l.stale(t) {
			return
		}
		if _, ok := l.table.candidate(hash); ok || !seen.add(hash) {
			return // two names of one hash: Apply reads the second
		}
		if cap(chunk)-len(chunk) < nameAt+len(op.Name) {
			chunk = make([]byte, 0, 256<<10)
		}
		at := len(chunk)
		chunk = appendNameKey(chunk, t.space, op.Name)
		cold = append(cold, coldName{key: chunk[at:len(chunk):len(chunk)], hash: hash, tenant: t})
	})
	return cold, absent, err
}

// hashSet is a set of hashes: an open-addressing table, at most half used.
type hashSet struct {
	slots []uint64 // 0 is free
	used  int
}

// add reports whether the hash is new.
func (s *hashSet) add(hash uint64) bool {
	if 2*(s.used+1) > len(s.slots) {
		old := s.slots
		*s = hashSet{slots: make([]uint64, max(1024, 2*len(old)))}
		for _, h := range old {
			if h != 0 {
				s.add(h)
			}
		}
	}
	hash |= 1 // never 0
	mask := uint64(len(s.slots) - 1)
	for i := hash >> 1 & mask; ; i = (i + 1) & mask {
		switch s.slots[i] {
		case 0:
			s.slots[i] = hash
			s.used++
			return true
		case hash:
			return false
		}
	}
}

// byKey returns the places of the names in the order of their keys. What the
// keys have in common at the front is left out, and of the rest eight bytes are
// compared as a number first: most keys are not looked at again.
func byKey(names []coldName) []uint32 {
	if len(names) == 0 {
		return nil
	}
	least, greatest := names[0].key, names[0].key
	for i := range names {
		if k := names[i].key; bytes.Compare(k, least) < 0 {
			least = k
		} else if bytes.Compare(k, greatest) > 0 {
			greatest = k
		}
	}
	common := 0
	for common < len(least) && common < len(greatest) && least[common] == greatest[common] {
		common++
	}
	type place struct {
		head uint64
		at   uint32
	}
	places := make([]place, len(names))
	for i := range names {
		var head [8]byte
		copy(head[:], names[i].key[common:])
		places[i] = place{binary.BigEndian.Uint64(head[:]), uint32(i)}
	}
	slices.SortFunc(places, func(a, b place) int {
		if c := cmp.Compare(a.head, b.head); c != 0 {
			return c
		}
		return bytes.Compare(names[a.at].key, names[b.at].key)
	})
	order := make([]uint32, len(places))
	for i := range places {
		order[i] = places[i].at
	}
	return order
}

// readSorted fills the names' states, walking through Pebble once.
func (l *Ledger) readSorted(names []coldName) error {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixName}, UpperBound: []byte{prefixName + 1}})
	if err != nil {
		return err
	}
	defer it.Close()
	for _, i := range byKey(names) {
		n := &names[i]
		if !it.SeekGE(n.key) {
			break // nothing behind, or an error
		}
		if !bytes.Equal(it.Key(), n.key) {
			continue
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if n.state, err = decodeNameValue(value); err != nil {
			return err
		}
	}
	return it.Error()
}

func (l *Ledger) admitAll(names []coldName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range names {
		n := &names[i]
		name := alias(n.key[nameAt:]) // admit copies it
		if _, hot := l.find(n.tenant, n.hash, name); !hot {
			l.admit(n.hash, n.tenant, name, n.state)
		}
	}
	l.table.evict(l.opts.CacheBytes, evictLook, l.forget)
	l.noteExpiry()
}

func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

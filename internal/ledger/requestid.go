package ledger

import (
	"encoding/binary"
	"errors"
	"strings"
	"unsafe"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"

	"github.com/quipudb/quipu"
)

// idRecord is what is kept of an applied operation: its fingerprint and its
// first answer.
type idRecord struct {
	fingerprint uint64
	result      quipu.Result
}

// fingerprint tells operations under one id apart: by their kind, item, value
// and all options but the id.
func fingerprint(op *quipu.Op) uint64 {
	var buf [128]byte
	b := append(buf[:0], byte(op.Kind))
	b = binary.AppendVarint(b, op.Value)
	if op.Options != nil {
		o := *op.Options
		o.ID = quipu.RequestID{}
		b = appendOptions(b, &o)
	}
	b = append(b, op.Item...)
	return xxhash.Sum64(b)
}

// idKey appends the key of the operation's request id; older is that of the
// generation before, for ids that are not timed.
func (l *Ledger) idKey(dst []byte, op *quipu.Op, tenant uint64, generation uint64) []byte {
	id := op.ID()
	if id.Timed {
		return appendTimedKey(dst, id.Key, id.Ordinal, tenant, op.Name)
	}
	return appendUntimedKey(dst, generation, tenant, id.Ordinal, id.Key, op.Name)
}

// known returns what is kept under the operation's request id, nil if nothing.
func (l *Ledger) known(op *quipu.Op) *idRecord {
	r, known := l.knownInMemory(op)
	if known {
		return r
	}
	r, err := l.readID(l.db, op)
	if err != nil {
		panic(diskError{err})
	}
	l.stats.coldApplies++
	return r
}

// knownInMemory looks the id up in memory; known says that the answer is final.
func (l *Ledger) knownInMemory(op *quipu.Op) (r *idRecord, known bool) {
	t := l.tenantInMemory(op.Tenant)
	if t == nil {
		return nil, false
	}
	if op.ID().Timed {
		return l.knownKey(op, t.number, 0)
	}
	now, knownNow := l.knownKey(op, t.number, l.meta.generation)
	if now != nil {
		return now, true
	}
	before, knownBefore := l.knownKey(op, t.number, l.meta.generation-1)
	return before, before != nil || knownNow && knownBefore
}

func (l *Ledger) knownKey(op *quipu.Op, tenant, generation uint64) (*idRecord, bool) {
	l.scratch = l.idKey(l.scratch[:0], op, tenant, generation)
	key := unsafe.String(&l.scratch[0], len(l.scratch)) // for the look-ups only
	if r, ok := l.present.ids[key]; ok {
		return r, true
	}
	if l.frozen != nil {
		if r, ok := l.frozen.ids[key]; ok {
			return r, true
		}
	}
	if r, ok := l.loaded[key]; ok {
		return r, true
	}
	// A fresh id lies behind all that Pebble holds.
	if id := op.ID(); id.Timed && id.Key > l.meta.flushed {
		return nil, true
	}
	return nil, false
}

// readID reads the id from Pebble.
func (l *Ledger) readID(r pebble.Reader, op *quipu.Op) (*idRecord, error) {
	t, err := l.readTenant(op.Tenant)
	if err != nil || t == nil {
		return nil, err
	}
	for _, key := range l.idKeys(op, t.number) {
		rec, err := readIDAt(r, key)
		if rec != nil || err != nil {
			return rec, err
		}
	}
	return nil, nil
}

// idKeys are the keys under which the id may lie.
func (l *Ledger) idKeys(op *quipu.Op, tenant uint64) [][]byte {
	if op.ID().Timed {
		return [][]byte{l.idKey(nil, op, tenant, 0)}
	}
	return [][]byte{l.idKey(nil, op, tenant, l.meta.generation), l.idKey(nil, op, tenant, l.meta.generation-1)}
}

func readIDAt(r pebble.Reader, key []byte) (*idRecord, error) {
	data, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	rec, err := decodeIDValue(data)
	return &rec, err
}

// remember keeps an applied operation's id with its answer.
func (l *Ledger) remember(op *quipu.Op, r idRecord) {
	t := l.writableTenant(op.Tenant)
	l.scratch = l.idKey(l.scratch[:0], op, t.number, l.meta.generation)
	key := string(l.scratch)
	l.present.ids[key] = &r
	l.present.idBytes += dirtyIDBytes
	if id := op.ID(); id.Timed && id.Key > l.present.lastID {
		l.present.lastID = strings.Clone(id.Key)
	}
	if l.undoing {
		l.undo = append(l.undo, func() {
			delete(l.present.ids, key)
			l.present.idBytes -= dirtyIDBytes
		})
	}
}

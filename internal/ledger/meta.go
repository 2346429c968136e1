package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/quipudb/quipu/internal/store"
)

// meta is the scalar state: small, and written whole in each checkpoint.
type meta struct {
	index, term uint64
	time        int64
	number      uint64 // of the last operation
	checksum    uint64
	settings    Settings
	horizon     int64
	// generation counts those of untimed request ids; it began at began.
	generation uint64
	began      int64
	hasBegun   bool
	// The last ones given:
	tenant, space, set uint64
	// flushSpace: users' spaces below it were dropped by the dropAll that was
	// operation flushNumber.
	flushSpace, flushNumber uint64
	userNames               int64 // in all users' tenants
	// flushed is the greatest UUIDv7 among the ids that Pebble holds.
	flushed      string
	incarnations map[[16]byte]*incarnation
}

// incarnation is one life of a node.
type incarnation struct {
	node    string
	index   uint64 // of the entry that began it
	last    uint64 // batch number
	ended   bool
	endedAt int64
	kept    [store.KeptResults]keptResults // by number modulo
}

type keptResults struct {
	number  uint64
	results []store.RecordResult
}

const metaVersion = 1

func (m *meta) encode(dst []byte) []byte {
	u := func(v uint64) { dst = binary.AppendUvarint(dst, v) }
	i := func(v int64) { dst = binary.AppendVarint(dst, v) }
	dst = append(dst, metaVersion)
	u(m.index)
	u(m.term)
	i(m.time)
	u(m.number)
	u(m.checksum)
	i(m.settings.WindowMs)
	i(m.settings.SkewMs)
	i(m.horizon)
	u(m.generation)
	i(m.began)
	if m.hasBegun {
		u(1)
	} else {
		u(0)
	}
	u(m.tenant)
	u(m.space)
	u(m.set)
	u(m.flushSpace)
	u(m.flushNumber)
	i(m.userNames)
	dst = appendText(dst, m.flushed)
	u(uint64(len(m.incarnations)))
	ids := slices.SortedFunc(maps.Keys(m.incarnations), func(a, b [16]byte) int { return slices.Compare(a[:], b[:]) })
	for _, id := range ids {
		inc := m.incarnations[id]
		dst = append(dst, id[:]...)
		dst = appendText(dst, inc.node)
		u(inc.index)
		u(inc.last)
		if inc.ended {
			u(1)
		} else {
			u(0)
		}
		i(inc.endedAt)
		for k := range inc.kept {
			kept := &inc.kept[k]
			u(kept.number)
			u(uint64(len(kept.results)))
			for j := range kept.results {
				r := &kept.results[j]
				dst = appendResult(dst, &r.Result)
				before, positions := uint64(0), []uint32(nil)
				if r.Refusals != nil {
					before, positions = r.Refusals.Before, r.Refusals.Positions
				}
				u(before)
				u(uint64(len(positions)))
				for _, p := range positions {
					u(uint64(p))
				}
			}
		}
	}
	return dst
}

func (m *meta) decode(data []byte) error {
	d := decoder{data: data}
	if v := d.byte(); v != metaVersion && d.err == nil {
		return fmt.Errorf("the state has format %d, this program knows %d", v, metaVersion)
	}
	m.index, m.term, m.time, m.number, m.checksum = d.uvarint(), d.uvarint(), d.varint(), d.uvarint(), d.uvarint()
	m.settings = Settings{WindowMs: d.varint(), SkewMs: d.varint()}
	m.horizon, m.generation, m.began = d.varint(), d.uvarint(), d.varint()
	m.hasBegun = d.uvarint() != 0
	m.tenant, m.space, m.set, m.flushSpace, m.flushNumber, m.userNames = d.uvarint(), d.uvarint(), d.uvarint(), d.uvarint(), d.uvarint(), d.varint()
	m.flushed = string(d.take(d.length()))
	m.incarnations = make(map[[16]byte]*incarnation)
	for range d.length() {
		var id [16]byte
		copy(id[:], d.take(16))
		inc := &incarnation{node: string(d.take(d.length())), index: d.uvarint(), last: d.uvarint()}
		inc.ended = d.uvarint() != 0
		inc.endedAt = d.varint()
		for k := range inc.kept {
			inc.kept[k].number = d.uvarint()
			n := d.length()
			for range n {
				r := store.RecordResult{Result: d.result()}
				before := d.uvarint()
				for range d.length() {
					if r.Refusals == nil {
						r.Refusals = &store.Refusals{Before: before}
					}
					r.Refusals.Positions = append(r.Refusals.Positions, uint32(d.uvarint()))
				}
				if d.err != nil {
					break
				}
				inc.kept[k].results = append(inc.kept[k].results, r)
			}
		}
		if d.err != nil {
			break
		}
		m.incarnations[id] = inc
	}
	if d.err != nil || len(d.data) > 0 {
		return errors.New("the state's scalar record is malformed")
	}
	return nil
}

func (l *Ledger) loadMeta() error {
	l.meta = meta{settings: defaultSettings(), horizon: math.MinInt64, incarnations: make(map[[16]byte]*incarnation)}
	data, closer, err := l.db.Get([]byte{prefixMeta})
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", l.opts.Dir, err)
	}
	defer closer.Close()
	if err := l.meta.decode(data); err != nil {
		return fmt.Errorf("read %s: %w", l.opts.Dir, err)
	}
	return nil
}

// Incarnation is what the ledger knows of one life of a node.
type Incarnation struct {
	ID   [16]byte
	Node string
	// Index is the log index of the entry that began it.
	Index uint64
	Last  uint64 // last batch number applied
	Ended bool
}

// Incarnations returns all incarnations that the ledger remembers.
func (l *Ledger) Incarnations() []Incarnation {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Incarnation
	for id, inc := range l.meta.incarnations {
		out = append(out, Incarnation{ID: id, Node: inc.node, Index: inc.index, Last: inc.last, Ended: inc.ended})
	}
	return out
}

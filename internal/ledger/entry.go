package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

// Version is the version of what the ledger does with an entry. It is part of
// each entry; a ledger refuses entries of a later version than its own.
const Version = 1

// EntryType says what an entry does.
type EntryType uint8

const (
	// EntryBatch applies a batch under its incarnation's number.
	EntryBatch EntryType = iota + 1
	// EntryBegin begins an incarnation of a node and ends the one before.
	EntryBegin
	// EntryTime moves log time and nothing else.
	EntryTime
	// EntrySettings changes the settings that change an answer.
	EntrySettings
)

// Entry is one entry of the log, as the ledger applies it. Every type moves
// log time to Stamp, if that is later.
type Entry struct {
	// Index and Term are the log's; they are not part of the encoding.
	Index, Term uint64

	Type  EntryType
	Stamp int64 // milliseconds since the Unix epoch
	// Incarnation is that of EntryBatch and EntryBegin.
	Incarnation [16]byte
	Number      uint64       // EntryBatch: the batch's number, from 1
	Node        string       // EntryBegin
	Settings    Settings     // EntrySettings
	Batch       *store.Batch // EntryBatch
}

// Settings are those that change an answer. They enter the ledger by an entry
// only.
type Settings struct {
	// WindowMs is how long a request id is remembered, SkewMs how far ahead of
	// log time one may be, both in milliseconds.
	WindowMs, SkewMs int64
}

// An entry is encoded as
//
//	u8 version  u8 type  varint stamp, then
//	  begin     16 bytes incarnation, text node
//	  settings  varint window, varint skew
//	  batch     16 bytes incarnation, uvarint number, groups, records
//	groups      uvarint n, each: uvarint first (after the end of the one
//	            before), uvarint count, u8 flags, uvarint n of watches, each:
//	            text tenant, text name, precondition
//	records     uvarint n, each: u8 kind, u8 fields, then by fields:
//	            tenant (if not that of the record before), name, item, varint
//	            value, uvarint times, runs (uvarint n, each varint delta,
//	            uvarint times), options
//	options     u16 fields (little endian), then by fields: key, ordinal,
//	            lower, upper, expiry, precondition
//
// A text is uvarint length and bytes; varints are encoding/binary's.
const (
	recordTenant = 1 << iota
	recordItem
	recordValue
	recordTimes
	recordRuns
	recordOptions
)

const (
	optionKey = 1 << iota
	optionTimed
	optionLower
	optionUpper
	optionSaturate
	optionExpiry
	optionIf
	optionReplace
	optionRequireCounter
	optionRequireItems
)

const groupAllOrNothing = 1

// AppendEntry appends the encoding of e.
func AppendEntry(dst []byte, e *Entry) []byte {
	dst = append(dst, Version, byte(e.Type))
	dst = binary.AppendVarint(dst, e.Stamp)
	switch e.Type {
	case EntryBegin:
		dst = append(dst, e.Incarnation[:]...)
		dst = appendText(dst, e.Node)
	case EntrySettings:
		dst = binary.AppendVarint(dst, e.Settings.WindowMs)
		dst = binary.AppendVarint(dst, e.Settings.SkewMs)
	case EntryBatch:
		dst = append(dst, e.Incarnation[:]...)
		dst = binary.AppendUvarint(dst, e.Number)
		dst = appendGroups(dst, e.Batch.Groups)
		dst = binary.AppendUvarint(dst, uint64(len(e.Batch.Records)))
		tenant := ""
		for i := range e.Batch.Records {
			r := &e.Batch.Records[i]
			dst = appendRecord(dst, r, i == 0 || r.Op.Tenant != tenant)
			tenant = r.Op.Tenant
		}
	}
	return dst
}

func appendText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendGroups(dst []byte, groups []store.Group) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(groups)))
	end := 0
	for i := range groups {
		g := &groups[i]
		dst = binary.AppendUvarint(dst, uint64(g.First-end))
		dst = binary.AppendUvarint(dst, uint64(g.Count))
		flags := byte(0)
		if g.AllOrNothing {
			flags = groupAllOrNothing
		}
		dst = append(dst, flags)
		dst = binary.AppendUvarint(dst, uint64(len(g.Watches)))
		for _, w := range g.Watches {
			dst = appendText(dst, w.Tenant)
			dst = appendText(dst, w.Name)
			dst = appendPrecondition(dst, w.If)
		}
		end = g.First + g.Count
	}
	return dst
}

func appendPrecondition(dst []byte, p quipu.Precondition) []byte {
	dst = append(dst, byte(p.Kind))
	return binary.AppendUvarint(dst, p.Revision)
}

func appendRecord(dst []byte, r *store.Record, tenant bool) []byte {
	fields := byte(0)
	if tenant {
		fields |= recordTenant
	}
	if r.Op.Item != "" {
		fields |= recordItem
	}
	if r.Op.Value != 0 {
		fields |= recordValue
	}
	if r.Times != 1 {
		fields |= recordTimes
	}
	if len(r.More) > 0 {
		fields |= recordRuns
	}
	if r.Op.Options != nil {
		fields |= recordOptions
	}
	dst = append(dst, byte(r.Op.Kind), fields)
	if tenant {
		dst = appendText(dst, r.Op.Tenant)
	}
	dst = appendText(dst, r.Op.Name)
	if fields&recordItem != 0 {
		dst = appendText(dst, r.Op.Item)
	}
	if fields&recordValue != 0 {
		dst = binary.AppendVarint(dst, r.Op.Value)
	}
	if fields&recordTimes != 0 {
		dst = binary.AppendUvarint(dst, uint64(r.Times))
	}
	if fields&recordRuns != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(r.More)))
		for _, run := range r.More {
			dst = binary.AppendVarint(dst, run.Delta)
			dst = binary.AppendUvarint(dst, uint64(run.Times))
		}
	}
	if fields&recordOptions != 0 {
		dst = appendOptions(dst, r.Op.Options)
	}
	return dst
}

func appendOptions(dst []byte, o *quipu.Options) []byte {
	fields := uint16(0)
	set := func(bit uint16, on bool) {
		if on {
			fields |= bit
		}
	}
	set(optionKey, !o.ID.IsZero())
	set(optionTimed, o.ID.Timed)
	set(optionLower, o.HasLower)
	set(optionUpper, o.HasUpper)
	set(optionSaturate, o.Saturate)
	set(optionExpiry, o.Expiry != (quipu.Expiry{}))
	set(optionIf, o.If != (quipu.Precondition{}))
	set(optionReplace, o.Replace)
	set(optionRequireCounter, o.RequireKind == quipu.KindCounter)
	set(optionRequireItems, o.RequireKind == quipu.KindItems)
	dst = binary.LittleEndian.AppendUint16(dst, fields)
	if fields&optionKey != 0 {
		dst = appendText(dst, o.ID.Key)
		dst = binary.AppendUvarint(dst, uint64(o.ID.Ordinal))
	}
	if fields&optionLower != 0 {
		dst = binary.AppendVarint(dst, o.Lower)
	}
	if fields&optionUpper != 0 {
		dst = binary.AppendVarint(dst, o.Upper)
	}
	if fields&optionExpiry != 0 {
		x := o.Expiry
		bits := byte(x.Mode) | byte(x.Cond)<<2
		if x.Absolute {
			bits |= 1 << 6
		}
		if x.AlsoIfSome {
			bits |= 1 << 7
		}
		dst = append(dst, bits)
		dst = binary.AppendVarint(dst, x.Ms)
	}
	if fields&optionIf != 0 {
		dst = appendPrecondition(dst, o.If)
	}
	return dst
}

// errEntry: the bytes are no entry.
var errEntry = errors.New("malformed log entry")

// DecodeEntry decodes data into e, whose Batch, if there is one, is reused.
// Index and Term are left alone. It allocates nothing from a length that the
// data does not hold.
func DecodeEntry(data []byte, e *Entry) error {
	d := decoder{data: data}
	version := d.byte()
	if d.err == nil && version != Version {
		return fmt.Errorf("%w: version %d, this program knows %d", errEntry, version, Version)
	}
	index, term, b := e.Index, e.Term, e.Batch
	*e = Entry{Index: index, Term: term, Type: EntryType(d.byte()), Stamp: d.varint()}
	switch e.Type {
	case EntryTime:
	case EntryBegin:
		copy(e.Incarnation[:], d.take(16))
		e.Node = string(d.take(d.length()))
	case EntrySettings:
		e.Settings = Settings{WindowMs: d.varint(), SkewMs: d.varint()}
	case EntryBatch:
		copy(e.Incarnation[:], d.take(16))
		e.Number = d.uvarint()
		if b == nil {
			b = new(store.Batch)
		}
		b.Reset()
		e.Batch = b
		d.batch(b)
	default:
		d.fail()
	}
	if d.err == nil && len(d.data) > 0 {
		d.fail()
	}
	return d.err
}

// decoder reads from data; after an error it reads zeros.
type decoder struct {
	data []byte
	err  error
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = errEntry
	}
	d.data = nil
}

func (d *decoder) byte() byte {
	if len(d.data) == 0 {
		d.fail()
		return 0
	}
	b := d.data[0]
	d.data = d.data[1:]
	return b
}

func (d *decoder) take(n int) []byte {
	if n > len(d.data) {
		d.fail()
		return nil
	}
	b := d.data[:n]
	d.data = d.data[n:]
	return b
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.data)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.data = d.data[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.data)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.data = d.data[n:]
	return v
}

// length is a count or a size of what is still to come, each unit of which
// takes at least a byte.
func (d *decoder) length() int {
	n := d.uvarint()
	if n > uint64(len(d.data)) {
		d.fail()
		return 0
	}
	return int(n)
}

// text aliases the data.
func (d *decoder) text() string {
	b := d.take(d.length())
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&b[0], len(b))
}

func (d *decoder) batch(b *store.Batch) {
	groups := make([]store.Group, d.length())
	end := 0
	for i := range groups {
		g := &groups[i]
		g.First = end + int(d.uvarint()&0xffffffff)
		g.Count = int(d.uvarint() & 0xffffffff)
		g.AllOrNothing = d.byte()&groupAllOrNothing != 0
		g.Watches = make([]store.Watch, d.length())
		for j := range g.Watches {
			g.Watches[j] = store.Watch{Tenant: d.text(), Name: d.text(), If: d.precondition()}
		}
		end = g.First + g.Count
	}
	n := d.length()
	tenant := ""
	for i := 0; i < n && d.err == nil; i++ {
		var op quipu.Op
		op.Kind = quipu.Kind(d.byte())
		fields := d.byte()
		if fields&recordTenant != 0 {
			tenant = d.text()
		}
		op.Tenant, op.Name = tenant, d.text()
		if fields&recordItem != 0 {
			op.Item = d.text()
		}
		if fields&recordValue != 0 {
			op.Value = d.varint()
		}
		times := uint64(1)
		if fields&recordTimes != 0 {
			times = d.uvarint()
		}
		var runs []store.Run
		if fields&recordRuns != 0 {
			runs = make([]store.Run, d.length())
			for j := range runs {
				runs[j] = store.Run{Delta: d.varint(), Times: uint32(d.uvarint())}
			}
		}
		if fields&recordOptions != 0 {
			op.Options = d.options()
		}
		if !op.Kind.Valid() || times == 0 || times > 1<<30 || d.err != nil {
			d.fail()
			return
		}
		b.AddRecord(&op, store.Hash(op.Tenant, op.Name), uint32(times), runs)
	}
	if d.err == nil && end > n {
		d.fail()
		return
	}
	for i := range groups {
		b.AddGroup(groups[i])
	}
}

func (d *decoder) precondition() quipu.Precondition {
	p := quipu.Precondition{Kind: quipu.PreconditionKind(d.byte())}
	p.Revision = d.uvarint()
	if p.Kind > quipu.IfExists {
		d.fail()
	}
	return p
}

func (d *decoder) options() *quipu.Options {
	b := d.take(2)
	if b == nil {
		return nil
	}
	fields := binary.LittleEndian.Uint16(b)
	o := new(quipu.Options)
	if fields&optionKey != 0 {
		o.ID.Key = d.text()
		o.ID.Ordinal = uint32(d.uvarint())
		o.ID.Timed = fields&optionTimed != 0
		if o.ID.Timed && len(o.ID.Key) != 16 {
			d.fail()
		}
	}
	if fields&optionLower != 0 {
		o.HasLower, o.Lower = true, d.varint()
	}
	if fields&optionUpper != 0 {
		o.HasUpper, o.Upper = true, d.varint()
	}
	o.Saturate = fields&optionSaturate != 0
	if fields&optionExpiry != 0 {
		bits := d.byte()
		o.Expiry = quipu.Expiry{
			Mode: quipu.ExpiryMode(bits & 3), Cond: quipu.ExpiryCond(bits >> 2 & 7), Absolute: bits&(1<<6) != 0, AlsoIfSome: bits&(1<<7) != 0,
			Ms: d.varint(),
		}
		if o.Expiry.Mode > quipu.ExpiryRemove || o.Expiry.Cond > quipu.ExpiryIfSooner {
			d.fail()
		}
	}
	if fields&optionIf != 0 {
		o.If = d.precondition()
	}
	o.Replace = fields&optionReplace != 0
	switch {
	case fields&optionRequireCounter != 0:
		o.RequireKind = quipu.KindCounter
	case fields&optionRequireItems != 0:
		o.RequireKind = quipu.KindItems
	}
	return o
}

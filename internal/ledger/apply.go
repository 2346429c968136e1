package ledger

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/cespare/xxhash/v2"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

// diskError carries a failed read of the state up through an operation; Apply
// turns it into its error.
type diskError struct{ err error }

// Apply applies one entry: the one after the last applied. For a batch it
// fills e.Batch.Results, whose order is that of Records, when the fate is
// store.Applied or store.Duplicate. An error means that the state could not be
// read: the process should end, since part of the entry may be in memory; none
// of it reaches the disk.
func (l *Ledger) Apply(e *Entry) (fate store.Fate, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.db == nil {
		return 0, errClosed
	}
	if e.Index != l.meta.index+1 && l.meta.index != 0 {
		return 0, fmt.Errorf("entry %d follows entry %d", e.Index, l.meta.index)
	}
	defer func() {
		if p := recover(); p != nil {
			d, ok := p.(diskError)
			if !ok {
				panic(p)
			}
			err = fmt.Errorf("read the state for entry %d: %w", e.Index, d.err)
		}
	}()
	l.meta.index, l.meta.term = e.Index, e.Term
	if e.Type == EntrySettings {
		l.meta.settings = e.Settings
	}
	l.advance(e.Stamp)
	fate = store.Applied
	switch e.Type {
	case EntryBegin:
		l.begin(e)
	case EntryBatch:
		fate = l.batch(e)
	}
	l.table.evict(l.opts.CacheBytes, evictLook, l.forget)
	l.notePressure()
	l.noteExpiry()
	return fate, nil
}

// evictLook bounds the entries that are looked at for eviction after each
// Apply.
const evictLook = 1 << 14

// advance moves log time, and with it what depends on it alone.
func (l *Ledger) advance(stamp int64) {
	m := &l.meta
	m.time = max(m.time, stamp)
	m.horizon = max(m.horizon, m.time-m.settings.WindowMs)
	if !m.hasBegun {
		m.hasBegun, m.began, m.generation = true, m.time, 2
	}
	if age := m.time - m.began; age >= m.settings.WindowMs {
		m.generation++
		if age >= 2*m.settings.WindowMs {
			m.generation++
		}
		m.began = m.time
	}
}

// begin starts an incarnation and ends the same node's former one. Ended ones
// are forgotten when they are older than the window.
func (l *Ledger) begin(e *Entry) {
	for id, inc := range l.meta.incarnations {
		switch {
		case inc.node == e.Node && !inc.ended:
			inc.ended, inc.endedAt = true, l.meta.time
			inc.kept = [store.KeptResults]keptResults{}
		case inc.ended && inc.endedAt <= l.meta.horizon:
			delete(l.meta.incarnations, id)
		}
	}
	l.meta.incarnations[e.Incarnation] = &incarnation{node: e.Node, index: e.Index}
}

func (l *Ledger) batch(e *Entry) store.Fate {
	inc := l.meta.incarnations[e.Incarnation]
	b := e.Batch
	switch {
	case inc == nil || inc.ended:
		return store.Ended
	case e.Number <= inc.last:
		b.Results = b.Results[:0]
		if kept := &inc.kept[e.Number%store.KeptResults]; kept.number == e.Number {
			b.Results = append(b.Results, kept.results...)
		}
		return store.Duplicate
	case e.Number > inc.last+1:
		return store.Gap
	}
	l.records(b)
	inc.last = e.Number
	kept := &inc.kept[e.Number%store.KeptResults]
	kept.number, kept.results = e.Number, append(kept.results[:0], b.Results...)
	return store.Applied
}

// stretch is how many look-ups are made to overlap.
const stretch = 32

// noHint: there was no entry for the hash.
const noHint = ^uint32(0)

// records applies the batch's records in order and fills its results.
func (l *Ledger) records(b *store.Batch) {
	n := len(b.Records)
	if cap(b.Results) < n {
		b.Results = make([]store.RecordResult, n)
	}
	b.Results = b.Results[:n]
	groups := b.Groups
	first, end := 0, 0 // of the stretch whose look-ups were made
	for i := 0; i < n; {
		if i >= end {
			first, end = i, min(i+stretch, n)
			l.touch(b.Records[first:end])
		}
		l.hint = l.hints[i-first]
		if len(groups) > 0 && groups[0].First == i {
			g := &groups[0]
			groups = groups[1:]
			l.group(g, b.Records[i:i+g.Count], b.Results[i:i+g.Count])
			for j := i; j < i+g.Count; j++ {
				l.sum(&b.Records[j], &b.Results[j])
			}
			i += g.Count
			continue
		}
		b.Results[i] = store.RecordResult{}
		r := &b.Records[i]
		switch {
		case l.plain(r, &b.Results[i]):
		case r.Ops > 1:
			l.folded(r, &b.Results[i])
		default:
			l.meta.number++
			if r.Op.Options == nil {
				b.Results[i].Result = l.do(&r.Op, r.Hash)
			} else {
				b.Results[i].Result = l.withID(&r.Op, r.Hash)
			}
		}
		l.sum(r, &b.Results[i])
		i++
	}
}

// touch brings what the records' look-ups will need into the processor's cache:
// first all slots, then all entries, so that the waits for memory overlap. It
// leaves in hints where it found them.
func (l *Ledger) touch(records []store.Record) {
	for i := range records {
		l.hints[i] = noHint
		if h := records[i].Hint; h != 0 {
			l.hints[i] = h - 1 // found when it was asked for
		} else if at, ok := l.table.candidate(records[i].Hash); ok {
			l.hints[i] = at
		}
	}
	seen := uint64(0)
	for _, at := range l.hints[:len(records)] {
		if at != noHint {
			seen ^= l.table.entry(at).hash
		}
	}
	l.touched = seen // or the compiler drops the reads
}

// sum adds a record to the running checksum: its number, name, outcome and
// value.
func (l *Ledger) sum(r *store.Record, res *store.RecordResult) {
	const odd = 0x9e3779b97f4a7c15
	h := xxhash.Sum64String(r.Op.Name)
	h ^= uint64(len(r.Op.Tenant)) + uint64(res.Code)<<32 + uint64(res.Refusals.Count())<<40
	h = bits.RotateLeft64(h*odd, 31) ^ uint64(res.Value)
	l.meta.checksum = bits.RotateLeft64((l.meta.checksum^h)*odd, 29) + l.meta.number
}

// withID runs one operation behind its request id.
func (l *Ledger) withID(op *quipu.Op, hash uint64) quipu.Result {
	id := op.ID()
	if id.IsZero() {
		return l.do(op, hash)
	}
	if id.Timed && id.Time() <= l.meta.horizon {
		return l.refused(op, hash, quipu.CodeIDExpired)
	}
	print := fingerprint(op)
	if r := l.known(op); r != nil {
		if r.fingerprint != print {
			return l.refused(op, hash, quipu.CodeIDReused)
		}
		res := r.result
		res.Replayed = true
		return res
	}
	if id.Timed && id.Time() > l.meta.time+l.meta.settings.SkewMs {
		return l.refused(op, hash, quipu.CodeIDAhead)
	}
	res := l.do(op, hash)
	if res.Code == quipu.CodeOK {
		l.remember(op, idRecord{fingerprint: print, result: res})
	}
	return res
}

// view is a name as an operation finds it.
type view struct {
	tenant *tenant // nil if there is none
	at     uint32  // of the entry in the table
	entry  *entry  // nil only without tenant
	nameState
	exists bool
}

// look finds a name, reading the disk if it is not in memory.
func (l *Ledger) look(tenantName, name string, hash uint64) view {
	t, err := l.readTenant(tenantName)
	if err != nil {
		panic(diskError{err})
	}
	if t == nil || l.stale(t) {
		return view{}
	}
	o, ok := l.table.owner(t)
	at := l.hint
	if !ok || at == noHint || !l.table.is(at, hash, o, name) {
		at, ok = l.table.find(hash, o, name)
	}
	if !ok {
		s, err := l.readName(t.space, name)
		if err != nil {
			panic(diskError{err})
		}
		l.stats.coldApplies++
		at = l.admit(hash, t, name, s)
	}
	return l.viewOf(t, at)
}

func (l *Ledger) viewOf(t *tenant, at uint32) view {
	e := l.table.entry(at)
	e.flags |= entryUsed
	v := view{tenant: t, at: at, entry: e}
	if e.kind != quipu.KindNone && !l.passed(l.table.expireAt(e)) {
		v.nameState, v.exists = l.table.state(e), true
	}
	return v
}

func (l *Ledger) passed(expireAt int64) bool { return expireAt != 0 && expireAt <= l.meta.time }

// stale reports whether the tenant's names were dropped by dropAll.
func (l *Ledger) stale(t *tenant) bool { return !t.reserved && t.space < l.meta.flushSpace }

// lastRemoval is the number of the last removal of a name of the tenant.
func (l *Ledger) lastRemoval(t *tenant) uint64 {
	if l.stale(t) {
		return max(t.lastRemoval, l.meta.flushNumber)
	}
	return t.lastRemoval
}

// touchName prepares a write on the name: its tenant and its entry exist
// afterwards, and an expired value has been removed.
func (l *Ledger) touchName(op *quipu.Op, hash uint64, v view) view {
	t := l.writableTenant(op.Tenant)
	if v.entry == nil {
		v = l.look(op.Tenant, op.Name, hash)
	}
	if v.entry.kind != quipu.KindNone && !v.exists {
		l.removeName(t, v.at)
	}
	v.tenant = t
	return v
}

// removeName makes a name absent.
func (l *Ledger) removeName(t *tenant, at uint32) {
	e := l.change(at)
	if e.kind == quipu.KindItems {
		l.dropSet(l.setOf(e))
	}
	l.setExpiry(at, 0)
	l.table.setState(e, nameState{})
	l.changeTenant(t)
	t.names--
	t.lastRemoval = l.meta.number
	if !t.reserved {
		l.addUserNames(-1)
	}
	l.noteName(e)
}

// createName makes an absent name a counter or a set.
func (l *Ledger) createName(t *tenant, at uint32, kind quipu.NameKind) *entry {
	e := l.change(at)
	s := nameState{kind: kind}
	if kind == quipu.KindItems {
		l.meta.set++
		s.set = l.meta.set
	}
	l.table.setState(e, s)
	l.changeTenant(t)
	t.names++
	if !t.reserved {
		l.addUserNames(1)
	}
	l.noteName(e)
	return e
}

func (l *Ledger) addUserNames(n int64) {
	l.meta.userNames += n
	if l.undoing {
		l.undo = append(l.undo, func() { l.meta.userNames -= n })
	}
}

// present is the result that tells how the name stands.
func (l *Ledger) result(v *view) quipu.Result {
	res := quipu.Result{Now: l.meta.time, Revision: l.meta.number}
	if v.exists {
		res.Existed, res.Kind, res.Value, res.Old, res.Revision, res.ExpireAt = true, v.kind, v.value, v.value, v.revision, v.expireAt
	}
	return res
}

func (l *Ledger) refused(op *quipu.Op, hash uint64, code quipu.Code) quipu.Result {
	v := l.look(op.Tenant, op.Name, hash)
	res := l.result(&v)
	res.Code = code
	return res
}

func (l *Ledger) holds(v *view, tenantName string, p quipu.Precondition) bool {
	switch p.Kind {
	case quipu.IfRevision:
		return v.exists && v.revision == p.Revision
	case quipu.IfExists:
		return v.exists
	case quipu.IfAbsent:
		if v.exists {
			return false
		}
		if p.Revision == 0 {
			return true
		}
		t, err := l.readTenant(tenantName)
		if err != nil {
			panic(diskError{err})
		}
		return t == nil || l.lastRemoval(t) <= p.Revision
	default:
		return true
	}
}

// needs tells which kind of name an operation needs, if it finds one.
func needs(op *quipu.Op) quipu.NameKind {
	switch op.Kind {
	case quipu.KindGet, quipu.KindAdd, quipu.KindReset:
		return quipu.KindCounter
	case quipu.KindCount, quipu.KindHasItem, quipu.KindAddItem, quipu.KindRemoveItem:
		return quipu.KindItems
	case quipu.KindSet:
		if op.Options == nil || !op.Options.Replace {
			return quipu.KindCounter
		}
	}
	return quipu.KindNone
}

var noOptions quipu.Options

// do runs one operation under the number l.meta.number.
func (l *Ledger) do(op *quipu.Op, hash uint64) quipu.Result {
	o := op.Options
	if o == nil {
		o = &noOptions
	}
	switch op.Kind {
	case quipu.KindDropTenant:
		return l.dropTenant(op.Tenant)
	case quipu.KindDropAll:
		return l.dropAll()
	}
	v := l.look(op.Tenant, op.Name, hash)
	res := l.result(&v)
	if o.If.Kind != quipu.IfAlways && !l.holds(&v, op.Tenant, o.If) {
		res.Code = quipu.CodePrecondition
		return res
	}
	if v.exists {
		if k := needs(op); k != quipu.KindNone && v.kind != k || o.RequireKind != quipu.KindNone && v.kind != o.RequireKind {
			res.Code = quipu.CodeWrongKind
			return res
		}
	}
	switch op.Kind {
	case quipu.KindGet, quipu.KindStat, quipu.KindCount:
	case quipu.KindHasItem:
		res.Changed = v.exists && l.hasItem(setKey{v.tenant.space, v.set}, op.Item)
	case quipu.KindAdd:
		value, code := addWithin(v.value, op.Value, o)
		if code != quipu.CodeOK {
			res.Code = code
			return res
		}
		res.Delta = value - v.value
		l.put(op, hash, v, o, &res, value)
	case quipu.KindSet:
		if v.exists && v.kind == quipu.KindItems {
			l.removeName(v.tenant, v.at)
			v.exists, v.nameState = false, nameState{}
			res.Old = 0
		}
		l.put(op, hash, v, o, &res, op.Value)
	case quipu.KindReset:
		if v.exists {
			l.put(op, hash, v, o, &res, 0)
		} else {
			l.touchName(op, hash, v)
		}
	case quipu.KindDelete:
		v = l.touchName(op, hash, v)
		if v.exists {
			l.removeName(v.tenant, v.at)
			res.Value, res.Kind, res.ExpireAt, res.Revision = 0, quipu.KindNone, 0, l.meta.number
		}
	case quipu.KindAddItem:
		l.addItem(op, l.touchName(op, hash, v), &res)
	case quipu.KindRemoveItem:
		l.removeItem(op, l.touchName(op, hash, v), &res)
	case quipu.KindExpire:
		v = l.touchName(op, hash, v)
		if v.exists {
			l.expire(v, o, &res)
		}
	case quipu.KindSweep:
		if v.entry != nil && v.entry.kind != quipu.KindNone && !v.exists {
			l.removeName(v.tenant, v.at)
			res.Changed = true
		}
	default:
		res.Code = quipu.CodeInvalid
	}
	return res
}

// put gives a counter its value and expiry.
func (l *Ledger) put(op *quipu.Op, hash uint64, v view, o *quipu.Options, res *quipu.Result, value int64) {
	v = l.touchName(op, hash, v)
	var e *entry
	if v.exists {
		e = l.change(v.at)
	} else {
		e = l.createName(v.tenant, v.at, quipu.KindCounter)
	}
	e.value, e.revision = value, l.meta.number
	if o.Expiry.Mode != quipu.ExpiryKeep {
		if at, set := l.newExpiry(o.Expiry, l.table.expireAt(e)); set {
			l.setExpiry(v.at, at)
		}
	}
	res.Kind, res.Value, res.Revision, res.ExpireAt = quipu.KindCounter, value, l.meta.number, l.table.expireAt(e)
	if l.passed(res.ExpireAt) {
		l.removeName(v.tenant, v.at)
		res.Kind, res.ExpireAt = quipu.KindNone, 0
	}
}

func (l *Ledger) expire(v view, o *quipu.Options, res *quipu.Result) {
	at, set := l.newExpiry(o.Expiry, v.expireAt)
	if !set || o.Expiry.Mode == quipu.ExpiryRemove && v.expireAt == 0 {
		return
	}
	e := l.change(v.at)
	l.setExpiry(v.at, at)
	e.revision = l.meta.number
	res.Changed, res.Revision, res.ExpireAt = true, l.meta.number, at
	if l.passed(at) {
		l.removeName(v.tenant, v.at)
		res.Kind, res.ExpireAt = quipu.KindNone, 0
	}
}

// newExpiry returns the new expiry, and whether it is set or removed at all.
func (l *Ledger) newExpiry(x quipu.Expiry, present int64) (at int64, set bool) {
	switch x.Mode {
	case quipu.ExpiryKeep:
		return 0, false
	case quipu.ExpiryRemove:
		return 0, true
	}
	at = x.Ms
	if !x.Absolute {
		if at = l.meta.time + x.Ms; x.Ms > 0 && at < l.meta.time {
			at = math.MaxInt64
		}
	}
	if x.AlsoIfSome && present == 0 {
		return 0, false
	}
	switch x.Cond {
	case quipu.ExpiryIfNone:
		set = present == 0
	case quipu.ExpiryIfSome:
		set = present != 0
	case quipu.ExpiryIfLater:
		set = present != 0 && at > present
	case quipu.ExpiryIfSooner:
		set = present == 0 || at < present
	default:
		set = true
	}
	return max(at, 1), set // long past; 0 would be none
}

// addWithin adds within the bounds.
func addWithin(value, delta int64, o *quipu.Options) (int64, quipu.Code) {
	sum := value + delta
	over := delta > 0 && sum < value
	under := delta < 0 && sum > value
	switch {
	case over || !under && o.HasUpper && sum > o.Upper:
		return atBound(o.Upper, math.MaxInt64, o.HasUpper, o.Saturate)
	case under || o.HasLower && sum < o.Lower:
		return atBound(o.Lower, math.MinInt64, o.HasLower, o.Saturate)
	default:
		return sum, quipu.CodeOK
	}
}

func atBound(bound, end int64, given, saturate bool) (int64, quipu.Code) {
	switch {
	case saturate && given:
		return bound, quipu.CodeOK
	case saturate:
		return end, quipu.CodeOK
	case given:
		return 0, quipu.CodeOutOfBounds
	default:
		return 0, quipu.CodeOverflow
	}
}

// plain runs a record of plain adds of one delta, the most frequent of all, in
// the most frequent case: touch found the counter, it does not expire, and
// nothing overflows. In all others it does nothing and reports false; the
// result is the same on either way.
func (l *Ledger) plain(r *store.Record, out *store.RecordResult) bool {
	if r.Op.Kind != quipu.KindAdd || r.Op.Options != nil || len(r.More) > 0 || l.hint == noHint {
		return false
	}
	t := l.tenantInMemory(r.Op.Tenant)
	if t == nil || l.stale(t) {
		return false
	}
	o, ok := l.table.owner(t)
	if !ok || !l.table.is(l.hint, r.Hash, o, r.Op.Name) {
		return false
	}
	e := l.table.entry(l.hint)
	if e.kind != quipu.KindCounter || e.rare != 0 || fits(e.value, r.Op.Value, r.Times) != r.Times {
		return false
	}
	first := l.meta.number + 1
	l.meta.number += uint64(r.Times)
	e = l.change(l.hint)
	e.flags |= entryUsed
	old := e.value
	e.value += r.Op.Value * int64(r.Times)
	e.revision = l.meta.number
	out.Result = quipu.Result{Existed: true, Kind: quipu.KindCounter, Value: e.value, Old: old, Revision: first, Now: l.meta.time}
	if r.Times == 1 {
		out.Delta = r.Op.Value // of a folded record each operation has its own
	}
	return true
}

// folded runs a folded record, run by run.
func (l *Ledger) folded(r *store.Record, out *store.RecordResult) {
	first := l.meta.number + 1
	l.meta.number = first // as for the first of its operations
	v := l.look(r.Op.Tenant, r.Op.Name, r.Hash)
	out.Result = l.result(&v)
	defer func() { l.meta.number = first + uint64(r.Ops) - 1 }()
	if v.exists && v.kind != quipu.KindCounter {
		out.Code = quipu.CodeWrongKind
		return
	}
	before := v.revision
	value, applied := v.value, uint32(0) // position behind the last applied
	position := uint32(0)
	run := func(delta int64, times uint32) {
		fit := fits(value, delta, times)
		value += delta * int64(fit)
		if fit > 0 {
			applied = position + fit
		}
		for p := position + fit; p < position+times; p++ {
			if out.Refusals == nil {
				out.Refusals = &store.Refusals{Before: before}
			}
			out.Refusals.Positions = append(out.Refusals.Positions, p)
		}
		position += times
	}
	run(r.Op.Value, r.Times)
	for _, more := range r.More {
		run(more.Delta, more.Times)
	}
	out.Revision = first
	if applied == 0 {
		return
	}
	v = l.touchName(&r.Op, r.Hash, v)
	var e *entry
	if v.exists {
		e = l.change(v.at)
	} else {
		e = l.createName(v.tenant, v.at, quipu.KindCounter)
	}
	e.value, e.revision = value, first+uint64(applied)-1
	out.Kind, out.Value, out.ExpireAt = quipu.KindCounter, value, l.table.expireAt(e)
}

// fits returns how many times delta can be added to value before it would
// overflow. Once one addition overflows so do all others of the run.
func fits(value, delta int64, times uint32) uint32 {
	var room uint64
	switch {
	case delta > 0:
		room = (uint64(math.MaxInt64) - uint64(value)) / uint64(delta)
	case delta < 0:
		room = (uint64(value) - uint64(1)<<63) / (-uint64(delta))
	default:
		return times
	}
	return uint32(min(room, uint64(times)))
}

// dropTenant removes all names of a tenant in constant time.
func (l *Ledger) dropTenant(name string) quipu.Result {
	t := l.writableTenant(name)
	res := quipu.Result{Now: l.meta.time, Revision: l.meta.number, Old: t.names}
	l.changeTenant(t)
	if !t.reserved {
		l.addUserNames(-t.names)
	}
	l.dropSpace(t.space)
	t.space, t.names, t.lastRemoval = l.newSpace(t.reserved), 0, l.meta.number
	return res
}

// dropAll removes all names of users' tenants in constant time: their spaces
// lie below the flush, and each tenant gets a fresh one when it is next written.
func (l *Ledger) dropAll() quipu.Result {
	m := &l.meta
	res := quipu.Result{Now: m.time, Revision: m.number, Old: m.userNames}
	if l.undoing {
		space, number, names := m.flushSpace, m.flushNumber, m.userNames
		l.undo = append(l.undo, func() { m.flushSpace, m.flushNumber, m.userNames = space, number, names })
	}
	m.flushSpace, m.flushNumber, m.userNames = m.space+1, m.number, 0
	return res
}

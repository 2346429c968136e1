// Package model is the plain ledger: what docs/semantics.md says, in Go maps,
// without cleverness. The fast ledger is held to it by random tests, and
// package memstore serves it as the reference store. It is not safe for
// concurrent use.
package model

import (
	"maps"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

// Settings are those that change an answer, in milliseconds.
type Settings struct{ WindowMs, SkewMs int64 }

// Model is the state of the plain ledger.
type Model struct {
	settings     Settings
	time         int64 // log time
	number       uint64
	horizon      int64
	tenants      map[string]*tenant
	timed        map[idKey]kept
	untimed      [2]map[idKey]kept // the present generation, the one before
	generation   int64             // when the present generation began
	began        bool              // whether one has
	incarnations map[[16]byte]*incarnation
	current      map[string][16]byte // by node
}

type tenant struct {
	names       map[string]*entry
	lastRemoval uint64
}

type entry struct {
	kind     quipu.NameKind
	value    int64
	items    map[string]bool
	revision uint64
	expireAt int64
}

type idKey struct {
	tenant, name, key string
	ordinal           uint32
}

// kept is what is remembered of an applied operation.
type kept struct {
	op     quipu.Op // with options but without the id
	result quipu.Result
}

type incarnation struct {
	node  string
	last  uint64
	ended bool
	// results of the last batches, by number
	results map[uint64][]store.RecordResult
}

// New returns an empty model.
func New(s Settings) *Model {
	return &Model{
		settings:     s,
		horizon:      math.MinInt64,
		tenants:      make(map[string]*tenant),
		timed:        make(map[idKey]kept),
		untimed:      [2]map[idKey]kept{make(map[idKey]kept), make(map[idKey]kept)},
		incarnations: make(map[[16]byte]*incarnation),
		current:      make(map[string][16]byte),
	}
}

// Begin applies the entry that begins an incarnation.
func (m *Model) Begin(stamp int64, node string, id [16]byte) {
	m.Advance(stamp)
	if former, ok := m.current[node]; ok {
		m.incarnations[former].ended = true
		m.incarnations[former].results = nil
	}
	m.current[node] = id
	m.incarnations[id] = &incarnation{node: node, results: make(map[uint64][]store.RecordResult)}
}

// Set applies the entry that changes the settings.
func (m *Model) Set(stamp int64, s Settings) {
	m.settings = s
	m.Advance(stamp)
}

// Advance moves log time, and forgets the request ids that are too old.
func (m *Model) Advance(stamp int64) {
	m.time = max(m.time, stamp)
	m.horizon = max(m.horizon, m.time-m.settings.WindowMs)
	maps.DeleteFunc(m.timed, func(k idKey, _ kept) bool {
		id := quipu.RequestID{Key: k.key, Timed: true}
		return id.Time() <= m.horizon
	})
	if !m.began {
		m.began, m.generation = true, m.time
	}
	if age := m.time - m.generation; age >= m.settings.WindowMs {
		m.untimed[1] = m.untimed[0]
		if age >= 2*m.settings.WindowMs {
			m.untimed[1] = make(map[idKey]kept)
		}
		m.untimed[0] = make(map[idKey]kept)
		m.generation = m.time
	}
}

// Apply applies a batch entry and fills b.Results unless the fate is Gap or
// Ended.
func (m *Model) Apply(stamp int64, id [16]byte, number uint64, b *store.Batch) store.Fate {
	m.Advance(stamp)
	inc := m.incarnations[id]
	switch {
	case inc == nil || inc.ended:
		return store.Ended
	case number <= inc.last:
		b.Results = append(b.Results[:0], inc.results[number]...)
		return store.Duplicate
	case number > inc.last+1:
		return store.Gap
	}
	b.Results = m.records(b)
	inc.last = number
	inc.results[number] = slices.Clone(b.Results)
	if number > store.KeptResults {
		delete(inc.results, number-store.KeptResults)
	}
	return store.Applied
}

func (m *Model) records(b *store.Batch) []store.RecordResult {
	results := make([]store.RecordResult, len(b.Records))
	groups := b.Groups
	for i := 0; i < len(b.Records); {
		if len(groups) > 0 && groups[0].First == i {
			g := groups[0]
			groups = groups[1:]
			m.group(&g, b.Records[i:i+g.Count], results[i:i+g.Count])
			i += g.Count
			continue
		}
		results[i] = m.record(&b.Records[i])
		i++
	}
	return results
}

// record runs one record, a folded one add by add.
func (m *Model) record(r *store.Record) store.RecordResult {
	if r.Ops == 1 {
		m.number++
		return store.RecordResult{Result: m.withID(&r.Op)}
	}
	out := store.RecordResult{}
	first := m.number + 1
	refusals := &store.Refusals{}
	if e := m.find(r.Op.Tenant, r.Op.Name); e != nil {
		refusals.Before = e.revision
	}
	position := uint32(0)
	for _, run := range append([]store.Run{{Delta: r.Op.Value, Times: r.Times}}, r.More...) {
		for range run.Times {
			m.number++
			op := r.Op
			op.Value = run.Delta
			res := m.do(&op)
			switch {
			case position == 0:
				out.Result = res
			case res.Code == quipu.CodeOK || res.Code == quipu.CodeOverflow:
				out.Value, out.ExpireAt, out.Kind = res.Value, res.ExpireAt, res.Kind
			}
			if res.Code == quipu.CodeOverflow {
				refusals.Positions = append(refusals.Positions, position)
			}
			position++
		}
	}
	if out.Code == quipu.CodeOverflow { // the first was refused, not all
		out.Code = quipu.CodeOK
	}
	if out.Code == quipu.CodeOK {
		out.Revision, out.Delta = first, 0
	}
	if refusals.Count() > 0 {
		out.Refusals = refusals
	}
	return out
}

// withID runs one operation behind its request id.
func (m *Model) withID(op *quipu.Op) quipu.Result {
	id := op.ID()
	if id.IsZero() {
		return m.do(op)
	}
	switch known, first := m.known(op); {
	case id.Timed && id.Time() <= m.horizon:
		return m.refused(op, quipu.CodeIDExpired)
	case known == same:
		first.Replayed = true
		return first
	case known == other:
		return m.refused(op, quipu.CodeIDReused)
	case id.Timed && id.Time() > m.time+m.settings.SkewMs:
		return m.refused(op, quipu.CodeIDAhead)
	}
	res := m.do(op)
	if res.Code == quipu.CodeOK {
		m.remember(op, res)
	}
	return res
}

type knowledge int

const (
	unknown knowledge = iota
	same
	other
)

func (m *Model) known(op *quipu.Op) (knowledge, quipu.Result) {
	id := op.ID()
	key := idKey{op.Tenant, op.Name, id.Key, id.Ordinal}
	k, ok := m.timed[key]
	if !id.Timed {
		if k, ok = m.untimed[0][key]; !ok {
			k, ok = m.untimed[1][key]
		}
	}
	switch {
	case !ok:
		return unknown, quipu.Result{}
	case sameOperation(&k.op, op):
		return same, k.result
	default:
		return other, quipu.Result{}
	}
}

func sameOperation(a, b *quipu.Op) bool {
	x, y := *a.Options, *b.Options
	x.ID, y.ID = quipu.RequestID{}, quipu.RequestID{}
	return a.Kind == b.Kind && a.Item == b.Item && a.Value == b.Value && x == y
}

func (m *Model) remember(op *quipu.Op, res quipu.Result) {
	id := op.ID()
	key := idKey{strings.Clone(op.Tenant), strings.Clone(op.Name), strings.Clone(id.Key), id.Ordinal}
	o := *op.Options
	o.ID = quipu.RequestID{}
	k := kept{op: quipu.Op{Kind: op.Kind, Item: strings.Clone(op.Item), Value: op.Value, Options: &o}, result: res}
	if id.Timed {
		m.timed[key] = k
	} else {
		m.untimed[0][key] = k
	}
}

// group runs the records of a group.
func (m *Model) group(g *store.Group, records []store.Record, results []store.RecordResult) {
	all := func(code quipu.Code) {
		for i := range records {
			m.number++
			results[i].Result = m.refused(&records[i].Op, code)
		}
	}
	writes, keyed, replays, reused := 0, 0, 0, 0
	for i := range records {
		op := &records[i].Op
		if op.Kind.Reads() {
			continue
		}
		writes++
		if id := op.ID(); !id.IsZero() {
			keyed++
			if id.Timed && id.Time() <= m.horizon {
				continue // expired: neither known nor a replay
			}
			switch k, _ := m.known(op); k {
			case same:
				replays++
			case other:
				reused++
			}
		}
	}
	replay := writes > 0 && replays == writes
	if g.AllOrNothing && keyed > 0 && keyed < writes {
		all(quipu.CodeInvalid)
		return
	}
	if g.AllOrNothing && !replay && replays+reused > 0 {
		all(quipu.CodeIDReused)
		return
	}
	if !replay {
		for _, w := range g.Watches {
			if !m.holds(w.Tenant, w.Name, w.If) {
				all(quipu.CodePrecondition)
				return
			}
		}
	}
	if !g.AllOrNothing || replay {
		for i := range records {
			m.number++
			results[i].Result = m.withID(&records[i].Op)
		}
		return
	}
	before := m.snapshot()
	for i := range records {
		m.number++
		results[i].Result = m.withID(&records[i].Op)
		if results[i].Code == quipu.CodeOK {
			continue
		}
		failed := results[i].Code
		number := m.number
		m.restore(before)
		m.number = number - uint64(i) - 1
		for j := range records {
			m.number++
			code := quipu.CodeAborted
			if j == i {
				code = failed
			}
			results[j].Result = m.refused(&records[j].Op, code)
		}
		return
	}
}

// snapshot copies what a group may change; plain, and slow.
func (m *Model) snapshot() *Model {
	c := *m
	c.tenants = make(map[string]*tenant, len(m.tenants))
	for name, t := range m.tenants {
		u := &tenant{names: make(map[string]*entry, len(t.names)), lastRemoval: t.lastRemoval}
		for n, e := range t.names {
			f := *e
			f.items = maps.Clone(e.items)
			u.names[n] = &f
		}
		c.tenants[name] = u
	}
	c.timed = maps.Clone(m.timed)
	c.untimed = [2]map[idKey]kept{maps.Clone(m.untimed[0]), maps.Clone(m.untimed[1])}
	return &c
}

func (m *Model) restore(c *Model) {
	m.tenants, m.timed, m.untimed = c.tenants, c.timed, c.untimed
}

// find returns the name if it is there, nil if it is absent or expired.
func (m *Model) find(tenantName, name string) *entry {
	t := m.tenants[tenantName]
	if t == nil {
		return nil
	}
	e := t.names[name]
	if e == nil || m.expired(e) {
		return nil
	}
	return e
}

func (m *Model) expired(e *entry) bool { return e.expireAt != 0 && e.expireAt <= m.time }

// touch returns the tenant for a write on the name, and removes the name if it
// has expired.
func (m *Model) touch(tenantName, name string) *tenant {
	t := m.tenants[tenantName]
	if t == nil {
		t = &tenant{names: make(map[string]*entry)}
		m.tenants[strings.Clone(tenantName)] = t
	}
	if e := t.names[name]; e != nil && m.expired(e) {
		m.remove(t, name)
	}
	return t
}

func (m *Model) remove(t *tenant, name string) {
	delete(t.names, name)
	t.lastRemoval = m.number
}

func (m *Model) holds(tenantName, name string, p quipu.Precondition) bool {
	e := m.find(tenantName, name)
	switch p.Kind {
	case quipu.IfRevision:
		return e != nil && e.revision == p.Revision
	case quipu.IfExists:
		return e != nil
	case quipu.IfAbsent:
		if e != nil {
			return false
		}
		t := m.tenants[tenantName]
		return p.Revision == 0 || t == nil || t.lastRemoval <= p.Revision
	default:
		return true
	}
}

// present is the result that tells how the name stands.
func (m *Model) present(op *quipu.Op) quipu.Result {
	res := quipu.Result{Now: m.time, Revision: m.number}
	if e := m.find(op.Tenant, op.Name); e != nil {
		res.Existed, res.Kind, res.Value, res.Revision, res.ExpireAt = true, e.kind, e.size(), e.revision, e.expireAt
		res.Old = res.Value
	}
	return res
}

func (e *entry) size() int64 {
	if e.kind == quipu.KindItems {
		return int64(len(e.items))
	}
	return e.value
}

func (m *Model) refused(op *quipu.Op, code quipu.Code) quipu.Result {
	res := m.present(op)
	res.Code = code
	return res
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

// do runs one operation under the number m.number.
func (m *Model) do(op *quipu.Op) quipu.Result {
	o := op.Options
	if o == nil {
		o = &quipu.Options{}
	}
	switch op.Kind {
	case quipu.KindDropTenant:
		return m.dropTenant(op.Tenant)
	case quipu.KindDropAll:
		return m.dropAll()
	}
	if !m.holds(op.Tenant, op.Name, o.If) {
		return m.refused(op, quipu.CodePrecondition)
	}
	res := m.present(op)
	e := m.find(op.Tenant, op.Name)
	if e != nil {
		if k := needs(op); k != quipu.KindNone && e.kind != k {
			return m.refused(op, quipu.CodeWrongKind)
		}
		if o.RequireKind != quipu.KindNone && e.kind != o.RequireKind {
			return m.refused(op, quipu.CodeWrongKind)
		}
	}
	switch op.Kind {
	case quipu.KindGet, quipu.KindStat, quipu.KindCount:
		return res
	case quipu.KindHasItem:
		res.Changed = e != nil && e.items[op.Item]
		return res
	case quipu.KindAdd:
		value, code := sum(res.Value, op.Value, o)
		if code != quipu.CodeOK {
			return m.refused(op, code)
		}
		res.Delta = value - res.Old
		return m.put(op, o, res, value)
	case quipu.KindSet:
		if e != nil && e.kind == quipu.KindItems {
			m.remove(m.touch(op.Tenant, op.Name), op.Name)
			res.Old, res.ExpireAt = 0, 0
		}
		return m.put(op, o, res, op.Value)
	case quipu.KindReset:
		if e == nil {
			m.touch(op.Tenant, op.Name)
			return res
		}
		return m.put(op, o, res, 0)
	case quipu.KindDelete:
		t := m.touch(op.Tenant, op.Name)
		if e != nil {
			m.remove(t, op.Name)
			res.Value, res.Kind, res.ExpireAt, res.Revision = 0, quipu.KindNone, 0, m.number
		}
		return res
	case quipu.KindAddItem:
		t := m.touch(op.Tenant, op.Name)
		if e == nil {
			e = &entry{kind: quipu.KindItems, items: make(map[string]bool)}
			t.names[strings.Clone(op.Name)] = e
		}
		if !e.items[op.Item] {
			e.items[strings.Clone(op.Item)] = true
			e.revision = m.number
			res.Changed = true
		}
		res.Kind, res.Value, res.Revision = e.kind, e.size(), e.revision
		return res
	case quipu.KindRemoveItem:
		t := m.touch(op.Tenant, op.Name)
		if e == nil || !e.items[op.Item] {
			return res
		}
		delete(e.items, op.Item)
		e.revision = m.number
		res.Changed = true
		res.Value, res.Revision = e.size(), m.number
		if len(e.items) == 0 {
			m.remove(t, op.Name)
			res.Kind, res.ExpireAt = quipu.KindNone, 0
		}
		return res
	case quipu.KindExpire:
		t := m.touch(op.Tenant, op.Name)
		if e == nil {
			return res
		}
		at, set := m.expiry(o.Expiry, e.expireAt)
		switch {
		case !set:
			return res
		case o.Expiry.Mode == quipu.ExpiryRemove && e.expireAt == 0:
			return res
		}
		res.Changed = true
		e.revision, e.expireAt = m.number, at
		res.Revision, res.ExpireAt = m.number, at
		if m.expired(e) {
			m.remove(t, op.Name)
			res.Kind, res.ExpireAt = quipu.KindNone, 0
		}
		return res
	case quipu.KindSweep:
		t := m.tenants[op.Tenant]
		if t != nil && t.names[op.Name] != nil && m.expired(t.names[op.Name]) {
			m.remove(t, op.Name)
			res.Changed = true
		}
		return res
	default:
		return m.refused(op, quipu.CodeInvalid)
	}
}

// put gives a counter its value and expiry.
func (m *Model) put(op *quipu.Op, o *quipu.Options, res quipu.Result, value int64) quipu.Result {
	t := m.touch(op.Tenant, op.Name)
	e := t.names[op.Name]
	if e == nil {
		e = &entry{kind: quipu.KindCounter}
		t.names[strings.Clone(op.Name)] = e
	}
	e.value, e.revision = value, m.number
	if at, set := m.expiry(o.Expiry, e.expireAt); set {
		e.expireAt = at
	}
	res.Kind, res.Value, res.Revision, res.ExpireAt = quipu.KindCounter, value, m.number, e.expireAt
	if m.expired(e) {
		m.remove(t, op.Name)
		res.Kind, res.ExpireAt = quipu.KindNone, 0
	}
	return res
}

// expiry returns the new expiry, and whether it is set or removed at all.
func (m *Model) expiry(x quipu.Expiry, present int64) (at int64, set bool) {
	switch x.Mode {
	case quipu.ExpiryKeep:
		return 0, false
	case quipu.ExpiryRemove:
		return 0, true
	}
	at = x.Ms
	if !x.Absolute {
		if at = m.time + x.Ms; x.Ms > 0 && at < m.time {
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
	if at <= 0 {
		at = 1 // long past; 0 would be none
	}
	return at, set
}

// sum adds within the bounds.
func sum(value, delta int64, o *quipu.Options) (int64, quipu.Code) {
	lower, upper := int64(math.MinInt64), int64(math.MaxInt64)
	if o.HasLower {
		lower = o.Lower
	}
	if o.HasUpper {
		upper = o.Upper
	}
	end := new(big.Int).Add(big.NewInt(value), big.NewInt(delta))
	switch {
	case end.Cmp(big.NewInt(upper)) > 0:
		return bound(upper, o.HasUpper, o.Saturate)
	case end.Cmp(big.NewInt(lower)) < 0:
		return bound(lower, o.HasLower, o.Saturate)
	default:
		return end.Int64(), quipu.CodeOK
	}
}

func bound(at int64, given, saturate bool) (int64, quipu.Code) {
	switch {
	case saturate:
		return at, quipu.CodeOK
	case given:
		return 0, quipu.CodeOutOfBounds
	default:
		return 0, quipu.CodeOverflow
	}
}

func (m *Model) dropTenant(name string) quipu.Result {
	t := m.touch(name, "")
	res := quipu.Result{Now: m.time, Revision: m.number, Old: int64(len(t.names))}
	t.names = make(map[string]*entry)
	t.lastRemoval = m.number
	return res
}

func (m *Model) dropAll() quipu.Result {
	res := quipu.Result{Now: m.time, Revision: m.number}
	for name, t := range m.tenants {
		if !quipu.Reserved(name) {
			res.Old += int64(len(t.names))
			t.names = make(map[string]*entry)
			t.lastRemoval = m.number
		}
	}
	return res
}

// Read answers reads outside the log; now is the stamp that would be given.
func (m *Model) Read(now int64, ops []quipu.Op, results []quipu.Result) {
	for i := range ops {
		results[i] = m.do(&ops[i])
		results[i].Now = max(now, m.time)
	}
}

// List answers a page.
func (m *Model) List(req store.ListRequest) store.ListPage {
	var entries []store.ListEntry
	t := m.tenants[req.Tenant]
	switch req.What {
	case store.Tenants:
		for name, t := range m.tenants {
			if len(t.names) > 0 {
				entries = append(entries, store.ListEntry{Name: name})
			}
		}
	case store.Items:
		if e := m.find(req.Tenant, req.Name); e != nil {
			for item := range e.items {
				entries = append(entries, store.ListEntry{Name: item})
			}
		}
	default:
		if t == nil {
			break
		}
		for name := range t.names {
			e := m.find(req.Tenant, name)
			if e == nil || req.Kind != quipu.KindNone && e.kind != req.Kind {
				continue
			}
			entries = append(entries, store.ListEntry{Name: name, Kind: e.kind, Value: e.size(), Revision: e.revision, ExpireAt: e.expireAt})
		}
	}
	entries = slices.DeleteFunc(entries, func(e store.ListEntry) bool {
		return e.Name <= req.After && req.After != "" || !strings.HasPrefix(e.Name, req.Prefix)
	})
	slices.SortFunc(entries, func(a, b store.ListEntry) int { return strings.Compare(a.Name, b.Name) })
	page := store.ListPage{Entries: entries}
	if len(entries) > req.Limit {
		page.Entries, page.More = entries[:req.Limit], true
	}
	if n := len(page.Entries); n > 0 {
		page.After = page.Entries[n-1].Name
	}
	return page
}

// Size returns how many names the tenant has, expired ones included.
func (m *Model) Size(tenantName string) int64 {
	if t := m.tenants[tenantName]; t != nil {
		return int64(len(t.names))
	}
	return 0
}

// Random returns a name of the tenant.
func (m *Model) Random(tenantName string) (string, bool) {
	page := m.List(store.ListRequest{Tenant: tenantName, Limit: math.MaxInt})
	if len(page.Entries) == 0 {
		return "", false
	}
	return page.Entries[rand.IntN(len(page.Entries))].Name, true
}

// Expired returns the names whose expiry is at or before now, at most limit.
func (m *Model) Expired(now int64, limit int) []quipu.Op {
	var ops []quipu.Op
	for _, tenantName := range slices.Sorted(maps.Keys(m.tenants)) {
		for name, e := range m.tenants[tenantName].names {
			if e.expireAt != 0 && e.expireAt <= now && len(ops) < limit {
				ops = append(ops, quipu.Op{Kind: quipu.KindSweep, Tenant: tenantName, Name: name})
			}
		}
	}
	return ops
}

// Time returns log time, Number the number of the last operation.
func (m *Model) Time() int64    { return m.time }
func (m *Model) Number() uint64 { return m.number }

// IDs returns how many request ids are remembered.
func (m *Model) IDs() int { return len(m.timed) + len(m.untimed[0]) + len(m.untimed[1]) }

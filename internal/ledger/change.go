package ledger

import (
	"errors"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/tidwall/btree"

	"github.com/quipudb/quipu"
)

// change is called before an entry is changed: it belongs to the present
// generation afterwards, and what the frozen one needs of it has been copied.
func (l *Ledger) change(at uint32) *entry {
	e := l.table.entry(at)
	if l.undoing {
		before := l.table.state(e)
		l.undo = append(l.undo, func() { l.table.setState(l.table.entry(at), before) })
	}
	if e.generation == l.at {
		return e
	}
	if l.frozen != nil && e.generation == l.frozen.generation && e.flags&entryCopied == 0 {
		l.frozen.copy(l.table, e)
	}
	e.generation = l.at
	l.present.entries = append(l.present.entries, at)
	return e
}

// setExpiry changes when a name expires; change was called.
func (l *Ledger) setExpiry(at uint32, expireAt int64) {
	e := l.table.entry(at)
	before := l.table.expireAt(e)
	if before == expireAt {
		return
	}
	if l.undoing {
		l.undo = append(l.undo, func() { l.moveExpiry(l.table.entry(at), before) })
	}
	l.moveExpiry(e, expireAt)
}

func (l *Ledger) moveExpiry(e *entry, to int64) {
	m := l.table.more(e)
	if m.expireAt != 0 {
		l.expiring.Delete(l.expiringAt(e, m.expireAt))
	}
	if to != 0 {
		x := l.expiringAt(e, to)
		x.name = strings.Clone(x.name)
		l.expiring.Set(x)
	}
	m.expireAt = to
	l.table.setMore(e, m)
}

// expiringAt is how the entry's name stands among those that expire. The name is
// the entry's own: it is copied to be kept.
func (l *Ledger) expiringAt(e *entry, at int64) expiringName {
	return expiringName{at, l.table.space(e), l.table.name(e), l.table.tenant(e)}
}

// noteName remembers a name that was created or removed, for lists.
func (l *Ledger) noteName(e *entry) {
	space := l.table.space(e)
	names := l.present.names[space]
	if names == nil {
		names = btree.NewMap[string, struct{}](32)
		l.present.names[space] = names
	}
	// Also when it is undone: lists look at the entry.
	if name := l.table.name(e); !has(names, name) {
		names.Set(strings.Clone(name), struct{}{})
	}
}

func has(names *btree.Map[string, struct{}], name string) bool {
	_, ok := names.Get(name)
	return ok
}

// find returns the number of a tenant's name in memory.
func (l *Ledger) find(t *tenant, hash uint64, name string) (uint32, bool) {
	o, ok := l.table.owner(t)
	if !ok {
		return 0, false
	}
	return l.table.find(hash, o, name)
}

// admit brings a name into memory as Pebble holds it.
func (l *Ledger) admit(hash uint64, t *tenant, name string, s nameState) uint32 {
	at := l.table.insert(hash, t, name, s)
	if s.expireAt != 0 {
		l.expiring.Set(expiringName{s.expireAt, t.space, strings.Clone(name), t})
	}
	return at
}

// forget is told of entries that leave memory.
func (l *Ledger) forget(e *entry) {
	if at := l.table.expireAt(e); at != 0 {
		l.expiring.Delete(l.expiringAt(e, at))
		l.stored = min(l.stored, at)
	}
}

// readName reads a name from Pebble.
func (l *Ledger) readName(space uint64, name string) (nameState, error) {
	l.scratch = appendNameKey(l.scratch[:0], space, name)
	return readNameAt(l.db, l.scratch)
}

func readNameAt(r pebble.Reader, key []byte) (nameState, error) {
	data, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nameState{}, nil
	}
	if err != nil {
		return nameState{}, err
	}
	defer closer.Close()
	return decodeNameValue(data)
}

// tenantInMemory returns a tenant that was touched since Open. Operations that
// follow each other mostly are of one tenant: it is looked at first.
func (l *Ledger) tenantInMemory(name string) *tenant {
	if t := l.lastTenant; t != nil && t.name == name {
		return t
	}
	t := l.tenants[name]
	if t != nil {
		l.lastTenant = t
	}
	return t
}

// readTenant returns a tenant, nil if there is none.
func (l *Ledger) readTenant(name string) (*tenant, error) {
	if t := l.tenantInMemory(name); t != nil {
		return t, nil
	}
	l.scratch = appendTenantKey(l.scratch[:0], name)
	s, ok, err := readTenantAt(l.db, l.scratch)
	if err != nil || !ok {
		return nil, err
	}
	return l.admitTenant(name, s), nil
}

func readTenantAt(r pebble.Reader, key []byte) (tenantState, bool, error) {
	data, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return tenantState{}, false, nil
	}
	if err != nil {
		return tenantState{}, false, err
	}
	defer closer.Close()
	s, err := decodeTenantValue(data)
	return s, err == nil, err
}

func (l *Ledger) admitTenant(name string, s tenantState) *tenant {
	name = strings.Clone(name)
	t := &tenant{tenantState: s, name: name, reserved: quipu.Reserved(name)}
	l.tenants[name] = t
	return t
}

// writableTenant returns the tenant for a write: it is made if there is none,
// and has a fresh space if its names were dropped with all others'.
func (l *Ledger) writableTenant(name string) *tenant {
	t, err := l.readTenant(name)
	if err != nil {
		panic(diskError{err})
	}
	switch {
	case t == nil:
		// An atomic group that is undone leaves it, empty.
		l.meta.tenant++
		t = l.admitTenant(name, tenantState{number: l.meta.tenant, space: l.newSpace(quipu.Reserved(name))})
		l.changeTenant(t)
	case l.stale(t):
		l.changeTenant(t)
		t.lastRemoval = l.lastRemoval(t)
		t.space, t.names = l.newSpace(t.reserved), 0
	}
	return t
}

func (l *Ledger) newSpace(reserved bool) uint64 {
	l.meta.space++
	if reserved {
		return l.meta.space | reservedSpace
	}
	return l.meta.space
}

// changeTenant is called before a tenant is changed.
func (l *Ledger) changeTenant(t *tenant) {
	if l.undoing {
		before := t.tenantState
		l.undo = append(l.undo, func() { t.tenantState = before })
	}
	if t.dirty != l.at {
		t.dirty = l.at
		l.present.tenants = append(l.present.tenants, t)
	}
}

// dropSpace and dropSet tell the checkpoint what to delete by range.
func (l *Ledger) dropSpace(space uint64) {
	if l.undoing {
		n := len(l.present.spaces)
		l.undo = append(l.undo, func() { l.present.spaces = l.present.spaces[:n] })
	}
	l.present.spaces = append(l.present.spaces, space)
}

func (l *Ledger) dropSet(k setKey) {
	if l.undoing {
		n := len(l.present.sets)
		l.undo = append(l.undo, func() { l.present.sets = l.present.sets[:n] })
	}
	l.present.sets = append(l.present.sets, k)
}

// setOf names the set of an entry.
func (l *Ledger) setOf(e *entry) setKey { return setKey{l.table.space(e), l.table.more(e).set} }

// hasItem reports whether the set holds the item.
func (l *Ledger) hasItem(k setKey, item string) bool {
	has, known := l.knownItem(k, item)
	if known {
		return has
	}
	has, err := l.readItem(k, item)
	if err != nil {
		panic(diskError{err})
	}
	l.stats.coldApplies++
	return has
}

// knownItem looks for the item in memory.
func (l *Ledger) knownItem(k setKey, item string) (has, known bool) {
	for _, c := range [...]*changes{l.present, l.frozen} {
		if c == nil {
			continue
		}
		if set := c.items[k]; set != nil {
			if has, known = set.Get(item); known {
				return has, true
			}
		}
	}
	has, known = l.items[itemKey{k, item}]
	return has, known
}

func (l *Ledger) readItem(k setKey, item string) (bool, error) {
	l.scratch = appendItemKey(l.scratch[:0], k.space, k.set, item)
	_, closer, err := l.db.Get(l.scratch)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, closer.Close()
}

func (l *Ledger) setItem(k setKey, item string, has bool) {
	set := l.present.items[k]
	if set == nil {
		set = btree.NewMap[string, bool](32)
		l.present.items[k] = set
	}
	item = strings.Clone(item)
	before, was := set.Set(item, has)
	if !was {
		l.present.itemCount++
	}
	if l.undoing {
		l.undo = append(l.undo, func() {
			if was {
				set.Set(item, before)
			} else {
				set.Delete(item)
				l.present.itemCount--
			}
		})
	}
}

func (l *Ledger) addItem(op *quipu.Op, v view, res *quipu.Result) {
	var e *entry
	switch {
	case !v.exists:
		e = l.createName(v.tenant, v.at, quipu.KindItems)
	case l.hasItem(setKey{v.tenant.space, v.set}, op.Item):
		return
	default:
		e = l.change(v.at)
	}
	l.setItem(l.setOf(e), op.Item, true)
	e.value++
	e.revision = l.meta.number
	res.Changed, res.Kind, res.Value, res.Revision = true, quipu.KindItems, e.value, e.revision
}

func (l *Ledger) removeItem(op *quipu.Op, v view, res *quipu.Result) {
	if !v.exists || !l.hasItem(setKey{v.tenant.space, v.set}, op.Item) {
		return
	}
	e := l.change(v.at)
	l.setItem(l.setOf(e), op.Item, false)
	e.value--
	e.revision = l.meta.number
	res.Changed, res.Value, res.Revision = true, e.value, e.revision
	if e.value == 0 {
		l.removeName(v.tenant, v.at)
		res.Kind, res.ExpireAt = quipu.KindNone, 0
	}
}

// rollBack undoes what an atomic group has changed, newest first.
func (l *Ledger) rollBack() {
	for _, f := range slices.Backward(l.undo) {
		f()
	}
}

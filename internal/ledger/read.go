package ledger

import (
	"context"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

// Resident reports whether Apply of the operations needs no disk. It may say so
// wrongly once in billions of names, which costs Apply a read. hashes holds
// store.Hash(tenant, name) for each, or is nil.
//
// hints is filled with where the names were found, plus 1; it may be nil.
func (l *Ledger) Resident(ops []quipu.Op, hashes []uint64, hints []uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range ops {
		at, ok := l.resident(&ops[i], hashOf(ops, hashes, i))
		if !ok {
			return false
		}
		if hints != nil {
			hints[i] = at + 1 // noHint becomes 0
		}
	}
	return true
}

func hashOf(ops []quipu.Op, hashes []uint64, i int) uint64 {
	if hashes != nil {
		return hashes[i]
	}
	return store.Hash(ops[i].Tenant, ops[i].Name)
}

// resident reports whether the operation needs no disk, and where its name is:
// noHint if that was not looked for.
func (l *Ledger) resident(op *quipu.Op, hash uint64) (at uint32, ok bool) {
	t := l.tenantInMemory(op.Tenant)
	if t == nil {
		return noHint, false
	}
	if !op.ID().IsZero() {
		if _, known := l.knownInMemory(op); !known {
			return noHint, false
		}
	}
	if op.Kind == quipu.KindDropTenant || op.Kind == quipu.KindDropAll || l.stale(t) {
		return noHint, true
	}
	if op.Item == "" {
		return l.table.candidate(hash)
	}
	if at, ok = l.find(t, hash, op.Name); !ok {
		return noHint, false
	}
	e := l.table.entry(at)
	e.flags |= entryUsed
	if e.kind == quipu.KindItems {
		_, ok = l.knownItem(l.setOf(e), op.Item)
	}
	return at, ok
}

// maxLoaded bounds the look-ups that are kept of request ids, and of items.
const maxLoaded = 1 << 16

// Load reads into memory what the operations need. It may wait for the disk.
func (l *Ledger) Load(ctx context.Context, ops []quipu.Op) error {
	for i := range ops {
		if err := ctx.Err(); err != nil {
			return err
		}
		op := &ops[i]
		if op.Kind == quipu.KindDropAll && op.ID().IsZero() {
			continue
		}
		if err := l.load(op, store.Hash(op.Tenant, op.Name)); err != nil {
			return err
		}
	}
	return nil
}

// load brings one operation's tenant, name, item and id into memory.
func (l *Ledger) load(op *quipu.Op, hash uint64) error {
	if err := l.loadTenant(op.Tenant); err != nil {
		return err
	}
	if err := l.loadName(op, hash); err != nil {
		return err
	}
	if op.Item != "" {
		if err := l.loadItem(op, hash); err != nil {
			return err
		}
	}
	if !op.ID().IsZero() {
		return l.loadID(op)
	}
	return nil
}

// unlocked reads Pebble without the lock, and hands what was read to keep under
// the lock, unless a checkpoint was installed meanwhile: then it reads again.
// l.mu is held at the call and at the return. need says, under the lock,
// whether there is anything to read.
func unlocked[T any](l *Ledger, need func() (read func() (T, error), ok bool), keep func(T)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if l.db == nil {
			return errClosed
		}
		read, ok := need()
		if !ok {
			return nil
		}
		epoch := l.epoch
		l.mu.Unlock()
		v, err := read()
		l.mu.Lock()
		if err != nil {
			return err
		}
		if epoch == l.epoch {
			if _, ok := need(); ok { // nobody else has brought it in
				keep(v)
			}
			return nil
		}
	}
}

func (l *Ledger) loadTenant(name string) error {
	type found struct {
		state tenantState
		ok    bool
	}
	return unlocked(l, func() (func() (found, error), bool) {
		if _, ok := l.tenants[name]; ok {
			return nil, false
		}
		key := appendTenantKey(nil, name)
		return func() (found, error) {
			s, ok, err := readTenantAt(l.db, key)
			return found{s, ok}, err
		}, true
	}, func(f found) {
		if f.ok {
			l.admitTenant(name, f.state)
		}
	})
}

func (l *Ledger) loadName(op *quipu.Op, hash uint64) error {
	var t *tenant
	return unlocked(l, func() (func() (nameState, error), bool) {
		var ok bool
		if t, ok = l.tenants[op.Tenant]; !ok || l.stale(t) {
			return nil, false
		}
		if _, ok := l.find(t, hash, op.Name); ok {
			return nil, false
		}
		key := appendNameKey(nil, t.space, op.Name)
		return func() (nameState, error) { return readNameAt(l.db, key) }, true
	}, func(s nameState) {
		// The tenant may have been dropped between the two looks; a name under
		// an old space is never found.
		l.admit(hash, t, op.Name, s)
		l.table.evict(l.opts.CacheBytes, evictLook, l.forget)
		l.noteExpiry()
	})
}

func (l *Ledger) loadItem(op *quipu.Op, hash uint64) error {
	var key itemKey
	return unlocked(l, func() (func() (bool, error), bool) {
		t, ok := l.tenants[op.Tenant]
		if !ok || l.stale(t) {
			return nil, false
		}
		at, ok := l.find(t, hash, op.Name)
		if !ok {
			return nil, false
		}
		e := l.table.entry(at)
		if e.kind != quipu.KindItems {
			return nil, false
		}
		key = itemKey{l.setOf(e), op.Item}
		if _, known := l.knownItem(key.setKey, op.Item); known {
			return nil, false
		}
		raw := appendItemKey(nil, key.space, key.set, op.Item)
		return func() (bool, error) {
			_, closer, err := l.db.Get(raw)
			if err != nil {
				return false, ignoreNotFound(err)
			}
			return true, closer.Close()
		}, true
	}, func(has bool) {
		if len(l.items) >= maxLoaded {
			clear(l.items)
		}
		l.items[itemKey{key.setKey, string([]byte(key.item))}] = has
	})
}

func (l *Ledger) loadID(op *quipu.Op) error {
	var keys [][]byte
	return unlocked(l, func() (func() ([]*idRecord, error), bool) {
		t, ok := l.tenants[op.Tenant]
		if !ok {
			return nil, false
		}
		if _, known := l.knownInMemory(op); known {
			return nil, false
		}
		keys = l.idKeys(op, t.number)
		return func() ([]*idRecord, error) {
			out := make([]*idRecord, len(keys))
			for i, key := range keys {
				r, err := readIDAt(l.db, key)
				if err != nil {
					return nil, err
				}
				out[i] = r
			}
			return out, nil
		}, true
	}, func(found []*idRecord) {
		if len(l.loaded) >= maxLoaded {
			clear(l.loaded)
		}
		for i, key := range keys {
			l.loaded[string(key)] = found[i]
		}
	})
}

// TryRead answers reads at one point in time, if they need no disk, and
// reports whether it did. now is the stamp that the leader would give, by
// which remaining times are told; expiry is judged by log time.
func (l *Ledger) TryRead(now int64, ops []quipu.Op, results []quipu.Result) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range ops {
		if _, ok := l.resident(&ops[i], store.Hash(ops[i].Tenant, ops[i].Name)); !ok {
			return false
		}
	}
	return l.readAll(now, ops, results) == nil
}

// Read answers reads as TryRead does, and may wait for the disk.
func (l *Ledger) Read(ctx context.Context, now int64, ops []quipu.Op, results []quipu.Result) error {
	if l.TryRead(now, ops, results) {
		return nil
	}
	if err := l.Load(ctx, ops); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.db == nil {
		return errClosed
	}
	return l.readAll(now, ops, results)
}

// readAll runs reads outside the log. l.mu is held.
func (l *Ledger) readAll(now int64, ops []quipu.Op, results []quipu.Result) (err error) {
	defer func() {
		if p := recover(); p != nil {
			d, ok := p.(diskError)
			if !ok {
				panic(p)
			}
			err = d.err
		}
	}()
	now = max(now, l.meta.time)
	for i := range ops {
		results[i] = l.do(&ops[i], store.Hash(ops[i].Tenant, ops[i].Name))
		results[i].Now = now
	}
	return nil
}

package ledger

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/tidwall/btree"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

func ignoreNotFound(err error) error {
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	return err
}

// List answers a page as of one point in time. It first walks the page without
// the lock, which brings the blocks in, and then with it, which is quick.
func (l *Ledger) List(ctx context.Context, req store.ListRequest) (store.ListPage, error) {
	l.mu.Lock()
	lower, upper, ok, err := l.listBounds(&req)
	l.mu.Unlock()
	if err != nil || !ok {
		return store.ListPage{}, err
	}
	if err := l.warm(ctx, lower, upper, req.Limit); err != nil {
		return store.ListPage{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if lower, upper, ok, err = l.listBounds(&req); err != nil || !ok {
		return store.ListPage{}, err
	}
	return l.page(&req, lower, upper)
}

// listBounds returns the range of keys of a list; ok is false if it is empty.
// l.mu is held.
func (l *Ledger) listBounds(req *store.ListRequest) (lower, upper []byte, ok bool, err error) {
	if l.db == nil {
		return nil, nil, false, errClosed
	}
	var prefix []byte
	switch req.What {
	case store.Tenants:
		prefix = []byte{prefixTenant}
	default:
		t, err := l.readTenant(req.Tenant)
		if err != nil || t == nil || l.stale(t) {
			return nil, nil, false, err
		}
		prefix = appendNameKey(nil, t.space, "")
		if req.What == store.Items {
			s, err := l.nameNow(t, req.Name)
			if err != nil || s.kind != quipu.KindItems {
				return nil, nil, false, err
			}
			prefix = appendItemKey(nil, t.space, s.set, "")
		}
	}
	lower = append(append([]byte(nil), prefix...), max(req.Prefix, after(req.After))...)
	upper = behind(append(append([]byte(nil), prefix...), req.Prefix...))
	return lower, upper, true, nil
}

// nameNow returns how a name stands; absent if it has expired.
func (l *Ledger) nameNow(t *tenant, name string) (nameState, error) {
	var s nameState
	if at, ok := l.find(t, store.Hash(t.name, name), name); ok {
		s = l.table.state(l.table.entry(at))
	} else {
		var err error
		if s, err = l.readName(t.space, name); err != nil {
			return s, err
		}
	}
	if l.passed(s.expireAt) {
		return nameState{}, nil
	}
	return s, nil
}

// after is the least string behind s, "" if s is empty.
func after(s string) string {
	if s == "" {
		return ""
	}
	return s + "\x00"
}

// behind is the least key behind all that begin with prefix.
func behind(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			prefix[i]++
			return prefix[:i+1]
		}
	}
	return nil
}

func (l *Ledger) warm(ctx context.Context, lower, upper []byte, limit int) error {
	it, err := l.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	defer it.Close()
	n := 0
	for ok := it.First(); ok && n <= limit; ok = it.Next() {
		n++
	}
	return it.Error()
}

// page merges what Pebble holds with what changed since. l.mu is held.
func (l *Ledger) page(req *store.ListRequest, lower, upper []byte) (store.ListPage, error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return store.ListPage{}, err
	}
	defer it.Close()
	var page store.ListPage
	add := func(e store.ListEntry) bool {
		if len(page.Entries) == req.Limit {
			page.More = true
			return false
		}
		page.Entries = append(page.Entries, e)
		page.After = e.Name
		return true
	}
	switch req.What {
	case store.Names:
		err = l.pageNames(req, it, len(appendNameKey(nil, 0, "")), add)
	case store.Items:
		err = l.pageItems(req, it, len(appendItemKey(nil, 0, 0, "")), add)
	default:
		err = l.pageTenants(req, it, add)
	}
	return page, err
}

// merge walks the iterator's keys, without their prefix, and the sorted names
// together, each once.
func merge(it *pebble.Iterator, skip int, names []string, visit func(name string, value []byte) (bool, error)) error {
	ok := it.First()
	for ok || len(names) > 0 {
		var key string
		if ok {
			key = string(it.Key()[skip:])
		}
		name, value := key, []byte(nil)
		switch {
		case !ok || len(names) > 0 && names[0] < key:
			name, names = names[0], names[1:]
		default:
			value = it.Value()
			if len(names) > 0 && names[0] == key {
				names = names[1:]
			}
		}
		more, err := visit(name, value)
		if err != nil || !more {
			return err
		}
		if value != nil {
			ok = it.Next()
		}
	}
	return it.Error()
}

// collect returns up to limit sorted names of the trees in the request's range.
func collect[V any](req *store.ListRequest, limit int, trees ...*btree.Map[string, V]) []string {
	var out []string
	seen := btree.NewMap[string, struct{}](32)
	from := max(req.Prefix, after(req.After))
	for _, tree := range trees {
		if tree == nil {
			continue
		}
		n := 0
		tree.Ascend(from, func(name string, _ V) bool {
			if !strings.HasPrefix(name, req.Prefix) || n == limit {
				return false
			}
			seen.Set(name, struct{}{})
			n++
			return true
		})
	}
	seen.Scan(func(name string, _ struct{}) bool {
		out = append(out, name)
		return true
	})
	return out
}

func (l *Ledger) pageNames(req *store.ListRequest, it *pebble.Iterator, skip int, add func(store.ListEntry) bool) error {
	t := l.tenants[req.Tenant]
	changed := l.present.names[t.space]
	var frozen *btree.Map[string, struct{}]
	if l.frozen != nil {
		frozen = l.frozen.names[t.space]
	}
	// Removed names are among them: the page may need more than its limit.
	names := collect(req, int(^uint(0)>>1), changed, frozen)
	return merge(it, skip, names, func(name string, value []byte) (bool, error) {
		var s nameState
		if at, ok := l.find(t, store.Hash(t.name, name), name); ok {
			s = l.table.state(l.table.entry(at))
		} else if value != nil {
			var err error
			if s, err = decodeNameValue(value); err != nil {
				return false, err
			}
		}
		if s.kind == quipu.KindNone || l.passed(s.expireAt) || req.Kind != quipu.KindNone && s.kind != req.Kind {
			return true, nil
		}
		return add(store.ListEntry{Name: name, Kind: s.kind, Value: s.value, Revision: s.revision, ExpireAt: s.expireAt}), nil
	})
}

func (l *Ledger) pageItems(req *store.ListRequest, it *pebble.Iterator, skip int, add func(store.ListEntry) bool) error {
	t := l.tenants[req.Tenant]
	s, err := l.nameNow(t, req.Name)
	if err != nil {
		return err
	}
	k := setKey{t.space, s.set}
	changed := l.present.items[k]
	var frozen *btree.Map[string, bool]
	if l.frozen != nil {
		frozen = l.frozen.items[k]
	}
	return merge(it, skip, collect(req, int(^uint(0)>>1), changed, frozen), func(item string, value []byte) (bool, error) {
		has := value != nil
		for _, c := range [...]*btree.Map[string, bool]{frozen, changed} {
			if c != nil {
				if h, ok := c.Get(item); ok {
					has = h
				}
			}
		}
		if !has {
			return true, nil
		}
		return add(store.ListEntry{Name: item}), nil
	})
}

func (l *Ledger) pageTenants(req *store.ListRequest, it *pebble.Iterator, add func(store.ListEntry) bool) error {
	changed := btree.NewMap[string, struct{}](32)
	for name := range l.tenants {
		changed.Set(name, struct{}{})
	}
	return merge(it, 1, collect(req, int(^uint(0)>>1), changed), func(name string, _ []byte) (bool, error) {
		t, err := l.readTenant(name)
		if err != nil {
			return false, err
		}
		if t == nil || t.names == 0 || l.stale(t) {
			return true, nil
		}
		return add(store.ListEntry{Name: t.name}), nil
	})
}

// Size returns how many names the tenant has, expired ones not yet swept
// included.
func (l *Ledger) Size(_ context.Context, tenantName string) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.db == nil {
		return 0, errClosed
	}
	t, err := l.readTenant(tenantName)
	if err != nil || t == nil || l.stale(t) {
		return 0, err
	}
	return t.names, nil
}

// randomWalk is how many names Random draws from at most.
const randomWalk = 1000

// Random returns a name of the tenant. Of up to 1,000 names each has the same
// chance; of more, one of the 1,000 that follow a name drawn from memory.
func (l *Ledger) Random(ctx context.Context, tenantName string) (string, bool, error) {
	page, err := l.List(ctx, store.ListRequest{Tenant: tenantName, Limit: randomWalk, After: l.randomStart(tenantName)})
	if err == nil && len(page.Entries) == 0 {
		page, err = l.List(ctx, store.ListRequest{Tenant: tenantName, Limit: randomWalk})
	}
	if err != nil || len(page.Entries) == 0 {
		return "", false, err
	}
	return page.Entries[rand.IntN(len(page.Entries))].Name, true, nil
}

func (l *Ledger) randomStart(tenantName string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tenants[tenantName]
	if t == nil || t.names <= randomWalk || l.table.entries.next == 0 {
		return ""
	}
	for range 100 {
		if e := l.table.entry(rand.Uint32N(l.table.entries.next)); e.flags&entryLive != 0 && l.table.space(e) == t.space {
			return strings.Clone(l.table.name(e))
		}
	}
	return ""
}

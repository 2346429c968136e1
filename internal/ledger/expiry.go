package ledger

import (
	"context"
	"encoding/binary"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

// expiringName is a name in memory that expires. Names that Pebble alone holds
// stand in its expiry index.
type expiringName struct {
	at     int64
	space  uint64
	name   string
	tenant *tenant
}

func lessExpiring(a, b expiringName) bool {
	switch {
	case a.at != b.at:
		return a.at < b.at
	case a.space != b.space:
		return a.space < b.space
	default:
		return a.name < b.name
	}
}

const never = int64(math.MaxInt64)

// noteExpiry tells NextExpiry what is known. l.mu is held.
func (l *Ledger) noteExpiry() {
	next := l.stored
	if first, ok := l.expiring.Min(); ok {
		next = min(next, first.at)
	}
	l.nextExpiry.Store(next)
}

// NextExpiry returns a time, in milliseconds of log time, before which no name
// expires; ok is false if no name has an expiry. It is cheap.
func (l *Ledger) NextExpiry() (due int64, ok bool) {
	due = l.nextExpiry.Load()
	return due, due != never
}

// firstStoredExpiry returns the first time in Pebble's index.
func (l *Ledger) firstStoredExpiry() (int64, error) {
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixExpiry}, UpperBound: []byte{prefixExpiry + 1}})
	if err != nil {
		return 0, err
	}
	defer it.Close()
	if !it.First() {
		return never, it.Error()
	}
	at, _, _, ok := parseExpiryKey(it.Key())
	if !ok {
		return 0, errEntry
	}
	return at, nil
}

func parseExpiryKey(key []byte) (at int64, space uint64, name []byte, ok bool) {
	if len(key) < 17 {
		return 0, 0, nil, false
	}
	return int64(binary.BigEndian.Uint64(key[1:])), binary.BigEndian.Uint64(key[9:]), key[17:], true
}

// DueSweeps returns sweeps of at most limit names whose expiry is at or before
// now. It may read the disk.
func (l *Ledger) DueSweeps(ctx context.Context, now int64, limit int) ([]quipu.Op, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.db == nil {
		return nil, errClosed
	}
	var ops []quipu.Op
	sweep := func(tenant, name string) {
		ops = append(ops, quipu.Op{Kind: quipu.KindSweep, Tenant: tenant, Name: name})
	}
	for it := l.expiring.Iter(); it.Next() && len(ops) < limit; {
		x := it.Item()
		if x.at > now {
			break
		}
		if x.tenant.space == x.space && !l.stale(x.tenant) {
			sweep(x.tenant.name, x.name)
		}
	}
	l.dropExpired(now)
	if l.stored > now || len(ops) >= limit {
		return ops, nil
	}
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixExpiry}, UpperBound: []byte{prefixExpiry + 1}})
	if err != nil {
		return nil, err
	}
	defer it.Close()
	l.stored = never
	for ok := it.First(); ok && ctx.Err() == nil; ok = it.Next() {
		at, space, name, valid := parseExpiryKey(it.Key())
		if !valid {
			continue
		}
		if at > now || len(ops) >= limit {
			l.stored = at
			break
		}
		tenantName := string(it.Value())
		t, err := l.readTenant(tenantName)
		switch {
		case err != nil:
			return nil, err
		case t == nil || t.space != space || l.stale(t):
			l.present.stale = append(l.present.stale, string(it.Key()))
		default:
			// A name in memory stands in l.expiring, if it still expires.
			if _, hot := l.find(t, store.Hash(tenantName, string(name)), string(name)); !hot {
				sweep(tenantName, string(name))
			}
		}
	}
	l.noteExpiry()
	return ops, it.Error()
}

// dropExpired forgets names in memory whose space was dropped: no sweep will
// come for them.
func (l *Ledger) dropExpired(now int64) {
	for {
		x, ok := l.expiring.Min()
		if !ok || x.at > now || x.tenant.space == x.space && !l.stale(x.tenant) {
			break
		}
		l.expiring.Delete(x)
	}
	l.noteExpiry()
}

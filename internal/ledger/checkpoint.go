package ledger

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// copied is an entry as it was when its generation was frozen.
type copied struct {
	nameState
	space   uint64
	indexed int64
	name    string
	tenant  string
}

// copy takes an entry's value for the checkpoint.
func (c *changes) copy(t *table, e *entry) {
	m := t.more(e)
	c.copies = append(c.copies, copied{nameState: t.state(e), space: t.space(e), indexed: m.indexed, name: c.keep(t.name(e)), tenant: t.tenant(e).name})
	e.flags |= entryCopied
	// What the index will hold once this checkpoint is installed.
	m.indexed = m.expireAt
	t.setMore(e, m)
}

// keep copies a name into chunks: one allocation for thousands of names.
func (c *changes) keep(name string) string {
	if cap(c.kept)-len(c.kept) < len(name) {
		c.kept = make([]byte, 0, 64<<10)
	}
	at := len(c.kept)
	c.kept = append(c.kept, name...)
	return unsafe.String(&c.kept[at], len(name))
}

// keyRange is [start, end).
type keyRange struct{ start, end []byte }

// keyValue is a point of a checkpoint; value nil deletes.
type keyValue struct{ key, value []byte }

// copyChunk is how many entries are copied under one hold of the lock.
const copyChunk = 4096

// Checkpoint makes all that has been applied so far durable, and returns the
// index and term of the last entry in it: what a fresh Open would tell. It runs
// beside Apply, but one at a time. After an error the former checkpoint stands,
// nothing is lost, and it may be tried again.
func (l *Ledger) Checkpoint(ctx context.Context) (index, term uint64, err error) {
	began := time.Now()
	c, err := l.freeze()
	if err != nil {
		return 0, 0, err
	}
	l.copyFrozen(c)
	points := l.points(c)
	paths, err := l.writeTables(ctx, points, c.drops)
	if err == nil {
		err = l.db.Ingest(ctx, paths)
	}
	if err != nil {
		for _, p := range paths {
			l.opts.FS.Remove(p)
		}
		return 0, 0, fmt.Errorf("checkpoint at entry %d: %w", c.index, err)
	}
	if err := l.installed(c, time.Since(began)); err != nil {
		return 0, 0, err
	}
	return c.index, c.term, nil
}

// hold measures how long the lock is held by the checkpointer.
func (l *Ledger) hold(f func()) {
	l.mu.Lock()
	began := time.Now()
	f()
	l.stats.longestHold = max(l.stats.longestHold, uint64(time.Since(began)))
	l.mu.Unlock()
}

// freeze makes the present generation the frozen one. One that a failed
// checkpoint left behind goes first.
func (l *Ledger) freeze() (c *changes, err error) {
	l.hold(func() {
		if l.db == nil {
			err = errClosed
			return
		}
		if c = l.frozen; c != nil {
			return
		}
		c = l.present
		m := &l.meta
		m.flushed = max(m.flushed, c.lastID)
		c.index, c.term, c.meta = m.index, m.term, m.encode(nil)
		for _, t := range c.tenants {
			c.tenantsThen = append(c.tenantsThen, frozenTenant{t.name, t.tenantState})
		}
		for _, space := range c.spaces {
			c.drops = append(c.drops, keyRange{numberKey(prefixName, space), afterNumber(prefixName, space)},
				keyRange{numberKey(prefixItem, space), afterNumber(prefixItem, space)})
		}
		for _, k := range c.sets {
			c.drops = append(c.drops, keyRange{appendItemKey(nil, k.space, k.set, ""), appendItemKey(nil, k.space, k.set+1, "")})
		}
		if m.flushSpace > 0 {
			c.drops = append(c.drops, keyRange{numberKey(prefixName, 0), numberKey(prefixName, m.flushSpace)},
				keyRange{numberKey(prefixItem, 0), numberKey(prefixItem, m.flushSpace)})
		}
		if m.horizon >= 0 {
			c.drops = append(c.drops, keyRange{[]byte{prefixTimed}, timedEnd(m.horizon)})
		}
		if m.generation >= 2 {
			c.drops = append(c.drops, keyRange{numberKey(prefixUntimed, 0), numberKey(prefixUntimed, m.generation-1)})
		}
		l.frozen = c
		l.at++
		l.present = newChanges(l.at)
		l.notePressure()
	})
	return c, err
}

// copyFrozen copies the entries of the frozen generation that Apply has not
// changed, and so copied, itself.
func (l *Ledger) copyFrozen(c *changes) {
	for at := 0; at < len(c.entries); at += copyChunk {
		l.hold(func() {
			for _, n := range c.entries[at:min(at+copyChunk, len(c.entries))] {
				if e := l.table.entry(n); e.generation == c.generation && e.flags&entryCopied == 0 {
					c.copy(l.table, e)
				}
			}
		})
	}
}

// points returns the points of a frozen generation, sorted, one a key. What
// lies in a range that is deleted is left out.
func (l *Ledger) points(c *changes) []keyValue {
	points := make([]keyValue, 0, len(c.copies)+len(c.ids)+c.itemCount+len(c.tenantsThen)+1)
	c.drops = mergeRanges(c.drops)
	drops := rangeFinder(c.drops)
	add := func(key, value []byte) {
		if !drops.holds(key) {
			points = append(points, keyValue{key, value})
		}
	}
	points = append(points, keyValue{[]byte{prefixMeta}, c.meta})
	for i := range c.copies {
		e := &c.copies[i]
		key := appendNameKey(nil, e.space, e.name)
		if e.kind == 0 {
			add(key, nil)
		} else {
			add(key, appendNameValue(nil, &e.nameState))
		}
		if e.indexed != 0 && e.indexed != e.expireAt {
			add(appendExpiryKey(nil, e.indexed, e.space, e.name), nil)
		}
		if e.expireAt != 0 {
			add(appendExpiryKey(nil, e.expireAt, e.space, e.name), []byte(e.tenant))
		}
	}
	for k, set := range c.items {
		set.Scan(func(item string, has bool) bool {
			var value []byte
			if has {
				value = []byte{}
			}
			add(appendItemKey(nil, k.space, k.set, item), value)
			return true
		})
	}
	for key, r := range c.ids {
		add([]byte(key), appendIDValue(nil, r))
	}
	for i := range c.tenantsThen {
		t := &c.tenantsThen[i]
		add(appendTenantKey(nil, t.name), appendTenantValue(nil, &t.tenantState))
	}
	for _, key := range c.stale {
		add([]byte(key), nil)
	}
	slices.SortFunc(points, func(a, b keyValue) int { return bytes.Compare(a.key, b.key) })
	// An index key may be both deleted as stale and put anew: the put counts.
	out := points[:1]
	for _, p := range points[1:] {
		last := &out[len(out)-1]
		if bytes.Equal(last.key, p.key) {
			if p.value != nil {
				*last = p
			}
			continue
		}
		out = append(out, p)
	}
	return out
}

// mergeRanges sorts ranges and joins those that overlap.
func mergeRanges(ranges []keyRange) []keyRange {
	slices.SortFunc(ranges, func(a, b keyRange) int {
		return cmp.Or(bytes.Compare(a.start, b.start), bytes.Compare(a.end, b.end))
	})
	var out []keyRange
	for _, r := range ranges {
		if bytes.Compare(r.start, r.end) >= 0 {
			continue
		}
		if n := len(out); n > 0 && bytes.Compare(r.start, out[n-1].end) <= 0 {
			if bytes.Compare(r.end, out[n-1].end) > 0 {
				out[n-1].end = r.end
			}
			continue
		}
		out = append(out, r)
	}
	return out
}

// rangeFinder finds keys in sorted ranges that do not overlap.
type rangeFinder []keyRange

func (r rangeFinder) holds(key []byte) bool {
	i, found := slices.BinarySearchFunc(r, key, func(x keyRange, key []byte) int { return bytes.Compare(x.start, key) })
	if found {
		return true
	}
	return i > 0 && bytes.Compare(key, r[i-1].end) < 0
}

// writeTables writes points and range deletes as sorted tables that do not
// overlap, and returns their paths.
func (l *Ledger) writeTables(ctx context.Context, points []keyValue, drops []keyRange) (paths []string, err error) {
	for n := 0; len(points) > 0 || len(drops) > 0; n++ {
		if err := ctx.Err(); err != nil {
			return paths, err
		}
		path := l.opts.FS.PathJoin(l.opts.Dir, fmt.Sprintf("checkpoint-%04d.tmp", n))
		paths = append(paths, path)
		points, drops, err = l.writeTable(path, points, drops)
		if err != nil {
			return paths, err
		}
	}
	return paths, nil
}

// writeTable writes one table of about TableBytes and returns what is left. A
// range delete that crosses the end is split there.
func (l *Ledger) writeTable(path string, points []keyValue, drops []keyRange) ([]keyValue, []keyRange, error) {
	n, size := 0, int64(0)
	for n < len(points) && size < l.opts.TableBytes {
		size += int64(len(points[n].key) + len(points[n].value))
		n++
	}
	end := []byte(nil) // of this table's keys; nil is without end
	if n < len(points) {
		end = points[n].key
	}
	f, err := l.opts.FS.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, nil, err
	}
	po := pebbleOptions(&l.opts)
	po.EnsureDefaults()
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), po.MakeWriterOptions(0, l.db.TableFormat()))
	for i := 0; i < n && err == nil; i++ {
		if points[i].value == nil {
			err = w.Delete(points[i].key)
		} else {
			err = w.Set(points[i].key, points[i].value)
		}
	}
	for len(drops) > 0 && err == nil {
		d := drops[0]
		if end != nil && bytes.Compare(d.start, end) >= 0 {
			break
		}
		if end != nil && bytes.Compare(d.end, end) > 0 {
			err = w.DeleteRange(d.start, end)
			drops = append([]keyRange{{end, d.end}}, drops[1:]...)
			break
		}
		err = w.DeleteRange(d.start, d.end)
		drops = drops[1:]
	}
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	return points[n:], drops, err
}

// installed lets go of the frozen generation: Pebble holds it now.
func (l *Ledger) installed(c *changes, took time.Duration) (err error) {
	l.hold(func() {
		l.epoch++
		l.checkpointed.index, l.checkpointed.term = c.index, c.term
		l.stats.checkpoints++
		l.stats.checkpointNanos = uint64(took)
		// Memberships and ids looked up before may have been changed in it.
		clear(l.items)
		clear(l.loaded)
	})
	for at := 0; at < len(c.entries); at += copyChunk {
		l.hold(func() {
			for _, n := range c.entries[at:min(at+copyChunk, len(c.entries))] {
				e := l.table.entry(n)
				e.flags &^= entryCopied
				if e.generation == c.generation {
					e.generation = 0
				}
			}
		})
	}
	l.hold(func() {
		l.frozen = nil
		l.notePressure()
		for x := range c.copies {
			if at := c.copies[x].expireAt; at != 0 {
				l.stored = min(l.stored, at)
			}
		}
		l.noteExpiry()
	})
	return nil
}

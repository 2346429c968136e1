package ledger

import (
	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

// group applies the records of a group.
func (l *Ledger) group(g *store.Group, records []store.Record, results []store.RecordResult) {
	clear(results)
	all := func(code quipu.Code) {
		for i := range records {
			l.meta.number++
			results[i].Result = l.refused(&records[i].Op, records[i].Hash, code)
		}
	}
	writes, keyed, replays, reused := l.groupIDs(records)
	replay := writes > 0 && replays == writes
	switch {
	case g.AllOrNothing && keyed > 0 && keyed < writes:
		all(quipu.CodeInvalid)
		return
	case g.AllOrNothing && !replay && replays+reused > 0:
		all(quipu.CodeIDReused)
		return
	}
	if !replay {
		for _, w := range g.Watches {
			v := l.look(w.Tenant, w.Name, store.Hash(w.Tenant, w.Name))
			if !l.holds(&v, w.Tenant, w.If) {
				all(quipu.CodePrecondition)
				return
			}
		}
	}
	if !g.AllOrNothing || replay {
		for i := range records {
			l.meta.number++
			results[i].Result = l.withID(&records[i].Op, records[i].Hash)
		}
		return
	}
	l.atomic(records, results)
}

// groupIDs counts what is known of the request ids of a group's writes.
func (l *Ledger) groupIDs(records []store.Record) (writes, keyed, replays, reused int) {
	for i := range records {
		op := &records[i].Op
		if op.Kind.Reads() {
			continue
		}
		writes++
		id := op.ID()
		if id.IsZero() {
			continue
		}
		keyed++
		if id.Timed && id.Time() <= l.meta.horizon {
			continue // too old: neither known nor a replay
		}
		if r := l.known(op); r != nil {
			if r.fingerprint == fingerprint(op) {
				replays++
			} else {
				reused++
			}
		}
	}
	return writes, keyed, replays, reused
}

// atomic applies all operations or, if one is refused, none.
func (l *Ledger) atomic(records []store.Record, results []store.RecordResult) {
	before := l.meta.number
	l.undoing, l.undo = true, l.undo[:0]
	failed := -1
	for i := range records {
		l.meta.number++
		results[i].Result = l.withID(&records[i].Op, records[i].Hash)
		if results[i].Code != quipu.CodeOK {
			failed = i
			break
		}
	}
	l.undoing = false
	if failed >= 0 {
		code := results[failed].Code
		l.rollBack()
		l.meta.number = before
		for i := range records {
			l.meta.number++
			c := quipu.CodeAborted
			if i == failed {
				c = code
			}
			results[i].Result = l.refused(&records[i].Op, records[i].Hash, c)
		}
	}
	clear(l.undo)
	l.undo = l.undo[:0]
}

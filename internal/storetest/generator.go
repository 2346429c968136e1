package storetest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

// Generator makes random batches over few names, so that operations meet: all
// kinds, options, groups and watches, request ids that come again, expire or
// lie ahead. It is not safe for concurrent use.
type Generator struct {
	Rand *rand.Rand
	// Now tells log time in milliseconds, Number the last operation's number.
	Now    func() int64
	Number func() uint64
	// WindowMs is the setting of request ids.
	WindowMs int64

	ids []quipu.RequestID
}

// Tenants, Names and Items are those that a Generator draws from, beside names
// n0 to n59.
var (
	Tenants = []string{"default", "a", "_node", "b"}
	Names   = []string{"x", "y", "z", "long-name-that-does-not-fit-into-anything-small-0123456789", "s1", "s2", "é", "a/b"}
	Items   = []string{"i1", "i2", "i3"}
	deltas  = []int64{0, 1, 1, 1, -1, 7, math.MaxInt64, math.MinInt64, math.MaxInt64 - 2}
)

func pick[T any](rng *rand.Rand, s []T) T { return s[rng.IntN(len(s))] }

// Op returns a random operation.
func (g *Generator) Op() quipu.Op {
	rng := g.Rand
	op := quipu.Op{Tenant: pick(rng, Tenants), Name: pick(rng, Names)}
	if rng.IntN(3) == 0 {
		op.Name = fmt.Sprint("n", rng.IntN(60))
	}
	switch n := rng.IntN(100); {
	case n < 45:
		op.Kind, op.Value = quipu.KindAdd, pick(rng, deltas)
	case n < 50:
		op.Kind = pick(rng, []quipu.Kind{quipu.KindGet, quipu.KindStat, quipu.KindCount})
	case n < 53:
		op.Kind, op.Item = quipu.KindHasItem, pick(rng, Items)
	case n < 60:
		op.Kind, op.Value = quipu.KindSet, pick(rng, deltas)
	case n < 63:
		op.Kind = quipu.KindReset
	case n < 67:
		op.Kind = quipu.KindDelete
	case n < 80:
		op.Kind, op.Item = quipu.KindAddItem, pick(rng, Items)
	case n < 87:
		op.Kind, op.Item = quipu.KindRemoveItem, pick(rng, Items)
	case n < 93:
		op.Kind = quipu.KindExpire
	case n < 98:
		op.Kind = quipu.KindSweep
	case n < 99 && rng.IntN(3) == 0:
		op.Kind, op.Name = quipu.KindDropTenant, ""
	case rng.IntN(6) == 0:
		op.Kind, op.Name, op.Tenant = quipu.KindDropAll, "", ""
	default:
		op.Kind, op.Value = quipu.KindAdd, 1
	}
	if op.Kind == quipu.KindSweep || op.Kind == quipu.KindAdd && rng.IntN(2) == 0 {
		return op
	}
	g.options(&op)
	return op
}

func (g *Generator) options(op *quipu.Op) {
	rng := g.Rand
	o := &quipu.Options{}
	named := op.Name != ""
	if !op.Kind.Reads() && rng.IntN(3) == 0 {
		o.ID = g.id()
	}
	if op.Kind == quipu.KindAdd && rng.IntN(3) == 0 {
		o.Lower, o.Upper = int64(rng.IntN(10))-10, int64(rng.IntN(10))
		o.HasLower, o.HasUpper, o.Saturate = rng.IntN(2) == 0, rng.IntN(2) == 0, rng.IntN(2) == 0
		if !o.HasLower {
			o.Lower = 0
		}
		if !o.HasUpper {
			o.Upper = 0
		}
	}
	canExpire := op.Kind == quipu.KindAdd || op.Kind == quipu.KindSet || op.Kind == quipu.KindReset
	if op.Kind == quipu.KindExpire || canExpire && rng.IntN(3) == 0 {
		o.Expiry = quipu.Expiry{Mode: quipu.ExpirySet, Cond: quipu.ExpiryCond(rng.IntN(5)), Ms: int64(rng.IntN(8000) - 500), AlsoIfSome: rng.IntN(8) == 0}
		switch rng.IntN(5) {
		case 0:
			o.Expiry = quipu.Expiry{Mode: quipu.ExpiryRemove}
		case 1:
			o.Expiry.Absolute = true
			o.Expiry.Ms += g.Now()
		}
	}
	if named && rng.IntN(4) == 0 {
		o.If.Kind = quipu.PreconditionKind(rng.IntN(4))
		switch o.If.Kind {
		case quipu.IfRevision, quipu.IfAbsent:
			if n := g.Number(); n > 0 && rng.IntN(3) > 0 {
				o.If.Revision = n - min(n, uint64(rng.IntN(20)))
			}
		}
	}
	if rng.IntN(6) == 0 {
		switch op.Kind {
		case quipu.KindStat, quipu.KindSet, quipu.KindDelete, quipu.KindExpire:
			o.RequireKind = quipu.NameKind(rng.IntN(3))
		}
	}
	o.Replace = op.Kind == quipu.KindSet && rng.IntN(3) == 0
	if *o != (quipu.Options{}) {
		op.Options = o
	}
}

// id returns a request id, often one that was used before.
func (g *Generator) id() quipu.RequestID {
	rng := g.Rand
	if len(g.ids) > 0 && rng.IntN(2) == 0 {
		return pick(rng, g.ids)
	}
	id := quipu.RequestID{Key: fmt.Sprint("key-", rng.IntN(30)), Ordinal: uint32(rng.IntN(2))}
	if rng.IntN(3) > 0 {
		at := g.Now() + int64(rng.IntN(8000)) - 1000
		if rng.IntN(10) == 0 {
			at = g.Now() - g.WindowMs - int64(rng.IntN(1000))
		}
		id = idAt(at, byte(rng.IntN(4)))
	}
	g.ids = append(g.ids, id)
	if len(g.ids) > 40 {
		g.ids = g.ids[1:]
	}
	return id
}

// Batch appends the same random records and groups to each of the batches,
// which hold the same already.
func (g *Generator) Batch(to ...*store.Batch) {
	rng := g.Rand
	add := func(op quipu.Op, fold bool) {
		h := store.Hash(op.Tenant, op.Name)
		for _, b := range to {
			b.Add(&op, h, fold)
		}
	}
	for range 1 + rng.IntN(12) {
		if rng.IntN(8) > 0 {
			add(g.Op(), true)
			continue
		}
		group := store.Group{First: len(to[0].Records), Count: 1 + rng.IntN(4), AllOrNothing: rng.IntN(2) == 0}
		keyed := rng.IntN(2) == 0
		for range group.Count {
			op := g.Op()
			if op.Kind == quipu.KindSweep { // never sent in a group
				op = quipu.Op{Kind: quipu.KindGet, Tenant: op.Tenant, Name: op.Name}
			}
			if o := op.Options; group.AllOrNothing && rng.IntN(10) > 0 && !op.Kind.Reads() {
				c := quipu.Options{}
				if o != nil {
					c = *o
				}
				c.ID = quipu.RequestID{}
				if keyed {
					c.ID = g.id()
				}
				op.Options = nil
				if c != (quipu.Options{}) {
					op.Options = &c
				}
			}
			add(op, false)
		}
		if rng.IntN(3) == 0 {
			n := g.Number()
			group.Watches = []store.Watch{{Tenant: pick(rng, Tenants), Name: pick(rng, Names),
				If: quipu.Precondition{Kind: quipu.PreconditionKind(rng.IntN(4)), Revision: n - min(n, uint64(rng.IntN(10)))}}}
		}
		for _, b := range to {
			b.AddGroup(group)
		}
	}
}

func (w *world) generator(seed uint64) *Generator {
	return &Generator{
		Rand: rand.New(rand.NewPCG(seed, 11)), Now: w.clock.ms.Load, Number: w.model.Number, WindowMs: window.Milliseconds(),
	}
}

// random runs random batches, with time passing between them.
func random(w *world) {
	steps := 1500
	if w.brief {
		steps = 200
	}
	const seed = 1
	g := w.generator(seed)
	for i := range steps {
		w.randomStep(g)
		if i%100 == 99 {
			w.compare(Tenants...)
		}
	}
	w.compare(Tenants...)
}

func (w *world) randomStep(g *Generator) {
	w.Helper()
	w.pass(time.Duration(g.Rand.IntN(400)) * time.Millisecond)
	if g.Rand.IntN(60) == 0 {
		w.pass(time.Duration(g.Rand.Int64N(2*window.Milliseconds()) * int64(time.Millisecond)))
	}
	b := batch()
	g.Batch(b)
	w.submit(b)
}

package ledger

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/model"
	"github.com/quipudb/quipu/internal/store"
)

// world drives a ledger and the model with the same random entries.
type world struct {
	t      testing.TB
	rng    *rand.Rand
	fs     *vfs.MemFS
	opts   Options
	ledger *Ledger
	model  *model.Model

	index       uint64
	stamp       int64
	incarnation [16]byte
	number      uint64
	ids         []quipu.RequestID
	log         [][]byte // encoded entries, from index 1
}

const testWindowMs = 60_000

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 11)), fs: vfs.NewCrashableMem(), stamp: 1_700_000_000_000,
		model: model.New(model.Settings{WindowMs: testWindowMs, SkewMs: 5_000}),
	}
	w.opts = Options{FS: w.fs, Dir: "state", CacheBytes: 6 << 10, CheckpointBytes: 1 << 20, PebbleCacheBytes: 1 << 20, TableBytes: 2 << 10}
	w.open()
	w.apply(&Entry{Type: EntrySettings, Settings: Settings{WindowMs: testWindowMs, SkewMs: 5_000}})
	w.begin()
	return w
}

func (w *world) open() {
	w.t.Helper()
	l, err := Open(w.opts)
	if err != nil {
		w.t.Fatal(err)
	}
	w.ledger = l
}

// apply gives an entry to both, the ledger's by way of its encoding.
func (w *world) apply(e *Entry) (store.Fate, *store.Batch) {
	w.t.Helper()
	w.index++
	e.Index, e.Term, e.Stamp = w.index, 1, w.stamp
	data := AppendEntry(nil, e)
	w.log = append(w.log, data)
	var decoded Entry
	if err := DecodeEntry(data, &decoded); err != nil {
		w.t.Fatal(err)
	}
	decoded.Index, decoded.Term = w.index, 1
	fate, err := w.ledger.Apply(&decoded)
	if err != nil {
		w.t.Fatal(err)
	}
	return fate, decoded.Batch
}

func (w *world) begin() {
	w.incarnation = [16]byte{byte(w.rng.Uint32()), byte(w.rng.Uint32()), byte(w.index)}
	w.number = 0
	w.apply(&Entry{Type: EntryBegin, Incarnation: w.incarnation, Node: "n"})
	w.model.Begin(w.stamp, "n", w.incarnation)
}

// reopen closes the ledger and replays the log after its last checkpoint.
func (w *world) reopen() {
	w.t.Helper()
	if err := w.ledger.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
	replay(w.t, w.ledger, w.log)
}

func replay(t testing.TB, l *Ledger, log [][]byte) {
	t.Helper()
	from, _ := l.Applied()
	for i := from; i < uint64(len(log)); i++ {
		var e Entry
		if err := DecodeEntry(log[i], &e); err != nil {
			t.Fatal(err)
		}
		e.Index, e.Term = i+1, 1
		if _, err := l.Apply(&e); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	testTenants = []string{"default", "a", "_node", "b"}
	testNames   = []string{"x", "y", "z", "long-name-that-does-not-fit-into-anything-small-0123456789", "s1", "s2", "é", "a/b"}
	testItems   = []string{"i1", "i2", "i3"}
	deltas      = []int64{0, 1, 1, 1, -1, 7, math.MaxInt64, math.MinInt64, math.MaxInt64 - 2}
)

func pick[T any](rng *rand.Rand, s []T) T { return s[rng.IntN(len(s))] }

func (w *world) op() quipu.Op {
	rng := w.rng
	op := quipu.Op{Tenant: pick(rng, testTenants), Name: pick(rng, testNames)}
	if rng.IntN(3) == 0 {
		op.Name = fmt.Sprint("n", rng.IntN(60))
	}
	switch n := rng.IntN(100); {
	case n < 45:
		op.Kind, op.Value = quipu.KindAdd, pick(rng, deltas)
	case n < 50:
		op.Kind = pick(rng, []quipu.Kind{quipu.KindGet, quipu.KindStat, quipu.KindCount})
	case n < 53:
		op.Kind, op.Item = quipu.KindHasItem, pick(rng, testItems)
	case n < 60:
		op.Kind, op.Value = quipu.KindSet, pick(rng, deltas)
	case n < 63:
		op.Kind = quipu.KindReset
	case n < 67:
		op.Kind = quipu.KindDelete
	case n < 80:
		op.Kind, op.Item = quipu.KindAddItem, pick(rng, testItems)
	case n < 87:
		op.Kind, op.Item = quipu.KindRemoveItem, pick(rng, testItems)
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
	w.options(&op)
	return op
}

func (w *world) options(op *quipu.Op) {
	rng := w.rng
	o := &quipu.Options{}
	named := op.Name != ""
	if !op.Kind.Reads() && rng.IntN(3) == 0 {
		o.ID = w.id()
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
			o.Expiry.Ms += w.stamp
		}
	}
	if named && rng.IntN(4) == 0 {
		o.If.Kind = quipu.PreconditionKind(rng.IntN(4))
		switch o.If.Kind {
		case quipu.IfRevision, quipu.IfAbsent:
			if n := w.model.Number(); n > 0 && rng.IntN(3) > 0 {
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
func (w *world) id() quipu.RequestID {
	rng := w.rng
	if len(w.ids) > 0 && rng.IntN(2) == 0 {
		return pick(rng, w.ids)
	}
	id := quipu.RequestID{Key: fmt.Sprint("key-", rng.IntN(30)), Ordinal: uint32(rng.IntN(2))}
	if rng.IntN(3) > 0 {
		at := uint64(w.stamp + int64(rng.IntN(8000)) - 1000)
		if rng.IntN(10) == 0 {
			at = uint64(w.stamp - testWindowMs - int64(rng.IntN(1000)))
		}
		b := make([]byte, 16)
		for i := range 6 {
			b[i] = byte(at >> (40 - 8*i))
		}
		b[6], b[8], b[15] = 0x70, 0x80, byte(rng.IntN(4))
		id = quipu.RequestID{Key: string(b), Timed: true}
	}
	w.ids = append(w.ids, id)
	if len(w.ids) > 40 {
		w.ids = w.ids[1:]
	}
	return id
}

// batch builds a random batch twice: for the ledger and for the model.
func (w *world) batch() (a, b *store.Batch) {
	a, b = new(store.Batch), new(store.Batch)
	a.Reset()
	b.Reset()
	add := func(op quipu.Op, fold bool) {
		h := store.Hash(op.Tenant, op.Name)
		a.Add(&op, h, fold)
		b.Add(&op, h, fold)
	}
	for range 1 + w.rng.IntN(12) {
		if w.rng.IntN(8) > 0 {
			add(w.op(), true)
			continue
		}
		g := store.Group{First: len(a.Records), Count: 1 + w.rng.IntN(4), AllOrNothing: w.rng.IntN(2) == 0}
		keyed := w.rng.IntN(2) == 0
		for range g.Count {
			op := w.op()
			for op.Kind == quipu.KindSweep {
				op = w.op()
			}
			if o := op.Options; g.AllOrNothing && w.rng.IntN(10) > 0 && !op.Kind.Reads() {
				c := quipu.Options{}
				if o != nil {
					c = *o
				}
				c.ID = quipu.RequestID{}
				if keyed {
					c.ID = w.id()
				}
				op.Options = nil
				if c != (quipu.Options{}) {
					op.Options = &c
				}
			}
			add(op, false)
		}
		if w.rng.IntN(3) == 0 {
			n := w.model.Number()
			g.Watches = []store.Watch{{Tenant: pick(w.rng, testTenants), Name: pick(w.rng, testNames),
				If: quipu.Precondition{Kind: quipu.PreconditionKind(w.rng.IntN(4)), Revision: n - min(n, uint64(w.rng.IntN(10)))}}}
		}
		a.AddGroup(g)
		b.AddGroup(g)
	}
	return a, b
}

// step applies one random batch to both and compares.
func (w *world) step(i int) {
	w.t.Helper()
	w.stamp += int64(w.rng.IntN(400))
	if w.rng.IntN(60) == 0 {
		w.stamp += int64(w.rng.IntN(testWindowMs * 2))
	}
	a, b := w.batch()
	number := w.number + 1
	switch w.rng.IntN(30) {
	case 0:
		number++
	case 1:
		number -= min(number, uint64(w.rng.IntN(3)))
	}
	if number == 0 {
		number = 1
	}
	incarnation := w.incarnation
	if w.rng.IntN(40) == 0 {
		incarnation = [16]byte{1, 2, 3}
	}
	fate, applied := w.apply(&Entry{Type: EntryBatch, Incarnation: incarnation, Number: number, Batch: a})
	want := w.model.Apply(w.stamp, incarnation, number, b)
	if fate != want {
		w.t.Fatalf("step %d: fate %v, the model says %v", i, fate, want)
	}
	if fate == store.Applied {
		w.number = number
	}
	if fate == store.Applied || fate == store.Duplicate {
		if len(applied.Results) != len(b.Results) {
			w.t.Fatalf("step %d: %d results, the model has %d", i, len(applied.Results), len(b.Results))
		}
		for j := range b.Results {
			if !reflect.DeepEqual(normal(applied.Results[j]), normal(b.Results[j])) {
				w.t.Fatalf("step %d, %v, record %d %s\n got %+v\nwant %+v", i, fate, j, describe(b, j), applied.Results[j], b.Results[j])
			}
		}
	}
	if got, want := w.ledger.LastNumber(), w.model.Number(); got != want {
		w.t.Fatalf("step %d: number %d, the model says %d", i, got, want)
	}
}

func describe(b *store.Batch, j int) string {
	if j >= len(b.Records) {
		return ""
	}
	r := b.Records[j]
	s := fmt.Sprintf("%v %q %q %q %d x%d %v", r.Op.Kind, r.Op.Tenant, r.Op.Name, r.Op.Item, r.Op.Value, r.Times, r.More)
	if r.Op.Options != nil {
		s += fmt.Sprintf(" %+v", *r.Op.Options)
	}
	return s + fmt.Sprintf(" groups %+v", b.Groups)
}

func normal(r store.RecordResult) store.RecordResult {
	if len(r.Refused) == 0 {
		r.Refused = nil
	}
	return r
}

// compare compares all that can be read.
func (w *world) compare(l *Ledger) {
	w.t.Helper()
	ctx := context.Background()
	for _, tenant := range testTenants {
		size, err := l.Size(ctx, tenant)
		if err != nil || size != w.model.Size(tenant) {
			w.t.Fatalf("tenant %q has %d names, the model %d (%v)", tenant, size, w.model.Size(tenant), err)
		}
		req := store.ListRequest{Tenant: tenant, Limit: 1 + w.rng.IntN(30)}
		if w.rng.IntN(2) == 0 {
			req.Prefix = pick(w.rng, []string{"n", "n1", "s", "x", "é"})
		}
		req.Kind = quipu.NameKind(w.rng.IntN(3))
		w.compareList(l, req)
		for _, name := range testNames {
			w.compareList(l, store.ListRequest{What: store.Items, Tenant: tenant, Name: name, Limit: 2})
			ops := []quipu.Op{{Kind: quipu.KindStat, Tenant: tenant, Name: name}, {Kind: quipu.KindHasItem, Tenant: tenant, Name: name, Item: "i2"}}
			got, want := make([]quipu.Result, 2), make([]quipu.Result, 2)
			w.model.Read(w.stamp, ops, want)
			if !l.TryRead(w.stamp, ops, got) {
				if err := l.Read(ctx, w.stamp, ops, got); err != nil {
					w.t.Fatal(err)
				}
			}
			if !reflect.DeepEqual(got, want) {
				w.t.Fatalf("read of %q %q\n got %+v\nwant %+v", tenant, name, got, want)
			}
		}
		name, ok, err := l.Random(ctx, tenant)
		if _, has := w.model.Random(tenant); err != nil || ok != has {
			w.t.Fatalf("random of %q: %q %v %v", tenant, name, ok, err)
		}
	}
	w.compareList(l, store.ListRequest{What: store.Tenants, Limit: 3})
}

func (w *world) compareList(l *Ledger, req store.ListRequest) {
	w.t.Helper()
	for {
		got, err := l.List(context.Background(), req)
		if err != nil {
			w.t.Fatal(err)
		}
		want := w.model.List(req)
		if len(got.Entries) != len(want.Entries) || got.More != want.More || len(want.Entries) > 0 && !reflect.DeepEqual(got, want) {
			w.t.Fatalf("list %+v\n got %+v\nwant %+v", req, got, want)
		}
		if !got.More {
			return
		}
		req.After = got.After
	}
}

func steps(t *testing.T, long int) int {
	if testing.Short() {
		return long / 5
	}
	return long
}

// TestAgainstModel runs random entries through ledger and model, with
// checkpoints, restarts, loads and sweeps between them, on a cache so small that
// names come and go.
func TestAgainstModel(t *testing.T) {
	for seed := range uint64(steps(t, 20)) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			w := newWorld(t, seed)
			ctx := context.Background()
			for i := range 400 {
				w.step(i)
				switch w.rng.IntN(25) {
				case 0:
					if _, _, err := w.ledger.Checkpoint(ctx); err != nil {
						t.Fatal(err)
					}
				case 1:
					w.reopen()
				case 2:
					w.begin()
				case 3:
					a, _ := w.batch()
					var ops []quipu.Op
					for j := range a.Records {
						ops = append(ops, a.Records[j].Op)
					}
					if err := w.ledger.Load(ctx, ops); err != nil {
						t.Fatal(err)
					}
				case 4:
					w.sweep()
				case 5:
					w.compare(w.ledger)
				}
			}
			w.compare(w.ledger)
			w.ledger.Checkpoint(ctx)
			_, sum := w.ledger.Checksum()
			w.reopen()
			if _, again := w.ledger.Checksum(); again != sum {
				t.Fatalf("checksum %x after reopening, was %x", again, sum)
			}
			w.compare(w.ledger)
			w.ledger.Close()
			if _, err := Verify("state", w.fs); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// sweep applies the sweeps that the ledger finds due, and checks that it finds
// all.
func (w *world) sweep() {
	w.t.Helper()
	w.stamp += 2000
	for range 10 {
		ops, err := w.ledger.DueSweeps(context.Background(), w.stamp, 5)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(ops) == 0 {
			if left := w.model.Expired(w.stamp, 100); len(left) > 0 {
				w.t.Fatalf("no sweeps are due, but %+v have expired", left)
			}
			return
		}
		a, b := new(store.Batch), new(store.Batch)
		a.Reset()
		b.Reset()
		for i := range ops {
			h := store.Hash(ops[i].Tenant, ops[i].Name)
			a.Add(&ops[i], h, false)
			b.Add(&ops[i], h, false)
		}
		w.number++
		w.apply(&Entry{Type: EntryBatch, Incarnation: w.incarnation, Number: w.number, Batch: a})
		w.model.Apply(w.stamp, w.incarnation, w.number, b)
	}
}

package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/model"
	"github.com/quipudb/quipu/internal/store"
	"github.com/quipudb/quipu/internal/storetest"
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
	generator   *storetest.Generator
	log         [][]byte // encoded entries, from index 1
}

const testWindowMs = 60_000

func newWorld(t testing.TB, seed uint64) *world {
	return newWorldOf(t, rand.New(rand.NewPCG(seed, 11)))
}

// newWorldOf returns a world whose choices are those of rng.
func newWorldOf(t testing.TB, rng *rand.Rand) *world {
	w := &world{
		t: t, rng: rng, fs: vfs.NewCrashableMem(), stamp: 1_700_000_000_000,
		model: model.New(model.Settings{WindowMs: testWindowMs, SkewMs: 5_000}),
	}
	w.generator = &storetest.Generator{
		Rand: rng, Now: func() int64 { return w.stamp }, Number: w.model.Number, WindowMs: testWindowMs,
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

// batch builds a random batch twice: for the ledger and for the model.
func (w *world) batch() (a, b *store.Batch) {
	a, b = new(store.Batch), new(store.Batch)
	a.Reset()
	b.Reset()
	w.generator.Batch(a, b)
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
			if !reflect.DeepEqual(applied.Results[j], b.Results[j]) {
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

// compare compares all that can be read.
func (w *world) compare(l *Ledger) {
	w.t.Helper()
	ctx := context.Background()
	for _, tenant := range storetest.Tenants {
		size, err := l.Size(ctx, tenant)
		if err != nil || size != w.model.Size(tenant) {
			w.t.Fatalf("tenant %q has %d names, the model %d (%v)", tenant, size, w.model.Size(tenant), err)
		}
		req := store.ListRequest{Tenant: tenant, Limit: 1 + w.rng.IntN(30)}
		if w.rng.IntN(2) == 0 {
			req.Prefix = []string{"n", "n1", "s", "x", "é"}[w.rng.IntN(5)]
		}
		req.Kind = quipu.NameKind(w.rng.IntN(3))
		w.compareList(l, req)
		for _, name := range storetest.Names {
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
				w.turn(i)
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

// turn applies a batch and, now and then, does something else.
func (w *world) turn(i int) {
	w.t.Helper()
	ctx := context.Background()
	w.step(i)
	switch w.rng.IntN(25) {
	case 0:
		if _, _, err := w.ledger.Checkpoint(ctx); err != nil {
			w.t.Fatal(err)
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
			w.t.Fatal(err)
		}
	case 4:
		w.sweep()
	case 5:
		w.compare(w.ledger)
	}
}

// choices makes the fuzzer's bytes the choices of a random run, each byte one;
// when they are used up any will do.
type choices struct {
	data []byte
	rest *rand.PCG
}

// Uint64 implements rand.Source. The byte stands in the highest bits, where
// rand.Rand looks first.
func (c *choices) Uint64() uint64 {
	if len(c.data) == 0 {
		return c.rest.Uint64()
	}
	b := uint64(c.data[0])
	c.data = c.data[1:]
	return b * 0x0101010101010101
}

// FuzzAgainstModel lets the fuzzer choose the entries, and what happens between
// them.
func FuzzAgainstModel(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		seed := make([]byte, 1<<10)
		for i := range seed {
			seed[i] = byte(rng.Uint32())
		}
		f.Add(seed)
	}
	const longest = 4 << 10 // so that one run takes milliseconds
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &choices{data: data[:min(len(data), longest)], rest: rand.NewPCG(1, 2)}
		w := newWorldOf(t, rand.New(c))
		defer func() { w.ledger.Close() }()
		for i := 0; len(c.data) > 0; i++ {
			w.turn(i)
		}
		w.compare(w.ledger)
	})
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

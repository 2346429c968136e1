package storetest

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/model"
	"github.com/quipudb/quipu/internal/store"
)

// world is one store under test beside the model that judges it. It is for one
// goroutine.
//
// Every batch and every read begins with a probe, a get of a name that is
// always absent: its result tells the log's time and the running number, which
// must be the model's.
type world struct {
	*testing.T
	clock   *clock
	subject *Subject
	store   store.Store // the subject, or the lossy way to it
	model   *model.Model
	ids     *quipu.IDSource
	number  uint64 // of the model's last batch
	swept   uint64 // of the model's last batch of sweeps
	brief   bool   // a part of each case must do
}

// The model's own incarnations: of the batches, and of the sweeps.
var batches, sweeps = [16]byte{1}, [16]byte{2}

func newWorld(t *testing.T, open Open, lost bool) *world {
	w := &world{T: t, clock: &clock{}}
	w.clock.ms.Store(epoch)
	cfg := Config{Now: w.clock.now, Window: window, SkewAllowance: skew}
	w.subject = open(t, cfg)
	w.store = w.subject
	w.brief = testing.Short() || w.subject.Slow
	w.model = model.New(cfg.Settings())
	w.model.Begin(epoch, "batches", batches)
	w.model.Begin(epoch, "sweeps", sweeps)
	w.ids = quipu.NewIDSource(w.clock.now)
	if lost {
		w.store = newLossy(t, w.subject)
	}
	return w
}

// probe is always absent.
var probe = quipu.Op{Kind: quipu.KindGet, Tenant: "probe", Name: "absent"}

// batch returns a batch of the probe and the operations, plain adds folded.
func batch(ops ...quipu.Op) *store.Batch {
	b := new(store.Batch)
	b.Reset()
	b.Add(&probe, store.Hash(probe.Tenant, probe.Name), false)
	for i := range ops {
		b.Add(&ops[i], store.Hash(ops[i].Tenant, ops[i].Name), true)
	}
	return b
}

// group appends a group to the batch.
func group(b *store.Batch, g store.Group, ops ...quipu.Op) *store.Batch {
	g.First, g.Count = len(b.Records), len(ops)
	for i := range ops {
		b.Add(&ops[i], store.Hash(ops[i].Tenant, ops[i].Name), false)
	}
	b.AddGroup(g)
	return b
}

// commit hands the batch to the store and waits for its end.
func commit(s store.Store, b *store.Batch) {
	ended := make(chan struct{})
	s.Submit(b, func(*store.Batch) { close(ended) })
	<-ended
}

// submit hands the batch to the store and to the model, fails unless they
// answer alike, and returns the results without the probe's.
func (w *world) submit(b *store.Batch) []store.RecordResult {
	w.Helper()
	commit(w.store, b)
	if b.Code != quipu.CodeOK {
		w.Fatalf("the store refused the batch: %v", b.Code)
	}
	got := slices.Clone(b.Results)
	if len(got) != len(b.Records) {
		w.Fatalf("%d results for %d records", len(got), len(b.Records))
	}
	w.expect(got[0].Revision - 1)
	w.number++
	if fate := w.model.Apply(got[0].Now, batches, w.number, b); fate != store.Applied {
		w.Fatalf("the model answers %v", fate)
	}
	for i := range got {
		if !reflect.DeepEqual(got[i], b.Results[i]) {
			w.Fatalf("record %d of %d: %s\n got %+v\nwant %+v", i, len(got), describe(b, i), got[i], b.Results[i])
		}
	}
	return got[1:]
}

// do submits operations as one batch.
func (w *world) do(ops ...quipu.Op) []store.RecordResult {
	w.Helper()
	return w.submit(batch(ops...))
}

// one submits one operation.
func (w *world) one(op quipu.Op) quipu.Result {
	w.Helper()
	return w.do(op)[0].Result
}

// read answers reads outside the log, by the store and the model.
func (w *world) read(ops ...quipu.Op) []quipu.Result {
	w.Helper()
	all := append([]quipu.Op{probe}, ops...)
	got, want := make([]quipu.Result, len(all)), make([]quipu.Result, len(all))
	if !w.store.TryRead(all, got) {
		if err := w.store.Read(context.Background(), all, got); err != nil {
			w.Fatal(err)
		}
	}
	w.expect(got[0].Revision)
	w.model.Read(got[0].Now, all, want)
	for i := range got {
		if got[i] != want[i] {
			w.Fatalf("read %v %q %q\n got %+v\nwant %+v", all[i].Kind, all[i].Tenant, all[i].Name, got[i], want[i])
		}
	}
	return got[1:]
}

// expect fails unless the log's last operation is the model's too.
func (w *world) expect(last uint64) {
	w.Helper()
	if mine := w.model.Number(); last != mine {
		w.Fatalf("the store stands at operation %d, the model at %d", last, mine)
	}
}

// pass lets time pass and waits until the store has removed by itself what has
// expired; the model does the same. So no sweep runs beside the batches of a
// case, whose numbers would depend on the race.
func (w *world) pass(d time.Duration) {
	w.Helper()
	w.clock.advance(d)
	now := w.clock.ms.Load()
	expired := w.model.Expired(now, math.MaxInt)
	if len(expired) == 0 {
		return
	}
	if w.subject.Wake != nil {
		w.subject.Wake()
	}
	swept := w.model.Number() + uint64(len(expired))
	r := make([]quipu.Result, 1)
	for deadline := time.Now().Add(30 * time.Second); r[0].Revision < swept; {
		if err := w.store.Read(context.Background(), []quipu.Op{probe}, r); err != nil {
			w.Fatal(err)
		}
		if time.Now().After(deadline) {
			w.Fatalf("%d names have expired and were not swept", len(expired))
		}
	}
	var b store.Batch
	b.Reset()
	for i := range expired {
		b.Add(&expired[i], store.Hash(expired[i].Tenant, expired[i].Name), false)
	}
	w.swept++
	w.model.Apply(now, sweeps, w.swept, &b)
	w.expect(r[0].Revision)
	// In which order the names were removed is the store's own business, but a
	// tenant's last removal tells: one more in each levels that.
	for i := range expired {
		if tenant := expired[i].Tenant; i == 0 || tenant != expired[i-1].Tenant {
			w.do(of(tenant, set("level", 0)), of(tenant, remove("level")))
		}
	}
}

// compare compares all that can be read of the tenants.
func (w *world) compare(tenants ...string) {
	w.Helper()
	ctx := context.Background()
	for _, tenant := range tenants {
		size, err := w.store.Size(ctx, tenant)
		if want := w.model.Size(tenant); err != nil || size != want {
			w.Fatalf("tenant %q has %d names, the model %d (%v)", tenant, size, want, err)
		}
		for _, e := range w.list(store.ListRequest{Tenant: tenant, Limit: 7}) {
			w.read(quipu.Op{Kind: quipu.KindStat, Tenant: tenant, Name: e.Name})
			if e.Kind == quipu.KindItems {
				w.list(store.ListRequest{What: store.Items, Tenant: tenant, Name: e.Name, Limit: 2})
			}
		}
		name, ok, err := w.store.Random(ctx, tenant)
		if _, has := w.model.Random(tenant); err != nil || ok != has {
			w.Fatalf("a random name of %q: %q, %v, %v", tenant, name, ok, err)
		}
	}
}

// list pages through a list and compares each page.
func (w *world) list(req store.ListRequest) []store.ListEntry {
	w.Helper()
	var all []store.ListEntry
	for {
		got, err := w.store.List(context.Background(), req)
		if err != nil {
			w.Fatalf("list %+v: %v", req, err)
		}
		want := w.model.List(req)
		if !slices.Equal(got.Entries, want.Entries) || got.More != want.More || got.More && got.After != want.After {
			w.Fatalf("list %+v\n got %+v\nwant %+v", req, got, want)
		}
		all = append(all, got.Entries...)
		if !got.More {
			return all
		}
		req.After = got.After
	}
}

func describe(b *store.Batch, i int) string {
	r := &b.Records[i]
	s := fmt.Sprintf("%v %q %q item %q value %d, %d times, then %v", r.Op.Kind, r.Op.Tenant, r.Op.Name, r.Op.Item, r.Op.Value, r.Times, r.More)
	if r.Op.Options != nil {
		s += fmt.Sprintf(", %+v", *r.Op.Options)
	}
	return s + fmt.Sprintf(", groups %+v", b.Groups)
}

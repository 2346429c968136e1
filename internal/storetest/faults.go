package storetest

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

// numbers: a number of an incarnation is applied once and in order.
func numbers(w *world) {
	begin := func(node string, incarnation byte) {
		w.Helper()
		id := [16]byte{'n', incarnation}
		if err := w.subject.Begin(node, id); err != nil {
			w.Fatal(err)
		}
		w.model.Begin(w.clock.ms.Load(), node, id)
	}
	apply := func(incarnation byte, number uint64, want store.Fate, ops ...quipu.Op) []store.RecordResult {
		w.Helper()
		id := [16]byte{'n', incarnation}
		a, b := batch(ops...), batch(ops...)
		fate, err := w.subject.Apply(id, number, a)
		if err != nil {
			w.Fatal(err)
		}
		if judged := w.model.Apply(w.clock.ms.Load(), id, number, b); fate != want || judged != want {
			w.Fatalf("batch %d: %v, the model says %v, want %v", number, fate, judged, want)
		}
		if fate == store.Applied || fate == store.Duplicate && len(b.Results) > 0 {
			if !slices.EqualFunc(a.Results, b.Results, sameResult) {
				w.Fatalf("batch %d, %v:\n got %+v\nwant %+v", number, fate, a.Results, b.Results)
			}
		}
		return a.Results
	}
	value := func(want int64) {
		w.Helper()
		if v := w.read(get("c"))[0].Value; v != want {
			w.Fatalf("the counter stands at %d, want %d", v, want)
		}
	}
	begin("peer", 1)
	begin("other", 2)
	apply(1, 2, store.Gap, add("c", 100))
	value(0)
	for n := uint64(1); n <= 6; n++ {
		first := slices.Clone(apply(1, n, store.Applied, add("c", 1), add("c", 2), addItem("s", fmt.Sprint(n))))
		again := apply(1, n, store.Duplicate, add("c", 1), add("c", 2), addItem("s", fmt.Sprint(n)))
		if !slices.EqualFunc(first, again, sameResult) {
			w.Fatalf("batch %d sent again:\n got %+v\nwant %+v", n, again, first)
		}
		value(int64(3 * n))
		apply(1, n+2, store.Gap, add("c", 100))
		value(int64(3 * n))
	}
	// The results of the last four are kept; those before are only known to be
	// applied. Other content under the number changes nothing.
	for n := uint64(1); n <= 6; n++ {
		got := apply(1, n, store.Duplicate, add("c", 50))
		if n > 2 && (len(got) != 3 || got[1].Value != int64(3*n)) {
			w.Fatalf("batch %d sent again with other content: %+v", n, got)
		}
	}
	value(18)
	apply(2, 1, store.Applied, add("c", 1))
	apply(9, 1, store.Ended, add("c", 100)) // never began
	// The node begins anew: nothing of its former life counts any more.
	begin("peer", 3)
	apply(1, 7, store.Ended, add("c", 100))
	apply(1, 6, store.Ended, add("c", 100))
	apply(3, 2, store.Gap, add("c", 100))
	apply(3, 1, store.Applied, add("c", 1))
	apply(2, 2, store.Applied, add("c", 1))
	value(21)
	// A request id outlives the incarnation that brought it.
	id := w.ids.Next()
	apply(3, 2, store.Applied, add("c", 1, withID(id)))
	begin("peer", 4)
	if got := apply(4, 1, store.Applied, add("c", 1, withID(id))); !got[1].Replayed || got[1].Value != 22 {
		w.Fatalf("a request id through another incarnation: %+v", got[1])
	}
	value(22)
}

// faults: a batch that failed before it was applied has no effect; one whose
// answer was lost has its whole effect; and either way every operation that is
// sent again under its request id counts once.
func faults(t *testing.T, open Open) {
	for _, f := range []struct {
		name  string
		fault Fault
	}{{"failed before", FailBefore}, {"answer lost", LoseAnswer}} {
		t.Run(f.name, func(t *testing.T) {
			w := newWorld(t, open, false)
			for _, k := range kinds() {
				if k.Reads() || k == quipu.KindSweep {
					continue
				}
				name := k.String()
				w.do(set("plain", 0), of("other", set("kept", 1)))
				if k == quipu.KindRemoveItem {
					w.do(addItem(name, "i"), addItem(name, "j"))
				} else if k != quipu.KindAddItem {
					w.do(set(name, 5))
				}
				keyed := sample(k, name, withID(w.ids.Next()))
				b := batch(keyed, add("plain", 1))
				w.subject.Inject(f.fault)
				commit(w.store, b)
				outcome := b.Code.Outcome()
				if outcome == quipu.Applied || f.fault == LoseAnswer && outcome != quipu.Unknown {
					t.Fatalf("%v: the batch answers %v", k, b.Code)
				}
				w.subject.Restart()
				if f.fault == LoseAnswer {
					w.number++
					w.model.Apply(w.clock.ms.Load(), batches, w.number, batch(keyed, add("plain", 1)))
				}
				if got := w.one(keyed); got.Code != quipu.CodeOK || got.Replayed != (f.fault == LoseAnswer) {
					t.Fatalf("%v sent again: %+v", k, got)
				}
				w.compare(quipu.DefaultTenant, "other")
			}
		})
	}
}

// restart: a store has after a restart what it had before, and goes on.
func restart(w *world) {
	if !w.subject.Durable {
		w.Skip("the store keeps nothing over a restart")
	}
	g := w.generator(2)
	for range 8 {
		for range 40 {
			w.randomStep(g)
		}
		w.compare(Tenants...)
		w.subject.Restart()
		w.compare(Tenants...)
	}
}

// concurrent: reads run beside batches, each shows one point in time, and none
// shows less than was acknowledged before it or more than was sent.
func concurrent(w *world) {
	rounds := 2000
	if w.brief {
		rounds = 300
	}
	var sent, acked atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	ctx := context.Background()
	for range 3 {
		wg.Go(func() {
			ops := []quipu.Op{get("left"), get("right")}
			results := make([]quipu.Result, 2)
			for {
				select {
				case <-stop:
					return
				default:
				}
				least := acked.Load()
				if err := w.store.Read(ctx, ops, results); err != nil {
					w.Error(err)
					return
				}
				most := sent.Load()
				if l, r := results[0].Value, results[1].Value; l != r || l < least || l > most {
					w.Errorf("the counters show %d and %d; acknowledged %d, sent %d", l, r, least, most)
					return
				}
				w.store.TryRead(ops, results)
				w.store.Resident(ops, nil, nil)
				if err := w.store.Load(ctx, ops); err != nil {
					w.Error(err)
				}
				if _, err := w.store.List(ctx, store.ListRequest{Tenant: quipu.DefaultTenant, Limit: 10}); err != nil {
					w.Error(err)
				}
				if n, err := w.store.Size(ctx, quipu.DefaultTenant); err != nil || n > 2 {
					w.Errorf("size %d, %v", n, err)
				}
			}
		})
	}
	for range rounds {
		sent.Add(1)
		w.do(add("left", 1), add("right", 1))
		acked.Add(1)
	}
	close(stop)
	wg.Wait()
}

func sameResult(a, b store.RecordResult) bool { return reflect.DeepEqual(a, b) }

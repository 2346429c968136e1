package storetest

import (
	"math"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

// codes fails unless the results have these codes.
func (w *world) codes(what string, got []store.RecordResult, want ...quipu.Code) {
	w.Helper()
	if len(got) != len(want) {
		w.Errorf("%s: %d results, want %d", what, len(got), len(want))
		return
	}
	for i := range want {
		if got[i].Code != want[i] {
			w.Errorf("%s, operation %d: %v, want %v", what, i, got[i].Code, want[i])
		}
	}
}

// atomicGroups: all operations of an atomic group are applied, or none.
func atomicGroups(w *world) {
	const ok, aborted = quipu.CodeOK, quipu.CodeAborted
	atomic := func(ops ...quipu.Op) []store.RecordResult {
		w.Helper()
		return w.submit(group(batch(), store.Group{AllOrNothing: true}, ops...))
	}
	untouched := func(what string) {
		w.Helper()
		r := w.read(get("a"), get("b"), op(quipu.KindCount, "s"))
		if r[0].Value != 1 || r[1].Value != 1 || r[2].Value != 1 {
			w.Errorf("%s: a, b, s stand at %d, %d, %d; want 1 each", what, r[0].Value, r[1].Value, r[2].Value)
		}
		w.compare(quipu.DefaultTenant)
	}
	w.codes("all applied", atomic(add("a", 1), addItem("s", "i"), add("b", 1)), ok, ok, ok)
	w.codes("the last is refused", atomic(add("a", 1), remove("b"), removeItem("s", "i"), addItem("a", "i")),
		aborted, aborted, aborted, quipu.CodeWrongKind)
	untouched("the last is refused")
	w.codes("the first is refused", atomic(add("a", 9, upper(5)), set("b", 1), reset("a")), quipu.CodeOutOfBounds, aborted, aborted)
	untouched("the first is refused")
	w.codes("overflow", atomic(set("a", math.MaxInt64), add("a", 1), addItem("s", "j")), aborted, quipu.CodeOverflow, aborted)
	untouched("overflow")
	w.codes("expiries are taken back", atomic(expireOp("a", expires(1)), expireOp("b", expires(-1)), add("a", 1, ifAbsent(0))),
		aborted, aborted, quipu.CodePrecondition)
	untouched("expiries are taken back")
	w.codes("drops are taken back", atomic(op(quipu.KindDropTenant, ""), set("a", 5), add("b", 1, ifExists())), aborted, aborted, quipu.CodePrecondition)
	untouched("drops are taken back")
	w.codes("an operation sees those before", atomic(remove("a"), add("a", 1, ifAbsent(0)), get("a")), ok, ok, ok)
	untouched("an operation sees those before")

	one, two := w.ids.Next(), w.ids.Next()
	w.codes("ids on some writes", atomic(add("a", 1, withID(one)), add("b", 1)), quipu.CodeInvalid, quipu.CodeInvalid)
	w.codes("refused with ids", atomic(add("k1", 1, withID(one)), add("k2", 9, withID(one), upper(5))), aborted, quipu.CodeOutOfBounds)
	w.codes("the ids are free again", atomic(add("k1", 1, withID(one)), add("k2", 2, withID(one))), ok, ok)
	got := atomic(add("k1", 1, withID(one)), add("k2", 2, withID(one)), get("k1"))
	w.codes("a replay", got, ok, ok, ok)
	if !got[0].Replayed || !got[1].Replayed || got[2].Value != 1 {
		w.Errorf("a replay: %+v", got)
	}
	w.codes("replays and new ones mixed", atomic(add("k1", 1, withID(one)), add("k3", 1, withID(one))), quipu.CodeIDReused, quipu.CodeIDReused)
	w.codes("one id for another operation", atomic(add("k1", 8, withID(one)), add("k2", 2, withID(one))), quipu.CodeIDReused, quipu.CodeIDReused)

	watched := func(watch store.Watch, ops ...quipu.Op) []store.RecordResult {
		w.Helper()
		return w.submit(group(batch(), store.Group{AllOrNothing: true, Watches: []store.Watch{watch}}, ops...))
	}
	present := w.read(get("a"))[0].Revision
	watch := store.Watch{Tenant: quipu.DefaultTenant, Name: "a", If: quipu.Precondition{Kind: quipu.IfRevision, Revision: present}}
	w.codes("a watch holds", watched(watch, add("k4", 1, withID(two)), add("a", 0, withID(two))), ok, ok)
	w.codes("a watch fails", watched(watch, add("b", 1), add("b", 1)), quipu.CodePrecondition, quipu.CodePrecondition)
	w.codes("a replay is not held to it", watched(watch, add("k4", 1, withID(two)), add("a", 0, withID(two))), ok, ok)
	untouched("watches")

	// Two groups and single operations in one batch stand for themselves.
	b := batch(add("x", 1))
	group(b, store.Group{AllOrNothing: true}, add("x", 1), add("x", 1, upper(2)))
	o := add("x", 10)
	b.Add(&o, hash(o), true)
	group(b, store.Group{AllOrNothing: true}, add("x", 1), add("x", 1))
	w.codes("several groups", w.submit(b), ok, aborted, quipu.CodeOutOfBounds, ok, ok, ok)
	if v := w.read(get("x"))[0].Value; v != 13 {
		w.Errorf("x stands at %d, want 13", v)
	}
}

// plainGroups: nothing comes between the operations of a group, and a refused
// one leaves the others alone.
func plainGroups(w *world) {
	const ok = quipu.CodeOK
	got := w.submit(group(batch(), store.Group{}, add("a", 1), addItem("a", "i"), add("a", 1), get("a")))
	w.codes("a refused one", got, ok, quipu.CodeWrongKind, ok, ok)
	if got[3].Value != 2 {
		w.Errorf("the read answers %d, want 2", got[3].Value)
	}
	watch := []store.Watch{{Tenant: quipu.DefaultTenant, Name: "b", If: quipu.Precondition{Kind: quipu.IfAbsent}}}
	w.codes("a watch holds", w.submit(group(batch(), store.Group{Watches: watch}, set("b", 1), get("b"))), ok, ok)
	w.codes("a watch fails", w.submit(group(batch(), store.Group{Watches: watch}, set("b", 2), get("b"))), quipu.CodePrecondition, quipu.CodePrecondition)
	if v := w.read(get("b"))[0].Value; v != 1 {
		w.Errorf("b stands at %d, want 1", v)
	}
}

package storetest

import (
	"encoding/binary"
	"time"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

func hash(o quipu.Op) uint64 { return store.Hash(o.Tenant, o.Name) }

// idAt returns the UUIDv7 of a time, in milliseconds; n tells ids of one time
// apart.
func idAt(ms int64, n byte) quipu.RequestID {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(ms)<<16|7<<12)
	b[8], b[15] = 0x80, n
	return quipu.RequestID{Key: string(b[:]), Timed: true}
}

// requestIDs: an id counts once, for as long as it is known, and is refused
// when it can't be known any more.
func requestIDs(w *world) {
	expect := func(what string, o quipu.Op, code quipu.Code, value int64, replayed bool) {
		w.Helper()
		if got := w.one(o); got.Code != code || got.Value != value || got.Replayed != replayed {
			w.Errorf("%s: got %+v; want %v, value %d, replayed %v", what, got, code, value, replayed)
		}
	}
	const ok = quipu.CodeOK
	for _, id := range []quipu.RequestID{idAt(epoch, 1), {Key: "plain-key"}} {
		name := "counts once " + id.String()
		expect("first", add(name, 2, withID(id)), ok, 2, false)
		w.do(add(name, 100))
		expect("again: the first answer", add(name, 2, withID(id)), ok, 2, true)
		expect("other delta", add(name, 3, withID(id)), quipu.CodeIDReused, 102, false)
		expect("other kind", set(name, 2, withID(id)), quipu.CodeIDReused, 102, false)
		expect("other options", add(name, 2, withID(id), upper(1000)), quipu.CodeIDReused, 102, false)
		expect("another name", add(name+"'", 2, withID(id)), ok, 2, false)
		expect("another tenant", of("other", add(name, 2, withID(id))), ok, 2, false)
		second := id
		second.Ordinal = 1
		expect("another ordinal", add(name, 2, withID(second)), ok, 104, false)
		// In one batch, and beside folded adds.
		third := id
		third.Ordinal = 2
		got := w.do(add(name, 1), add(name, 5, withID(third)), add(name, 1), add(name, 5, withID(third)))
		if got[1].Value != 110 || got[3].Value != 110 || !got[3].Replayed || got[2].Value != 111 {
			w.Errorf("twice in one batch: %+v", got)
		}
		// A refused operation leaves its id free.
		fourth := id
		fourth.Ordinal = 3
		expect("refused", add(name, 1, withID(fourth), upper(5)), quipu.CodeOutOfBounds, 111, false)
		expect("its id for another operation", add(name, 9, withID(fourth)), ok, 120, false)
		// Ids survive what they were used on.
		w.do(remove(name))
		expect("after delete", add(name, 2, withID(id)), ok, 2, true)
		expect("after delete: nothing was counted", get(name), ok, 0, false)
		w.do(op(quipu.KindDropTenant, ""))
		expect("after drop", add(name, 2, withID(id)), ok, 2, true)
		w.do(sample(quipu.KindDropAll, ""))
		expect("after all was dropped", add(name, 2, withID(id)), ok, 2, true)
		// An operation that changes nothing takes its id too.
		if id.Timed {
			expect("nothing to reset", reset("nothing", withID(id)), ok, 0, false)
			w.do(set("nothing", 7))
			expect("again, now there is something", reset("nothing", withID(id)), ok, 0, true)
			expect("it was not reset", get("nothing"), ok, 7, false)
		}
	}

	now := w.clock.ms.Load()
	horizon := now - window.Milliseconds()
	expect("at the horizon", add("age", 1, withID(idAt(horizon, 2))), quipu.CodeIDExpired, 0, false)
	expect("just within the window", add("age", 1, withID(idAt(horizon+1, 2))), ok, 1, false)
	expect("again", add("age", 1, withID(idAt(horizon+1, 2))), ok, 1, true)
	expect("at the allowance", add("age", 1, withID(idAt(now+skew.Milliseconds(), 2))), ok, 2, false)
	expect("beyond the allowance", add("age", 1, withID(idAt(now+skew.Milliseconds()+1, 2))), quipu.CodeIDAhead, 2, false)

	// The window passes: a timed id is refused for ever, and never counted anew.
	old := idAt(now, 3)
	expect("before its window passed", add("age", 1, withID(old)), ok, 3, false)
	w.pass(window - time.Millisecond)
	expect("in its last millisecond", add("age", 1, withID(old)), ok, 3, true)
	w.pass(time.Millisecond)
	expect("when it has passed", add("age", 1, withID(old)), quipu.CodeIDExpired, 3, false)
	w.pass(5 * window)
	expect("long after", add("age", 1, withID(old)), quipu.CodeIDExpired, 3, false)

	// Other keys are remembered for at least the window, and not for ever.
	expect("a key", add("age", 1, withKey("key")), ok, 4, false)
	w.pass(window)
	expect("the key after the window", add("age", 1, withKey("key")), ok, 4, true)
	w.pass(2 * window)
	expect("the key after three windows", add("age", 1, withKey("key")), ok, 5, false)
}

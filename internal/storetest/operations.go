package storetest

import (
	"fmt"
	"math"

	"github.com/quipudb/quipu"
)

// answer is what one operation must answer, spelled out.
type answer struct {
	op         quipu.Op
	code       quipu.Code
	value, old int64
	changed    bool
}

// answers are dialogues whose answers are spelled out: each on names of its
// own, each operation a batch.
func answers(w *world) {
	const ok = quipu.CodeOK
	for _, c := range []struct {
		name  string
		steps []answer
	}{
		{"add and get", []answer{
			{get("n"), ok, 0, 0, false}, {add("n", 5), ok, 5, 0, false}, {add("n", -7), ok, -2, 5, false}, {get("n"), ok, -2, -2, false},
		}},
		{"set and reset", []answer{
			{reset("n"), ok, 0, 0, false}, {set("n", 9), ok, 9, 0, false}, {set("n", 3), ok, 3, 9, false}, {reset("n"), ok, 0, 3, false}, {get("n"), ok, 0, 0, false},
		}},
		{"delete", []answer{
			{remove("n"), ok, 0, 0, false}, {set("n", 9), ok, 9, 0, false}, {remove("n"), ok, 0, 9, false}, {add("n", 1), ok, 1, 0, false},
		}},
		{"items", []answer{
			{addItem("n", "a"), ok, 1, 0, true}, {addItem("n", "a"), ok, 1, 1, false}, {addItem("n", "b"), ok, 2, 1, true},
			{item(quipu.KindHasItem, "n", "b"), ok, 2, 2, true}, {item(quipu.KindHasItem, "n", "c"), ok, 2, 2, false},
			{removeItem("n", "c"), ok, 2, 2, false}, {removeItem("n", "a"), ok, 1, 2, true}, {op(quipu.KindCount, "n"), ok, 1, 1, false},
			{removeItem("n", "b"), ok, 0, 1, true}, {op(quipu.KindCount, "n"), ok, 0, 0, false}, {add("n", 1), ok, 1, 0, false},
		}},
		{"wrong kind", []answer{
			{addItem("n", "a"), ok, 1, 0, true}, {add("n", 1), quipu.CodeWrongKind, 1, 1, false}, {get("n"), quipu.CodeWrongKind, 1, 1, false},
			{set("n", 1), quipu.CodeWrongKind, 1, 1, false}, {reset("n"), quipu.CodeWrongKind, 1, 1, false},
			{remove("n", require(quipu.KindCounter)), quipu.CodeWrongKind, 1, 1, false},
			{set("n", 7, replace()), ok, 7, 0, false}, {addItem("n", "a"), quipu.CodeWrongKind, 7, 7, false},
			{removeItem("n", "a"), quipu.CodeWrongKind, 7, 7, false}, {op(quipu.KindCount, "n"), quipu.CodeWrongKind, 7, 7, false},
			{item(quipu.KindHasItem, "n", "a"), quipu.CodeWrongKind, 7, 7, false}, {get("n"), ok, 7, 7, false},
		}},
		{"overflow", []answer{
			{set("n", math.MaxInt64-1), ok, math.MaxInt64 - 1, 0, false}, {add("n", 2), quipu.CodeOverflow, math.MaxInt64 - 1, math.MaxInt64 - 1, false},
			{add("n", 1), ok, math.MaxInt64, math.MaxInt64 - 1, false}, {add("n", 1), quipu.CodeOverflow, math.MaxInt64, math.MaxInt64, false},
			{add("n", 1, saturate()), ok, math.MaxInt64, math.MaxInt64, false}, {add("n", math.MinInt64), ok, -1, math.MaxInt64, false},
			{add("n", math.MinInt64), quipu.CodeOverflow, -1, -1, false}, {add("n", math.MinInt64, saturate()), ok, math.MinInt64, -1, false},
		}},
		{"bounds", []answer{
			{add("n", 4, upper(5)), ok, 4, 0, false}, {add("n", 2, upper(5)), quipu.CodeOutOfBounds, 4, 4, false},
			{add("n", 2, upper(5), saturate()), ok, 5, 4, false}, {add("n", -6, lower(0)), quipu.CodeOutOfBounds, 5, 5, false},
			{add("n", -6, lower(0), saturate()), ok, 0, 5, false}, {add("n", 1, lower(0), upper(0)), quipu.CodeOutOfBounds, 0, 0, false},
			{add("n", math.MaxInt64, upper(3), saturate()), ok, 3, 0, false}, {add("n", math.MaxInt64, upper(3)), quipu.CodeOutOfBounds, 3, 3, false},
		}},
		{"preconditions", []answer{
			{add("n", 1, ifExists()), quipu.CodePrecondition, 0, 0, false}, {add("n", 1, ifAbsent(0)), ok, 1, 0, false},
			{add("n", 1, ifAbsent(0)), quipu.CodePrecondition, 1, 1, false}, {add("n", 1, ifExists()), ok, 2, 1, false},
			{add("n", 1, ifRevision(math.MaxUint64)), quipu.CodePrecondition, 2, 2, false},
		}},
		{"expire", []answer{
			{expireOp("n", expires(1000)), ok, 0, 0, false}, {set("n", 4), ok, 4, 0, false}, {expireOp("n", expires(1000)), ok, 4, 4, true},
			{expireOp("n", keepForever()), ok, 4, 4, true}, {expireOp("n", keepForever()), ok, 4, 4, false},
			{expireOp("n", expires(-1)), ok, 4, 4, true}, {get("n"), ok, 0, 0, false},
		}},
	} {
		tenant := "answers: " + c.name
		for i, s := range c.steps {
			got := w.one(of(tenant, s.op))
			if got.Code != s.code || got.Value != s.value || got.Old != s.old || got.Changed != s.changed {
				w.Errorf("%s, step %d (%v): got %+v\nwant %+v", c.name, i, s.op.Kind, got, s)
			}
		}
	}
	// The revision that a write answers is the one its precondition needs, and
	// no other write lies between.
	r := w.one(set("revision", 1)).Revision
	if got := w.one(add("revision", 1, ifRevision(r))); got.Code != ok || got.Revision <= r {
		w.Errorf("an add at revision %d: %+v", r, got)
	}
	if got := w.one(add("revision", 1, ifRevision(r))); got.Code != quipu.CodePrecondition || got.Value != 2 {
		w.Errorf("an add at the former revision %d: %+v", r, got)
	}
	// Absent, but something was removed since.
	seen := w.one(get("absent")).Revision
	w.do(set("absent", 1))
	w.do(remove("absent"))
	if got := w.one(set("absent", 1, ifAbsent(seen))); got.Code != quipu.CodePrecondition {
		w.Errorf("a set of a name seen absent at %d, made and removed since: %+v", seen, got)
	}
}

// everyOperation runs each kind of operation on each kind of name, with each
// precondition, with and without a request id, and sends those with an id again
// and then with other content.
func everyOperation(w *world) {
	tenant := quipu.DefaultTenant
	n := 0
	for _, k := range kinds() {
		for _, variant := range variants(k) {
			for _, before := range states {
				for pre := range preconditions {
					for id := range 3 {
						if n++; w.brief && n%7 != 0 {
							continue
						}
						name := fmt.Sprint("n", n)
						w.do(before(name)...)
						o := sample(k, name, variant...)
						if k == quipu.KindDropTenant || k == quipu.KindDropAll {
							if pre > 0 {
								continue // they take none
							}
						} else {
							stat := w.read(op(quipu.KindStat, name))[0]
							condition(&o, pre, stat.Revision)
						}
						if k.Reads() && id > 0 {
							continue // they take none
						}
						switch id {
						case 1:
							identify(&o, w.ids.Next())
						case 2:
							identify(&o, quipu.RequestID{Key: fmt.Sprint("key", n)})
						}
						w.do(o)
						if id > 0 {
							w.do(o)
							other := sample(quipu.KindReset, name)
							if k == quipu.KindReset {
								other.Kind = quipu.KindDelete
							}
							other.Tenant, other.Name = o.Tenant, o.Name
							identify(&other, o.Options.ID)
							w.do(other)
						}
						w.read(op(quipu.KindStat, name), get(name), op(quipu.KindCount, name), item(quipu.KindHasItem, name, "i"))
					}
				}
			}
		}
		w.compare(tenant)
		// The next kind begins without names and ids: the model need not carry
		// them along.
		w.do(sample(quipu.KindDropAll, ""))
		w.pass(2 * window)
	}
}

// states make a name what an operation finds.
var states = []func(name string) []quipu.Op{
	func(string) []quipu.Op { return nil },
	func(name string) []quipu.Op { return []quipu.Op{set(name, 5)} },
	func(name string) []quipu.Op { return []quipu.Op{set(name, 5, expires(10_000))} },
	func(name string) []quipu.Op { return []quipu.Op{addItem(name, "i")} },
	func(name string) []quipu.Op { return []quipu.Op{addItem(name, "i"), addItem(name, "j")} },
}

// preconditions is how many condition knows.
const preconditions = 6

func condition(o *quipu.Op, n int, revision uint64) {
	if n == 0 {
		return
	}
	c := []quipu.Precondition{
		{Kind: quipu.IfExists}, {Kind: quipu.IfAbsent}, {Kind: quipu.IfAbsent, Revision: revision},
		{Kind: quipu.IfRevision, Revision: revision}, {Kind: quipu.IfRevision, Revision: revision + 1},
	}[n-1]
	if o.Options == nil {
		o.Options = new(quipu.Options)
	}
	o.Options.If = c
}

func identify(o *quipu.Op, id quipu.RequestID) {
	if o.Options == nil {
		o.Options = new(quipu.Options)
	}
	o.Options.ID = id
}

// variants are the options, beside id and precondition, that a kind takes.
func variants(k quipu.Kind) [][]option {
	v := [][]option{nil}
	switch k {
	case quipu.KindAdd:
		v = append(v, []option{upper(6)}, []option{upper(6), saturate()}, []option{lower(9)}, []option{lower(9), saturate()},
			[]option{expires(5000)}, []option{expires(-1)}, []option{keepForever()})
	case quipu.KindSet:
		v = append(v, []option{replace()}, []option{require(quipu.KindItems)}, []option{expires(5000)}, []option{replace(), expires(-1)})
	case quipu.KindReset:
		v = append(v, []option{expires(5000)}, []option{keepForever()})
	case quipu.KindDelete, quipu.KindStat:
		v = append(v, []option{require(quipu.KindCounter)}, []option{require(quipu.KindItems)})
	case quipu.KindExpire:
		v = append(v, []option{keepForever()}, []option{expires(-1)}, []option{require(quipu.KindItems), expires(5000)})
		for cond := quipu.ExpiryIfNone; cond <= quipu.ExpiryIfSooner; cond++ {
			for _, ms := range []int64{5_000, 15_000} {
				v = append(v, []option{withExpiry(quipu.Expiry{Mode: quipu.ExpirySet, Cond: cond, Ms: ms})},
					[]option{withExpiry(quipu.Expiry{Mode: quipu.ExpirySet, Cond: cond, Ms: epoch + ms, Absolute: true, AlsoIfSome: true})})
			}
		}
	}
	return v
}

// foldedAdds: adds on one counter that share a record answer as if they had run
// one by one.
func foldedAdds(w *world) {
	w.do(set("edge", math.MaxInt64-3))
	deltas := []int64{1, 1, 1, 1, -2, 5, 1, math.MinInt64, 1, 1}
	want := []answer{
		{value: math.MaxInt64 - 2}, {value: math.MaxInt64 - 1}, {value: math.MaxInt64},
		{code: quipu.CodeOverflow, value: math.MaxInt64}, {value: math.MaxInt64 - 2}, {code: quipu.CodeOverflow, value: math.MaxInt64 - 2},
		{value: math.MaxInt64 - 1}, {value: -2}, {value: -1}, {value: 0},
	}
	b := batch()
	places := make([]func(i int) quipu.Result, 0, len(deltas))
	for i := range deltas {
		o := add("edge", deltas[i])
		p := b.Add(&o, hash(o), true)
		places = append(places, func(i int) quipu.Result { return b.Result(p, deltas[i]) })
		if i == 5 { // another name between them changes nothing
			other := add("other", 1)
			b.Add(&other, hash(other), true)
		}
	}
	if len(b.Records) != 3 {
		w.Fatalf("%d records: the adds were not folded", len(b.Records))
	}
	first := w.submit(b)[0].Revision
	applied := first - 1
	for i, place := range places {
		got := place(i)
		if want[i].code == quipu.CodeOK {
			applied = first + uint64(i)
		}
		if got.Code != want[i].code || got.Value != want[i].value || got.Revision != applied {
			w.Errorf("add %d of %d: got %+v, want %v %d at revision %d", i, deltas[i], got, want[i].code, want[i].value, applied)
		}
	}
	// All of a record's adds are refused for what the name is.
	w.do(addItem("set", "i"))
	b = batch(add("set", 1), add("set", 1), add("set", 1))
	if got := w.submit(b)[0]; got.Code != quipu.CodeWrongKind || got.Value != 1 {
		w.Errorf("folded adds on a set: %+v", got)
	}
	// A read, and an add with options, end a record.
	b = batch(add("run", 1), add("run", 1), get("run"), add("run", 1), add("run", 1, upper(3)), add("run", 1))
	got := w.submit(b)
	if len(got) != 5 || got[1].Value != 2 || got[2].Value != 3 || got[3].Code != quipu.CodeOutOfBounds || got[4].Value != 4 {
		w.Errorf("a run with a read in it: %+v", got)
	}
	// As many as a load brings, on an absent counter.
	many := make([]quipu.Op, 10_000)
	for i := range many {
		many[i] = add("many", int64(i%3))
	}
	if got := w.do(many...)[0]; got.Value != 9_999 || got.Existed {
		w.Errorf("many adds: %+v", got)
	}
}

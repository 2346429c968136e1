package history

import (
	"testing"
	"time"

	"github.com/quipudb/quipu"
)

const patience = 20 * time.Second

func add(name string, delta int64) quipu.Op {
	return quipu.Op{Kind: quipu.KindAdd, Tenant: quipu.DefaultTenant, Name: name, Value: delta}
}

func get(name string) quipu.Op {
	return quipu.Op{Kind: quipu.KindGet, Tenant: quipu.DefaultTenant, Name: name}
}

func item(kind quipu.Kind, id string) quipu.Op {
	return quipu.Op{Kind: kind, Tenant: quipu.DefaultTenant, Name: "s", Item: id}
}

func told(value int64) quipu.Result { return quipu.Result{Value: value} }

func changed(value int64) quipu.Result { return quipu.Result{Value: value, Changed: true} }

// event is one call of a written history: it begins and ends at these times,
// which give the order only. No end is an unknown outcome.
type event struct {
	begin, end int
	op         quipu.Op
	result     quipu.Result
}

func record(events []event) *Recorder {
	r := &Recorder{}
	calls := make([]*Call, len(events))
	last := 0
	for _, e := range events {
		last = max(last, e.begin, e.end)
	}
	for at := range last + 1 {
		for i, e := range events {
			if e.begin == at {
				calls[i] = r.Invoke(i, e.op)
			}
		}
		for i, e := range events {
			if e.end == at && e.end > 0 {
				calls[i].Return(e.result)
			}
		}
	}
	return r
}

// TestCheck: written histories, right and wrong ones. A counter that lost or
// doubled an increment must be found.
func TestCheck(t *testing.T) {
	unknown := quipu.Result{Code: quipu.CodeUnknown}
	bounded := add("c", 1)
	bounded.Options = &quipu.Options{HasUpper: true, Upper: 1}
	for _, c := range []struct {
		name   string
		events []event
		right  bool
	}{
		{"one after the other", []event{{1, 2, add("c", 1), told(1)}, {3, 4, add("c", 1), told(2)}, {5, 6, get("c"), told(2)}}, true},
		{"at once, in either order", []event{{1, 4, add("c", 1), told(2)}, {2, 3, add("c", 1), told(1)}, {5, 6, get("c"), told(2)}}, true},
		{"a lost increment, seen by the next", []event{{1, 2, add("c", 1), told(1)}, {3, 4, add("c", 1), told(1)}}, false},
		{"a lost increment, seen by a read", []event{{1, 2, add("c", 1), told(1)}, {3, 4, add("c", 1), told(2)}, {5, 6, get("c"), told(1)}}, false},
		{"a doubled increment, seen by itself", []event{{1, 2, add("c", 1), told(2)}}, false},
		{"a doubled increment, seen by a read", []event{{1, 2, add("c", 1), told(1)}, {3, 4, get("c"), told(2)}}, false},
		{"two were told the same", []event{{1, 4, add("c", 1), told(1)}, {2, 3, add("c", 1), told(1)}}, false},
		{"a stale read", []event{{1, 2, add("c", 1), told(1)}, {3, 4, get("c"), told(0)}}, false},
		{"a read of what is under way, then without it", []event{{1, 9, add("c", 1), told(1)}, {2, 3, get("c"), told(1)}, {4, 5, get("c"), told(0)}}, false},
		{"unknown, applied", []event{{1, 2, add("c", 1), unknown}, {3, 4, get("c"), told(1)}}, true},
		{"unknown, not applied", []event{{1, 2, add("c", 1), unknown}, {3, 4, get("c"), told(0)}}, true},
		{"unknown, applied late", []event{{1, 2, add("c", 1), unknown}, {3, 4, get("c"), told(0)}, {5, 6, get("c"), told(1)}}, true},
		{"unknown, applied and taken back", []event{{1, 2, add("c", 1), unknown}, {3, 4, get("c"), told(1)}, {5, 6, get("c"), told(0)}}, false},
		{"unknown, applied twice", []event{{1, 0, add("c", 1), unknown}, {3, 4, get("c"), told(2)}}, false},
		{"unknown, applied before it was sent", []event{{1, 2, get("c"), told(1)}, {3, 0, add("c", 1), unknown}}, false},
		{"not applied, and had no effect", []event{{1, 2, add("c", 1), quipu.Result{Code: quipu.CodeBusy}}, {3, 4, get("c"), told(0)}}, true},
		{"not applied, but had an effect", []event{{1, 2, add("c", 1), quipu.Result{Code: quipu.CodeBusy}}, {3, 4, get("c"), told(1)}}, false},
		{"a bound", []event{{1, 2, bounded, told(1)}, {3, 4, bounded, quipu.Result{Code: quipu.CodeOutOfBounds, Value: 1}}}, true},
		{"a bound passed", []event{{1, 2, bounded, told(1)}, {3, 4, bounded, told(2)}}, false},
		{"refused below the bound", []event{{1, 2, bounded, quipu.Result{Code: quipu.CodeOutOfBounds}}}, false},
		{"items", []event{{1, 2, item(quipu.KindAddItem, "i"), changed(1)}, {3, 4, item(quipu.KindAddItem, "i"), told(1)}, {5, 6, item(quipu.KindRemoveItem, "i"), changed(0)}}, true},
		{"an item that was new twice", []event{{1, 4, item(quipu.KindAddItem, "i"), changed(1)}, {2, 3, item(quipu.KindAddItem, "i"), changed(1)}}, false},
		{"an item lost", []event{{1, 2, item(quipu.KindAddItem, "i"), changed(1)}, {3, 4, item(quipu.KindCount, ""), told(0)}}, false},
		{"names stand for themselves", []event{{1, 2, add("c", 1), told(1)}, {3, 4, add("d", 1), told(1)}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := record(c.events).Check(patience); (err == nil) != c.right {
				t.Errorf("the checker says: %v", err)
			}
		})
	}
}

// TestSum: what is unknown widens what is allowed, what was refused does not.
func TestSum(t *testing.T) {
	r := record([]event{
		{1, 2, add("c", 5), told(5)}, {3, 0, add("c", 2), quipu.Result{}}, {4, 0, add("c", -1), quipu.Result{}},
		{5, 6, add("c", 100), quipu.Result{Code: quipu.CodeBusy}}, {7, 8, add("d", 7), told(7)},
	})
	for value, right := range map[int64]bool{3: false, 4: true, 5: true, 7: true, 8: false} {
		if err := r.CheckSum("c", value); (err == nil) != right {
			t.Errorf("at %d: %v", value, err)
		}
	}
}

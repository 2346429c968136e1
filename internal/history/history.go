// Package history records what concurrent clients sent and what they were told,
// and checks it: that one order of the operations explains all answers and
// keeps real time (linearizability), and that sums are exact.
//
// An operation whose outcome is unknown may take effect at any time after it
// was sent, or never: its end is open, and its place behind all others, where
// nobody sees it, stands for never. An operation that was not applied because
// the node could not serve it had no effect and is left out; one that was
// refused for the state it met (a bound, the kind of the name) must be refused
// by that state.
//
// Tests only; nothing of it is linked into the binary.
package history

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/quipudb/quipu"
)

// Recorder collects the calls of many clients. It is safe for concurrent use.
type Recorder struct {
	mu    sync.Mutex
	clock int64 // counts the invocations and returns in the order they were seen
	calls []*Call
}

// Call is one operation of one client: from before it was sent until after its
// answer was read, retries with the same request id included.
type Call struct {
	recorder *Recorder
	client   int
	op       quipu.Op
	began    int64
	ended    int64 // 0 while it has not returned
	result   quipu.Result
}

// Invoke records that the client is about to send the operation.
func (r *Recorder) Invoke(client int, op quipu.Op) *Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock++
	c := &Call{recorder: r, client: client, op: op, began: r.clock}
	r.calls = append(r.calls, c)
	return c
}

// Return records what the client was told; a call that never returns is
// unknown. It is called once.
func (c *Call) Return(result quipu.Result) {
	r := c.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clock++
	c.ended, c.result = r.clock, result
}

func (c *Call) outcome() quipu.Outcome {
	if c.ended == 0 {
		return quipu.Unknown
	}
	return c.result.Outcome()
}

// Counts returns how many calls ended in each way.
func (r *Recorder) Counts() (applied, notApplied, unknown int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		switch c.outcome() {
		case quipu.Applied:
			applied++
		case quipu.NotApplied:
			notApplied++
		default:
			unknown++
		}
	}
	return applied, notApplied, unknown
}

// Sum returns between which values a counter must stand that started at 0 and
// has seen only adds: what was acknowledged, and with it any part of what is
// unknown. They are equal if nothing is unknown.
func (r *Recorder) Sum(name string) (least, most int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		if c.op.Name != name || c.op.Kind != quipu.KindAdd {
			continue
		}
		switch c.outcome() {
		case quipu.Applied:
			least, most = least+c.op.Value, most+c.op.Value
		case quipu.Unknown:
			least, most = least+min(c.op.Value, 0), most+max(c.op.Value, 0)
		}
	}
	return least, most
}

// CheckSum returns an error unless value is one that Sum allows.
func (r *Recorder) CheckSum(name string, value int64) error {
	if least, most := r.Sum(name); value < least || value > most {
		return fmt.Errorf("%s stands at %d, the answers allow %d to %d", name, value, least, most)
	}
	return nil
}

// Check returns an error unless the recorded calls are linearizable, name by
// name, from names that were absent. The search is exponential at worst: within
// the time given it must come to a decision.
func (r *Recorder) Check(within time.Duration) error {
	r.mu.Lock()
	byName := make(map[string][]porcupine.Operation)
	for _, c := range r.calls {
		o := porcupine.Operation{ClientId: c.client, Input: c.op, Call: c.began, Output: c.result, Return: c.ended}
		switch c.outcome() {
		case quipu.Unknown:
			o.Output, o.Return = quipu.Result{Code: quipu.CodeUnknown}, math.MaxInt64
		case quipu.NotApplied:
			if c.result.Code.Retryable() {
				continue
			}
		}
		byName[c.op.Name] = append(byName[c.op.Name], o)
	}
	r.mu.Unlock()
	for name, ops := range byName {
		switch porcupine.CheckOperationsTimeout(specification, ops, within) {
		case porcupine.Ok:
		case porcupine.Illegal:
			return fmt.Errorf("no order explains the answers on %s:\n%s", name, print(ops))
		default:
			return fmt.Errorf("the %d operations on %s were not decided within %v", len(ops), name, within)
		}
	}
	return nil
}

// print lists the operations by their invocation.
func print(ops []porcupine.Operation) string {
	var b strings.Builder
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for _, o := range ops {
		in, out := o.Input.(quipu.Op), o.Output.(quipu.Result)
		fmt.Fprintf(&b, "%6d to %6d  client %d: %v %s %d -> %v, value %d, changed %v\n",
			o.Call, o.Return, o.ClientId, in.Kind, in.Item, in.Value, out.Code, out.Value, out.Changed)
	}
	return b.String()
}

// state is a name: a counter's value or a set's items, absent if neither. It is
// compared with ==.
type state struct {
	kind  quipu.NameKind
	value int64
	items string // each followed by a line feed, sorted
}

// specification is one name, operation by operation.
var specification = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(s, input, output any) (bool, any) {
		op, told := input.(quipu.Op), output.(quipu.Result)
		after, want := step(s.(state), &op)
		switch {
		case told.Code == quipu.CodeUnknown:
			return true, after
		case told.Code != want.Code:
			return false, s
		case told.Code != quipu.CodeOK:
			return true, s
		}
		return told.Value == want.Value && told.Changed == want.Changed, after
	},
}

// step is what docs/semantics.md says of one operation without request id,
// precondition and expiry: Code, Value and Changed of the result. Deltas and
// values in histories are small: overflow is not looked at.
func step(s state, op *quipu.Op) (state, quipu.Result) {
	needs := quipu.KindCounter
	switch op.Kind {
	case quipu.KindCount, quipu.KindHasItem, quipu.KindAddItem, quipu.KindRemoveItem:
		needs = quipu.KindItems
	case quipu.KindDelete:
		needs = s.kind
	}
	if s.kind != quipu.KindNone && s.kind != needs {
		return s, quipu.Result{Code: quipu.CodeWrongKind}
	}
	line := op.Item + "\n"
	has := strings.Contains("\n"+s.items, "\n"+line)
	switch op.Kind {
	case quipu.KindGet:
		return s, quipu.Result{Value: s.value}
	case quipu.KindCount:
		return s, quipu.Result{Value: s.count()}
	case quipu.KindHasItem:
		return s, quipu.Result{Value: s.count(), Changed: has}
	case quipu.KindAdd:
		sum := s.value + op.Value
		if o := op.Options; o != nil && (o.HasUpper && sum > o.Upper || o.HasLower && sum < o.Lower) {
			return s, quipu.Result{Code: quipu.CodeOutOfBounds}
		}
		return state{kind: quipu.KindCounter, value: sum}, quipu.Result{Value: sum}
	case quipu.KindSet:
		return state{kind: quipu.KindCounter, value: op.Value}, quipu.Result{Value: op.Value}
	case quipu.KindReset:
		s.value = 0
		return s, quipu.Result{}
	case quipu.KindDelete:
		return state{}, quipu.Result{}
	case quipu.KindAddItem:
		if !has {
			s.kind, s.items = quipu.KindItems, insert(s.items, line)
		}
		return s, quipu.Result{Value: s.count(), Changed: !has}
	case quipu.KindRemoveItem:
		if has {
			if s.items = without(s.items, line); s.items == "" {
				s = state{}
			}
		}
		return s, quipu.Result{Value: s.count(), Changed: has}
	default:
		panic(fmt.Sprintf("history: %v is not specified", op.Kind))
	}
}

func (s state) count() int64 { return int64(strings.Count(s.items, "\n")) }

func insert(items, line string) string {
	lines := append(slices.Collect(strings.Lines(items)), line)
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func without(items, line string) string {
	lines := slices.DeleteFunc(slices.Collect(strings.Lines(items)), func(l string) bool { return l == line })
	return strings.Join(lines, "")
}

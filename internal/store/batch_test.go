package store

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"slices"
	"testing"

	"github.com/quipudb/quipu"
	"pgregory.net/rapid"
)

// TestFoldedResults checks that the results rebuilt from folded records are
// those of the operations run one by one.
func TestFoldedResults(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			b      Batch
			places []Place
			ops    []quipu.Op
		)
		b.Reset()
		n := rapid.IntRange(1, 200).Draw(t, "n")
		for range n {
			op := quipu.Op{Kind: quipu.KindAdd, Tenant: quipu.DefaultTenant,
				Name:  fmt.Sprint("c", rapid.IntRange(0, 3).Draw(t, "name")),
				Value: rapid.SampledFrom([]int64{1, 1, 1, -1, 5, math.MaxInt64, math.MinInt64, math.MaxInt64 - 3}).Draw(t, "delta")}
			if rapid.IntRange(0, 9).Draw(t, "read") == 0 {
				op = quipu.Op{Kind: quipu.KindGet, Tenant: op.Tenant, Name: op.Name}
			}
			ops = append(ops, op)
			places = append(places, b.Add(&op, Hash(op.Tenant, op.Name), true))
		}
		start := map[string]int64{"c0": 7, "c1": math.MaxInt64, "c2": math.MinInt64 + 1}
		apply(&b, start)
		want := oneByOne(ops, places, start)
		for i := range ops {
			if got := b.Result(places[i], ops[i].Value); got != want[i] {
				t.Fatalf("operation %d (%+v): got %+v, want %+v", i, ops[i], got, want[i])
			}
		}
		if b.Ops != n {
			t.Fatalf("batch counts %d operations, want %d", b.Ops, n)
		}
	})
}

type counterState struct {
	value    int64
	exists   bool
	revision uint64
}

func initial(start map[string]int64) map[string]*counterState {
	m := make(map[string]*counterState)
	for name, v := range start {
		m[name] = &counterState{v, true, 1}
	}
	return m
}

func (c *counterState) add(delta int64) bool {
	sum := new(big.Int).Add(big.NewInt(c.value), big.NewInt(delta))
	if !sum.IsInt64() {
		return false
	}
	c.value, c.exists = sum.Int64(), true
	return true
}

// oneByOne is the plain meaning of a list of operations, run in the order in
// which the log numbers them: folding moves an add ahead of operations on
// other names.
func oneByOne(ops []quipu.Op, places []Place, start map[string]int64) []quipu.Result {
	order := make([]int, len(ops))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		p, q := places[i], places[j]
		return cmp.Or(cmp.Compare(p.record, q.record), cmp.Compare(p.position, q.position))
	})
	state := initial(start)
	number := uint64(100)
	results := make([]quipu.Result, len(ops))
	for _, i := range order {
		op := ops[i]
		c := state[op.Name]
		if c == nil {
			c = &counterState{}
			state[op.Name] = c
		}
		r := quipu.Result{Old: c.value, Existed: c.exists}
		if op.Kind == quipu.KindAdd {
			if c.add(op.Value) {
				r.Delta, c.revision = op.Value, number
			} else {
				r.Code = quipu.CodeOverflow
			}
		}
		r.Value, r.Revision = c.value, c.revision
		number++
		results[i] = r
	}
	return results
}

// apply is the least a store does with a batch of adds and reads.
func apply(b *Batch, start map[string]int64) {
	state := initial(start)
	number := uint64(100)
	for i := range b.Records {
		r := &b.Records[i]
		c := state[r.Op.Name]
		if c == nil {
			c = &counterState{}
			state[r.Op.Name] = c
		}
		rr := RecordResult{}
		refusals := &Refusals{Before: c.revision}
		rr.Old, rr.Existed = c.value, c.exists
		if r.Op.Kind == quipu.KindAdd {
			rr.Revision = number
			position := uint32(0)
			for _, run := range append([]Run{{r.Op.Value, r.Times}}, r.More...) {
				for range run.Times {
					if c.add(run.Delta) {
						c.revision = number + uint64(position)
					} else {
						refusals.Positions = append(refusals.Positions, position)
					}
					position++
				}
			}
			if r.Ops == 1 {
				rr.Delta = r.Op.Value
				if refusals.Count() == 1 {
					refusals.Positions, rr.Code, rr.Revision, rr.Delta = nil, quipu.CodeOverflow, c.revision, 0
				}
			}
			if refusals.Count() > 0 {
				rr.Refusals = refusals
			}
		} else {
			rr.Revision = c.revision
		}
		rr.Value = c.value
		number += uint64(r.Ops)
		b.Results = append(b.Results, rr)
	}
}

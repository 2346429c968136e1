package httpapi

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/quipudb/quipu"
)

// resultOf is a result as the general encoder takes it.
func resultOf(op *quipu.Op, r *quipu.Result) resultJSON {
	a := newAnswer(op, r)
	out := resultJSON{
		Outcome: r.Outcome().String(), Value: a.Value, Applied: a.Applied, Revision: a.Revision, Replayed: a.Replayed,
		Old: a.Old, Changed: a.Changed, TTLMs: a.TTLMs,
	}
	if op.Kind == quipu.KindGet {
		out.Exists = &r.Existed
	}
	if r.Code != quipu.CodeOK {
		p := resultProblem(r)
		out.Error = &p
	}
	return out
}

// TestAppendResults holds the written answer to the general encoder's, byte
// for byte, for every code and kind.
func TestAppendResults(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	ints := []int64{0, 1, -1, math.MaxInt64, math.MinInt64, 1 << 53}
	number := func() int64 { return ints[random.IntN(len(ints))] }
	var codes []quipu.Code
	for c := range 256 {
		if quipu.Code(c).String() != "invalid-code" {
			codes = append(codes, quipu.Code(c))
		}
	}
	for range 3000 {
		ops, results := make([]quipu.Op, random.IntN(5)), []quipu.Result{}
		rows := make([]resultJSON, len(ops))
		for i := range ops {
			for _, kind := range batchKinds {
				ops[i].Kind = kind // any: the map's order is random
			}
			r := quipu.Result{
				Replayed: random.IntN(2) == 0, Existed: random.IntN(2) == 0, Changed: random.IntN(2) == 0, Kind: quipu.NameKind(random.IntN(3)),
				Value: number(), Old: number(), Delta: number(), Revision: random.Uint64(), ExpireAt: number(), Now: number(),
			}
			if random.IntN(2) == 0 {
				r.Code = codes[random.IntN(len(codes))]
			}
			results = append(results, r)
			rows[i] = resultOf(&ops[i], &r)
		}
		for _, quoted := range []bool{false, true} {
			want, err := json.Marshal(rows, json.StringifyNumbers(quoted))
			if err != nil {
				t.Fatal(err)
			}
			got, err := appendResults(nil, ops, results, quoted)
			if err != nil || string(got) != string(want)+"\n" {
				t.Fatalf("got %s, %v\nwant %s", got, err, want)
			}
		}
	}
}

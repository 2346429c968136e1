package pool

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a store of counters in a map. It answers at once on the caller's
// goroutine, or, with held, when the test lets a batch go.
type fake struct {
	store.Store // the methods that no test calls

	mu       sync.Mutex
	values   map[string]int64
	cold     map[string]bool
	batches  []int // operations of each batch
	code     quipu.Code
	held     chan func()
	inFlight int
	loads    chan struct{} // Load waits for one
}

func newFake() *fake { return &fake{values: map[string]int64{}, cold: map[string]bool{}, inFlight: 1} }

func (f *fake) MaxInFlight() int { return f.inFlight }

func (f *fake) Resident(ops []quipu.Op, _ []uint64, _ []uint32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range ops {
		if f.cold[ops[i].Name] {
			return false
		}
	}
	return true
}

func (f *fake) Load(ctx context.Context, ops []quipu.Op) error {
	if f.loads != nil {
		select {
		case <-f.loads:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range ops {
		delete(f.cold, ops[i].Name)
	}
	return nil
}

func (f *fake) Submit(b *store.Batch, done func(*store.Batch)) {
	apply := func() {
		f.mu.Lock()
		f.batches = append(f.batches, b.Ops)
		b.Code = f.code
		for i := range b.Records {
			r := &b.Records[i]
			var rr store.RecordResult
			rr.Old = f.values[r.Op.Name]
			sum := r.Op.Value * int64(r.Times)
			for _, run := range r.More {
				sum += run.Delta * int64(run.Times)
			}
			if f.code == quipu.CodeOK {
				f.values[strings.Clone(r.Op.Name)] += sum // the batch is used again
			}
			rr.Value, rr.Delta = rr.Old+sum, r.Op.Value
			b.Results = append(b.Results, rr)
		}
		f.mu.Unlock()
		done(b)
	}
	if f.held != nil {
		f.held <- apply
		return
	}
	apply()
}

func newPool(t *testing.T, f *fake, edit func(*Config)) *Pool {
	t.Helper()
	cfg := Config{Store: f}
	if edit != nil {
		edit(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func add(name string, delta int64) quipu.Op {
	return quipu.Op{Kind: quipu.KindAdd, Tenant: quipu.DefaultTenant, Name: name, Value: delta}
}

// submit hands in one submission and returns a channel that gets it at its end.
func submit(p *Pool, ops ...quipu.Op) chan *Submission {
	ended := make(chan *Submission, 1)
	p.Submit(&Submission{Ops: ops, Done: func(s *Submission) { ended <- s }})
	return ended
}

// TestEveryCallerItsOwnValue: many callers on one counter each see a value of
// their own, and the values are 1 to n.
func TestEveryCallerItsOwnValue(t *testing.T) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprintf("async=%v", async), func(t *testing.T) {
			f := newFake()
			if async {
				f.held = make(chan func())
				go func() {
					for apply := range f.held {
						apply()
					}
				}()
				defer close(f.held)
			}
			p := newPool(t, f, nil)
			defer p.Close()
			const callers, each = 16, 500
			seen := make([]bool, callers*each+1)
			var mu sync.Mutex
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					results := make([]quipu.Result, 1)
					for range each {
						p.Do(context.Background(), []quipu.Op{add("hot", 1)}, nil, results)
						mu.Lock()
						if v := results[0].Value; v < 1 || v > callers*each || seen[v] {
							t.Errorf("value %d was given twice or is out of range", v)
						} else {
							seen[v] = true
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			if got := f.values["hot"]; got != callers*each {
				t.Fatalf("the counter stands at %d, want %d", got, callers*each)
			}
			if s := p.Stats(); s.Ops != callers*each || s.QueuedOps != 0 || s.QueuedBytes != 0 {
				t.Fatalf("stats %+v", s)
			}
		})
	}
}

// TestGathers: what comes while a batch is under way is one batch afterwards.
func TestGathers(t *testing.T) {
	f := newFake()
	f.held = make(chan func(), 4)
	p := newPool(t, f, nil)
	ends := []chan *Submission{submit(p, add("a", 1))}
	first := <-f.held
	for range 10 {
		ends = append(ends, submit(p, add("a", 1), add("b", 2)))
	}
	first()
	(<-f.held)()
	for i, e := range ends {
		s := <-e
		if s.Results[0].Value != int64(i+1) {
			t.Fatalf("submission %d got %+v", i, s.Results)
		}
	}
	if got := fmt.Sprint(f.batches); got != "[1 20]" {
		t.Fatalf("batches of %s operations, want [1 20]", got)
	}
}

func TestFull(t *testing.T) {
	f := newFake()
	f.held = make(chan func(), 4)
	p := newPool(t, f, func(c *Config) { c.QueueOps = 3 })
	first := submit(p, add("a", 1)) // in the batch, not in the queue
	ok := submit(p, add("a", 1), add("a", 1), add("a", 1))
	refused := <-submit(p, add("a", 1))
	if r := refused.Results[0]; r.Code != quipu.CodeBusy || r.Outcome() != quipu.NotApplied {
		t.Fatalf("one above the limit answered %v", r.Code)
	}
	(<-f.held)()
	(<-f.held)()
	<-first
	if s := <-ok; s.Results[2].Value != 4 {
		t.Fatalf("at the limit answered %+v", s.Results)
	}
	if f.values["a"] != 4 {
		t.Fatalf("the counter stands at %d, want 4", f.values["a"])
	}
}

func TestTooLarge(t *testing.T) {
	f := newFake()
	one := store.EncodedBound(&quipu.Op{Tenant: quipu.DefaultTenant, Name: "a"})
	p := newPool(t, f, func(c *Config) { c.EntryBytes = 2 * one })
	if s := <-submit(p, add("a", 1), add("a", 1)); s.Results[1].Code != quipu.CodeOK {
		t.Fatalf("at the limit: %v", s.Results[1].Code)
	}
	if s := <-submit(p, add("a", 1), add("a", 1), add("a", 1)); s.Results[0].Code != quipu.CodeTooLarge {
		t.Fatalf("above the limit: %v", s.Results[0].Code)
	}
}

// TestDeadline: a submission that waits is taken back, one under way is
// unknown, and its batch still ends.
func TestDeadline(t *testing.T) {
	f := newFake()
	f.held = make(chan func(), 4)
	p := newPool(t, f, func(c *Config) { c.Deadline = time.Millisecond })
	flying := submit(p, add("a", 1))
	land := <-f.held
	waiting := submit(p, add("a", 1))
	if s := <-waiting; s.Results[0].Code != quipu.CodeDeadline {
		t.Fatalf("the waiting one answered %v", s.Results[0].Code)
	}
	s := <-flying
	if s.Results[0].Code != quipu.CodeUnknown {
		t.Fatalf("the one under way answered %v", s.Results[0].Code)
	}
	s.Ops[0] = add("other", 100) // its memory is the caller's again
	land()
	if f.values["a"] != 1 || f.values["other"] != 0 {
		t.Fatalf("the batch left %v", f.values)
	}
	select {
	case <-flying:
		t.Fatal("Done was called twice")
	default:
	}
}

func TestContextEnds(t *testing.T) {
	f := newFake()
	f.held = make(chan func(), 4)
	p := newPool(t, f, nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	results := make([]quipu.Result, 1)
	p.Do(ctx, []quipu.Op{add("a", 1)}, nil, results)
	if results[0].Code != quipu.CodeUnknown {
		t.Fatalf("under way: %v", results[0].Code)
	}
	p.Do(ctx, []quipu.Op{add("a", 1)}, nil, results)
	if results[0].Code != quipu.CodeDeadline {
		t.Fatalf("waiting: %v", results[0].Code)
	}
	(<-f.held)()
	p.Close()
	if f.values["a"] != 1 {
		t.Fatalf("the counter stands at %d, want 1", f.values["a"])
	}
}

// TestCold: a submission whose names must be read first is overtaken, and a
// read that fails or comes too late leaves nothing applied.
func TestCold(t *testing.T) {
	f := newFake()
	f.cold["x"] = true
	f.loads = make(chan struct{})
	p := newPool(t, f, nil)
	cold := submit(p, add("a", 1), add("x", 1))
	hot := <-submit(p, add("a", 1))
	if hot.Results[0].Value != 1 {
		t.Fatalf("the hot one got %d, want to overtake", hot.Results[0].Value)
	}
	f.loads <- struct{}{}
	if s := <-cold; s.Results[0].Value != 2 || s.Results[1].Value != 1 {
		t.Fatalf("the cold one got %+v", s.Results)
	}
	f.mu.Lock()
	f.cold["y"] = true
	f.mu.Unlock()
	late := make(chan *Submission, 1)
	p.Submit(&Submission{Ops: []quipu.Op{add("y", 1)}, Deadline: time.Now().Add(time.Millisecond), Done: func(s *Submission) { late <- s }})
	if s := <-late; s.Results[0].Code != quipu.CodeDeadline {
		t.Fatalf("a read that comes too late answered %v", s.Results[0].Code)
	}
	if f.values["y"] != 0 {
		t.Fatal("it was applied")
	}
}

func TestWholeBatchRefused(t *testing.T) {
	for _, code := range []quipu.Code{quipu.CodeUnknown, quipu.CodeDiskFull} {
		f := newFake()
		f.code = code
		p := newPool(t, f, nil)
		if s := <-submit(p, add("a", 1), add("a", 1)); s.Results[0].Code != code || s.Results[1].Code != code {
			t.Fatalf("got %v, want %v", s.Results, code)
		}
	}
}

func TestClose(t *testing.T) {
	f := newFake()
	f.held = make(chan func(), 4)
	p := newPool(t, f, nil)
	under := submit(p, add("a", 1))
	closed := make(chan struct{})
	go func() { p.Close(); close(closed) }()
	land := <-f.held
	for {
		// Close refuses from some moment on; what came before is answered.
		p.mu.Lock()
		c := p.closed
		p.mu.Unlock()
		if c {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if s := <-submit(p, add("a", 1)); s.Results[0].Code != quipu.CodeNotReady {
		t.Fatalf("after Close: %v", s.Results[0].Code)
	}
	land()
	<-closed
	if s := <-under; s.Results[0].Value != 1 {
		t.Fatalf("what was under way got %+v", s.Results[0])
	}
}

func TestGroupsAreNotFolded(t *testing.T) {
	f := newFake()
	p := newPool(t, f, nil)
	ended := make(chan *Submission, 1)
	p.Submit(&Submission{
		Ops:    []quipu.Op{add("a", 1), add("a", 2), add("a", 3), add("a", 4)},
		Groups: []store.Group{{First: 1, Count: 2, AllOrNothing: true}},
		Done:   func(s *Submission) { ended <- s },
	})
	s := <-ended
	for i, want := range []int64{1, 3, 6, 10} {
		if s.Results[i].Value != want {
			t.Fatalf("operation %d got %d, want %d", i, s.Results[i].Value, want)
		}
	}
}

// meter counts what it was told.
type meter struct{ appended, done int }

func (m *meter) Append(b *store.Batch, _, ops int) {
	m.appended += ops
	op := quipu.Op{Kind: quipu.KindAdd, Tenant: quipu.NodeTenant, Name: "n/ops", Value: int64(ops)}
	b.Add(&op, store.Hash(op.Tenant, op.Name), true)
}
func (m *meter) Done(*store.Batch) { m.done++ }

func TestMeterRidesAlong(t *testing.T) {
	f, m := newFake(), &meter{}
	p := newPool(t, f, func(c *Config) { c.Meter = m })
	<-submit(p, add("a", 1), add("b", 1))
	<-submit(p, add("a", 1))
	p.Close()
	if f.values["n/ops"] != 3 || m.appended != 3 || m.done != 2 {
		t.Fatalf("the node counted %d operations, the meter %+v", f.values["n/ops"], m)
	}
}

func BenchmarkSubmit(b *testing.B) {
	for _, n := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("ops=%d", n), func(b *testing.B) {
			p, err := New(Config{Store: nothing{}})
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			s := &Submission{Done: func(*Submission) {}}
			for i := range n {
				s.Ops = append(s.Ops, add(fmt.Sprint("counter-", i), 1))
			}
			b.ReportAllocs()
			for b.Loop() {
				p.Submit(s)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/op1")
		})
	}
}

// nothing is a store that applies nothing, for the pool's own cost.
type nothing struct{ store.Store }

func (nothing) MaxInFlight() int                             { return 1 }
func (nothing) Resident([]quipu.Op, []uint64, []uint32) bool { return true }
func (nothing) Submit(b *store.Batch, done func(*store.Batch)) {
	for range b.Records {
		b.Results = append(b.Results, store.RecordResult{})
	}
	done(b)
}

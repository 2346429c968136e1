package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/client"
)

type benchCmd struct {
	target
	API         string        `name:"api" help:"What to load: http or resp." enum:"http,resp" default:"http"`
	RESP        string        `name:"resp" help:"Address of the Redis protocol, for --api resp." env:"QUIPU_RESP" default:"127.0.0.1:6380" placeholder:"ADDR"`
	Rate        int           `help:"Adds a second, sent by the clock whether or not earlier ones were answered; 0 is as many as are answered." default:"1000"`
	Duration    time.Duration `help:"How long." default:"10s"`
	Connections int           `help:"Connections." default:"50"`
	Batch       int           `help:"Adds a call: of an HTTP batch, or pipelined." default:"1"`
	Counters    int           `help:"Counters, bench/0 and on." default:"1000"`
	IDs         bool          `name:"ids" help:"Give each add a request id."`
}

// Help is printed by quipu bench --help.
func (*benchCmd) Help() string {
	return `With a rate the load is open: latency counts from when a call was due, so that a stall is not hidden by the calls it kept from
being made. The counters bench/0 and on, in the tenant given, are read before and after: a count below what was acknowledged
or above what was sent exits with 5. A lost answer is not repeated.`
}

// Latencies are recorded from 1 µs to 1 min with three digits.
const (
	benchLowest  = 1
	benchHighest = 60_000_000
	benchDigits  = 3
)

// bencher adds to one counter several times in one call.
type bencher interface {
	// add returns how many adds were acknowledged and for how many it is
	// certain that they were not applied.
	add(ctx context.Context, names []string) (acknowledged, refused int, err error)
	close()
}

// bench is one run.
type bench struct {
	*benchCmd
	due          time.Time // of the first call
	calls        atomic.Int64
	sent         atomic.Int64
	acknowledged atomic.Int64
	refused      atomic.Int64
	unknown      atomic.Int64
	mu           sync.Mutex
	latency      *hdrhistogram.Histogram
	lastErr      error
}

func (c *benchCmd) validate() error {
	for _, f := range []struct {
		name     string
		n, least int
		most     int
	}{
		{"rate", c.Rate, 0, 100_000_000}, {"connections", c.Connections, 1, 10_000},
		{"batch", c.Batch, 1, client.MaxBatchOps}, {"counters", c.Counters, 1, 10_000_000},
	} {
		if f.n < f.least || f.n > f.most {
			return &exitError{exitUsage, fmt.Errorf("--%s %d: it is %d to %d", f.name, f.n, f.least, f.most)}
		}
	}
	if c.Duration <= 0 {
		return &exitError{exitUsage, errors.New("--duration is above 0")}
	}
	return nil
}

// Run loads, reports and checks.
func (c *benchCmd) Run(ctx context.Context) error {
	if err := c.validate(); err != nil {
		return err
	}
	if err := c.reachable(ctx); err != nil {
		return err
	}
	b := &bench{benchCmd: c, latency: hdrhistogram.New(benchLowest, benchHighest, benchDigits)}
	before, err := b.sum(ctx)
	if err != nil {
		return err
	}
	workers := make([]bencher, c.Connections)
	defer func() {
		for _, w := range workers {
			if w != nil {
				w.close()
			}
		}
	}()
	for i := range workers {
		if workers[i], err = b.connect(ctx); err != nil {
			return err
		}
	}
	took := b.load(ctx, workers)
	// The answer to what was sent last may have been lost, and the call may
	// still be under way: its effect is in the bounds, whenever it comes.
	after, err := b.sum(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	return b.report(took, after-before)
}

func (b *bench) connect(ctx context.Context) (bencher, error) {
	if b.API == "resp" {
		return dialRESP(ctx, b.RESP, b.Tenant, b.IDs)
	}
	cl, err := client.New(client.Config{Servers: b.Server, Tenant: b.Tenant, Timeout: b.Within, FailFast: true, NoIDs: true})
	if err != nil {
		return nil, err
	}
	return &httpBencher{client: cl, ids: b.IDs}, nil
}

// sum adds up the counters of the run.
func (b *bench) sum(ctx context.Context) (int64, error) {
	cl, err := b.client()
	if err != nil {
		return 0, err
	}
	defer cl.CloseIdle()
	var total int64
	for counter, err := range cl.Counters(ctx, "bench/") {
		if err != nil {
			return 0, fmt.Errorf("read the counters: %w", b.explain(err))
		}
		total += counter.Value
	}
	return total, nil
}

// load runs all workers and returns how long it took.
func (b *bench) load(ctx context.Context, workers []bencher) time.Duration {
	ends, cancel := context.WithTimeout(ctx, b.Duration)
	defer cancel()
	b.due = time.Now()
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() { b.work(ends, w) })
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		b.watch(ends)
	}()
	wg.Wait()
	took := time.Since(b.due)
	cancel()
	<-watched
	return took
}

// work takes the next call that is due, until the time is up.
func (b *bench) work(ends context.Context, w bencher) {
	mine := hdrhistogram.New(benchLowest, benchHighest, benchDigits)
	names := make([]string, b.Batch)
	var last error
	for {
		n := b.calls.Add(1) - 1
		due := time.Now()
		if b.Rate > 0 {
			due = b.due.Add(time.Duration(float64(n) * float64(b.Batch) / float64(b.Rate) * float64(time.Second)))
			if due.Sub(b.due) >= b.Duration {
				break
			}
			if wait := time.Until(due); wait > 0 {
				select {
				case <-time.After(wait):
				case <-ends.Done():
				}
			}
		}
		if ends.Err() != nil {
			break
		}
		for i := range names {
			names[i] = fmt.Sprintf("bench/%d", (n*int64(b.Batch)+int64(i))*7919%int64(b.Counters))
		}
		b.sent.Add(int64(len(names)))
		// What was sent is waited for, also past the end.
		acknowledged, refused, err := w.add(context.WithoutCancel(ends), names)
		b.acknowledged.Add(int64(acknowledged))
		b.refused.Add(int64(refused))
		b.unknown.Add(int64(len(names) - acknowledged - refused))
		if err != nil {
			last = err
			select { // a server that is gone is not asked in a tight loop
			case <-time.After(10 * time.Millisecond):
			case <-ends.Done():
			}
			continue
		}
		mine.RecordValue(min(max(time.Since(due).Microseconds(), benchLowest), benchHighest))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.latency.Merge(mine)
	if last != nil {
		b.lastErr = last
	}
}

func (b *bench) watch(ends context.Context) {
	p := newProgress()
	defer p.done()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := int64(0)
	for {
		select {
		case <-tick.C:
			now := b.acknowledged.Load()
			p.update("%3.0f s  %d adds/s", time.Since(b.due).Seconds(), now-last)
			last = now
		case <-ends.Done():
			return
		}
	}
}

// report prints the figures; a wrong count exits with 5.
func (b *bench) report(took time.Duration, counted int64) error {
	ms := func(q float64) float64 { return float64(b.latency.ValueAtQuantile(q)) / 1000 }
	r := struct {
		API          string  `json:"api"`
		Connections  int     `json:"connections"`
		Batch        int     `json:"batch"`
		Rate         int     `json:"rate"`
		Seconds      float64 `json:"seconds"`
		Sent         int64   `json:"sent"`
		Acknowledged int64   `json:"acknowledged"`
		Refused      int64   `json:"refused"`
		Unknown      int64   `json:"unknown"`
		Counted      int64   `json:"counted"`
		Exact        bool    `json:"exact"`
		PerSecond    float64 `json:"perSecond"`
		P50Ms        float64 `json:"p50Ms"`
		P90Ms        float64 `json:"p90Ms"`
		P99Ms        float64 `json:"p99Ms"`
		P999Ms       float64 `json:"p999Ms"`
		MaxMs        float64 `json:"maxMs"`
		LastError    string  `json:"lastError,omitempty"`
	}{
		API: b.API, Connections: b.Connections, Batch: b.Batch, Rate: b.Rate, Seconds: took.Seconds(),
		Sent: b.sent.Load(), Acknowledged: b.acknowledged.Load(), Refused: b.refused.Load(), Unknown: b.unknown.Load(), Counted: counted,
		P50Ms: ms(50), P90Ms: ms(90), P99Ms: ms(99), P999Ms: ms(99.9), MaxMs: float64(b.latency.Max()) / 1000,
	}
	r.PerSecond = float64(r.Acknowledged) / took.Seconds()
	r.Exact = counted >= r.Acknowledged && counted <= r.Acknowledged+r.Unknown
	if b.lastErr != nil {
		r.LastError = b.lastErr.Error()
	}
	if b.JSON {
		if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
			return err
		}
	} else {
		fmt.Printf("%.0f adds/s over %.1f s: %d sent, %d acknowledged, %d refused, %d unknown\n", r.PerSecond, r.Seconds, r.Sent, r.Acknowledged, r.Refused, r.Unknown)
		if r.LastError != "" {
			fmt.Printf("last error    %s\n", r.LastError)
		}
		fmt.Printf("latency a call  p50 %.3f ms  p90 %.3f  p99 %.3f  p99.9 %.3f  max %.3f\n", r.P50Ms, r.P90Ms, r.P99Ms, r.P999Ms, r.MaxMs)
		fmt.Printf("counted       %d\n", counted)
	}
	if !r.Exact {
		return &exitError{exitWrong, fmt.Errorf("the counts are WRONG: acknowledged %d, unknown %d, counted %d (does anything else write bench/… ?)", r.Acknowledged, r.Unknown, counted)}
	}
	return nil
}

// httpBencher sends a batch a call.
type httpBencher struct {
	client *client.Client
	ids    bool
	ops    []quipu.Op
}

func (h *httpBencher) close() { h.client.CloseIdle() }

func (h *httpBencher) add(ctx context.Context, names []string) (acknowledged, refused int, err error) {
	h.ops = h.ops[:0]
	for _, name := range names {
		op := quipu.Op{Kind: quipu.KindAdd, Name: name, Value: 1}
		if h.ids {
			op.Options = &quipu.Options{ID: h.client.NewID()}
		}
		h.ops = append(h.ops, op)
	}
	results, err := h.client.Batch(ctx, h.ops)
	if err != nil {
		if e := (*quipu.Error)(nil); errors.As(err, &e) && e.Outcome() == quipu.NotApplied {
			refused = len(names)
		}
		return 0, refused, err
	}
	for i := range results {
		switch results[i].Outcome() {
		case quipu.Applied:
			acknowledged++
		case quipu.NotApplied:
			refused++
		}
		if e := results[i].Err(); e != nil {
			err = e
		}
	}
	return acknowledged, refused, err
}

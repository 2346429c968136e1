// Package nodecounter keeps a node's own figures as counters of tenant
// quipu.NodeTenant, named "<node>/<figure>": they survive restarts and kill -9,
// and never go back.
//
// Requests and operations of writes ride in the very batch that they count
// (Meter is a pool.Meter): after a crash the figures hold exactly what the
// counters hold. Figures of other kinds, read from sources that count since the
// start, are committed within a period; a crash loses at most the last period
// of those.
package nodecounter

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/pool"
	"github.com/quipudb/quipu/internal/store"
)

// The figures that ride in batches.
const (
	// Requests counts requests of clients: of HTTP, and commands of RESP.
	Requests = "requests"
	// Operations counts operations that reached the log, refused ones
	// included.
	Operations = "operations"
	// Starts counts the starts of the node.
	Starts = "starts"
)

// Source is a figure that is read, not told: a count since the start, which
// never goes back while the process lives.
type Source struct {
	Name string
	Read func() uint64
}

// Config is what a Meter is made of.
type Config struct {
	Node    string
	Sources []Source
	// TotalRequests counts all requests since the start, reads and writes.
	TotalRequests func() uint64
	// Period is the time between two commits of the sources, a second if 0.
	Period time.Duration
	Logger *slog.Logger
}

// Meter counts for one node. Append and Done are called by the pool, one batch
// at a time; the other methods are safe for concurrent use.
type Meter struct {
	cfg        Config
	requests   figure
	operations figure

	mu       sync.Mutex
	ridden   uint64 // requests that rode in committed batches
	inBatch  []int  // requests of the batches under way
	ops      uint64
	reported map[string]uint64 // of each source, what was committed

	stop chan struct{}
	wg   sync.WaitGroup
}

// figure is a counter's operation, made once.
type figure struct {
	op   quipu.Op
	hash uint64
}

func newFigure(node, name string) figure {
	op := quipu.Op{Kind: quipu.KindAdd, Tenant: quipu.NodeTenant, Name: node + "/" + name}
	return figure{op: op, hash: store.Hash(op.Tenant, op.Name)}
}

func (f *figure) add(b *store.Batch, n int) {
	f.op.Value = int64(n)
	b.Add(&f.op, f.hash, true)
}

var _ pool.Meter = (*Meter)(nil)

// New returns a meter that is not running yet.
func New(cfg Config) *Meter {
	if cfg.Period <= 0 {
		cfg.Period = time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Meter{
		cfg:        cfg,
		requests:   newFigure(cfg.Node, Requests),
		operations: newFigure(cfg.Node, Operations),
		reported:   make(map[string]uint64),
		stop:       make(chan struct{}),
	}
}

// Append implements pool.Meter.
func (m *Meter) Append(b *store.Batch, requests, ops int) {
	if ops > 0 {
		m.requests.add(b, requests)
		m.operations.add(b, ops)
	}
	m.mu.Lock()
	m.inBatch = append(m.inBatch, requests, ops)
	m.mu.Unlock()
}

// Done implements pool.Meter.
func (m *Meter) Done(b *store.Batch) {
	m.mu.Lock()
	if b.Code == quipu.CodeOK {
		m.ridden += uint64(m.inBatch[0])
		m.ops += uint64(m.inBatch[1])
	}
	m.inBatch = append(m.inBatch[:0], m.inBatch[2:]...)
	m.mu.Unlock()
}

// Start counts the start and commits the sources each period through the pool.
func (m *Meter) Start(p *pool.Pool) {
	m.wg.Go(func() {
		m.commit(p, map[string]uint64{Starts: 1})
		ticker := time.NewTicker(m.cfg.Period)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				m.commit(p, nil)
			case <-m.stop:
				m.commit(p, nil)
				return
			}
		}
	})
}

// Stop commits the sources once more and ends. Sources, and the pool, must
// live until it returns.
func (m *Meter) Stop() {
	close(m.stop)
	m.wg.Wait()
}

// commit adds to the counters what the sources have gained.
func (m *Meter) commit(p *pool.Pool, extra map[string]uint64) {
	var ops []quipu.Op
	now := make(map[string]uint64)
	add := func(name string, n uint64) {
		if n == 0 {
			return
		}
		op := newFigure(m.cfg.Node, name).op
		op.Value = int64(n)
		ops = append(ops, op)
	}
	for name, n := range extra {
		add(name, n)
	}
	for _, s := range m.cfg.Sources {
		now[s.Name] = s.Read()
		add(s.Name, gained(m.reported[s.Name], now[s.Name]))
	}
	// Requests that rode in no batch: reads, and refused ones. One that is
	// under way may be counted in a batch before the edge has counted it; then
	// there is nothing to add until the edge has.
	if m.cfg.TotalRequests != nil {
		m.mu.Lock()
		ridden := m.ridden
		m.mu.Unlock()
		others := gained(ridden, m.cfg.TotalRequests())
		now[Requests] = max(others, m.reported[Requests])
		add(Requests, gained(m.reported[Requests], now[Requests]))
	}
	if len(ops) == 0 {
		return
	}
	results := make([]quipu.Result, len(ops))
	ended := make(chan struct{})
	p.Submit(&pool.Submission{Ops: ops, Results: results, Requests: -1, Done: func(s *pool.Submission) {
		results = s.Results
		close(ended)
	}})
	<-ended
	// An unknown outcome is not told again: the batch goes on to its end, and
	// counting it twice would be worse than losing a period.
	if code := results[0].Code; code.Outcome() == quipu.NotApplied {
		m.cfg.Logger.Debug("node counters were not committed; they go with the next", "code", code.String())
		return
	}
	m.mu.Lock()
	for name, n := range now {
		m.reported[name] = n
	}
	m.mu.Unlock()
}

func gained(from, to uint64) uint64 {
	if to > from {
		return to - from
	}
	return 0
}

// Figure is one of the node's figures.
type Figure struct {
	Name string `json:"name"`
	// Lifetime is the committed counter, SinceStart what this process counted.
	Lifetime   int64  `json:"lifetime"`
	SinceStart uint64 `json:"sinceStart"`
}

// Reader is what Figures reads from.
type Reader interface {
	Read(ctx context.Context, ops []quipu.Op, results []quipu.Result) error
}

// Figures returns all figures of the node.
func (m *Meter) Figures(ctx context.Context, r Reader) ([]Figure, error) {
	m.mu.Lock()
	figures := []Figure{
		{Name: Requests, SinceStart: m.ridden + m.reported[Requests]},
		{Name: Operations, SinceStart: m.ops},
		{Name: Starts, SinceStart: 1},
	}
	m.mu.Unlock()
	for _, s := range m.cfg.Sources {
		figures = append(figures, Figure{Name: s.Name, SinceStart: s.Read()})
	}
	ops := make([]quipu.Op, len(figures))
	for i, f := range figures {
		ops[i] = newFigure(m.cfg.Node, f.Name).op
		ops[i].Kind = quipu.KindGet
	}
	results := make([]quipu.Result, len(ops))
	if err := r.Read(ctx, ops, results); err != nil {
		return nil, err
	}
	for i := range figures {
		figures[i].Lifetime = results[i].Value
	}
	return figures, nil
}

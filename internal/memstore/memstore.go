// Package memstore is the reference store: the plain model behind a mutex, in
// memory only. Nothing survives the process. Tests of the pool and of the edges
// run on it, and storetest shows with it what the contract means.
package memstore

import (
	"context"
	"sync"
	"time"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/limit"
	"github.com/quipudb/quipu/internal/model"
	"github.com/quipudb/quipu/internal/store"
)

// Fault is what a Store is told to do to a batch.
type Fault int

const (
	// NoFault: apply and answer.
	NoFault Fault = iota
	// FailBefore: refuse the batch, nothing is applied.
	FailBefore
	// LoseAnswer: apply the batch and answer that it is unknown.
	LoseAnswer
)

// Config of a Store; the zero value serves.
type Config struct {
	Settings model.Settings
	// Now is the clock, time.Now if nil.
	Now func() time.Time
	// Fault, if not nil, is asked before each batch.
	Fault func(*store.Batch) Fault
}

// Store is the reference store. It is safe for concurrent use.
type Store struct {
	cfg Config

	mu          sync.Mutex
	model       *model.Model
	incarnation [16]byte
	number      uint64
}

var _ store.Store = (*Store)(nil)

// New returns an empty store.
func New(cfg Config) *Store {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Settings == (model.Settings{}) {
		cfg.Settings = model.Settings{WindowMs: limit.Window.Milliseconds(), SkewMs: limit.SkewAllowance.Milliseconds()}
	}
	s := &Store{cfg: cfg, model: model.New(cfg.Settings), incarnation: [16]byte{1}}
	s.model.Begin(s.now(), "memory", s.incarnation)
	return s
}

func (s *Store) now() int64 { return s.cfg.Now().UnixMilli() }

// MaxInFlight implements store.Store.
func (s *Store) MaxInFlight() int { return 1 }

// Submit implements store.Store.
func (s *Store) Submit(b *store.Batch, done func(*store.Batch)) {
	fault := NoFault
	if s.cfg.Fault != nil {
		fault = s.cfg.Fault(b)
	}
	if fault == FailBefore {
		b.Code = quipu.CodeNotReady
		done(b)
		return
	}
	s.mu.Lock()
	s.sweep()
	s.number++
	s.model.Apply(s.now(), s.incarnation, s.number, b)
	s.mu.Unlock()
	if fault == LoseAnswer {
		b.Code = quipu.CodeUnknown
	}
	done(b)
}

// sweep removes what has expired, as the raft store's sweeper does by entries
// of its own. s.mu is held.
func (s *Store) sweep() {
	s.model.Advance(s.now())
	ops := s.model.Expired(s.model.Time(), limit.ListPage)
	if len(ops) == 0 {
		return
	}
	var b store.Batch
	b.Reset()
	for i := range ops {
		b.Add(&ops[i], store.Hash(ops[i].Tenant, ops[i].Name), false)
	}
	s.number++
	s.model.Apply(s.model.Time(), s.incarnation, s.number, &b)
}

// Begin begins an incarnation, as an entry of a log does that a node of that
// name puts there.
func (s *Store) Begin(node string, incarnation [16]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.model.Begin(s.now(), node, incarnation)
}

// Apply applies a batch under a number of an incarnation, as an entry of a log
// does, and tells what became of it.
func (s *Store) Apply(incarnation [16]byte, number uint64, b *store.Batch) store.Fate {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	return s.model.Apply(s.now(), incarnation, number, b)
}

// Resident implements store.Store.
func (s *Store) Resident([]quipu.Op, []uint64, []uint32) bool { return true }

// Load implements store.Store.
func (s *Store) Load(context.Context, []quipu.Op) error { return nil }

// TryRead implements store.Store.
func (s *Store) TryRead(ops []quipu.Op, results []quipu.Result) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	s.model.Read(s.now(), ops, results)
	return true
}

// Read implements store.Store.
func (s *Store) Read(_ context.Context, ops []quipu.Op, results []quipu.Result) error {
	s.TryRead(ops, results)
	return nil
}

// List implements store.Store.
func (s *Store) List(_ context.Context, req store.ListRequest) (store.ListPage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	return s.model.List(req), nil
}

// Size implements store.Store.
func (s *Store) Size(_ context.Context, tenant string) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	return s.model.Size(tenant), nil
}

// Random implements store.Store.
func (s *Store) Random(_ context.Context, tenant string) (string, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	name, ok := s.model.Random(tenant)
	return name, ok, nil
}

// Package pool is group commit: it gathers the submissions of many callers
// into batches, hands each batch to the store, and gives every caller the
// results of its own operations.
//
// While one batch is on its way to the disk the next gathers; there is no
// timer. Plain adds on one counter fold into one record, so that a hot counter
// costs one record a batch and thousands of increments share one write.
//
// Invariants:
//
//  1. Every submission ends once: applied or refused operation by operation, or
//     refused as a whole (not applied), or unknown.
//  2. A submission is in one batch, whole and in order. Submissions are taken
//     in the order of their arrival, except that one whose names must be read
//     from disk first is overtaken; a caller that needs its own order keeps
//     one submission under way.
//  3. Once in a batch a submission's memory is no longer referred to: the
//     caller may be told unknown at its deadline while the batch goes on to
//     its definite end.
//  4. What waits is bounded in operations and bytes; beyond it, submissions are
//     refused as busy, which is not applied.
//
// No goroutine stands between a caller and the store: whoever submits while
// nobody drives takes the drive, forms a batch of all that waits and hands it
// to the store, which may write and apply it on that very goroutine. After one
// batch a driver passes the drive on to the committer goroutine if more has
// come in, so that nobody works for others for long. A mutex guards the queue;
// it is never held during a call to the store or to a caller.
package pool

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/limit"
	"github.com/quipudb/quipu/internal/store"
)

// Config is what a Pool is made of. Only Store is required.
type Config struct {
	Store store.Store
	// QueueOps and QueueBytes bound what waits; EntryBytes bounds a batch.
	QueueOps, QueueBytes, EntryBytes int
	// Deadline ends the wait of submissions that name none.
	Deadline time.Duration
	// Readers is the number of goroutines that read cold names.
	Readers int
	// Meter, if there is one, has its own operations in every batch.
	Meter Meter
	// Observe, if not nil, is told of each finished batch.
	Observe func(ops, records, bytes int, took time.Duration)
	// Now is the clock of deadlines, time.Now if nil.
	Now    func() time.Time
	Logger *slog.Logger
}

// Meter adds operations of the node's own to batches, so that figures about
// writes are committed with the very writes they count. Its methods are called
// by one goroutine at a time for one batch, Append before Done.
type Meter interface {
	// Append may add records to the batch, which holds so many requests and
	// operations of callers.
	Append(b *store.Batch, requests, ops int)
	// Done tells that the batch of the oldest Append not yet done has ended;
	// b.Code says how.
	Done(b *store.Batch)
}

func (c *Config) defaults() error {
	if c.Store == nil {
		return errors.New("pool: no store")
	}
	c.QueueOps = positive(c.QueueOps, limit.QueueOps)
	c.QueueBytes = positive(c.QueueBytes, limit.QueueBytes)
	c.EntryBytes = positive(c.EntryBytes, limit.EntryBytes)
	c.Readers = positive(c.Readers, 4)
	if c.Deadline <= 0 {
		c.Deadline = limit.Deadline
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

func positive(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// Pool is the group commit in front of one store. All methods are safe for
// concurrent use.
type Pool struct {
	cfg   Config
	store store.Store

	mu      sync.Mutex
	queue   queue
	cold    queue // names must be read first
	waiting waiting
	flying  []*flight // batches under way, oldest first
	free    []*flight
	driving bool
	closed  bool
	idle    *sync.Cond // nothing waits, nothing flies

	committer chan struct{} // passes the drive on; holds one
	readers   *sync.Cond    // of cold and closed
	stop      chan struct{}
	wg        sync.WaitGroup

	stats counters
}

// waiting is what counts against the queue's bounds.
type waiting struct{ ops, bytes int }

// New starts a pool in front of cfg.Store.
func New(cfg Config) (*Pool, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	p := &Pool{
		cfg:       cfg,
		store:     cfg.Store,
		committer: make(chan struct{}, 1),
		stop:      make(chan struct{}),
	}
	p.stats.setCoarse(cfg.Now())
	p.idle = sync.NewCond(&p.mu)
	p.readers = sync.NewCond(&p.mu)
	p.wg.Go(p.commit)
	p.wg.Go(p.expire)
	for range cfg.Readers {
		p.wg.Go(p.read)
	}
	return p, nil
}

// Submit hands one submission to the pool; see Submission.
func (p *Pool) Submit(s *Submission) {
	p.accept(s)
	p.drive(false)
}

// SubmitAll hands several submissions to the pool, which commits them together
// where they fit into one batch.
func (p *Pool) SubmitAll(ss []*Submission) {
	for _, s := range ss {
		p.prepare(s)
	}
	for len(ss) > 0 {
		p.mu.Lock()
		var (
			s    *Submission
			code quipu.Code
		)
		queued := true
		for len(ss) > 0 && queued {
			s, ss = ss[0], ss[1:]
			code, queued = p.admit(s)
		}
		p.mu.Unlock()
		if !queued {
			p.refuse(s, code)
		}
	}
	p.drive(false)
}

// accept queues a submission or ends it.
func (p *Pool) accept(s *Submission) {
	p.prepare(s)
	p.mu.Lock()
	code, queued := p.admit(s)
	p.mu.Unlock()
	if !queued {
		p.refuse(s, code)
	}
}

// prepare computes what is needed of a submission, outside any lock.
func (p *Pool) prepare(s *Submission) {
	s.prepare()
	s.until = s.Deadline
	if s.until.IsZero() {
		// Reading the clock costs as much as parsing a command; the expirer
		// reads it for all, so that a deadline may be late by its period.
		s.until = p.stats.coarse().Add(p.cfg.Deadline)
	}
}

// admit queues a submission, or tells how it ends at once. p.mu is held.
func (p *Pool) admit(s *Submission) (code quipu.Code, queued bool) {
	switch {
	case len(s.Ops) == 0:
		return quipu.CodeOK, false
	case p.closed:
		return quipu.CodeNotReady, false
	case s.bytes > p.cfg.EntryBytes:
		return quipu.CodeTooLarge, false
	case p.waiting.ops+len(s.Ops) > p.cfg.QueueOps || p.waiting.bytes+s.bytes > p.cfg.QueueBytes:
		return quipu.CodeBusy, false
	}
	p.waiting.ops += len(s.Ops)
	p.waiting.bytes += s.bytes
	p.queue.push(s)
	return quipu.CodeOK, true
}

// refuse ends a submission that is in no batch: with CodeOK an empty one.
func (p *Pool) refuse(s *Submission, code quipu.Code) {
	p.stats.refused(code, len(s.Ops))
	s.fill(code)
	s.Done(s)
}

// left takes a submission out of what counts against the bounds. p.mu is held.
func (p *Pool) left(s *Submission) {
	p.waiting.ops -= len(s.Ops)
	p.waiting.bytes -= s.bytes
	p.wakeIdle()
}

func (p *Pool) wakeIdle() {
	if p.waiting.ops == 0 && len(p.flying) == 0 {
		p.idle.Broadcast()
	}
}

// drive forms batches of what waits and hands them to the store, unless
// somebody else does. A caller's goroutine drives one batch; the committer
// (forever true) drives until nothing waits.
func (p *Pool) drive(forever bool) {
	p.mu.Lock()
	if p.driving && !forever {
		p.mu.Unlock()
		return
	}
	p.driving = true
	for first := true; ; first = false {
		if p.queue.empty() || len(p.flying) >= p.store.MaxInFlight() {
			// Whoever ends the batch under way drives on.
			p.driving = false
			p.mu.Unlock()
			return
		}
		if !first && !forever {
			p.mu.Unlock()
			p.committer <- struct{}{} // the drive goes with it
			return
		}
		f := p.take()
		p.mu.Unlock()

		p.form(f)
		p.mu.Lock()
		if len(f.riders) == 0 {
			p.free = append(p.free, f)
			continue
		}
		p.flying = append(p.flying, f)
		p.mu.Unlock()
		f.started = p.cfg.Now()
		p.store.Submit(&f.batch, f.done)
		p.mu.Lock()
	}
}

// take moves submissions from the queue to a fresh flight, as many as one
// entry may hold. p.mu is held.
func (p *Pool) take() *flight {
	var f *flight
	if n := len(p.free); n > 0 {
		f, p.free = p.free[n-1], p.free[:n-1]
	} else {
		f = &flight{pool: p}
		f.done = f.land
	}
	f.reset()
	bytes := meterBytes
	for {
		s := p.queue.front()
		if s == nil || (bytes+s.bytes > p.cfg.EntryBytes && len(f.boarding) > 0) {
			return f
		}
		bytes += s.bytes
		p.queue.pop()
		f.boarding = append(f.boarding, s)
	}
}

// meterBytes is what a batch keeps free for the meter's own records.
const meterBytes = 4 << 10

// form puts the boarding submissions into the flight's batch, except those
// whose names must be read first.
func (p *Pool) form(f *flight) {
	var cold []*Submission
	for _, s := range f.boarding {
		if !s.warm && !p.store.Resident(s.Ops, s.hashes, s.hints) {
			cold = append(cold, s)
			continue
		}
		f.add(s)
	}
	p.mu.Lock()
	for _, r := range f.riders {
		p.left(r.s)
	}
	for _, s := range cold {
		p.cold.push(s)
	}
	p.mu.Unlock()
	if len(cold) > 0 {
		p.readers.Broadcast()
	}
	if len(f.riders) > 0 && p.cfg.Meter != nil {
		p.cfg.Meter.Append(&f.batch, f.requests, f.batch.Ops-f.internal)
	}
}

// commit is the committer goroutine: it drives for others.
func (p *Pool) commit() {
	for {
		select {
		case <-p.committer:
			p.drive(true)
		case <-p.stop:
			return
		}
	}
}

// read is a reader goroutine: it brings the names of cold submissions into
// memory and queues them again.
func (p *Pool) read() {
	for {
		p.mu.Lock()
		for p.cold.empty() && !p.closedAndIdle() {
			p.readers.Wait()
		}
		s := p.cold.front()
		if s == nil {
			p.mu.Unlock()
			return
		}
		p.cold.pop()
		p.mu.Unlock()

		ctx, cancel := context.WithDeadline(context.Background(), s.until)
		err := p.store.Load(ctx, s.Ops)
		cancel()

		p.mu.Lock()
		if err != nil {
			p.left(s)
			p.mu.Unlock()
			p.refuse(s, loadCode(err))
			continue
		}
		s.warm = true
		p.queue.push(s)
		p.mu.Unlock()
		p.stats.loads.Add(1)
		p.drive(false)
	}
}

func loadCode(err error) quipu.Code {
	if e := (*quipu.Error)(nil); errors.As(err, &e) {
		return e.Code
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return quipu.CodeDeadline
	}
	return quipu.CodeNotReady
}

// expirePeriod is how late a deadline may be noticed.
const expirePeriod = 20 * time.Millisecond

// expire ends the wait of submissions whose deadline has passed.
func (p *Pool) expire() {
	ticker := time.NewTicker(expirePeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-p.stop:
			return
		}
		now := p.cfg.Now()
		p.stats.setCoarse(now)
		var late, lost []*Submission
		p.mu.Lock()
		late = p.queue.removeIf(func(s *Submission) bool { return s.until.Before(now) }, late)
		for _, s := range late {
			p.left(s)
		}
		for _, f := range p.flying {
			lost = f.abandon(now, lost)
		}
		p.mu.Unlock()
		for _, s := range late {
			p.refuse(s, quipu.CodeDeadline)
		}
		for _, s := range lost {
			p.refuse(s, quipu.CodeUnknown)
		}
	}
}

// closedAndIdle reports whether the goroutines may end. p.mu is held.
func (p *Pool) closedAndIdle() bool {
	return p.closed && p.waiting.ops == 0 && len(p.flying) == 0
}

// Close refuses what comes from now on, waits until all that was accepted has
// ended, and stops. It may be called twice.
func (p *Pool) Close() {
	p.mu.Lock()
	already := p.closed
	p.closed = true
	for p.waiting.ops > 0 || len(p.flying) > 0 {
		p.idle.Wait()
	}
	p.mu.Unlock()
	if !already {
		close(p.stop)
	}
	p.readers.Broadcast()
	p.wg.Wait()
}

// TryRead is store.Store.TryRead.
func (p *Pool) TryRead(ops []quipu.Op, results []quipu.Result) bool {
	return p.store.TryRead(ops, results)
}

// Read is store.Store.Read.
func (p *Pool) Read(ctx context.Context, ops []quipu.Op, results []quipu.Result) error {
	return p.store.Read(ctx, ops, results)
}

// List is store.Store.List.
func (p *Pool) List(ctx context.Context, req store.ListRequest) (store.ListPage, error) {
	return p.store.List(ctx, req)
}

// Size is store.Store.Size.
func (p *Pool) Size(ctx context.Context, tenant string) (int64, error) {
	return p.store.Size(ctx, tenant)
}

// Random is store.Store.Random.
func (p *Pool) Random(ctx context.Context, tenant string) (string, bool, error) {
	return p.store.Random(ctx, tenant)
}

// flight is a batch under way with the submissions that ride in it.
type flight struct {
	pool     *Pool
	batch    store.Batch
	boarding []*Submission
	riders   []rider
	places   []store.Place
	requests int // of clients
	internal int // operations of submissions without requests
	started  time.Time
	done     func(*store.Batch) // land, bound once
}

// rider is a submission in a batch. Whoever changes ended from false to true
// gives it its end: the store's answer, or its deadline. After that the
// submission is its caller's.
type rider struct {
	s     *Submission
	first int // its first place
	until time.Time
	ended uint32 // changed atomically
}

// end claims the rider's end for the caller of end, once.
func (r *rider) end() bool { return atomic.CompareAndSwapUint32(&r.ended, 0, 1) }

func (f *flight) reset() {
	f.batch.Reset()
	clear(f.boarding)
	clear(f.riders)
	f.boarding, f.riders, f.places = f.boarding[:0], f.riders[:0], f.places[:0]
	f.requests, f.internal = 0, 0
}

// add copies a submission's operations into the batch.
func (f *flight) add(s *Submission) {
	f.riders = append(f.riders, rider{s: s, first: len(f.places), until: s.until})
	switch {
	case s.Requests > 0:
		f.requests += s.Requests
	case s.Requests == 0:
		f.requests++
	default:
		f.internal += len(s.Ops)
	}
	at := 0
	for i := range s.Groups {
		g := s.Groups[i]
		f.addOps(s, at, g.First, true)
		first := len(f.batch.Records)
		f.addOps(s, g.First, g.First+g.Count, false)
		at = g.First + g.Count
		g.First = first
		f.batch.AddGroup(g)
	}
	f.addOps(s, at, len(s.Ops), true)
}

func (f *flight) addOps(s *Submission, from, to int, fold bool) {
	for i := from; i < to; i++ {
		p := f.batch.Add(&s.Ops[i], s.hashes[i], fold)
		f.batch.Hint(p, s.hints[i])
		f.places = append(f.places, p)
	}
}

// abandon collects the riders whose deadline has passed. The pool's mutex is
// held, so that the flight is not being reused.
func (f *flight) abandon(now time.Time, lost []*Submission) []*Submission {
	for i := range f.riders {
		r := &f.riders[i]
		if r.until.Before(now) && r.end() {
			lost = append(lost, r.s)
		}
	}
	return lost
}

// land is called by the store when the batch has ended.
func (f *flight) land(b *store.Batch) {
	p := f.pool
	if p.cfg.Meter != nil {
		p.cfg.Meter.Done(b)
	}
	p.stats.landed(b)
	if p.cfg.Observe != nil {
		p.cfg.Observe(b.Ops, len(b.Records), b.Bytes, p.cfg.Now().Sub(f.started))
	}
	replayed := uint64(0)
	for i := range f.riders {
		r := &f.riders[i]
		if !r.end() {
			continue
		}
		s := r.s
		s.grow()
		for j := range s.Ops {
			s.Results[j] = b.Result(f.places[r.first+j], s.Ops[j].Value)
			if s.Results[j].Replayed {
				replayed++
			}
		}
		s.Done(s)
	}
	if replayed > 0 {
		p.stats.replayed.Add(replayed)
	}
	p.mu.Lock()
	for i, g := range p.flying {
		if g == f {
			p.flying = append(p.flying[:i], p.flying[i+1:]...)
			break
		}
	}
	p.free = append(p.free, f)
	p.wakeIdle()
	if p.closed {
		p.readers.Broadcast()
	}
	more := !p.queue.empty() && !p.driving
	if more {
		p.driving = true
	}
	p.mu.Unlock()
	if more {
		p.committer <- struct{}{}
	}
}

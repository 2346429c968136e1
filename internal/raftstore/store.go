// Package raftstore is the embedded store: the ledger behind a raft log on
// this machine's disk. It keeps the contract of package store for one voter.
//
// Invariants:
//
//  1. Nothing is applied, shown or answered before the log has it durably.
//  2. Entries are applied in the order of the log, each once. A batch's number
//     within the incarnation is its place in that order.
//  3. The log is cut only behind the index that a fresh open of the state
//     would tell.
//  4. After a failed write nothing more is written: whoever waits is told
//     unknown, and the process ends (Config.Fatal). Restart runs the ordinary
//     recovery.
//
// One batch, step by step:
//
//  1. Submit refuses what can't be served (CodeNotReady, CodeDiskFull,
//     CodeBusy): not applied, no number given. Else it queues a job.
//  2. Whoever finds the drive free takes it: for a small batch the caller, who
//     so pays no hop between goroutines; for a large one the log's goroutine,
//     so that the caller can go on reading from its connections.
//  3. The driver takes all queued jobs, reserves room in the log, numbers and
//     stamps them, encodes them and proposes them to the core.
//  4. It does the core's work until there is none: one durable write for all
//     entries, then the ledger applies what the core says is committed.
//  5. It calls the jobs' done functions, and looks for more.
//
// A mutex guards the queue and the drive; it is never held during a write, an
// apply or a callback. Beside the drivers run: the checkpointer, which writes
// checkpoints and cuts the log behind them; the sweeper, which proposes the
// removal of expired names; and a timer that states the log's durable end when
// it has been idle.
package raftstore

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/datadir"
	"github.com/quipudb/quipu/internal/ledger"
	"github.com/quipudb/quipu/internal/store"
	"github.com/quipudb/quipu/internal/wal"
)

// Store is the raft store of one node. See package store for its methods.
type Store struct {
	cfg         Config
	logger      *slog.Logger
	dir         *datadir.Dir
	log         *wal.Log
	ledger      *ledger.Ledger
	core        *core
	incarnation datadir.ID

	mu      sync.Mutex
	queue   []*job
	driving bool
	closed  bool
	failure error // set once: nothing is served any more
	idle    *sync.Cond

	// Owned by the driver:
	proposed  []*job // in the log's order, not yet applied
	finished  []*job
	taken     []*job
	number    uint64       // of the last batch
	index     uint64       // of the last entry proposed
	unmarked  atomic.Bool  // something was written since the durable end was stated
	lastWrite atomic.Int64 // when, nanoseconds since start

	clockMu sync.Mutex
	clock   *clock
	started time.Time

	handover    chan struct{} // the drive goes to the log's goroutine
	checkpoints *checkpointer
	sweepAt     atomic.Int64 // when the sweeper will look next
	sweepSoon   chan struct{}
	stop        chan struct{}
	wg          sync.WaitGroup
	jobs        sync.Pool

	writes, writtenBytes atomic.Uint64
}

var _ store.Store = (*Store)(nil)

// job is an entry on its way through the log.
type job struct {
	entry ledger.Entry
	data  []byte // the encoded entry
	batch *store.Batch
	done  func(*store.Batch)
	end   func(index uint64, err error) // of an entry of the store's own
	index uint64
	code  quipu.Code
	fate  store.Fate // what the ledger said
}

// Open opens or makes the data folder, recovers, and begins a new incarnation
// of the node. On return the store serves.
func Open(cfg Config) (*Store, error) {
	if err := cfg.defaults(); err != nil {
		return nil, fmt.Errorf("raft store: %w", err)
	}
	s := &Store{
		cfg:       cfg,
		logger:    cfg.Logger,
		handover:  make(chan struct{}, 1),
		sweepSoon: make(chan struct{}, 1),
		stop:      make(chan struct{}),
		started:   cfg.Now(),
	}
	s.idle = sync.NewCond(&s.mu)
	s.jobs.New = func() any { return new(job) }
	if err := s.open(); err != nil {
		s.closeParts()
		return nil, err
	}
	return s, nil
}

func (s *Store) open() (err error) {
	started := s.cfg.Now()
	dirFS := s.cfg.FS
	s.dir, err = datadir.Open(s.cfg.Dir, datadir.Options{FS: foreign(dirFS), NodeName: s.cfg.NodeName})
	if err != nil {
		return err
	}
	s.log, err = wal.Open(s.dir.WAL(), wal.Options{
		FS: s.cfg.FS, SegmentBytes: s.cfg.SegmentBytes, FloorBytes: s.cfg.FreeSpaceFloorBytes, Logger: s.logger,
	})
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	logOpen := s.cfg.Now()
	s.ledger, err = ledger.Open(ledger.Options{
		FS: s.cfg.FS, Dir: s.dir.State(), CacheBytes: s.cfg.CacheBytes, CheckpointBytes: s.cfg.CheckpointBytes,
		Logger: s.logger, Fatal: s.fatalState,
	})
	if err != nil {
		return fmt.Errorf("open the state: %w", err)
	}
	stateOpen := s.cfg.Now()
	applied, _ := s.ledger.Applied()
	if last := s.log.LastIndex(); applied > last {
		return fmt.Errorf("the state holds entry %d, but the log in %s ends at %d: the log is not the one this state was made from", applied, s.dir.WAL(), last)
	}
	if first := s.log.FirstIndex(); applied+1 < first {
		return fmt.Errorf("the state ends at entry %d, but the log in %s begins at %d: entries between them are missing", applied, s.dir.WAL(), first)
	}
	node := s.dir.Node()
	s.core, err = newCore(node.RaftID, applied, voters(node.RaftID), s.log, s.logger)
	if err != nil {
		return err
	}
	if err := s.recover(); err != nil {
		return err
	}
	replayed := s.cfg.Now()
	s.index = s.log.LastIndex()
	s.clock = newClock(s.cfg.Now, s.ledger.LogTime())
	if err := s.dir.MarkReady(); err != nil {
		return err
	}
	s.checkpoints = newCheckpointer(s)
	s.wg.Go(s.drives)
	s.wg.Go(s.checkpoints.run)
	s.wg.Go(s.markDurable)
	if err := s.begin(); err != nil {
		return err
	}
	// Only now: what the sweeper submits belongs to the incarnation just begun.
	s.wg.Go(s.sweep)
	last, _ := s.ledger.Applied()
	s.logger.Info("store open", "dir", s.cfg.Dir, "replayed", last-applied, "entry", last,
		"took", s.cfg.Now().Sub(started), "log_read", logOpen.Sub(started), "state_opened", stateOpen.Sub(logOpen), "replay", replayed.Sub(stateOpen),
		"write", s.log.Method())
	return nil
}

// foreign returns nil for the machine's own file system.
func foreign(fs wal.FS) wal.FS {
	if fs == wal.DiskFS() {
		return nil
	}
	return fs
}

// recover brings the state up to the log: raft hands out what was committed,
// and, once the one voter has elected itself, the rest.
func (s *Store) recover() error {
	if err := s.advance(); err != nil {
		return err
	}
	if err := s.core.campaign(); err != nil {
		return fmt.Errorf("elect: %w", err)
	}
	if err := s.advance(); err != nil {
		return err
	}
	if !s.core.leader() {
		return errors.New("elect: the only voter did not become leader")
	}
	return nil
}

// begin starts the incarnation, first in the folder, then in the log.
func (s *Store) begin() error {
	id, err := s.dir.Begin()
	if err != nil {
		return err
	}
	index, err := s.run(ledger.Entry{Type: ledger.EntryBegin, Incarnation: id, Node: s.cfg.NodeName})
	if err != nil {
		return fmt.Errorf("begin incarnation: %w", err)
	}
	s.incarnation = id
	if err := s.dir.Confirm(id, index); err != nil {
		return err
	}
	if want := s.cfg.settings(); s.ledger.Settings() != want {
		if _, err := s.run(ledger.Entry{Type: ledger.EntrySettings, Settings: want}); err != nil {
			return fmt.Errorf("propose settings: %w", err)
		}
	}
	return nil
}

// MaxInFlight implements store.Store.
func (s *Store) MaxInFlight() int { return 1 }

// Submit implements store.Store.
func (s *Store) Submit(b *store.Batch, done func(*store.Batch)) {
	if code := s.admit(); code != quipu.CodeOK {
		b.Code = code
		done(b)
		return
	}
	j := s.jobs.Get().(*job)
	j.batch, j.done, j.end, j.code = b, done, nil, quipu.CodeOK
	j.entry = ledger.Entry{Type: ledger.EntryBatch, Incarnation: s.incarnation, Batch: b}
	s.enqueue(j, b.Ops >= s.cfg.HandoverOps)
}

// admit refuses what can't be served now.
func (s *Store) admit() quipu.Code {
	if s.checkpoints.diskFull() {
		return quipu.CodeDiskFull
	}
	if p := s.ledger.Pressure(); p > 0 {
		if p >= 1 {
			return quipu.CodeBusy
		}
		// Slow down, so that the checkpoint that empties the cache keeps up.
		time.Sleep(time.Duration(p * p * float64(maxSlowdown)))
	}
	return quipu.CodeOK
}

// maxSlowdown is how long a batch waits at most for a checkpoint to go on.
const maxSlowdown = 20 * time.Millisecond

// run proposes an entry of the store's own and waits until it was applied.
func (s *Store) run(e ledger.Entry) (index uint64, err error) {
	type end struct {
		index uint64
		err   error
	}
	ended := make(chan end, 1)
	s.enqueue(&job{entry: e, end: func(index uint64, err error) { ended <- end{index, err} }}, false)
	got := <-ended
	return got.index, got.err
}

// enqueue queues a job and drives, unless somebody does already.
func (s *Store) enqueue(j *job, handover bool) {
	s.mu.Lock()
	if s.failure != nil || s.closed {
		s.mu.Unlock()
		j.code = quipu.CodeNotReady
		s.finish(j)
		return
	}
	s.queue = append(s.queue, j)
	if s.driving {
		s.mu.Unlock()
		return
	}
	s.driving = true
	s.mu.Unlock()
	if handover {
		s.handover <- struct{}{}
		return
	}
	s.drive()
}

// drives is the log's own goroutine.
func (s *Store) drives() {
	for {
		select {
		case <-s.handover:
			s.drive()
		case <-s.stop:
			return
		}
	}
}

// drive commits what is queued until nothing is. The caller holds the drive.
func (s *Store) drive() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 || s.failure != nil {
			s.driving = false
			s.idle.Broadcast()
			s.mu.Unlock()
			return
		}
		s.taken, s.queue = s.queue, s.taken[:0]
		s.mu.Unlock()

		s.commit(s.taken)
		clear(s.taken)
		for i, j := range s.finished {
			s.finished[i] = nil
			s.finish(j)
		}
		s.finished = s.finished[:0]
	}
}

// commit takes jobs through log and ledger; all of them are in s.finished
// afterwards.
func (s *Store) commit(jobs []*job) {
	for _, j := range jobs {
		bound := entryOverhead
		if b := j.entry.Batch; b != nil {
			bound += b.Bytes
		}
		// Refusals come before a number is given.
		if err := s.log.Reserve(bound); err != nil {
			j.code = quipu.CodeDiskFull
			if !errors.Is(err, wal.ErrNoSpace) {
				j.code = quipu.CodeNotReady
			}
			s.finished = append(s.finished, j)
			continue
		}
		if j.batch != nil {
			s.number++
			j.entry.Number = s.number
		}
		j.entry.Stamp = s.stamp()
		j.data = ledger.AppendEntry(j.data[:0], &j.entry)
		if err := s.core.propose(j.data); err != nil {
			s.fail(fmt.Errorf("propose batch %d: %w", j.entry.Number, err))
			return
		}
		s.index++ // the only voter leads: nobody else adds to the log
		j.index = s.index
		s.proposed = append(s.proposed, j)
	}
	if err := s.advance(); err != nil {
		s.fail(err)
	}
}

// entryOverhead bounds the encoding of an entry beside its batch's records.
const entryOverhead = 1 << 10

// advance does the core's work until there is none.
func (s *Store) advance() error {
	for {
		w, ok := s.core.next()
		if !ok {
			return nil
		}
		if w.write {
			if err := s.write(w); err != nil {
				return err
			}
		}
		if err := s.apply(w.committed); err != nil {
			return err
		}
		s.core.done(w)
	}
}

// write makes the work's state and entries durable.
func (s *Store) write(w work) error {
	bytes := 0
	for i := range w.entries {
		bytes += len(w.entries[i].Data)
	}
	began := s.cfg.Now()
	if err := s.log.Append(w.state, w.entries); err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	now := s.cfg.Now()
	s.lastWrite.Store(now.Sub(s.started).Nanoseconds())
	s.unmarked.Store(true)
	s.writes.Add(1)
	s.writtenBytes.Add(uint64(bytes))
	bytes = wal.WrittenBytes(len(w.entries), bytes)
	if s.cfg.ObserveWrite != nil {
		s.cfg.ObserveWrite(bytes, now.Sub(began))
	}
	if s.checkpoints != nil {
		s.checkpoints.wrote(bytes)
	}
	return nil
}

// apply applies committed entries. Those proposed here are applied as they
// were built; others, after a restart, are decoded.
func (s *Store) apply(entries []*raftpb.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if s.replaying(entries) {
		return s.replay(entries)
	}
	for _, e := range entries {
		var j *job
		target := ledger.Entry{Type: ledger.EntryTime} // a leader's empty entry
		if len(s.proposed) > 0 && s.proposed[0].index == e.GetIndex() {
			j = s.proposed[0]
			s.proposed = append(s.proposed[:0], s.proposed[1:]...)
			target = j.entry
		} else if len(e.Data) > 0 {
			return fmt.Errorf("entry %d was committed but not proposed by this incarnation", e.GetIndex())
		}
		target.Index, target.Term = e.GetIndex(), e.GetTerm()
		fate, err := s.ledger.Apply(&target)
		if err != nil {
			return fmt.Errorf("apply entry %d: %w", target.Index, err)
		}
		if j == nil {
			continue
		}
		j.fate = fate
		if j.batch != nil && fate != store.Applied {
			return fmt.Errorf("batch %d of this incarnation, entry %d, was answered %v", target.Number, target.Index, fate)
		}
		s.finished = append(s.finished, j)
	}
	s.applied()
	return nil
}

// applied looks at what the ledger asks for after entries were applied.
func (s *Store) applied() {
	if s.checkpoints == nil {
		return
	}
	s.checkpoints.consider()
	if due, ok := s.ledger.NextExpiry(); ok && due < s.sweepAt.Load() {
		select {
		case s.sweepSoon <- struct{}{}:
		default:
		}
	}
}

// replaying tells entries of an earlier incarnation, which are decoded.
func (s *Store) replaying(entries []*raftpb.Entry) bool {
	return s.clock == nil && len(entries) > 0
}

// replay decodes and applies entries as they stand in the log, decoding ahead
// of the one that is applied.
func (s *Store) replay(entries []*raftpb.Entry) error {
	data := make([][]byte, len(entries))
	for i, e := range entries {
		data[i] = e.Data
	}
	if err := s.ledger.Preload(data); err != nil {
		return fmt.Errorf("preload for replay: %w", err)
	}
	const ahead = 4
	decoded, free := make(chan *ledger.Entry, ahead), make(chan *ledger.Entry, ahead)
	for range ahead {
		free <- new(ledger.Entry)
	}
	var broken error // why decoding ended early; read once decoded is closed
	go func() {
		defer close(decoded)
		for _, e := range entries {
			d, ok := <-free
			if !ok {
				return
			}
			if len(e.Data) == 0 {
				*d = ledger.Entry{Type: ledger.EntryTime, Batch: d.Batch}
			} else if err := ledger.DecodeEntry(e.Data, d); err != nil {
				broken = fmt.Errorf("decode entry %d: %w", e.GetIndex(), err)
				return
			}
			d.Index, d.Term = e.GetIndex(), e.GetTerm()
			decoded <- d
		}
	}()
	for d := range decoded {
		if _, err := s.ledger.Apply(d); err != nil {
			close(free)
			return fmt.Errorf("apply entry %d: %w", d.Index, err)
		}
		free <- d
	}
	return broken
}

// finish gives a job its end.
func (s *Store) finish(j *job) {
	if j.end != nil {
		var err error
		if j.code != quipu.CodeOK {
			err = &quipu.Error{Code: j.code, Cause: s.Err()}
		}
		j.end(j.index, err)
		return
	}
	b, done := j.batch, j.done
	b.Code = j.code
	j.batch, j.done = nil, nil
	if cap(j.data) > maxKeptData {
		j.data = nil
	}
	s.jobs.Put(j)
	done(b)
}

const maxKeptData = 1 << 20

// fail ends the store: whoever waits for an entry that may be in the log is
// told unknown, who waits in the queue is refused, and the process is to end.
func (s *Store) fail(err error) {
	s.mu.Lock()
	first := s.failure == nil
	if first {
		s.failure = err
	}
	queued := s.queue
	s.queue = nil
	s.mu.Unlock()
	// Jobs taken by the driver are in proposed; those not proposed yet were
	// never written either, and unknown is the safe answer for them.
	known := make(map[*job]bool, len(s.finished))
	for _, j := range s.finished {
		known[j] = true
	}
	for _, j := range s.taken {
		if j != nil && !known[j] {
			j.code = quipu.CodeUnknown
			s.finished = append(s.finished, j)
		}
	}
	for _, j := range queued {
		j.code = quipu.CodeNotReady
		s.finish(j)
	}
	if first {
		s.logger.Error("the store can't go on; restart recovers", "error", err)
		s.cfg.Fatal(err)
	}
}

// fatalState is the ledger's way to say that Pebble can't go on. It must not
// return to Pebble.
func (s *Store) fatalState(err error) {
	s.mu.Lock()
	first := s.failure == nil
	if first {
		s.failure = err
	}
	s.mu.Unlock()
	if first {
		s.logger.Error("the state's store can't go on; restart recovers", "error", err)
		s.cfg.Fatal(err)
	}
	select {}
}

// Err returns why the store has failed, nil if it has not.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// Ready returns nil if the store serves writes, else why not.
func (s *Store) Ready() error {
	if err := s.Err(); err != nil {
		return err
	}
	if s.checkpoints.diskFull() {
		return quipu.ErrDiskFull
	}
	return nil
}

// stamp gives the next stamp.
func (s *Store) stamp() int64 {
	s.clockMu.Lock()
	defer s.clockMu.Unlock()
	return s.clock.stamp()
}

// markAfter is how long the log is left without its durable end stated.
const markAfter = 10 * time.Millisecond

// markDurable states the log's durable end when nothing was written for a
// while, so that only the last write before a crash can be taken for torn.
func (s *Store) markDurable() {
	timer := time.NewTicker(markAfter)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.stop:
			return
		}
		quiet := s.cfg.Now().Sub(s.started).Nanoseconds() - s.lastWrite.Load()
		if s.unmarked.Load() && quiet >= markAfter.Nanoseconds() {
			s.mark()
		}
	}
}

// mark states the durable end if the drive is free.
func (s *Store) mark() {
	s.mu.Lock()
	if s.driving || s.failure != nil {
		s.mu.Unlock()
		return
	}
	s.driving = true
	s.mu.Unlock()
	s.unmarked.Store(false)
	if err := s.log.MarkDurable(); err != nil {
		s.fail(fmt.Errorf("state the log's end: %w", err))
	}
	s.drive()
}

// Close waits for what is under way, writes a checkpoint so that the next
// start has nothing to replay, and closes. The caller has stopped submitting.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	for s.driving {
		s.idle.Wait()
	}
	failed := s.failure != nil
	s.mu.Unlock()

	close(s.stop)
	s.wg.Wait()
	var err error
	if !failed {
		err = s.checkpoints.last()
		if merr := s.log.MarkDurable(); err == nil {
			err = merr
		}
	}
	if cerr := s.closeParts(); err == nil {
		err = cerr
	}
	return err
}

// closeParts closes what was opened, the folder's lock last.
func (s *Store) closeParts() error {
	var errs []error
	if s.ledger != nil {
		errs = append(errs, s.ledger.Close())
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	if s.dir != nil {
		errs = append(errs, s.dir.Close())
	}
	return errors.Join(errs...)
}

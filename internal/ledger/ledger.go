// Package ledger is the deterministic state machine behind the raft store:
// counters, item sets, request ids, incarnations and their batch numbers, log
// time. The same entries give the same state, answers and checksum on every
// node. docs/semantics.md says what each operation means; package model is the
// plain version to which this one is held.
//
// The state lies in Pebble; what is hot, and all that has changed since the
// last checkpoint, lies in memory. Pebble's own write-ahead log and memtable
// are not used: the raft log is the redo. A checkpoint writes all changes up
// to one index as sorted tables that are installed by one atomic, durable
// ingest, so that a fresh Open sees exactly one complete checkpoint and tells
// by Applied from where the log must be replayed.
//
// Invariants:
//
//  1. What Apply does depends on the entries alone, never on what happens to
//     be in memory, on a clock, or on a checkpoint under way.
//  2. An entry in memory is clean (Pebble holds it as it is) or belongs to one
//     generation: the present one, or the frozen one that a checkpoint is
//     writing. Only clean entries are evicted.
//  3. An entry of the frozen generation is copied before it is changed, so that
//     the checkpoint sees all values at its one index.
//  4. What is read from Pebble without the lock enters memory only if no
//     checkpoint was installed meanwhile, and never over what is there.
//
// One mutex guards the memory. Apply holds it for an entry, reads for a call,
// the checkpointer for short stretches. Apply waits for the disk only for what
// Load has not brought in.
//
// The raft store is the only caller. It orders entries, applies each once and
// in order, asks for checkpoints, cuts the log behind them, slows admission by
// Pressure, and proposes the sweeps that DueSweeps finds. Free disk space,
// clocks and leadership are its business.
package ledger

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/tidwall/btree"

	"github.com/quipudb/quipu/internal/limit"
)

// Options say where a ledger lives and how much it may use.
type Options struct {
	// FS and Dir say where the state lies. FS is vfs.Default if nil. The
	// folder is created.
	FS  vfs.FS
	Dir string
	// CacheBytes bounds what is kept hot in memory, 512 MiB if 0. What has
	// changed since the last checkpoint is kept beyond it if need be.
	CacheBytes int64
	// CheckpointBytes is how much may change, in bytes of memory, before
	// CheckpointDue says so; an eleventh of CacheBytes if 0: a restart reads
	// what had changed, once or twice as much, before it is ready.
	CheckpointBytes int64
	// PebbleCacheBytes is Pebble's block cache, 64 MiB if 0.
	PebbleCacheBytes int64
	// TableBytes is where a checkpoint's tables are split, 32 MiB if 0.
	TableBytes int64
	// Logger may be nil.
	Logger *slog.Logger
	// Fatal is told that the state on disk can't go on: the process must end.
	// It must not return to the caller; nil panics.
	Fatal func(error)
}

func (o *Options) defaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	for _, d := range []struct {
		value     *int64
		otherwise int64
	}{{&o.CacheBytes, 512 << 20}, {&o.CheckpointBytes, 0}, {&o.PebbleCacheBytes, 64 << 20}, {&o.TableBytes, 32 << 20}} {
		if *d.value <= 0 {
			*d.value = d.otherwise
		}
	}
	if o.CheckpointBytes == 0 {
		o.CheckpointBytes = o.CacheBytes / 11
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) { panic(err) }
	}
}

// Ledger is the state machine. Apply is called by one goroutine at a time; all
// other methods may run beside it, Checkpoint one at a time.
type Ledger struct {
	opts Options
	db   *pebble.DB

	mu      sync.Mutex
	table   *table
	tenants map[string]*tenant // all that were touched since Open
	// lastTenant is the one that was looked up last.
	lastTenant *tenant
	meta       meta
	present    *changes // since the last freeze
	frozen     *changes // being written, nil if no checkpoint runs
	undo       []func() // of the atomic group under way, newest last
	undoing    bool
	// loaded are request ids that Load has looked up in Pebble, nil where there
	// is none; emptied when full.
	loaded map[string]*idRecord
	// items are memberships that were looked up in Pebble; emptied when full.
	items map[itemKey]bool
	// expiring orders the names in memory that expire.
	expiring btree.BTreeG[expiringName]
	// stored is a time before which no name that Pebble alone holds expires.
	stored int64
	epoch  uint64 // checkpoints installed
	at     uint32 // generation of present

	checkpointed struct{ index, term uint64 }
	nextExpiry   atomic.Int64
	pressure     atomic.Uint64 // math.Float64bits
	due          atomic.Bool
	stats        counters
	scratch      []byte
	touched      uint64
	// hints are where touch found the names of the records, hint is that of the
	// present one.
	hints [stretch]uint32
	hint  uint32
}

// tenantState is what the state holds of a tenant.
type tenantState struct {
	number      uint64 // never used again, also not after a drop
	space       uint64 // holds its names until the next drop
	names       int64
	lastRemoval uint64
}

type tenant struct {
	tenantState
	name     string
	reserved bool
	owner    uint32 // of its space in the table, if it is there; see table.owner
	dirty    uint32 // generation in which it is listed as changed
}

// changes are what changed in one generation.
type changes struct {
	generation uint32
	entries    []uint32 // numbers in the table
	tenants    []*tenant
	items      map[setKey]*btree.Map[string, bool] // present or removed
	itemCount  int
	ids        map[string]*idRecord
	idBytes    int64
	lastID     string // the greatest UUIDv7 among ids
	// names are those created or removed, for lists.
	names map[uint64]*btree.Map[string, struct{}]
	// spaces and sets were dropped.
	spaces []uint64
	sets   []setKey

	// stale are keys of the expiry index whose names are gone.
	stale []string

	// Filled when frozen:
	meta        []byte
	index, term uint64
	copies      []copied // of the entries, as they were at index
	kept        []byte   // the chunk that the copies' names are put into
	tenantsThen []frozenTenant
	drops       []keyRange
}

type setKey struct{ space, set uint64 }

type itemKey struct {
	setKey
	item string
}

type frozenTenant struct {
	name string
	tenantState
}

func newChanges(generation uint32) *changes {
	return &changes{
		generation: generation,
		items:      make(map[setKey]*btree.Map[string, bool]),
		ids:        make(map[string]*idRecord),
		names:      make(map[uint64]*btree.Map[string, struct{}]),
	}
}

// Open opens or creates the state in opts.Dir. Nothing is loaded in full.
func Open(opts Options) (*Ledger, error) {
	opts.defaults()
	l := &Ledger{
		opts: opts, table: newTable(), tenants: make(map[string]*tenant),
		loaded: make(map[string]*idRecord), items: make(map[itemKey]bool), at: 1, hint: noHint,
		expiring: *btree.NewBTreeGOptions(lessExpiring, btree.Options{NoLocks: true}),
	}
	db, err := openPebble(&opts)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", opts.Dir, err)
	}
	l.db = db
	if err := l.loadMeta(); err != nil {
		db.Close()
		return nil, err
	}
	l.present = newChanges(l.at)
	l.checkpointed.index, l.checkpointed.term = l.meta.index, l.meta.term
	if l.stored, err = l.firstStoredExpiry(); err != nil {
		db.Close()
		return nil, err
	}
	l.noteExpiry()
	return l, nil
}

// openPebble opens the state's store. Pebble panics when it can't make its
// folder durable, after it has given back what it holds: to us that is an error
// like others.
func openPebble(opts *Options) (db *pebble.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			cause, ok := r.(error)
			if !ok {
				panic(r)
			}
			err = cause
		}
	}()
	return pebble.Open(opts.Dir, pebbleOptions(opts))
}

// pebbleOptions are Pebble's for a store that is written by ingests only.
func pebbleOptions(opts *Options) *pebble.Options {
	o := &pebble.Options{
		FS:                          opts.FS,
		FormatMajorVersion:          pebble.FormatColumnarBlocks,
		DisableWAL:                  true,
		CacheSize:                   opts.PebbleCacheBytes,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       64,
		MemTableSize:                1 << 20, // never written to
		Logger:                      pebbleLogger{opts.Logger, opts.Fatal},
		DisableTableStats:           true,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
		MaxOpenFiles:                1000,
		DisableAutomaticCompactions: false,
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].FilterType = pebble.TableFilter
	}
	return o
}

// pebbleLogger sends Pebble's lines to our log and its fatal errors our way.
type pebbleLogger struct {
	log   *slog.Logger
	fatal func(error)
}

func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("pebble", "text", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Error("pebble", "text", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.fatal(fmt.Errorf("pebble: "+format, args...))
}

// Close waits for what runs and closes the state; it writes no checkpoint.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.db == nil {
		return nil
	}
	err := l.db.Close()
	l.db = nil
	return err
}

// errClosed: the ledger was closed.
var errClosed = errors.New("the ledger is closed")

// Applied returns the index and term of the last entry applied.
func (l *Ledger) Applied() (index, term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.meta.index, l.meta.term
}

// CheckpointIndex returns the index and term of the last durable checkpoint.
func (l *Ledger) CheckpointIndex() (index, term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.checkpointed.index, l.checkpointed.term
}

// LogTime returns the greatest stamp so far, in milliseconds.
func (l *Ledger) LogTime() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.meta.time
}

// LastNumber returns the number of the last operation applied.
func (l *Ledger) LastNumber() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.meta.number
}

// Checksum returns the running checksum over all that was applied, and the
// index it stands for.
func (l *Ledger) Checksum() (index, sum uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.meta.index, l.meta.checksum
}

// Settings returns the present settings.
func (l *Ledger) Settings() Settings {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.meta.settings
}

// defaultSettings hold until an entry changes them.
func defaultSettings() Settings {
	return Settings{WindowMs: limit.Window.Milliseconds(), SkewMs: limit.SkewAllowance.Milliseconds()}
}

// Stats tell what the ledger holds and has done.
type Stats struct {
	AppliedIndex    uint64
	CheckpointIndex uint64
	LastNumber      uint64
	// HotEntries, HotBytes and DirtyBytes tell what is in memory.
	HotEntries, HotBytes, DirtyBytes int64
	// ColdApplies counts names, items and ids that Apply had to read from disk.
	ColdApplies uint64
	// Checkpoints, CheckpointNanos and LongestHoldNanos tell of checkpoints:
	// how many, how long the last took, and the longest hold of the lock.
	Checkpoints, CheckpointNanos, LongestHoldNanos uint64
	// DiskBytes is what Pebble holds on disk.
	DiskBytes uint64
}

type counters struct {
	coldApplies, checkpoints, checkpointNanos, longestHold uint64 // guarded by mu
}

// Stats returns what the ledger holds and has done.
func (l *Ledger) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{
		AppliedIndex: l.meta.index, CheckpointIndex: l.checkpointed.index, LastNumber: l.meta.number,
		HotEntries: int64(l.table.count), HotBytes: l.table.bytes, DirtyBytes: l.present.bytes(),
		ColdApplies: l.stats.coldApplies, Checkpoints: l.stats.checkpoints,
		CheckpointNanos: l.stats.checkpointNanos, LongestHoldNanos: l.stats.longestHold,
	}
	if l.db != nil {
		s.DiskBytes = l.db.Metrics().DiskSpaceUsage()
	}
	return s
}

// bytes estimates what the changes keep in memory.
func (c *changes) bytes() int64 {
	return int64(len(c.entries))*(entryBytes+dirtyNameBytes) + int64(c.itemCount)*dirtyItemBytes + c.idBytes + int64(len(c.tenants))*dirtyItemBytes
}

const (
	dirtyNameBytes = 32
	dirtyItemBytes = 96
	dirtyIDBytes   = 200
)

// CheckpointDue reports whether so much has changed that a checkpoint should
// be taken now.
func (l *Ledger) CheckpointDue() bool { return l.due.Load() }

// Pressure tells how far, from 0 to 1, the changes made while a checkpoint
// runs have gone from half of their budget to all of it. The caller slows
// admission by it.
func (l *Ledger) Pressure() float64 { return math.Float64frombits(l.pressure.Load()) }

// notePressure is called at the end of each Apply. l.mu is held.
func (l *Ledger) notePressure() {
	used := float64(l.present.bytes()) / float64(l.opts.CheckpointBytes)
	l.due.Store(l.frozen == nil && used >= 1)
	pressure := 0.0
	if l.frozen != nil {
		// The next generation has a budget of its own.
		pressure = min(max(2*used-1, 0), 1)
	}
	l.pressure.Store(math.Float64bits(pressure))
}

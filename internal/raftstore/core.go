package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/quipudb/quipu/internal/wal"
)

// core is the consensus of one member: go.etcd.io/raft's RawNode over our log.
// It is passive: it has no goroutine, clock, disk or network of its own. Whoever
// holds the drive puts inputs in (propose, campaign) and takes work out (next),
// does it, and says so (done). It is not safe for concurrent use.
type core struct {
	node    *raft.RawNode
	storage *raftLog
	entries []wal.Entry // reused by work
}

// work is what is to be done before the core can go on: first the write, if
// there is one, then the application of the committed entries, in order.
type work struct {
	// write tells that state and entries must be durable before done.
	write     bool
	state     wal.State
	entries   []wal.Entry
	committed []*raftpb.Entry
	ready     raft.Ready
}

// voters is the membership of a store with the one voter id.
func voters(id uint64) *raftpb.ConfState {
	return &raftpb.ConfState{Voters: []uint64{id}}
}

// maxApplyBytes bounds what one unit of work has to apply, unless a single
// entry is larger. At a restart it is how much log is preloaded at once: the
// more, the fewer passes over the state.
const maxApplyBytes = 32 << 20

func newCore(id, applied uint64, members *raftpb.ConfState, log *wal.Log, logger *slog.Logger) (*core, error) {
	storage := &raftLog{log: log, members: members, applied: applied}
	node, err := raft.NewRawNode(&raft.Config{
		ID:                        id,
		ElectionTick:              10,
		HeartbeatTick:             1,
		Storage:                   storage,
		Applied:                   applied,
		MaxSizePerMsg:             maxApplyBytes,
		MaxCommittedSizePerReady:  maxApplyBytes,
		MaxUncommittedEntriesSize: math.MaxUint64, // the queue in front is bounded
		MaxInflightMsgs:           4,
		CheckQuorum:               true,
		PreVote:                   true,
		Logger:                    raftLogger{logger},
	})
	if err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	return &core{node: node, storage: storage}, nil
}

// campaign makes the member stand for election.
func (c *core) campaign() error { return c.node.Campaign() }

// leader reports whether the member leads.
func (c *core) leader() bool { return c.node.BasicStatus().RaftState == raft.StateLeader }

// propose puts an entry into the log; raft copies data.
func (c *core) propose(data []byte) error { return c.node.Propose(data) }

// next returns what is to be done now, if anything.
func (c *core) next() (work, bool) {
	if !c.node.HasReady() {
		return work{}, false
	}
	rd := c.node.Ready()
	w := work{ready: rd, committed: rd.CommittedEntries, state: c.storage.state}
	if rd.HardState != nil {
		w.state = wal.State{Term: rd.HardState.GetTerm(), Vote: rd.HardState.GetVote(), Commit: rd.HardState.GetCommit()}
		c.storage.state = w.state
	}
	if len(rd.Entries) > 0 || rd.MustSync {
		w.write = true
		c.entries = c.entries[:0]
		for _, e := range rd.Entries {
			c.entries = append(c.entries, wal.Entry{Term: e.GetTerm(), Index: e.GetIndex(), Type: uint8(e.GetType()), Data: e.Data})
		}
		w.entries = c.entries
	}
	return w, true
}

// done tells that the work was done.
func (c *core) done(w work) {
	c.storage.appended(w.ready.Entries)
	if n := len(w.committed); n > 0 {
		c.storage.appliedTo(w.committed[n-1].GetIndex())
	}
	c.node.Advance(w.ready)
}

// raftLog lets raft read our log. Entries not yet applied are kept in memory
// as raft handed them out.
type raftLog struct {
	log     *wal.Log
	members *raftpb.ConfState
	state   wal.State
	applied uint64
	tail    []*raftpb.Entry // written, contiguous, not yet applied
}

var _ raft.Storage = (*raftLog)(nil)

func (l *raftLog) appended(entries []*raftpb.Entry) {
	if len(entries) == 0 {
		return
	}
	first := entries[0].GetIndex()
	for len(l.tail) > 0 && l.tail[len(l.tail)-1].GetIndex() >= first {
		l.tail = l.tail[:len(l.tail)-1]
	}
	l.tail = append(l.tail, entries...)
}

func (l *raftLog) appliedTo(index uint64) {
	l.applied = max(l.applied, index)
	n := 0
	for n < len(l.tail) && l.tail[n].GetIndex() <= index {
		n++
	}
	rest := copy(l.tail, l.tail[n:])
	clear(l.tail[rest:])
	l.tail = l.tail[:rest]
}

// InitialState returns the hard state and the membership. What was applied is
// committed, though the commit index is written only with the next entry.
func (l *raftLog) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	s := l.log.State()
	s.Commit = max(s.Commit, l.applied)
	l.state = s
	if s == (wal.State{}) {
		return nil, l.members, nil
	}
	return &raftpb.HardState{Term: &s.Term, Vote: &s.Vote, Commit: &s.Commit}, l.members, nil
}

// Entries returns the entries of [lo, hi), of at most maxSize bytes or one.
func (l *raftLog) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	if len(l.tail) > 0 && lo >= l.tail[0].GetIndex() {
		at := lo - l.tail[0].GetIndex()
		n, size := at, uint64(0)
		for ; n < uint64(len(l.tail)) && l.tail[n].GetIndex() < hi; n++ {
			size += uint64(len(l.tail[n].Data))
			if size > maxSize && n > at {
				break
			}
		}
		// A copy: raft keeps the slice until the entries were applied, and the
		// tail moves on.
		return slices.Clone(l.tail[at:n]), nil
	}
	if lo < l.log.FirstIndex() {
		return nil, raft.ErrCompacted
	}
	stored, err := l.log.Entries(lo, hi, maxSize)
	if err != nil {
		return nil, fmt.Errorf("read the log from entry %d: %w", lo, err)
	}
	if len(stored) == 0 {
		return nil, raft.ErrUnavailable
	}
	entries := make([]*raftpb.Entry, len(stored))
	for i := range stored {
		e := &stored[i]
		entries[i] = &raftpb.Entry{Term: &e.Term, Index: &e.Index, Type: raftpb.EntryType(e.Type).Enum(), Data: e.Data}
	}
	return entries, nil
}

// Term returns the term of entry i.
func (l *raftLog) Term(i uint64) (uint64, error) {
	if i+1 < l.log.FirstIndex() {
		return 0, raft.ErrCompacted
	}
	if i > l.log.LastIndex() {
		return 0, raft.ErrUnavailable
	}
	return l.log.Term(i)
}

// LastIndex returns the index of the last entry written.
func (l *raftLog) LastIndex() (uint64, error) { return l.log.LastIndex(), nil }

// FirstIndex returns the index of the first entry that was not cut.
func (l *raftLog) FirstIndex() (uint64, error) { return l.log.FirstIndex(), nil }

// Snapshot is asked for only for a follower that lags; a single voter has none.
func (l *raftLog) Snapshot() (*raftpb.Snapshot, error) {
	return nil, raft.ErrSnapshotTemporarilyUnavailable
}

// raftLogger sends raft's own lines to our log. A panic of raft is a broken
// invariant and ends the process.
type raftLogger struct{ log *slog.Logger }

func (l raftLogger) Debug(v ...any)                   { l.print(slog.LevelDebug, v) }
func (l raftLogger) Debugf(format string, v ...any)   { l.printf(slog.LevelDebug, format, v) }
func (l raftLogger) Info(v ...any)                    { l.print(slog.LevelDebug, v) }
func (l raftLogger) Infof(format string, v ...any)    { l.printf(slog.LevelDebug, format, v) }
func (l raftLogger) Warning(v ...any)                 { l.print(slog.LevelWarn, v) }
func (l raftLogger) Warningf(format string, v ...any) { l.printf(slog.LevelWarn, format, v) }
func (l raftLogger) Error(v ...any)                   { l.print(slog.LevelError, v) }
func (l raftLogger) Errorf(format string, v ...any)   { l.printf(slog.LevelError, format, v) }
func (l raftLogger) Fatal(v ...any)                   { panic(errors.New(fmt.Sprint(v...))) }
func (l raftLogger) Fatalf(format string, v ...any)   { panic(fmt.Errorf(format, v...)) }
func (l raftLogger) Panic(v ...any)                   { panic(errors.New(fmt.Sprint(v...))) }
func (l raftLogger) Panicf(format string, v ...any)   { panic(fmt.Errorf(format, v...)) }

func (l raftLogger) print(level slog.Level, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "raft", "text", fmt.Sprint(v...))
	}
}

func (l raftLogger) printf(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "raft", "text", fmt.Sprintf(format, v...))
	}
}

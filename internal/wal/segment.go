package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// segmentMaker keeps one segment ready ahead of the writer: a spare one that
// was cut, or a new file filled with zeros. One goroutine makes segments, so
// that the writer only writes a header.
type segmentMaker struct {
	log *Log

	makerMu  sync.Mutex
	changed  *sync.Cond
	prepared *segment
	wanted   int64    // least size of the segment to be prepared, 0 if none is
	failure  error    // of the last attempt
	spares   []string // files of SegmentBytes to be used again
	number   uint64   // the highest in use
	stopped  bool
	done     chan struct{}
}

func (m *segmentMaker) init(l *Log) {
	m.log = l
	m.changed = sync.NewCond(&m.makerMu)
}

func (m *segmentMaker) start() {
	m.done = make(chan struct{})
	go func() {
		defer close(m.done)
		m.run()
	}()
	m.prepare()
}

func (m *segmentMaker) stopMaking() {
	m.makerMu.Lock()
	m.stopped = true
	m.changed.Broadcast()
	m.makerMu.Unlock()
	if m.done != nil {
		<-m.done
	}
}

// prepare asks for a segment to be made.
func (m *segmentMaker) prepare() {
	m.makerMu.Lock()
	m.wanted = max(m.wanted, m.log.opts.SegmentBytes)
	m.changed.Broadcast()
	m.makerMu.Unlock()
}

// waitPrepared returns when a segment of at least so many bytes is ready, or an
// error that wraps ErrNoSpace if it can't be made.
func (m *segmentMaker) waitPrepared(size int64) error {
	m.makerMu.Lock()
	defer m.makerMu.Unlock()
	m.failure = nil
	for m.prepared == nil || m.prepared.size < size {
		if m.failure != nil {
			return m.failure
		}
		if m.stopped || m.done == nil {
			return ErrClosed
		}
		m.wanted = max(m.wanted, padded64(size), m.log.opts.SegmentBytes)
		m.changed.Broadcast()
		m.changed.Wait()
	}
	return nil
}

func padded64(n int64) int64 { return (n + BlockBytes - 1) &^ (BlockBytes - 1) }

// takePrepared hands the prepared segment to the writer.
func (m *segmentMaker) takePrepared(size int64) (*segment, error) {
	if err := m.waitPrepared(size); err != nil {
		return nil, err
	}
	m.makerMu.Lock()
	defer m.makerMu.Unlock()
	s := m.prepared
	m.prepared = nil
	return s, nil
}

func (m *segmentMaker) run() {
	m.makerMu.Lock()
	defer m.makerMu.Unlock()
	for {
		for !m.stopped && (m.wanted == 0 || m.prepared != nil && m.prepared.size >= m.wanted) {
			m.wanted = 0
			m.changed.Wait()
		}
		if m.stopped {
			return
		}
		size, small := m.wanted, m.prepared
		m.prepared = nil
		m.makerMu.Unlock()
		if small != nil {
			m.discard(small)
		}
		s, err := m.make(size)
		m.makerMu.Lock()
		m.prepared, m.failure, m.wanted = s, err, 0
		m.changed.Broadcast()
	}
}

// discard takes back a prepared segment that is too small.
func (m *segmentMaker) discard(s *segment) {
	s.file.Close()
	m.log.opts.FS.Remove(s.name)
}

// make returns a segment of at least size bytes, without a header.
func (m *segmentMaker) make(size int64) (*segment, error) {
	fsys, dir := m.log.opts.FS, m.log.dir
	m.makerMu.Lock()
	m.number++
	s := &segment{header: header{number: m.number}, size: m.log.opts.SegmentBytes}
	var spare string
	if n := len(m.spares); n > 0 && size <= m.log.opts.SegmentBytes {
		spare, m.spares = m.spares[n-1], m.spares[:n-1]
	}
	m.makerMu.Unlock()
	s.name = fsys.PathJoin(dir, segmentName(s.number))
	if spare == "" {
		s.size = max(size, s.size)
		spare = s.name + ".tmp"
		if err := m.fill(spare, s.size); err != nil {
			fsys.Remove(spare)
			return nil, err
		}
	}
	if err := fsys.Rename(spare, s.name); err != nil {
		return nil, fmt.Errorf("make segment: %w", err)
	}
	if err := syncDir(fsys, dir); err != nil {
		return nil, fmt.Errorf("make segment: %w", err)
	}
	file, err := fsys.OpenDurable(s.name)
	if err != nil {
		return nil, fmt.Errorf("make segment: %w", err)
	}
	s.file = file
	return s, nil
}

// fillChunkBytes is how much is written and synced at once while a segment is
// filled: so little that a commit beside it hardly waits.
const fillChunkBytes = 1 << 20

// fill makes a file of zeros, really written: blocks that are only reserved
// cost a durable write twice.
func (m *segmentMaker) fill(name string, size int64) error {
	fsys := m.log.opts.FS
	if usage, err := fsys.GetDiskUsage(m.log.dir); err == nil && usage.AvailBytes < uint64(m.log.opts.FloorBytes+size) {
		return fmt.Errorf("%w: %d bytes are free, the floor is %d", ErrNoSpace, usage.AvailBytes, m.log.opts.FloorBytes)
	}
	f, err := fsys.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return noSpace(err)
	}
	zeros := make([]byte, min(fillChunkBytes, size))
	for left := size; left > 0 && err == nil; {
		n := min(left, int64(len(zeros)))
		if _, err = f.Write(zeros[:n]); err == nil {
			err = f.Sync()
		}
		left -= n
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return noSpace(err)
}

func noSpace(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: fill a segment: %w", ErrNoSpace, err)
	default:
		return fmt.Errorf("fill a segment: %w", err)
	}
}

// recycle keeps cut segments for use, as many as Spare, and removes the rest;
// oldest first, each durably, so that a gap between segments is damage.
func (m *segmentMaker) recycle(cut []*segment) error {
	fsys := m.log.opts.FS
	for _, s := range cut {
		s.file.Close()
		m.makerMu.Lock()
		keep := len(m.spares) < m.log.opts.Spare && s.size == m.log.opts.SegmentBytes
		m.makerMu.Unlock()
		if !keep {
			if err := fsys.Remove(s.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove a cut segment: %w", err)
			}
			if err := syncDir(fsys, m.log.dir); err != nil {
				return fmt.Errorf("remove a cut segment: %w", err)
			}
			continue
		}
		spare := s.name + spareExt
		if err := fsys.Rename(s.name, spare); err != nil {
			return fmt.Errorf("recycle a segment: %w", err)
		}
		if err := syncDir(fsys, m.log.dir); err != nil {
			return fmt.Errorf("recycle a segment: %w", err)
		}
		m.makerMu.Lock()
		m.spares = append(m.spares, spare)
		m.makerMu.Unlock()
	}
	return nil
}

func syncDir(fsys vfs.FS, dir string) error {
	f, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

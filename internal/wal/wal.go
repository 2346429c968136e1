// Package wal is the write-ahead log of the raft store: entries, term and vote
// on this machine's disk. Append returns when what it was given is durable, by
// one write.
//
// The log is a row of segments, files of one size that are filled with zeros
// before they are used and recycled after they are cut, because a durable write
// into blocks that exist costs half of one that allocates. Every write is a
// frame that begins and ends on a block; what is durable is never written
// again. format.go shows the bytes.
//
// A frame's checksum covers the segment's number, which is never used again,
// the frame's offset, and the checksum of the frame before: a stale frame of a
// recycled segment, one that was written elsewhere, or one whose predecessor is
// missing never counts. Each frame also states up to where the segment was
// durable before it. So a bad frame below a stated end is damage: Open refuses
// with a DamageError that names file and offset. Above it, it is a torn tail
// that nobody was promised, and is dropped. MarkDurable states the end without
// an entry, so that only the last write before a crash can be taken for torn.
//
// If the process stops at any moment, Open finds:
//
//   - during Append: the frame whole, or no frame. A whole last frame may have
//     been only in the page cache: Open copies it into a new segment, durably,
//     before it is shown.
//   - while a segment is filled with zeros: a ".tmp" file, which is removed.
//   - after a prepared segment was renamed: a segment without a header, which is
//     used again under a new number.
//   - while a new segment's header is written: no header (the old segment goes
//     on to be the last) or the header.
//   - while Open copies the tail: the copy is written before the header that
//     makes its segment count, so the copy counts whole or not at all.
//   - during Cut: some of the segments behind the cut are still there, the
//     oldest gone first.
//
// We assume that a durable write that returned is on the disk, that a write
// changes nothing outside its blocks, and that a rename is atomic.
//
// After a failed write it is unknown what is on disk: the log is dead, every
// later call returns ErrFailed, and the process should end.
package wal

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"unsafe"
)

// State is raft's hard state.
type State struct{ Term, Vote, Commit uint64 }

// Entry is one entry of the raft log.
type Entry struct {
	Term, Index uint64
	Type        uint8
	Data        []byte
}

// Options of a log. Only FS is required.
type Options struct {
	FS FS
	// SegmentBytes is the size of a segment, a multiple of BlockBytes; 64 MiB
	// if 0. A write that needs more makes a segment of its own size.
	SegmentBytes int64
	// Spare is how many cut segments are kept for use, 2 if 0.
	Spare int
	// FloorBytes is the free space below which no segment is made.
	FloorBytes int64
	// Membership is stated in the headers of new segments, until Cut gives
	// another; at most 4,008 bytes.
	Membership []byte
	Logger     *slog.Logger
}

const (
	defaultSegmentBytes = 64 << 20
	defaultSpare        = 2
)

var (
	// ErrFailed: a write failed; nothing is known of what followed it. The
	// process should end and start anew.
	ErrFailed = errors.New("the log has failed")
	// ErrNoSpace: there is no room for another segment. Nothing was written.
	ErrNoSpace = errors.New("no space for the log")
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("the log is closed")
)

// DamageError tells of bytes that were durable and are not what they were.
type DamageError struct {
	File   string
	Offset int64
	Reason string
}

// Error names file, offset and reason.
func (e *DamageError) Error() string {
	return fmt.Sprintf("log damaged: %s at offset %d: %s", e.File, e.Offset, e.Reason)
}

// segment is one file of the log.
type segment struct {
	header
	name string
	file File
	size int64
}

// place tells where an entry lies.
type place struct {
	segment *segment
	off     int64 // of its data
	bytes   uint32
	kind    uint8
	term    uint64
}

// Log is an open log. Append, Reserve, MarkDurable and Close are called by one
// goroutine at a time; the other methods may run beside them.
type Log struct {
	opts Options
	dir  string

	// Owned by the writer:
	current  *segment // the last of segments
	off      int64    // where the next frame goes
	prev     uint64   // checksum of the last frame
	buf      []byte   // aligned to BlockBytes
	reserved int64

	mu         sync.Mutex
	segments   []*segment // oldest first; the last is written to
	places     []place    // of entries base, base+1, …
	base       uint64
	baseTerm   uint64 // of entry base-1
	state      State
	membership []byte
	failed     error

	segmentMaker
}

// Open opens or makes the log in the folder dir, which exists.
func Open(dir string, opts Options) (*Log, error) {
	if opts.SegmentBytes == 0 {
		opts.SegmentBytes = defaultSegmentBytes
	}
	if opts.SegmentBytes < 4*BlockBytes || opts.SegmentBytes%BlockBytes != 0 {
		return nil, fmt.Errorf("segment size %d: want a multiple of %d, at least %d", opts.SegmentBytes, BlockBytes, 4*BlockBytes)
	}
	if len(opts.Membership) > maxMembershipBytes {
		return nil, fmt.Errorf("membership of %d bytes: the limit is %d", len(opts.Membership), maxMembershipBytes)
	}
	if opts.Spare == 0 {
		opts.Spare = defaultSpare
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Log{opts: opts, dir: dir, membership: slices.Clone(opts.Membership)}
	l.segmentMaker.init(l)
	if err := l.recover(); err != nil {
		l.closeFiles()
		return nil, err
	}
	l.start()
	return l, nil
}

// Append makes the state and the entries durable, by one write. Entries follow
// each other; the first may lie below the last one of the log, whose entries
// from there on are then forgotten. It copies the entries' data.
func (l *Log) Append(st State, entries []Entry) error {
	if err := l.err(); err != nil {
		return err
	}
	bytes := 0
	for i := range entries {
		bytes += len(entries[i].Data)
	}
	if len(entries) > 0 {
		if first, next := entries[0].Index, l.LastIndex()+1; first > next || first < l.FirstIndex() {
			return fmt.Errorf("append entry %d: the log holds %d to %d", first, l.FirstIndex(), next-1)
		}
	}
	l.reserved = 0
	return l.write(frameAppend, st, entries, frameBytes(len(entries), bytes))
}

// MarkDurable states in the log up to where it is durable. Where the segment
// is full the next one's header will.
func (l *Log) MarkDurable() error {
	if err := l.err(); err != nil {
		return err
	}
	if l.off+BlockBytes > l.active().size {
		return nil
	}
	return l.write(frameMark, l.State(), nil, BlockBytes)
}

// write writes one frame of size bytes on disk.
func (l *Log) write(kind frameKind, st State, entries []Entry, size int) error {
	if l.off+int64(size) > l.active().size {
		if err := l.next(int64(size)); err != nil {
			return err
		}
	}
	seg := l.active()
	sum := l.encode(kind, st, entries, size, seg.number, l.off)
	if err := seg.file.WriteDurable(l.buf[:size], l.off); err != nil {
		return l.fail(seg, err)
	}
	at := l.off
	l.off += int64(size)
	l.prev = sum

	l.mu.Lock()
	l.state = st
	l.note(seg, at, entries)
	l.mu.Unlock()
	return nil
}

// encode fills buf with a frame for the offset, and returns its checksum.
func (l *Log) encode(kind frameKind, st State, entries []Entry, size int, number uint64, off int64) uint64 {
	if cap(l.buf) < size {
		l.buf = alignedBuffer(max(size, 2*cap(l.buf)))
	}
	buf := l.buf[:frameHeaderBytes+stateBytes]
	putState(buf[frameHeaderBytes:], st)
	for i := range entries {
		buf = appendEntry(buf, &entries[i])
	}
	n := len(buf)
	clear(buf[n:size])
	return sealFrame(buf[:n], frame{
		kind: kind, entries: uint32(len(entries)), payload: buf[frameHeaderBytes:n], durable: off, prev: l.prev,
	}, number, off)
}

// note enters entries of the frame at off into the index. l.mu is held.
func (l *Log) note(seg *segment, off int64, entries []Entry) {
	if len(entries) == 0 {
		return
	}
	l.places = l.places[:entries[0].Index-l.base]
	at := off + frameHeaderBytes + stateBytes
	for i := range entries {
		e := &entries[i]
		at += entryHeaderBytes
		l.places = append(l.places, place{segment: seg, off: at, bytes: uint32(len(e.Data)), kind: e.Type, term: e.Term})
		at += int64(len(e.Data))
	}
}

// next makes the prepared segment the active one. Its header says how the log
// stands before the frame that needs it.
func (l *Log) next(size int64) error {
	seg, err := l.takePrepared(size + BlockBytes)
	if err != nil {
		return err
	}
	old := l.active()
	seg.state, seg.first = l.State(), l.LastIndex()+1
	seg.prevNumber, seg.prevEnd = old.number, l.off
	if seg.prevTerm, err = l.Term(seg.first - 1); err != nil {
		return err
	}
	return l.begin(seg)
}

// begin writes the header of a segment, which so becomes the active one.
func (l *Log) begin(seg *segment) error {
	l.mu.Lock()
	seg.membership = l.membership
	l.mu.Unlock()
	block := alignedBuffer(BlockBytes)
	seg.encode(block)
	if err := seg.file.WriteDurable(block, 0); err != nil {
		return l.fail(seg, err)
	}
	l.off, l.prev = BlockBytes, chainStart(seg.number)
	l.mu.Lock()
	l.segments = append(l.segments, seg)
	l.mu.Unlock()
	l.current = seg
	l.prepare()
	return nil
}

// Reserve makes sure that an Append of entries with so many bytes of data, in
// addition to what was reserved since the last Append, will find room. It
// returns an error that wraps ErrNoSpace if there is none; nothing was written.
func (l *Log) Reserve(bytes int) error {
	if err := l.err(); err != nil {
		return err
	}
	need := l.reserved + int64(frameBytes(1, bytes))
	if l.off+need > l.active().size {
		if err := l.waitPrepared(need + BlockBytes); err != nil {
			return err
		}
	}
	l.reserved = need
	return nil
}

// fail kills the log.
func (l *Log) fail(seg *segment, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = fmt.Errorf("%w: %s: %w", ErrFailed, seg.name, err)
	}
	return l.failed
}

func (l *Log) err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// active returns the segment that is written to, for the writer.
func (l *Log) active() *segment { return l.current }

// WrittenBytes is what an Append of entries with so many bytes of data writes.
func WrittenBytes(entries, dataBytes int) int { return frameBytes(entries, dataBytes) }

// State returns the hard state last written.
func (l *Log) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Membership returns what was last stated.
func (l *Log) Membership() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.membership
}

// FirstIndex returns the index of the first entry that can be read.
func (l *Log) FirstIndex() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.base
}

// LastIndex returns the index of the last entry; FirstIndex-1 if there is none.
func (l *Log) LastIndex() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.base + uint64(len(l.places)) - 1
}

// Term returns the term of entry i, FirstIndex-1 to LastIndex.
func (l *Log) Term(i uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case i+1 == l.base:
		return l.baseTerm, nil
	case i < l.base || i >= l.base+uint64(len(l.places)):
		return 0, fmt.Errorf("term of entry %d: the log holds %d to %d", i, l.base, l.base+uint64(len(l.places))-1)
	}
	return l.places[i-l.base].term, nil
}

// Entries returns the entries of [lo, hi), as many as hold maxBytes of data,
// but at least one. It reads the disk.
func (l *Log) Entries(lo, hi, maxBytes uint64) ([]Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lo < l.base || hi > l.base+uint64(len(l.places)) || lo >= hi {
		return nil, fmt.Errorf("read entries [%d, %d): the log holds %d to %d", lo, hi, l.base, l.base+uint64(len(l.places))-1)
	}
	places := l.places[lo-l.base : hi-l.base]
	// One read for the entries that lie in one segment: the gaps between them
	// are headers and padding.
	n, bytes := 0, uint64(0)
	for ; n < len(places) && places[n].segment == places[0].segment; n++ {
		span := places[n].off - places[0].off
		bytes += uint64(places[n].bytes)
		if n > 0 && (bytes > maxBytes || span < 0 || span > maxReadBytes) {
			break
		}
	}
	places = places[:n]
	start, last := places[0].off, places[n-1]
	data := make([]byte, last.off+int64(last.bytes)-start)
	if len(data) > 0 {
		if _, err := places[0].segment.file.ReadAt(data, start); err != nil {
			return nil, fmt.Errorf("read entries [%d, %d) of %s at %d: %w", lo, lo+uint64(n), places[0].segment.name, start, err)
		}
	}
	entries := make([]Entry, n)
	for i, p := range places {
		at := p.off - start
		entries[i] = Entry{Term: p.term, Index: lo + uint64(i), Type: p.kind, Data: data[at : at+int64(p.bytes) : at+int64(p.bytes)]}
	}
	return entries, nil
}

// maxReadBytes bounds one read: small entries have more padding than data.
const maxReadBytes = 32 << 20

// Cut tells that the entries up to index, whose term is given, are not needed
// any more. Segments that hold no other are recycled.
func (l *Log) Cut(index, term uint64, membership []byte) error {
	if len(membership) > maxMembershipBytes {
		return fmt.Errorf("membership of %d bytes: the limit is %d", len(membership), maxMembershipBytes)
	}
	l.mu.Lock()
	if index >= l.base+uint64(len(l.places)) {
		l.mu.Unlock()
		return fmt.Errorf("cut behind entry %d: the log ends at %d", index, l.base+uint64(len(l.places))-1)
	}
	if index >= l.base {
		n := index + 1 - l.base
		l.places = slices.Clone(l.places[n:]) // lets go of the segments
		l.base, l.baseTerm = index+1, term
	}
	if membership != nil {
		l.membership = slices.Clone(membership)
	}
	var cut []*segment
	for len(l.segments) > 1 && l.segments[1].first <= index+1 {
		cut = append(cut, l.segments[0])
		l.segments = l.segments[1:]
	}
	l.mu.Unlock()
	return l.recycle(cut)
}

// Method says how writes are made durable.
func (l *Log) Method() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.segments[len(l.segments)-1].file.Method()
}

// Close waits for what is being prepared and closes the files. It writes
// nothing.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.failed == nil {
		l.failed = ErrClosed
	}
	l.mu.Unlock()
	l.stopMaking()
	return l.closeFiles()
}

func (l *Log) closeFiles() error {
	var errs []error
	for _, s := range l.segments {
		errs = append(errs, s.file.Close())
	}
	l.segments = nil
	if s := l.segmentMaker.prepared; s != nil {
		errs = append(errs, s.file.Close())
		l.segmentMaker.prepared = nil
	}
	return errors.Join(errs...)
}

// alignedBuffer returns n bytes that begin on a block, as O_DIRECT wants.
func alignedBuffer(n int) []byte {
	b := make([]byte, n+BlockBytes)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (BlockBytes - 1)
	return b[skip : skip+n : skip+n]
}

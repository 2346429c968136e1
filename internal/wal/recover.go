package wal

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// found is what a look at the folder finds.
type found struct {
	begun  []*segment // with a header, linked, oldest first; files not open
	blank  []*segment // never begun
	spares []string
	tmp    []string
	number uint64 // the highest
}

// find looks at the folder without changing it.
func find(fsys vfs.FS, dir string) (found, error) {
	names, err := fsys.List(dir)
	if err != nil {
		return found{}, fmt.Errorf("list the log's folder: %w", err)
	}
	slices.Sort(names) // numbers have a fixed width
	var f found
	for _, base := range names {
		name := fsys.PathJoin(dir, base)
		switch {
		case strings.HasSuffix(base, ".tmp"):
			f.tmp = append(f.tmp, name)
			continue
		case strings.HasSuffix(base, spareExt):
			f.spares = append(f.spares, name)
			if n, ok := parseSegmentName(strings.TrimSuffix(base, spareExt)); ok {
				f.number = max(f.number, n)
			}
			continue
		}
		number, ok := parseSegmentName(base)
		if !ok {
			continue
		}
		f.number = max(f.number, number)
		s, isBegun, err := look(fsys, name, number)
		if err != nil {
			return found{}, err
		}
		if isBegun {
			f.begun = append(f.begun, s)
		} else {
			f.blank = append(f.blank, s)
		}
	}
	for i := 1; i < len(f.begun); i++ {
		if s := f.begun[i]; s.prevNumber != f.begun[i-1].number {
			missing := fsys.PathJoin(dir, segmentName(s.prevNumber))
			return found{}, &DamageError{File: missing, Reason: fmt.Sprintf("the segment is missing; %s follows it", s.name)}
		}
	}
	return f, nil
}

// look reads a segment's header. A segment without one was never begun, unless
// a frame in it tells that it was.
func look(fsys vfs.FS, name string, number uint64) (s *segment, begun bool, err error) {
	file, err := fsys.Open(name)
	if err != nil {
		return nil, false, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, false, err
	}
	s = &segment{header: header{number: number}, name: name, size: info.Size()}
	block := make([]byte, BlockBytes)
	if _, err := file.ReadAt(block, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, false, fmt.Errorf("read %s: %w", name, err)
	}
	h, err := decodeHeader(block, number)
	switch {
	case err == nil:
		s.header = h
		return s, true, nil
	case !errors.Is(err, errNoHeader):
		return nil, false, fmt.Errorf("%s: %w", name, err)
	}
	data, err := readAll(file, s.size)
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", name, err)
	}
	if off, ok := laterFrame(data, number, 0); ok {
		return nil, false, &DamageError{File: name, Offset: 0, Reason: fmt.Sprintf("the header is bad, but there is a record at offset %d", off)}
	}
	return s, false, nil
}

func readAll(file vfs.File, size int64) ([]byte, error) {
	data := make([]byte, size)
	n, err := file.ReadAt(data, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return data[:n], err
}

// laterFrame looks for a frame that was written after the header, at from or
// behind it.
func laterFrame(data []byte, number uint64, from int64) (int64, bool) {
	for off := max(padded64(from), BlockBytes); off < int64(len(data)); off += BlockBytes {
		if f, ok := decodeFrame(data[off:], number, off); ok && f.kind != frameCopy {
			return off, true
		}
	}
	return 0, false
}

// scan is what the frames of a segment hold.
type scan struct {
	end    int64 // where the next frame would go
	stated int64 // up to where the segment is known to be durable
	prev   uint64
	last   frameKind // of the last frame, 0 if there is none
	// tail are the entries of the last frame, if its durability was not
	// stated; they alias what was read.
	tail   []Entry
	frames int
}

// unstated reports whether the last frame holds something that may be in the
// page cache only.
func (sc *scan) unstated() bool { return sc.last == frameAppend && sc.stated < sc.end }

// scanSegment reads the frames of a segment in order. until is where the next
// segment says it ends, 0 for the last one. visit is told of each entry, with
// the offset of its data, and of each state.
func scanSegment(fsys vfs.FS, s *segment, until int64, visit func(e Entry, off int64) error, state func(State)) (scan, error) {
	file, err := fsys.Open(s.name)
	if err != nil {
		return scan{}, err
	}
	defer file.Close()
	data, err := readAll(file, s.size)
	if err != nil {
		return scan{}, fmt.Errorf("read %s: %w", s.name, err)
	}
	damage := func(off int64, format string, args ...any) error {
		return &DamageError{File: s.name, Offset: off, Reason: fmt.Sprintf(format, args...)}
	}
	sc := scan{end: BlockBytes, stated: BlockBytes, prev: chainStart(s.number)}
	if until > int64(len(data)) {
		return scan{}, damage(int64(len(data)), "the file ends here, but is known to be durable up to %d", until)
	}
	for until == 0 || sc.end < until {
		if sc.end >= int64(len(data)) {
			break
		}
		f, ok := decodeFrame(data[sc.end:], s.number, sc.end)
		if !ok {
			if until > 0 {
				return scan{}, damage(sc.end, "the record is bad, but the log is known to be durable up to %d", until)
			}
			if off, ok := laterFrame(data, s.number, sc.end+BlockBytes); ok {
				return scan{}, damage(sc.end, "the record is bad, but one at offset %d was written after it", off)
			}
			break // torn, or never written
		}
		if f.prev != sc.prev {
			return scan{}, damage(sc.end, "the record does not follow the one before it")
		}
		if f.durable > sc.end {
			return scan{}, damage(sc.end, "the record says it was written after offset %d", f.durable)
		}
		sc.stated = max(sc.stated, f.durable)
		next := sc.end + padded64(int64(frameHeaderBytes+len(f.payload)))
		if f.kind == frameCopy {
			// It was durable before the header that made it count.
			sc.stated = next
		}
		at := sc.end + frameHeaderBytes
		sc.tail = sc.tail[:0]
		state(getState(f.payload))
		err := f.eachEntry(func(e Entry, off int) error {
			sc.tail = append(sc.tail, e)
			return visit(e, at+int64(off))
		})
		if err != nil {
			return scan{}, damage(sc.end, "%v", err)
		}
		sc.last = f.kind
		sc.prev = f.sum
		sc.end = next
		sc.frames++
	}
	if until > 0 && sc.end != until {
		return scan{}, damage(until, "the log is known to end here, but a record reaches to %d", sc.end)
	}
	if !sc.unstated() {
		sc.tail = nil
	}
	return sc, nil
}

// read reads all linked segments and builds the index of entries. It returns
// the scan of the last one.
func (l *Log) read(f found) (scan, error) {
	var last scan
	for i, s := range f.begun {
		if i == 0 {
			l.base, l.baseTerm = s.first, s.prevTerm
		}
		if s.first < l.base || s.first > l.base+uint64(len(l.places)) {
			return scan{}, &DamageError{File: s.name, Offset: 0, Reason: fmt.Sprintf("the segment begins with entry %d, the one before ends with %d", s.first, l.base+uint64(len(l.places))-1)}
		}
		l.places = l.places[:s.first-l.base]
		l.state, l.membership = s.state, s.membership
		until := int64(0)
		if i+1 < len(f.begun) {
			until = f.begun[i+1].prevEnd
		}
		sc, err := scanSegment(l.opts.FS, s, until, func(e Entry, off int64) error {
			if e.Index > l.base+uint64(len(l.places)) {
				return fmt.Errorf("entry %d follows entry %d", e.Index, l.base+uint64(len(l.places))-1)
			}
			if e.Index < l.base {
				// It replaced one of a segment that has been cut since.
				l.places = l.places[:0]
				if e.Index == l.base-1 {
					l.baseTerm = e.Term
				}
				return nil
			}
			l.places = append(l.places[:e.Index-l.base], place{segment: s, off: off, bytes: uint32(len(e.Data)), kind: e.Type, term: e.Term})
			return nil
		}, func(st State) { l.state = st })
		if err != nil {
			return scan{}, err
		}
		last = sc
	}
	return last, nil
}

// recover reads what is there and makes a segment ready to be written to.
func (l *Log) recover() error {
	fsys := l.opts.FS
	f, err := find(fsys, l.dir)
	if err != nil {
		return err
	}
	l.base = 1
	last, err := l.read(f)
	if err != nil {
		return err
	}
	l.number = f.number
	for _, name := range f.tmp {
		if err := fsys.Remove(name); err != nil {
			return fmt.Errorf("remove an unfinished segment: %w", err)
		}
	}
	l.keepSpares(f)
	for _, s := range f.begun {
		if s.file, err = fsys.OpenDurable(s.name); err != nil {
			return err
		}
		l.segments = append(l.segments, s)
		l.current = s
	}
	if len(f.begun) > 0 && !last.unstated() {
		return l.goOn(last)
	}
	return l.copyTail(last)
}

// keepSpares remembers the files that can be used again.
func (l *Log) keepSpares(f found) {
	candidates := slices.Clone(f.spares)
	for _, s := range f.blank {
		candidates = append(candidates, s.name)
	}
	for _, name := range candidates {
		info, err := l.opts.FS.Stat(name)
		if err == nil && info.Size() == l.opts.SegmentBytes && len(l.spares) < l.opts.Spare+1 {
			l.spares = append(l.spares, name)
			continue
		}
		l.opts.FS.Remove(name) // else it is removed at the next open
	}
}

// goOn continues the last segment. Its last block, a mark or, where nothing
// came after it, the header, may be in the page cache only: it is written
// again, the same bytes, before anything is written behind it.
func (l *Log) goOn(last scan) error {
	s := l.active()
	l.off, l.prev = last.end, last.prev
	at := int64(0)
	if last.last == frameMark {
		at = last.end - BlockBytes
	}
	block := alignedBuffer(BlockBytes)
	if _, err := s.file.ReadAt(block, at); err != nil {
		return fmt.Errorf("read %s: %w", s.name, err)
	}
	if err := s.file.WriteDurable(block, at); err != nil {
		return l.fail(s, err)
	}
	return nil
}

// copyTail begins a new segment with the entries whose durability nobody has
// stated, or an empty one. If we stop before the header is written, the next
// open finds the tail where it was.
func (l *Log) copyTail(last scan) error {
	s, err := l.segmentMaker.make(l.opts.SegmentBytes)
	if err != nil {
		return err
	}
	var bytes int
	for i := range last.tail {
		bytes += len(last.tail[i].Data)
	}
	size := frameBytes(len(last.tail), bytes)
	if need := int64(size) + BlockBytes; need > s.size {
		l.discard(s)
		if s, err = l.segmentMaker.make(padded64(need)); err != nil {
			return err
		}
	}
	s.state, s.first = l.state, l.base+uint64(len(l.places))
	if len(last.tail) > 0 {
		s.first = last.tail[0].Index
	}
	if s.prevTerm, err = l.Term(s.first - 1); err != nil {
		return err
	}
	if len(l.segments) > 0 {
		s.prevNumber, s.prevEnd = l.active().number, last.stated
	}
	off, prev := int64(BlockBytes), chainStart(s.number)
	if len(last.tail) > 0 {
		l.prev = prev
		prev = l.encode(frameCopy, l.state, last.tail, size, s.number, off)
		if err := s.file.WriteDurable(l.buf[:size], off); err != nil {
			return l.fail(s, err)
		}
		l.note(s, off, last.tail)
		off += int64(size)
	}
	if err := l.begin(s); err != nil {
		return err
	}
	l.off, l.prev = off, prev
	return nil
}

// Report is what Verify found.
type Report struct {
	Segments   int    `json:"segments"`
	FirstIndex uint64 `json:"firstIndex"`
	LastIndex  uint64 `json:"lastIndex"`
	Frames     int    `json:"records"`
	Bytes      int64  `json:"bytes"`
	// UnstatedEntries are whole, but their durability was not stated: the last
	// write before a crash.
	UnstatedEntries int   `json:"unstatedEntries"`
	State           State `json:"state"`
}

// Verify reads a log that nobody has open, and returns its first damage. It
// changes nothing.
func Verify(dir string, fsys FS) (Report, error) {
	f, err := find(fsys, dir)
	if err != nil {
		return Report{}, err
	}
	l := &Log{opts: Options{FS: fsys}, dir: dir, base: 1}
	last, err := l.read(f)
	if err != nil {
		return Report{}, err
	}
	r := Report{
		Segments: len(f.begun), FirstIndex: l.base, LastIndex: l.base + uint64(len(l.places)) - 1, State: l.state,
		UnstatedEntries: len(last.tail), Frames: last.frames,
	}
	for i := range f.begun {
		end := last.end
		if i+1 < len(f.begun) {
			end = f.begun[i+1].prevEnd
		}
		r.Bytes += end
	}
	return r, nil
}

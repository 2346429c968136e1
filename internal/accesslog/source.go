package accesslog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

const (
	// idBytes bounds what of the first line makes a source's id.
	idBytes = 4 << 10
	// checkBytes bounds what of a line, at its end, makes its check.
	checkBytes = 4 << 10
)

// sourceID is the SHA-256 of the first line, of its first 4 KiB if it is
// longer. ok is false while the log does not hold that much.
func sourceID(log io.ReaderAt) (id string, ok bool, err error) {
	head := make([]byte, idBytes)
	n, err := log.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", false, err
	}
	head = head[:n]
	if i := bytes.IndexByte(head, '\n'); i >= 0 {
		head = head[:i]
	} else if n < idBytes {
		return "", false, nil
	}
	sum := sha256.Sum256(head)
	return hex.EncodeToString(sum[:]), true, nil
}

// checkOf is 63 bits of the SHA-256 of a line without its end, of its last
// 4 KiB if it is longer.
func checkOf(line []byte) int64 {
	sum := sha256.Sum256(line[max(0, len(line)-checkBytes):])
	return int64(binary.BigEndian.Uint64(sum[:8]) >> 1)
}

// errNotALine: no line ends at the offset, so that this is not the log in which
// the offset was reached.
var errNotALine = errors.New("no line ends there")

// checkBefore returns the check of the line that ends at offset.
func checkBefore(log io.ReaderAt, offset int64) (int64, error) {
	// One byte more on either side: the end of the line, and that of the line
	// before.
	start := max(0, offset-checkBytes-2)
	tail := make([]byte, offset-start)
	if n, err := log.ReadAt(tail, start); n < len(tail) {
		if errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("%w: the log is shorter", errNotALine)
		}
		return 0, err
	}
	line, ended := bytes.CutSuffix(tail, []byte{'\n'})
	if !ended {
		// The last line of a log that ended without an end of line, and has not
		// grown since.
		if n, _ := log.ReadAt(make([]byte, 1), offset); n != 0 {
			return 0, errNotALine
		}
	}
	return checkOf(line[bytes.LastIndexByte(line, '\n')+1:]), nil
}

// stream gives a reader that can't seek, such as standard input, the last of
// its bytes by offset: as many as one batch, and the line before it, may need.
type stream struct {
	r      io.Reader
	keep   int    // bytes kept before the offset that was read last
	start  int64  // offset of window[0]
	window []byte // the last bytes read
	chunk  []byte
	err    error
}

func newStream(r io.Reader, keep int) *stream {
	return &stream{r: r, keep: keep, chunk: make([]byte, 256<<10)}
}

// ReadAt reads on as far as needed, but never back beyond what is kept.
func (s *stream) ReadAt(p []byte, offset int64) (int, error) {
	return s.read(p, offset, func() bool { return s.held(offset) >= len(p) })
}

// readSome is ReadAt, but returns as soon as it has a whole line, so that the
// lines of a slow stream are counted as they come.
func (s *stream) readSome(p []byte, offset int64) (int, error) {
	return s.read(p, offset, func() bool {
		held := s.held(offset)
		return held >= len(p) || held > 0 && bytes.IndexByte(s.window[offset-s.start:], '\n') >= 0
	})
}

func (s *stream) read(p []byte, offset int64, enough func() bool) (int, error) {
	if offset < s.start {
		return 0, fmt.Errorf("standard input can't go back to offset %d", offset)
	}
	for s.err == nil && !enough() {
		n, err := s.r.Read(s.chunk)
		s.window = append(s.window, s.chunk[:n]...)
		s.err = err
		// Cut late, so that moving the rest costs little.
		if cut := int(min(offset-int64(s.keep)-s.start, int64(len(s.window)))); cut > s.keep {
			s.window = append(s.window[:0], s.window[cut:]...)
			s.start += int64(cut)
		}
	}
	if s.held(offset) <= 0 {
		return 0, s.err
	}
	n := copy(p, s.window[offset-s.start:])
	if n < len(p) {
		return n, s.err
	}
	return n, nil
}

// held returns how many bytes from offset on the window holds.
func (s *stream) held(offset int64) int { return int(s.start + int64(len(s.window)) - offset) }

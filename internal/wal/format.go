package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// BlockBytes is the unit of writes: every write begins and ends on a multiple
// of it, so that what is durable is never written again.
const BlockBytes = 4096

const (
	formatVersion = 1

	segmentMagic = "QUIPUWAL"
	frameMagic   = uint32(0x4d524651) // "QFRM", little endian
	segmentExt   = ".wal"
	spareExt     = ".spare"
)

// A segment begins with one block:
//
//	 0  magic "QUIPUWAL"
//	 8  u32 format version      12  u32 length of membership
//	16  u64 segment number
//	24  u64 term  32 u64 vote  40 u64 commit   hard state when it began
//	48  u64 index behind the last entry then   56  u64 term of that last entry
//	64  u64 number of the segment before       72  u64 where that one ends
//	80  membership
//	…   zeros
//	4088 u64 checksum of all before it
//
// All integers are little endian. Where the segment before ends: what lies
// behind was not stated durable when this segment began; it was copied into
// this one if it was whole.
type header struct {
	number     uint64
	state      State
	first      uint64
	prevTerm   uint64
	prevNumber uint64
	prevEnd    int64
	membership []byte
}

const (
	headerFixedBytes   = 80
	headerSumOffset    = BlockBytes - 8
	maxMembershipBytes = headerSumOffset - headerFixedBytes
)

func (h *header) encode(block []byte) {
	clear(block[:BlockBytes])
	le := binary.LittleEndian
	copy(block, segmentMagic)
	le.PutUint32(block[8:], formatVersion)
	le.PutUint32(block[12:], uint32(len(h.membership)))
	le.PutUint64(block[16:], h.number)
	putState(block[24:], h.state)
	le.PutUint64(block[48:], h.first)
	le.PutUint64(block[56:], h.prevTerm)
	le.PutUint64(block[64:], h.prevNumber)
	le.PutUint64(block[72:], uint64(h.prevEnd))
	copy(block[headerFixedBytes:], h.membership)
	le.PutUint64(block[headerSumOffset:], xxhash.Sum64(block[:headerSumOffset]))
}

// errNoHeader: the block is no header of this segment: it was never begun.
var errNoHeader = errors.New("no header")

func decodeHeader(block []byte, number uint64) (header, error) {
	le := binary.LittleEndian
	if len(block) < BlockBytes || string(block[:8]) != segmentMagic ||
		le.Uint64(block[headerSumOffset:]) != xxhash.Sum64(block[:headerSumOffset]) {
		return header{}, errNoHeader
	}
	if v := le.Uint32(block[8:]); v > formatVersion {
		return header{}, fmt.Errorf("log format %d is newer than this program's %d", v, formatVersion)
	}
	h := header{
		number: le.Uint64(block[16:]), state: getState(block[24:]), first: le.Uint64(block[48:]), prevTerm: le.Uint64(block[56:]),
		prevNumber: le.Uint64(block[64:]), prevEnd: int64(le.Uint64(block[72:])),
	}
	n := le.Uint32(block[12:])
	if n > maxMembershipBytes {
		return header{}, fmt.Errorf("membership of %d bytes in a header", n)
	}
	h.membership = append([]byte(nil), block[headerFixedBytes:headerFixedBytes+n]...)
	if h.number != number {
		return header{}, errNoHeader // the header of the segment that this file once was
	}
	return h, nil
}

func putState(b []byte, s State) {
	binary.LittleEndian.PutUint64(b[0:], s.Term)
	binary.LittleEndian.PutUint64(b[8:], s.Vote)
	binary.LittleEndian.PutUint64(b[16:], s.Commit)
}

func getState(b []byte) State {
	le := binary.LittleEndian
	return State{Term: le.Uint64(b), Vote: le.Uint64(b[8:]), Commit: le.Uint64(b[16:])}
}

// A frame is one write, padded with zeros to a whole number of blocks:
//
//	 0  u32 magic               4  u8 kind   5  zeros
//	 8  u32 payload length     12  u32 entries
//	16  u64 durable: up to here the segment was durable before this write
//	24  u64 checksum of the frame before, or of the segment's number
//	32  u64 checksum: segment's number, offset, bytes 0–32, payload
//	40  payload: hard state (24 bytes), then for each entry
//	      u64 term  u64 index  u8 type  u32 length  data
//
// A mark frame has no entries: it only states what is durable.
type frame struct {
	kind    frameKind
	entries uint32
	payload []byte
	durable int64
	prev    uint64
	sum     uint64
}

type frameKind uint8

const (
	frameAppend frameKind = iota + 1
	frameMark
	// frameCopy holds a tail copied at open. It is written before the
	// segment's header, so that it alone does not make a segment.
	frameCopy
)

const (
	frameHeaderBytes = 40
	stateBytes       = 24
	entryHeaderBytes = 21
)

func padded(n int) int { return (n + BlockBytes - 1) &^ (BlockBytes - 1) }

// frameBytes is what a frame of these entries takes on disk.
func frameBytes(entries int, dataBytes int) int {
	return padded(frameHeaderBytes + stateBytes + entries*entryHeaderBytes + dataBytes)
}

// chainStart is what stands for the frame before in a segment's first.
func chainStart(number uint64) uint64 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], number)
	return xxhash.Sum64(b[:])
}

// frameSum is the checksum of a frame. xxhash is used because at several GiB/s
// it costs less than a copy of the data, and its 64 bits leave a stale or torn
// frame no practical chance.
func frameSum(number uint64, off int64, head, payload []byte) uint64 {
	var place [16]byte
	binary.LittleEndian.PutUint64(place[:], number)
	binary.LittleEndian.PutUint64(place[8:], uint64(off))
	var d xxhash.Digest
	d.Reset()
	d.Write(place[:])
	d.Write(head[:32])
	d.Write(payload)
	return d.Sum64()
}

// sealFrame fills in the header of a frame whose payload lies behind it in buf,
// and returns its checksum.
func sealFrame(buf []byte, f frame, number uint64, off int64) uint64 {
	le := binary.LittleEndian
	payload := buf[frameHeaderBytes : frameHeaderBytes+len(f.payload)]
	clear(buf[:frameHeaderBytes])
	le.PutUint32(buf, frameMagic)
	buf[4] = byte(f.kind)
	le.PutUint32(buf[8:], uint32(len(payload)))
	le.PutUint32(buf[12:], f.entries)
	le.PutUint64(buf[16:], uint64(f.durable))
	le.PutUint64(buf[24:], f.prev)
	sum := frameSum(number, off, buf, payload)
	le.PutUint64(buf[32:], sum)
	return sum
}

// decodeFrame reads the frame at off of a segment, of which data is the rest.
// It reports whether there is one; the payload aliases data.
func decodeFrame(data []byte, number uint64, off int64) (frame, bool) {
	le := binary.LittleEndian
	if len(data) < frameHeaderBytes || le.Uint32(data) != frameMagic {
		return frame{}, false
	}
	n := int64(le.Uint32(data[8:]))
	if n < stateBytes || n > int64(len(data)-frameHeaderBytes) {
		return frame{}, false
	}
	payload := data[frameHeaderBytes : frameHeaderBytes+n]
	f := frame{
		kind: frameKind(data[4]), entries: le.Uint32(data[12:]), payload: payload,
		durable: int64(le.Uint64(data[16:])), prev: le.Uint64(data[24:]), sum: le.Uint64(data[32:]),
	}
	if f.kind < frameAppend || f.kind > frameCopy || f.sum != frameSum(number, off, data, payload) {
		return frame{}, false
	}
	return f, true
}

// eachEntry calls fn for the entries of a frame; at is the offset of an entry's
// data within the payload. Data alias the payload.
func (f *frame) eachEntry(fn func(e Entry, at int) error) error {
	le := binary.LittleEndian
	at := stateBytes
	for range f.entries {
		if len(f.payload)-at < entryHeaderBytes {
			return errors.New("entries end early")
		}
		h := f.payload[at:]
		e := Entry{Term: le.Uint64(h), Index: le.Uint64(h[8:]), Type: h[16]}
		n := int(le.Uint32(h[17:]))
		at += entryHeaderBytes
		if n > len(f.payload)-at {
			return fmt.Errorf("entry %d ends early", e.Index)
		}
		e.Data = f.payload[at : at+n : at+n]
		if err := fn(e, at); err != nil {
			return err
		}
		at += n
	}
	if at != len(f.payload) {
		return errors.New("bytes after the last entry")
	}
	return nil
}

func appendEntry(dst []byte, e *Entry) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, e.Term)
	dst = binary.LittleEndian.AppendUint64(dst, e.Index)
	dst = append(dst, e.Type)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(e.Data)))
	return append(dst, e.Data...)
}

func segmentName(number uint64) string { return fmt.Sprintf("%016x%s", number, segmentExt) }

func parseSegmentName(name string) (uint64, bool) {
	stem, ok := strings.CutSuffix(name, segmentExt)
	if !ok || len(stem) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(stem, 16, 64)
	return n, err == nil
}

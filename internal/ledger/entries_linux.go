package ledger

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugeBytes is the size of a huge page; a region smaller than that stays with
// the garbage collector.
const hugeBytes = 2 << 20

// entryRegion makes memory for entries outside the garbage collector's: an
// entry holds no pointer, and what lies there neither is walked nor makes the
// heap grow to twice its size before the next collection. Huge pages save most
// of the misses of address translation, of which a look-up at random otherwise
// has one or two. It is given back when the table is gone.
func (t *table) entryRegion(chunks int) []*[chunkLength]entry {
	out := make([]*[chunkLength]entry, chunks)
	size := chunks * int(unsafe.Sizeof(*out[0]))
	if size < hugeBytes {
		for i := range out {
			out[i] = new([chunkLength]entry)
		}
		return out
	}
	// A huge page begins at a multiple of its size: what is too much at the
	// ends is never touched and costs addresses only.
	mapped, err := unix.Mmap(-1, 0, size+hugeBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		for i := range out {
			out[i] = new([chunkLength]entry)
		}
		return out
	}
	runtime.AddCleanup(t, func(mapped []byte) { _ = unix.Munmap(mapped) }, mapped)
	skip := (hugeBytes - int(uintptr(unsafe.Pointer(&mapped[0]))%hugeBytes)) % hugeBytes
	region := mapped[skip : skip+size]
	_ = unix.Madvise(region, unix.MADV_HUGEPAGE) // slower without, not wrong
	for i := range out {
		out[i] = (*[chunkLength]entry)(unsafe.Pointer(&region[i*int(unsafe.Sizeof(*out[0]))]))
	}
	return out
}

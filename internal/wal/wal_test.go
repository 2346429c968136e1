package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testSegment = 64 << 10

func testOptions(fs FS) Options { return Options{FS: fs, SegmentBytes: testSegment, Spare: 2} }

func mustOpen(t testing.TB, fs FS, dir string) *Log {
	t.Helper()
	l, err := Open(dir, testOptions(fs))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// model is what a log should hold.
type model struct {
	state   State
	base    uint64
	entries []Entry
}

func (m *model) append(st State, entries []Entry) {
	m.state = st
	if len(entries) > 0 {
		m.entries = append(m.entries[:entries[0].Index-m.base], entries...)
	}
}

func (m *model) last() uint64 { return m.base + uint64(len(m.entries)) - 1 }

// check compares the log with the model; the log may hold entries behind the
// model's cut.
func (m *model) check(l *Log) error {
	if got := l.State(); got != m.state {
		return fmt.Errorf("state %+v, want %+v", got, m.state)
	}
	if l.FirstIndex() > m.base || l.LastIndex() != m.last() {
		return fmt.Errorf("entries %d to %d, want %d to %d", l.FirstIndex(), l.LastIndex(), m.base, m.last())
	}
	for at := m.base; at <= m.last(); {
		got, err := l.Entries(at, m.last()+1, 10_000)
		if err != nil {
			return err
		}
		for _, e := range got {
			want := m.entries[e.Index-m.base]
			if e.Index != at || e.Term != want.Term || e.Type != want.Type || !bytes.Equal(e.Data, want.Data) {
				return fmt.Errorf("entry %d differs", at)
			}
			if term, err := l.Term(at); err != nil || term != want.Term {
				return fmt.Errorf("term of %d: %d, %v", at, term, err)
			}
			at++
		}
	}
	return nil
}

func (m *model) clone() *model {
	c := *m
	c.entries = append([]Entry(nil), m.entries...)
	return &c
}

// script drives a log and a model with random appends, overwrites, cuts and
// marks.
type script struct {
	rng  *rand.Rand
	term uint64
}

func (s *script) batch(m *model) (State, []Entry) {
	first := m.last() + 1
	if s.rng.IntN(12) == 0 && len(m.entries) > 3 {
		first -= uint64(s.rng.IntN(3)) // a new leader overwrites a suffix
		s.term++
	}
	var entries []Entry
	for i := range s.rng.IntN(5) {
		data := make([]byte, s.rng.IntN(300))
		if s.rng.IntN(10) == 0 {
			data = make([]byte, s.rng.IntN(20_000))
		}
		for j := range data {
			data[j] = byte(s.rng.Uint32())
		}
		entries = append(entries, Entry{Term: s.term, Index: first + uint64(i), Type: uint8(s.rng.IntN(3)), Data: data})
	}
	return State{Term: s.term, Vote: 1, Commit: m.last()}, entries
}

func TestScript(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := &script{rng: rng, term: 1}
		fs := VFS(vfs.NewMem())
		fs.MkdirAll("log", 0o755)
		l, m := mustOpen(t, fs, "log"), &model{base: 1}
		for step := range 300 {
			switch rng.IntN(20) {
			case 0:
				if n := len(m.entries); n > 2 {
					cut := m.base + uint64(rng.IntN(n-1))
					term, _ := l.Term(cut)
					if err := l.Cut(cut, term, nil); err != nil {
						t.Fatal(err)
					}
					m.entries = append([]Entry(nil), m.entries[cut+1-m.base:]...)
					m.base = cut + 1
				}
			case 1:
				if err := l.MarkDurable(); err != nil {
					t.Fatal(err)
				}
			case 2:
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if _, err := Verify("log", fs); err != nil {
					t.Fatal(err)
				}
				l = mustOpen(t, fs, "log")
			default:
				st, entries := s.batch(m)
				if len(entries) > 0 && entries[0].Index < m.base {
					continue
				}
				if err := l.Append(st, entries); err != nil {
					t.Fatal(err)
				}
				m.append(st, entries)
			}
			if err := m.check(l); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
		}
		l.Close()
	}
}

// TestCrash: at every durable write of a script the disk crashes in many ways;
// what was acknowledged is there, and the write under way is there whole or
// not at all.
func TestCrash(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 2))
		mem := vfs.NewCrashableMem()
		watch := &watchFS{FS: VFS(mem)}
		watch.MkdirAll("log", 0o755)
		root, _ := mem.OpenDir("")
		root.Sync()
		l := mustOpen(t, watch, "log")
		s, m := &script{rng: rng, term: 1}, &model{base: 1}
		var next *model // with the write under way
		crashes := 0
		watch.onWrite = func(name string, p []byte, off int64, after bool) {
			for _, keep := range []int{0, 50, 100} {
				clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: keep, RNG: rng})
				tears := []int{-1}
				if !after {
					tears = []int{-1, 0, 512, rng.IntN(len(p)/512) * 512, len(p) - 512}
				}
				for _, torn := range tears {
					crashes++
					fs := VFS(clone)
					if torn >= 0 {
						c := vfs.NewMem()
						if _, err := vfs.Clone(clone, c, "log", "log"); err != nil {
							t.Fatal(err)
						}
						writeAt(t, c, name, p[:torn], off)
						fs = VFS(c)
					}
					checkRecovered(t, fs, m, next, fmt.Sprintf("seed %d, write at %d, after %v, torn %d, kept %d%%", seed, off, after, torn, keep))
				}
			}
		}
		for range 40 {
			next = nil
			switch rng.IntN(8) {
			case 0:
				if n := len(m.entries); n > 2 {
					cut := m.base + uint64(rng.IntN(n-1))
					term, _ := l.Term(cut)
					if err := l.Cut(cut, term, nil); err != nil {
						t.Fatal(err)
					}
				}
			case 1:
				l.MarkDurable()
			default:
				st, entries := s.batch(m)
				if len(entries) > 0 && entries[0].Index < l.FirstIndex() {
					continue
				}
				next = m.clone()
				next.append(st, entries)
				if err := l.Append(st, entries); err != nil {
					t.Fatal(err)
				}
				m = next
			}
		}
		watch.onWrite = nil
		l.Close()
		t.Logf("seed %d: %d crashes", seed, crashes)
	}
}

// checkRecovered opens a crashed disk twice: the second time after a crash
// right behind the first open.
func checkRecovered(t *testing.T, fs FS, m, next *model, when string) {
	t.Helper()
	for range 2 {
		l, err := Open("log", testOptions(fs))
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		is := func(m *model) bool {
			if m == nil {
				return false
			}
			c := m.clone()
			if f := l.FirstIndex(); f > c.base { // cut since
				c.entries = c.entries[f-c.base:]
				c.base = f
			}
			return c.check(l) == nil
		}
		if !is(m) && !is(next) {
			t.Fatalf("%s: neither the state before nor the one after: %v", when, m.check(l))
		}
		l.Close()
	}
}

func writeAt(t testing.TB, fs vfs.FS, name string, p []byte, off int64) {
	t.Helper()
	if len(p) == 0 {
		return
	}
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(p, off); err != nil {
		t.Fatal(err)
	}
}

// watchFS tells of durable writes, before and after, and may fail them.
type watchFS struct {
	FS
	onWrite func(name string, p []byte, off int64, after bool)
	fail    func(name string, off int64) error
}

func (w *watchFS) OpenDurable(name string) (File, error) {
	f, err := w.FS.OpenDurable(name)
	return &watchFile{File: f, w: w, name: name}, err
}

type watchFile struct {
	File
	w    *watchFS
	name string
}

func (f *watchFile) WriteDurable(p []byte, off int64) error {
	if f.w.fail != nil {
		if err := f.w.fail(f.name, off); err != nil {
			return err
		}
	}
	if f.w.onWrite != nil {
		f.w.onWrite(f.name, p, off, false)
	}
	if err := f.File.WriteDurable(p, off); err != nil {
		return err
	}
	if f.w.onWrite != nil {
		f.w.onWrite(f.name, p, off, true)
	}
	return nil
}

// TestDamage flips a bit in every block of a closed log and cuts files short:
// each is either found, naming file and offset, or loses nothing.
func TestDamage(t *testing.T) {
	mem := vfs.NewMem()
	fs := VFS(mem)
	fs.MkdirAll("log", 0o755)
	l, m := mustOpen(t, fs, "log"), &model{base: 1}
	s := &script{rng: rand.New(rand.NewPCG(7, 7)), term: 1}
	for range 60 {
		st, entries := s.batch(m)
		if err := l.Append(st, entries); err != nil {
			t.Fatal(err)
		}
		m.append(st, entries)
	}
	if err := l.MarkDurable(); err != nil {
		t.Fatal(err)
	}
	segments := append([]*segment(nil), l.segments...)
	end := l.off
	l.Close()
	found := 0
	for i, seg := range segments {
		limit := seg.size
		if i == len(segments)-1 {
			limit = end
		}
		for off := int64(0); off < limit; off += BlockBytes {
			for _, at := range []int64{off + 3, off + 33, off + 50, off + BlockBytes - 1} {
				c := vfs.NewMem()
				vfs.Clone(mem, c, "log", "log")
				f, _ := c.Open(seg.name)
				b := make([]byte, 1)
				f.ReadAt(b, at)
				f.Close()
				writeAt(t, c, seg.name, []byte{b[0] ^ 0x40}, at)
				got, err := Open("log", testOptions(VFS(c)))
				var damage *DamageError
				switch {
				case errors.As(err, &damage):
					found++
					if damage.File != seg.name || damage.Offset > at {
						t.Fatalf("a bit flipped in %s at %d was reported as %v", seg.name, at, damage)
					}
				case err != nil:
					t.Fatalf("a bit flipped in %s at %d: %v", seg.name, at, err)
				default:
					if err := m.check(got); err != nil {
						t.Fatalf("a bit flipped in %s at %d lost: %v", seg.name, at, err)
					}
					got.Close()
				}
			}
		}
	}
	if found == 0 {
		t.Fatal("no damage was found")
	}
	t.Run("missing segment", func(t *testing.T) {
		if len(segments) < 3 {
			t.Fatalf("%d segments", len(segments))
		}
		c := vfs.NewMem()
		vfs.Clone(mem, c, "log", "log")
		c.Remove(segments[1].name)
		if _, err := Open("log", testOptions(VFS(c))); err == nil || !strings.Contains(err.Error(), "missing") {
			t.Fatalf("got %v", err)
		}
	})
}

// TestFailedWrite: after a failed write the log is dead, and what it holds on
// disk is what was acknowledged, with or without the failed write.
func TestFailedWrite(t *testing.T) {
	for n := 1; n < 30; n++ {
		mem := VFS(vfs.NewMem())
		w := &watchFS{FS: mem}
		w.MkdirAll("log", 0o755)
		l, m := mustOpen(t, w, "log"), &model{base: 1}
		left := n
		w.fail = func(string, int64) error {
			if left--; left == 0 {
				return syscall.EIO
			}
			return nil
		}
		s := &script{rng: rand.New(rand.NewPCG(3, 3)), term: 1}
		var err error
		for err == nil {
			st, entries := s.batch(m)
			if err = l.Append(st, entries); err == nil {
				m.append(st, entries)
			}
		}
		if !errors.Is(err, ErrFailed) {
			t.Fatalf("write %d failed with %v", n, err)
		}
		if err := l.Append(m.state, nil); !errors.Is(err, ErrFailed) {
			t.Fatalf("after a failed write Append answers %v", err)
		}
		l.Close()
		l = mustOpen(t, mem, "log")
		if err := m.check(l); err != nil {
			t.Fatalf("after failure of write %d: %v", n, err)
		}
		l.Close()
	}
}

// TestNoSpace: where no segment can be made Reserve says so before anything is
// written, and the log goes on when there is room.
func TestNoSpace(t *testing.T) {
	mem := vfs.NewMem()
	fs := VFS(mem)
	fs.MkdirAll("log", 0o755)
	opts := testOptions(fs)
	opts.FloorBytes = 1 << 20
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 10 << 20, TotalBytes: 20 << 20})
	l, err := Open("log", opts)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 20, TotalBytes: 20 << 20})
	data := make([]byte, 10_000)
	for i := uint64(1); ; i++ {
		if err = l.Reserve(len(data)); err != nil {
			break
		}
		if err := l.Append(State{Term: 1}, []Entry{{Term: 1, Index: i, Data: data}}); err != nil {
			t.Fatalf("append after a successful Reserve: %v", err)
		}
	}
	if !errors.Is(err, ErrNoSpace) {
		t.Fatalf("got %v", err)
	}
	last := l.LastIndex()
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 10 << 20, TotalBytes: 20 << 20})
	if err := l.Reserve(len(data)); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	if err := l.Append(State{Term: 1}, []Entry{{Term: 1, Index: last + 1, Data: data}}); err != nil {
		t.Fatal(err)
	}
}

// TestLargeEntry: an entry larger than a segment gets one of its own size.
func TestLargeEntry(t *testing.T) {
	fs := VFS(vfs.NewMem())
	fs.MkdirAll("log", 0o755)
	l, m := mustOpen(t, fs, "log"), &model{base: 1}
	for i := uint64(1); i < 6; i++ {
		e := []Entry{{Term: 1, Index: i, Data: bytes.Repeat([]byte{byte(i)}, int(i%2)*3*testSegment+10)}}
		if err := l.Reserve(len(e[0].Data)); err != nil {
			t.Fatal(err)
		}
		if err := l.Append(State{Term: 1}, e); err != nil {
			t.Fatal(err)
		}
		m.append(State{Term: 1}, e)
	}
	l.Close()
	l = mustOpen(t, fs, "log")
	defer l.Close()
	if err := m.check(l); err != nil {
		t.Fatal(err)
	}
}

// TestRecycles: a steady load with cuts makes no new files.
func TestRecycles(t *testing.T) {
	fs := VFS(vfs.NewMem())
	fs.MkdirAll("log", 0o755)
	l := mustOpen(t, fs, "log")
	defer l.Close()
	for i := uint64(1); i <= 2000; i++ {
		if err := l.Append(State{Term: 1}, []Entry{{Term: 1, Index: i, Data: make([]byte, 3000)}}); err != nil {
			t.Fatal(err)
		}
		if i%20 == 0 {
			if err := l.Cut(i-1, 1, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	names, _ := fs.List("log")
	if len(names) > 8 {
		t.Fatalf("the folder holds %v", names)
	}
}

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, DiskFS(), dir)
	t.Logf("durable writes by %s", l.Method())
	m := &model{base: 1}
	s := &script{rng: rand.New(rand.NewPCG(5, 5)), term: 1}
	for range 50 {
		st, entries := s.batch(m)
		if err := l.Append(st, entries); err != nil {
			t.Fatal(err)
		}
		m.append(st, entries)
	}
	l.Close()
	l = mustOpen(t, DiskFS(), dir)
	defer l.Close()
	if err := m.check(l); err != nil {
		t.Fatal(err)
	}
}

func FuzzSegment(f *testing.F) {
	fs := VFS(vfs.NewMem())
	fs.MkdirAll("log", 0o755)
	l := mustOpen(f, fs, "log")
	l.Append(State{Term: 1}, []Entry{{Term: 1, Index: 1, Data: []byte("abc")}})
	l.MarkDurable()
	name := l.active().name
	end := l.off
	l.Close()
	file, _ := fs.Open(name)
	data := make([]byte, end)
	file.ReadAt(data, 0)
	file.Close()
	f.Add(data, uint16(40), byte(1))
	f.Fuzz(func(t *testing.T, data []byte, at uint16, flip byte) {
		data = bytes.Clone(data)
		if len(data) > testSegment {
			data = data[:testSegment]
		}
		if int(at) < len(data) {
			data[at] ^= flip
		}
		// A frame that passes its checksum, to reach what lies behind it.
		if len(data) > BlockBytes+frameHeaderBytes+stateBytes && flip&1 == 1 {
			n := min(int(binary.LittleEndian.Uint32(data[BlockBytes+8:])), len(data)-BlockBytes-frameHeaderBytes)
			if n >= stateBytes {
				head := data[BlockBytes:]
				binary.LittleEndian.PutUint64(head[32:], frameSum(1, BlockBytes, head, head[frameHeaderBytes:frameHeaderBytes+n]))
			}
		}
		fs := VFS(vfs.NewMem())
		fs.MkdirAll("log", 0o755)
		w, _ := fs.Create("log/"+segmentName(1), vfs.WriteCategoryUnspecified)
		w.Write(data)
		w.Close()
		Verify("log", fs)
	})
}

func BenchmarkAppend(b *testing.B) {
	dir := b.TempDir()
	b.Run("bare", func(b *testing.B) {
		l, err := Open(mkdir(b, dir, "bare"), Options{FS: DiskFS()})
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		block := alignedBuffer(BlockBytes)
		off := int64(BlockBytes)
		for b.Loop() {
			if err := l.active().file.WriteDurable(block, off); err != nil {
				b.Fatal(err)
			}
			if off += BlockBytes; off+BlockBytes > l.active().size {
				off = BlockBytes
			}
		}
	})
	for _, size := range []int{60, 64 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			l, err := Open(mkdir(b, dir, fmt.Sprint(size)), Options{FS: DiskFS()})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			e := []Entry{{Term: 1, Index: 1, Data: make([]byte, size)}}
			b.ReportAllocs()
			for b.Loop() {
				if err := l.Append(State{Term: 1}, e); err != nil {
					b.Fatal(err)
				}
				if e[0].Index%4096 == 0 {
					l.Cut(e[0].Index-1, 1, nil)
				}
				e[0].Index++
			}
		})
	}
}

func mkdir(b *testing.B, dir, name string) string {
	p := dir + "/" + name
	if err := os.MkdirAll(p, 0o755); err != nil {
		b.Fatal(err)
	}
	return p
}

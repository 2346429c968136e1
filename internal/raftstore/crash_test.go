package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/pool"
)

// crashDisk is a memory disk that can be cloned as a crash would leave it, also
// while it is being used. Some calls of MemFS take the lock that holds off
// clones twice, and would wait for ever for a clone that began in between:
// those run under a lock of our own.
type crashDisk struct {
	*vfs.MemFS
	nested sync.Mutex
}

func newCrashDisk(mem *vfs.MemFS) *crashDisk {
	root, _ := mem.OpenDir("")
	root.Sync()
	root.Close()
	return &crashDisk{MemFS: mem}
}

func (d *crashDisk) Link(from, to string) error {
	d.nested.Lock()
	defer d.nested.Unlock()
	return d.MemFS.Link(from, to)
}

func (d *crashDisk) Lock(name string) (io.Closer, error) {
	d.nested.Lock()
	defer d.nested.Unlock()
	return d.MemFS.Lock(name)
}

func (d *crashDisk) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	d.nested.Lock()
	defer d.nested.Unlock()
	return d.MemFS.ReuseForWrite(from, to, category)
}

func (d *crashDisk) crash(cfg vfs.CrashCloneCfg) *crashDisk {
	d.nested.Lock()
	defer d.nested.Unlock()
	return &crashDisk{MemFS: d.CrashClone(cfg)}
}

// TestCrash crashes the disk under concurrent load and checks what was
// acknowledged.
func TestCrash(t *testing.T) {
	seeds := uint64(8)
	if testing.Short() {
		seeds = 2
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 5))
		disk := newCrashDisk(vfs.NewCrashableMem())
		acked := map[string]int64{}
		sent := map[string]int64{}
		for life := range 6 {
			cfg := testConfig(disk)
			s := open(t, cfg)
			p := newPool(t, s)
			for name, least := range acked {
				ops := []quipu.Op{{Kind: quipu.KindGet, Tenant: quipu.DefaultTenant, Name: name}}
				results := make([]quipu.Result, 1)
				if err := p.Read(context.Background(), ops, results); err != nil {
					t.Fatal(err)
				}
				if v := results[0].Value; v < least || v > sent[name] {
					t.Fatalf("seed %d, life %d: %s stands at %d, acknowledged %d, sent %d", seed, life, name, v, least, sent[name])
				}
				acked[name], sent[name] = results[0].Value, results[0].Value
			}
			var mu sync.Mutex
			var wg sync.WaitGroup
			crash := 100 + rng.IntN(400)
			var crashed *crashDisk
			for worker := range 4 {
				wr := rand.New(rand.NewPCG(seed, uint64(100+worker)))
				wg.Go(func() {
					for range 200 {
						var ops []quipu.Op
						for range 1 + wr.IntN(40) {
							ops = append(ops, add(fmt.Sprint("c", wr.IntN(50)), 1, quipu.RequestID{}))
						}
						mu.Lock()
						if crashed == nil {
							for i := range ops {
								sent[ops[i].Name]++
							}
						}
						mu.Unlock()
						results := make([]quipu.Result, len(ops))
						p.Do(context.Background(), ops, nil, results)
						mu.Lock()
						if crashed == nil {
							for i := range ops {
								if results[i].Code == quipu.CodeOK {
									acked[ops[i].Name]++
								}
							}
							if crash--; crash == 0 {
								crashed = disk.crash(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(3) * 50, RNG: rng})
							}
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			p.Close()
			s.Close()
			if crashed == nil {
				crashed = disk.crash(vfs.CrashCloneCfg{RNG: rng})
			}
			disk = crashed
		}
	}
}

// script is a workload whose every step is known: plain and keyed adds, items,
// and checkpoints between them, in two lives of the node. The tally is told
// what was sent and what was acknowledged.
func script(cfg Config, tally *tally) error {
	cfg.LogBytes = 1 << 30 // no checkpoints but the script's own
	for life := range scriptLives {
		s, err := Open(cfg)
		if err != nil {
			return err
		}
		p, err := pool.New(pool.Config{Store: s})
		if err != nil {
			return err
		}
		for step := range scriptSteps {
			ops := []quipu.Op{keyedAdd(life, step), {
				Kind: quipu.KindAddItem, Tenant: quipu.DefaultTenant, Name: "items", Item: fmt.Sprint(life, "/", step),
			}}
			for i := range 12 {
				ops = append(ops, add(fmt.Sprint("c", (step*7+i*5)%40), 1, quipu.RequestID{}))
			}
			tally.note(tally.sent, ops, nil)
			results := make([]quipu.Result, len(ops))
			p.Do(context.Background(), ops, nil, results)
			tally.note(tally.acked, ops, results)
			if step%8 == 5 {
				if err := s.checkpoints.checkpoint(); err != nil && !errors.Is(err, syscall.ENOSPC) {
					return err
				}
			}
		}
		p.Close()
		if err := s.Close(); err != nil && !errors.Is(err, syscall.ENOSPC) {
			return err
		}
	}
	return nil
}

const (
	scriptLives = 2
	scriptSteps = 20
)

func keyedAdd(life, step int) quipu.Op {
	return add(fmt.Sprintf("keyed-%d-%d", life, step), 3, quipu.RequestID{Key: fmt.Sprintf("once-%d-%d", life, step)})
}

// tally holds what was sent and what was acknowledged, by name.
type tally struct {
	mu          sync.Mutex
	sent, acked map[string]int64
	out         io.Writer // if not nil, is told every change at once
}

func newTally() *tally { return &tally{sent: map[string]int64{}, acked: map[string]int64{}} }

// note adds the operations that were answered well, or all if results is nil.
func (t *tally) note(to map[string]int64, ops []quipu.Op, results []quipu.Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range ops {
		if results != nil && results[i].Code != quipu.CodeOK {
			continue
		}
		if ops[i].Kind == quipu.KindAddItem {
			to[ops[i].Name]++
		} else {
			to[ops[i].Name] += ops[i].Value
		}
		if t.out != nil {
			what := "sent"
			if results != nil {
				what = "acked"
			}
			fmt.Fprintln(t.out, what, ops[i].Name, to[ops[i].Name])
		}
	}
}

func (t *tally) clone() *tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	return &tally{sent: maps.Clone(t.sent), acked: maps.Clone(t.acked)}
}

// check opens what a crash left and compares it with the tally; then it sends
// every keyed add again, which must count once.
func (t *tally) check(cfg Config) error {
	s, err := Open(cfg)
	if err != nil {
		return fmt.Errorf("open after the crash: %w", err)
	}
	defer s.Close()
	p, err := pool.New(pool.Config{Store: s})
	if err != nil {
		return err
	}
	defer p.Close()
	before := map[string]int64{}
	for name, sent := range t.sent {
		op := quipu.Op{Kind: quipu.KindGet, Tenant: quipu.DefaultTenant, Name: name}
		if name == "items" {
			op.Kind = quipu.KindCount
		}
		r := make([]quipu.Result, 1)
		if err := p.Read(context.Background(), []quipu.Op{op}, r); err != nil {
			return err
		}
		before[name] = r[0].Value
		if v := r[0].Value; v < t.acked[name] || v > sent {
			return fmt.Errorf("%s stands at %d, acknowledged %d, sent %d", name, v, t.acked[name], sent)
		}
	}
	for life := range scriptLives {
		for step := range scriptSteps {
			op := keyedAdd(life, step)
			r := make([]quipu.Result, 1)
			p.Do(context.Background(), []quipu.Op{op}, nil, r)
			if r[0].Code != quipu.CodeOK || r[0].Value != 3 || r[0].Replayed != (before[op.Name] == 3) {
				return fmt.Errorf("%s, which stood at %d, sent again: %+v", op.Name, before[op.Name], r[0])
			}
		}
	}
	return nil
}

// TestCrashAtEveryFileOperation crashes the script before each operation that
// changes a file, with none, half or all of what was not synced kept.
func TestCrashAtEveryFileOperation(t *testing.T) {
	type crash struct {
		disk  *crashDisk
		tally *tally
		op    string
	}
	var mu sync.Mutex
	var crashes []crash
	disk, tally := newCrashDisk(vfs.NewCrashableMem()), newTally()
	rng := rand.New(rand.NewPCG(1, 2))
	fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || op.Kind == errorfs.OpFileClose {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if testing.Short() && len(crashes)%20 != 0 {
			crashes = append(crashes, crash{})
			return nil
		}
		// Acknowledged first, then the disk: what is acknowledged in between
		// must not be asked of it.
		at := tally.clone()
		after := disk.crash(vfs.CrashCloneCfg{UnsyncedDataPercent: len(crashes) % 3 * 50, RNG: rng})
		at.sent = tally.clone().sent
		crashes = append(crashes, crash{after, at, fmt.Sprintf("%d (kind %d, %s)", len(crashes), op.Kind, op.Path)})
		return nil
	}))
	if err := script(testConfig(fs), tally); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, c := range crashes {
		if c.disk == nil {
			continue
		}
		if err := c.tally.check(testConfig(c.disk)); err != nil {
			t.Errorf("crash before file operation %s: %v", c.op, err)
		}
		checked++
	}
	t.Logf("%d of %d crashes checked", checked, len(crashes))
}

// noSpaceEnv tells the test binary, run again as a process of its own, at which
// file operation the disk becomes full.
const noSpaceEnv = "QUIPU_TEST_NO_SPACE_FROM"

// TestNoSpaceAtEveryFileOperation runs the script on a disk that is full from
// the n-th operation that changes a file, for each n: the node refuses or ends;
// with space again it starts and has all that was acknowledged.
func TestNoSpaceAtEveryFileOperation(t *testing.T) {
	dir := os.Getenv("QUIPU_TEST_NO_SPACE_DIR")
	if dir != "" {
		from, _ := strconv.ParseInt(os.Getenv(noSpaceEnv), 10, 64)
		noSpaceChild(dir, from)
	}
	step := 1
	if testing.Short() {
		step = 40
	}
	for n := 1; ; n += step {
		dir := t.TempDir() + "/data"
		cmd := exec.Command(os.Args[0], "-test.run=^TestNoSpaceAtEveryFileOperation$")
		cmd.Env = append(os.Environ(), "QUIPU_TEST_NO_SPACE_DIR="+dir, fmt.Sprintf("%s=%d", noSpaceEnv, n))
		out, _ := cmd.CombinedOutput()
		tally, whole := parseTally(string(out))
		cfg := testConfig(vfs.Default)
		cfg.Dir = dir
		if err := tally.check(cfg); err != nil {
			t.Fatalf("full from operation %d: %v\n%s", n, err, out)
		}
		if whole {
			t.Logf("%d operations", n-1)
			return
		}
	}
}

// noSpaceChild runs the script and prints what is sent and acknowledged as it
// goes: it may end at any point.
func noSpaceChild(dir string, from int64) {
	tally := newTally()
	tally.out = os.Stdout
	var count atomic.Int64
	end := func(err error) {
		if count.Load() < from {
			fmt.Println("whole", err)
		}
		os.Exit(1)
	}
	cfg := testConfig(errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpCreate, errorfs.OpLink, errorfs.OpMkdirAll, errorfs.OpRename, errorfs.OpReuseForWrite,
			errorfs.OpFilePreallocate, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFileSync, errorfs.OpFileSyncData:
			if count.Add(1) >= from {
				return syscall.ENOSPC
			}
		}
		return nil
	})))
	cfg.Dir = dir
	cfg.Fatal = end
	end(script(cfg, tally))
}

// parseTally reads what a child printed; whole tells that its disk never became
// full.
func parseTally(out string) (t *tally, whole bool) {
	t = newTally()
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) > 0 && f[0] == "whole" {
			whole = true
		}
		if len(f) != 3 {
			continue
		}
		v, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			continue
		}
		switch f[0] {
		case "sent":
			t.sent[f[1]] = v
		case "acked":
			t.acked[f[1]] = v
		}
	}
	return t, whole
}

package raftstore

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/pool"
	"github.com/quipudb/quipu/internal/store"
	"github.com/quipudb/quipu/internal/wal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testConfig(fs vfs.FS) Config {
	return Config{
		Dir: "data", NodeName: "n", FS: wal.VFS(fs), SegmentBytes: 64 << 10, LogBytes: 32 << 10, CacheBytes: 1 << 20,
		HandoverOps: 20, FreeSpaceFloorBytes: 1,
	}
}

func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newPool(t testing.TB, s *Store) *pool.Pool {
	t.Helper()
	p, err := pool.New(pool.Config{Store: s})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func add(name string, delta int64, id quipu.RequestID) quipu.Op {
	op := quipu.Op{Kind: quipu.KindAdd, Tenant: quipu.DefaultTenant, Name: name, Value: delta}
	if !id.IsZero() {
		op.Options = &quipu.Options{ID: id}
	}
	return op
}

func do(t testing.TB, p *pool.Pool, ops ...quipu.Op) []quipu.Result {
	t.Helper()
	results := make([]quipu.Result, len(ops))
	p.Do(context.Background(), ops, nil, results)
	return results
}

func TestReopen(t *testing.T) {
	fs := vfs.NewMem()
	ids := quipu.NewIDSource(nil)
	id := ids.Next()
	for life := range int64(5) {
		s := open(t, testConfig(fs))
		p := newPool(t, s)
		for i := range int64(200) {
			if r := do(t, p, add("c", 1, quipu.RequestID{})); r[0].Value != life*200+i+1 {
				t.Fatalf("life %d, add %d: %+v", life, i, r[0])
			}
		}
		r := do(t, p, add("keyed", 5, id))
		if r[0].Value != 5 || r[0].Replayed != (life > 0) {
			t.Fatalf("life %d: keyed add %+v", life, r[0])
		}
		p.Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSegmentsAndCheckpoints: a long load cuts the log and keeps few segments.
func TestSegmentsAndCheckpoints(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, testConfig(fs))
	p := newPool(t, s)
	for i := range 600 {
		do(t, p, add(fmt.Sprint("c", i%100), 1, quipu.RequestID{}))
	}
	p.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := fs.List("data/wal")
	if len(names) > 10 {
		t.Fatalf("the log's folder holds %v", names)
	}
	if s.ledger.Stats().Checkpoints == 0 {
		t.Fatal("no checkpoint was written")
	}
}

// TestFailedWrite: when a write fails whoever waits is told unknown, the node
// is told to end, and a restart has what was acknowledged.
func TestFailedWrite(t *testing.T) {
	mem := vfs.NewMem()
	cfg := testConfig(mem)
	broken := &brokenFS{FS: cfg.FS}
	cfg.FS = broken
	fatal := make(chan error, 1)
	cfg.Fatal = func(err error) { fatal <- err }
	s := open(t, cfg)
	p := newPool(t, s)
	do(t, p, add("c", 1, quipu.RequestID{}))
	broken.mu.Lock()
	broken.broken = true
	broken.mu.Unlock()
	if r := do(t, p, add("c", 1, quipu.RequestID{})); r[0].Code != quipu.CodeUnknown {
		t.Fatalf("the failed one answered %v", r[0].Code)
	}
	if err := <-fatal; err == nil {
		t.Fatal("no reason given")
	}
	if r := do(t, p, add("c", 1, quipu.RequestID{})); r[0].Code != quipu.CodeNotReady {
		t.Fatalf("after the failure: %v", r[0].Code)
	}
	p.Close()
	s.Close()
	s = open(t, testConfig(mem))
	p = newPool(t, s)
	if r := do(t, p, add("c", 1, quipu.RequestID{})); r[0].Value != 2 {
		t.Fatalf("after the restart: %+v", r[0])
	}
	p.Close()
	s.Close()
}

type brokenFS struct {
	wal.FS
	mu     sync.Mutex
	broken bool
}

func (b *brokenFS) OpenDurable(name string) (wal.File, error) {
	f, err := b.FS.OpenDurable(name)
	return brokenFile{f, b}, err
}

type brokenFile struct {
	wal.File
	fs *brokenFS
}

func (f brokenFile) WriteDurable(p []byte, off int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.broken {
		return vfs.ErrUnsupported
	}
	return f.File.WriteDurable(p, off)
}

// TestDiskFull: below the floor writes are refused and go on with room.
func TestDiskFull(t *testing.T) {
	mem := vfs.NewMem()
	cfg := testConfig(mem)
	cfg.FreeSpaceFloorBytes = 1 << 20
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 100 << 20, TotalBytes: 200 << 20})
	s := open(t, cfg)
	p := newPool(t, s)
	do(t, p, add("c", 1, quipu.RequestID{}))
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1000, TotalBytes: 200 << 20})
	s.checkpoints.measure()
	if r := do(t, p, add("c", 1, quipu.RequestID{})); r[0].Code != quipu.CodeDiskFull {
		t.Fatalf("with a full disk: %v", r[0].Code)
	}
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 100 << 20, TotalBytes: 200 << 20})
	s.checkpoints.measure()
	if r := do(t, p, add("c", 1, quipu.RequestID{})); r[0].Value != 2 {
		t.Fatalf("with room again: %+v", r[0])
	}
	p.Close()
	s.Close()
}

// TestExpires: a name is swept though nobody writes.
func TestExpires(t *testing.T) {
	s := open(t, testConfig(vfs.NewMem()))
	p := newPool(t, s)
	op := add("c", 1, quipu.RequestID{})
	op.Options = &quipu.Options{Expiry: quipu.Expiry{Mode: quipu.ExpirySet, Ms: 30}}
	do(t, p, op)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		n, err := p.Size(ctx, quipu.DefaultTenant)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	p.Close()
	s.Close()
}

// TestReopenWithExpired: names whose time came while the node was down are
// swept after the restart, in the incarnation that it begins.
func TestReopenWithExpired(t *testing.T) {
	fs := vfs.NewMem()
	for life := range 20 {
		cfg := testConfig(fs)
		now := time.Now().Add(time.Duration(life) * time.Hour)
		cfg.Now = func() time.Time { return now }
		s := open(t, cfg)
		p := newPool(t, s)
		op := add(fmt.Sprint("c", life), 1, quipu.RequestID{})
		op.Options = &quipu.Options{Expiry: quipu.Expiry{Mode: quipu.ExpirySet, Ms: 1000}}
		if r := do(t, p, op); r[0].Code != quipu.CodeOK {
			t.Fatalf("life %d: %+v", life, r[0])
		}
		for n := int64(2); n > 1; {
			var err error
			if n, err = p.Size(t.Context(), quipu.DefaultTenant); err != nil {
				t.Fatal(err)
			}
		}
		p.Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestList(t *testing.T) {
	s := open(t, testConfig(vfs.NewMem()))
	p := newPool(t, s)
	for i := range 50 {
		do(t, p, add(fmt.Sprintf("c%02d", i), int64(i), quipu.RequestID{}))
	}
	page, err := p.List(context.Background(), store.ListRequest{Tenant: quipu.DefaultTenant, Limit: 20, After: "c09"})
	if err != nil || len(page.Entries) != 20 || page.Entries[0].Name != "c10" || page.Entries[0].Value != 10 || !page.More {
		t.Fatalf("%+v, %v", page, err)
	}
	p.Close()
	s.Close()
}

package raftstore

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/quipudb/quipu/internal/ledger"
	"github.com/quipudb/quipu/internal/store"
	"github.com/quipudb/quipu/internal/storetest"
	"github.com/quipudb/quipu/internal/wal"
)

// TestConformance holds the store to the contract of stores, on a memory disk
// and on the machine's own.
func TestConformance(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		storetest.Run(t, "raft", func(t *testing.T, cfg storetest.Config) *storetest.Subject {
			return subject(t, cfg, testConfig(vfs.NewMem()))
		})
	})
	t.Run("disk", func(t *testing.T) {
		if testing.Short() {
			t.Skip("the machine's own disk is slow")
		}
		storetest.Run(t, "raft", func(t *testing.T, cfg storetest.Config) *storetest.Subject {
			c := testConfig(nil)
			c.FS, c.Dir = wal.DiskFS(), t.TempDir()
			s := subject(t, cfg, c)
			s.Slow = true
			return s
		})
	})
}

func subject(t *testing.T, of storetest.Config, cfg Config) *storetest.Subject {
	faulty := &faultyFS{FS: cfg.FS}
	cfg.FS = faulty
	cfg.Now, cfg.Window, cfg.SkewAllowance = of.Now, of.Window, of.SkewAllowance
	cfg.Fatal = func(error) {} // the process that is to end is the test's own
	s := open(t, cfg)
	t.Cleanup(func() { s.Close() })
	sub := &storetest.Subject{Store: s, Durable: true}
	sub.Begin = func(node string, incarnation [16]byte) error {
		_, err := s.run(ledger.Entry{Type: ledger.EntryBegin, Incarnation: incarnation, Node: node})
		return err
	}
	sub.Apply = func(incarnation [16]byte, number uint64, b *store.Batch) (store.Fate, error) {
		ended := make(chan error, 1)
		j := &job{
			entry: ledger.Entry{Type: ledger.EntryBatch, Incarnation: incarnation, Number: number, Batch: b},
			end:   func(_ uint64, err error) { ended <- err },
		}
		s.enqueue(j, false)
		err := <-ended
		return j.fate, err
	}
	sub.Wake = func() {
		select {
		case s.sweepSoon <- struct{}{}:
		default: // it is told already
		}
	}
	sub.Inject = func(f storetest.Fault) { faulty.next.Store(int32(f)) }
	sub.Restart = func() {
		s.Close()
		s = open(t, cfg)
		sub.Store = s
	}
	return sub
}

// faultyFS has one durable write fail, before it is done or after.
type faultyFS struct {
	wal.FS
	next atomic.Int32
}

var errInjected = errors.New("injected")

func (f *faultyFS) OpenDurable(name string) (wal.File, error) {
	file, err := f.FS.OpenDurable(name)
	return faultyFile{file, f}, err
}

type faultyFile struct {
	wal.File
	fs *faultyFS
}

func (f faultyFile) WriteDurable(p []byte, off int64) error {
	switch storetest.Fault(f.fs.next.Swap(0)) {
	case storetest.FailBefore:
		return errInjected
	case storetest.LoseAnswer:
		if err := f.File.WriteDurable(p, off); err != nil {
			return err
		}
		return errInjected
	}
	return f.File.WriteDurable(p, off)
}

package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// checkpointer writes checkpoints when enough has changed or enough log has
// gathered, and cuts the log behind them. Below the floor of free space it
// starts none, and has writes refused until there is room again.
type checkpointer struct {
	s      *Store
	due    chan struct{}
	behind atomic.Int64 // bytes of entries since the last checkpoint began
	full   atomic.Bool
}

func newCheckpointer(s *Store) *checkpointer {
	c := &checkpointer{s: s, due: make(chan struct{}, 1)}
	c.measure()
	return c
}

// wrote counts the log that lies behind the last checkpoint.
func (c *checkpointer) wrote(bytes int) { c.behind.Add(int64(bytes)) }

// consider asks for a checkpoint if one is due. It is cheap.
func (c *checkpointer) consider() {
	if c.behind.Load() < c.s.cfg.LogBytes && !c.s.ledger.CheckpointDue() {
		return
	}
	select {
	case c.due <- struct{}{}:
	default:
	}
}

// diskFull reports whether free space is below the floor.
func (c *checkpointer) diskFull() bool { return c.full.Load() }

// measurePeriod is how often free space is looked at.
const measurePeriod = 500 * time.Millisecond

// measure looks at the free space.
func (c *checkpointer) measure() {
	usage, err := c.s.cfg.FS.GetDiskUsage(c.s.cfg.Dir)
	if err != nil {
		if !errors.Is(err, vfs.ErrUnsupported) {
			c.s.logger.Warn("free space can't be measured", "dir", c.s.cfg.Dir, "error", err)
		}
		return
	}
	full := usage.AvailBytes < uint64(c.s.cfg.FreeSpaceFloorBytes)
	if was := c.full.Swap(full); was != full {
		if full {
			c.s.logger.Error("free space is below the floor: writes are refused until there is room",
				"dir", c.s.cfg.Dir, "free", usage.AvailBytes, "floor", c.s.cfg.FreeSpaceFloorBytes)
		} else {
			c.s.logger.Info("there is room again: writes go on", "dir", c.s.cfg.Dir, "free", usage.AvailBytes)
			c.consider()
		}
	}
}

// retryAfter is the pause after a checkpoint that failed.
const retryAfter = time.Second

func (c *checkpointer) run() {
	ticker := time.NewTicker(measurePeriod)
	defer ticker.Stop()
	var retry <-chan time.Time
	for {
		select {
		case <-c.due:
		case <-retry:
		case <-ticker.C:
			c.measure()
			continue
		case <-c.s.stop:
			return
		}
		retry = nil
		if c.measure(); c.full.Load() {
			continue // asked again when there is room
		}
		if err := c.checkpoint(); err != nil {
			c.s.logger.Error("checkpoint failed; the former one stands", "error", err, "retry", retryAfter)
			retry = time.After(retryAfter)
		}
	}
}

// checkpoint writes one checkpoint and cuts the log behind it. If we stop
// between the two, the next start replays nothing twice: the ledger tells what
// it holds.
func (c *checkpointer) checkpoint() error {
	began := c.s.cfg.Now()
	bytes := c.behind.Load()
	index, term, err := c.s.ledger.Checkpoint(context.Background())
	if err != nil {
		return err
	}
	c.behind.Add(-bytes)
	if err := c.s.log.Cut(index, term, nil); err != nil {
		return fmt.Errorf("cut the log at entry %d: %w", index, err)
	}
	c.s.logger.Debug("checkpoint", "entry", index, "log_bytes", bytes, "took", c.s.cfg.Now().Sub(began))
	return nil
}

// last writes the checkpoint of an orderly stop, unless there is nothing new
// or no room.
func (c *checkpointer) last() error {
	applied, _ := c.s.ledger.Applied()
	if at, _ := c.s.ledger.CheckpointIndex(); at == applied || c.full.Load() {
		return nil
	}
	return c.checkpoint()
}

package raftstore

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/quipudb/quipu/internal/ledger"
	"github.com/quipudb/quipu/internal/limit"
	"github.com/quipudb/quipu/internal/wal"
)

// Config is what a Store is made of. Only Dir and NodeName are required.
type Config struct {
	// Dir is the data folder, NodeName the node it belongs to.
	Dir      string
	NodeName string
	// FS is the file system of log and state; nil is the machine's own.
	FS wal.FS
	// SegmentBytes is the size of a log segment.
	SegmentBytes int64
	// LogBytes is how much log may lie behind the last checkpoint before the
	// next one starts. It bounds the time of a restart.
	LogBytes int64
	// CacheBytes and CheckpointBytes are ledger.Options'.
	CacheBytes, CheckpointBytes int64
	// FreeSpaceFloorBytes is the free space below which no checkpoint starts
	// and writes are refused.
	FreeSpaceFloorBytes int64
	// HandoverOps is the size of a batch from which on it is written by the
	// log's own goroutine instead of the caller's.
	HandoverOps int
	// Window and SkewAllowance are proposed to the log as settings.
	Window, SkewAllowance time.Duration
	// Now is the clock, time.Now if nil.
	Now func() time.Time
	// ObserveWrite, if not nil, is told of each durable write.
	ObserveWrite func(bytes int, took time.Duration)
	// Fatal is called once when the store can't go on: after a failed write, on
	// damage, on a broken invariant. The process must end; restart recovers.
	Fatal  func(error)
	Logger *slog.Logger
}

const (
	defaultSegmentBytes = 64 << 20
	defaultLogBytes     = 96 << 20 // replayed in one to two seconds
	defaultFloorBytes   = 256 << 20
	defaultHandoverOps  = 1500
)

func (c *Config) defaults() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("no data folder"))
	}
	if c.FS == nil {
		c.FS = wal.DiskFS()
	}
	for _, f := range []struct {
		name      string
		value     *int64
		otherwise int64
	}{
		{"SegmentBytes", &c.SegmentBytes, defaultSegmentBytes},
		{"LogBytes", &c.LogBytes, defaultLogBytes},
		{"FreeSpaceFloorBytes", &c.FreeSpaceFloorBytes, defaultFloorBytes},
	} {
		switch {
		case *f.value < 0:
			errs = append(errs, fmt.Errorf("%s is negative", f.name))
		case *f.value == 0:
			*f.value = f.otherwise
		}
	}
	if c.HandoverOps <= 0 {
		c.HandoverOps = defaultHandoverOps
	}
	if c.Window == 0 {
		c.Window = limit.Window
	}
	if c.SkewAllowance == 0 {
		c.SkewAllowance = limit.SkewAllowance
	}
	if c.Window < time.Second || c.SkewAllowance < 0 {
		errs = append(errs, fmt.Errorf("window %v is below one second, or skew allowance %v negative", c.Window, c.SkewAllowance))
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Fatal == nil {
		c.Fatal = func(err error) { panic(err) }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}

func (c *Config) settings() ledger.Settings {
	return ledger.Settings{WindowMs: c.Window.Milliseconds(), SkewMs: c.SkewAllowance.Milliseconds()}
}

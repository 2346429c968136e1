package node

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/limit"
)

// Config is what a Node is made of. DataDir and NodeName are required; a zero
// value elsewhere means the default.
type Config struct {
	// DataDir is the data folder, NodeName the node it belongs to.
	DataDir  string
	NodeName string
	// HTTPAddr and RESPAddr are the addresses to listen on.
	HTTPAddr, RESPAddr string
	// Flush lets clients of the Redis protocol remove everything (FLUSHDB,
	// FLUSHALL).
	Flush bool
	// Window is how long request ids are remembered, SkewAllowance how far
	// ahead they may be, Deadline how long a caller waits.
	Window, SkewAllowance, Deadline time.Duration
	// CacheBytes bounds what is kept hot in memory, SegmentBytes is the size of
	// a log segment, FreeSpaceFloorBytes the free space below which writes are
	// refused.
	CacheBytes, SegmentBytes, FreeSpaceFloorBytes int64
	// PortableRESP serves the Redis protocol with a goroutine a connection
	// instead of an event loop.
	PortableRESP bool
	Logger       *slog.Logger
	Version      string
}

// Defaults of Config.
const (
	DefaultHTTPAddr = "127.0.0.1:8080"
	DefaultRESPAddr = "127.0.0.1:6380"
	// DefaultFreeSpaceFloorBytes leaves room for a checkpoint and for Pebble's
	// own work.
	DefaultFreeSpaceFloorBytes = 256 << 20
)

func (c *Config) validate() error {
	var errs []error
	if c.DataDir == "" {
		errs = append(errs, errors.New("data: no folder given"))
	}
	if err := quipu.ValidateName(c.NodeName); err != nil {
		errs = append(errs, fmt.Errorf("node: %w", err))
	}
	if c.HTTPAddr == "" {
		c.HTTPAddr = DefaultHTTPAddr
	}
	if c.RESPAddr == "" {
		c.RESPAddr = DefaultRESPAddr
	}
	if c.Window == 0 {
		c.Window = limit.Window
	}
	if c.SkewAllowance == 0 {
		c.SkewAllowance = limit.SkewAllowance
	}
	if c.Deadline == 0 {
		c.Deadline = limit.Deadline
	}
	if c.FreeSpaceFloorBytes == 0 {
		c.FreeSpaceFloorBytes = DefaultFreeSpaceFloorBytes
	}
	for _, d := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{
		{"window", c.Window, time.Second},
		{"skew-allowance", c.SkewAllowance, 0},
		{"deadline", c.Deadline, time.Millisecond},
	} {
		if d.value < d.least {
			errs = append(errs, fmt.Errorf("%s: %v is below %v", d.name, d.value, d.least))
		}
	}
	for _, b := range []struct {
		name  string
		value int64
	}{
		{"cache", c.CacheBytes}, {"segment", c.SegmentBytes}, {"free-space-floor", c.FreeSpaceFloorBytes},
	} {
		if b.value < 0 {
			errs = append(errs, fmt.Errorf("%s: %d bytes is negative", b.name, b.value))
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}

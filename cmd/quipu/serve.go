package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/quipudb/quipu/internal/node"
)

type serveCmd struct {
	Data           string        `help:"Data folder." env:"QUIPU_DATA" default:"./data" placeholder:"DIR"`
	Node           string        `help:"Name of this node (default: the host's name)." env:"QUIPU_NODE" placeholder:"NAME"`
	HTTP           string        `name:"http" help:"Address of HTTP." env:"QUIPU_HTTP" default:"127.0.0.1:8080" placeholder:"ADDR"`
	RESP           string        `name:"resp" help:"Address of the Redis protocol." env:"QUIPU_RESP" default:"127.0.0.1:6380" placeholder:"ADDR"`
	Flush          string        `help:"Serve FLUSHDB and FLUSHALL: on or off." env:"QUIPU_FLUSH" enum:"on,off" default:"on"`
	Window         time.Duration `help:"How long request ids are remembered." env:"QUIPU_WINDOW" default:"24h"`
	SkewAllowance  time.Duration `help:"How far ahead of the node's time a request id may be." env:"QUIPU_SKEW_ALLOWANCE" default:"2h"`
	Deadline       time.Duration `help:"How long a caller waits for an answer." env:"QUIPU_DEADLINE" default:"5s"`
	Cache          int64         `help:"Memory for hot counters, in bytes." env:"QUIPU_CACHE" default:"536870912"`
	Segment        int64         `help:"Size of a log segment, in bytes." env:"QUIPU_SEGMENT" default:"67108864"`
	FreeSpaceFloor int64         `help:"Free disk space below which writes are refused, in bytes." env:"QUIPU_FREE_SPACE_FLOOR" default:"268435456"`
	PortableRESP   bool          `name:"portable-resp" help:"Serve the Redis protocol with a goroutine a connection instead of an event loop." env:"QUIPU_PORTABLE_RESP"`
	LogLevel       string        `help:"What is logged: debug, info, warn or error." env:"QUIPU_LOG_LEVEL" enum:"debug,info,warn,error" default:"info"`
}

// drainTime bounds an orderly stop.
const drainTime = 30 * time.Second

// Run serves until SIGINT or SIGTERM, then drains. A second signal ends the
// process at once, which is equally safe.
func (c *serveCmd) Run(ctx context.Context) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	if c.Node == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("the host has no name; give one with --node: %w", err)
		}
		c.Node = host
	}
	n, err := node.New(node.Config{
		DataDir: c.Data, NodeName: c.Node, HTTPAddr: c.HTTP, RESPAddr: c.RESP, Flush: c.Flush == "on", PortableRESP: c.PortableRESP,
		Window: c.Window, SkewAllowance: c.SkewAllowance, Deadline: c.Deadline,
		CacheBytes: c.Cache, SegmentBytes: c.Segment, FreeSpaceFloorBytes: c.FreeSpaceFloor,
		Logger: logger, Version: buildVersion(),
	})
	if err != nil {
		return explainListen(err)
	}
	if err := n.Start(ctx); err != nil {
		return err
	}
	c.greet(n)
	select {
	case err := <-n.Failed():
		// Nothing more is written; a restart recovers.
		return fmt.Errorf("the node can't go on: %w", err)
	case <-ctx.Done():
	}
	logger.Info("stopping: what was accepted is answered first")
	drain, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	return n.Stop(drain)
}

func (c *serveCmd) greet(n *node.Node) {
	host, port, _ := net.SplitHostPort(n.RESPAddr())
	fmt.Printf(`quipu %s, node %s
  HTTP           http://%s
  Redis protocol %s
  data folder    %s (%s)
try
  curl -X POST http://%s/v1/tenants/default/counters/hits/add -d '{"delta":5}'
  redis-cli -h %s -p %s incr hits
`, buildVersion(), n.Name(), n.HTTPAddr(), n.RESPAddr(), c.Data, n.WriteMethod(), n.HTTPAddr(), host, port)
}

// explainListen says whose an address in use is, and what to do.
func explainListen(err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	what := "--http or QUIPU_HTTP"
	if strings.Contains(err.Error(), "RESP") {
		what = "--resp or QUIPU_RESP"
	}
	whose := "another process"
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Addr != nil {
		whose = holder(op.Addr.String())
	}
	return fmt.Errorf("%w: %s listens there; choose another address with %s", err, whose, what)
}

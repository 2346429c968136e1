// Package node wires the parts of one node: store, pool, meter, edges. It
// starts them bottom-up, so that an edge never serves what is not there, and
// stops them top-down, so that what was accepted is answered before what
// answers it goes:
//
//  1. readiness turns off, so that a balancer sends nothing new;
//  2. the edges stop accepting, and answer what they have read;
//  3. the meter commits the last figures;
//  4. the pool ends what it holds;
//  5. the store writes a checkpoint and closes.
//
// cmd/quipu is the only caller.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quipudb/quipu/internal/httpapi"
	"github.com/quipudb/quipu/internal/nodecounter"
	"github.com/quipudb/quipu/internal/pool"
	"github.com/quipudb/quipu/internal/raftstore"
	"github.com/quipudb/quipu/internal/respapi"
)

// Node is one node. New opens it, Start serves, Stop ends it.
type Node struct {
	cfg     Config
	logger  *slog.Logger
	started time.Time
	metrics *metrics

	store *raftstore.Store
	pool  *pool.Pool
	meter *nodecounter.Meter
	http  *httpapi.Server
	resp  *respapi.Server

	httpListener, respListener net.Listener

	serving  atomic.Bool
	stopping atomic.Bool
	serve    errgroup.Group
	failed   chan error // holds the first failure that ends the node
	stopOnce sync.Once
	stopErr  error
}

// New validates cfg, recovers the data folder and takes the addresses. It
// serves nothing yet.
func New(cfg Config) (*Node, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, logger: cfg.Logger, started: time.Now(), failed: make(chan error, 1)}
	if err := n.open(); err != nil {
		n.closeParts()
		return nil, err
	}
	return n, nil
}

func (n *Node) open() (err error) {
	// Addresses first: a port in use is found before the folder is touched.
	if n.httpListener, err = net.Listen("tcp", n.cfg.HTTPAddr); err != nil {
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	if n.respListener, err = net.Listen("tcp", n.cfg.RESPAddr); err != nil {
		return fmt.Errorf("listen for RESP: %w", err)
	}
	n.metrics = newMetrics(n.cfg.Version)
	n.store, err = raftstore.Open(raftstore.Config{
		Dir: n.cfg.DataDir, NodeName: n.cfg.NodeName, SegmentBytes: n.cfg.SegmentBytes, CacheBytes: n.cfg.CacheBytes,
		FreeSpaceFloorBytes: n.cfg.FreeSpaceFloorBytes, Window: n.cfg.Window, SkewAllowance: n.cfg.SkewAllowance,
		ObserveWrite: n.metrics.observeWrite, Fatal: n.fail, Logger: n.logger,
	})
	if err != nil {
		return err
	}
	n.meter = nodecounter.New(nodecounter.Config{
		Node: n.cfg.NodeName, Sources: n.sources(), TotalRequests: n.requests, Logger: n.logger,
	})
	n.pool, err = pool.New(pool.Config{
		Store: n.store, Deadline: n.cfg.Deadline, Meter: n.meter, Observe: n.metrics.observeBatch, Logger: n.logger,
	})
	if err != nil {
		return err
	}
	if n.resp, err = respapi.New(n.respConfig()); err != nil {
		return err
	}
	if n.http, err = httpapi.New(n.httpConfig()); err != nil {
		return err
	}
	n.metrics.registry.MustRegister(readPool(n.pool), readStore(n.store), n.readEdges())
	return nil
}

// Start serves until Stop or a failure; see Wait.
func (n *Node) Start(context.Context) error {
	n.meter.Start(n.pool)
	n.serve.Go(func() error { return n.ended("RESP", n.resp.Serve(n.respListener)) })
	n.serve.Go(func() error { return n.ended("HTTP", n.http.Serve(n.httpListener)) })
	n.serving.Store(true)
	return nil
}

// ended reports an edge that ended though nobody stopped it.
func (n *Node) ended(edge string, err error) error {
	if n.stopping.Load() {
		return nil
	}
	if err == nil {
		err = errors.New("ended by itself")
	}
	err = fmt.Errorf("serve %s: %w", edge, err)
	n.fail(err)
	return err
}

// fail ends the node for a reason of its own.
func (n *Node) fail(err error) {
	n.serving.Store(false)
	select {
	case n.failed <- err:
	default:
	}
}

// Failed gives the failure that ends the node, if one comes. The process
// should then exit without Stop: after a failed write nothing more is written.
func (n *Node) Failed() <-chan error { return n.failed }

// HTTPAddr and RESPAddr return the addresses bound.
func (n *Node) HTTPAddr() string { return n.httpListener.Addr().String() }
func (n *Node) RESPAddr() string { return n.respListener.Addr().String() }

// Name returns the node's name.
func (n *Node) Name() string { return n.cfg.NodeName }

// Ready returns nil if the node serves, else why not.
func (n *Node) Ready() error {
	switch {
	case n.stopping.Load():
		return errors.New("the node is stopping")
	case !n.serving.Load():
		return errors.New("the node is starting or has failed")
	}
	return n.store.Ready()
}

// Stop drains and closes the node; see the package comment for the order. It
// may be called twice.
func (n *Node) Stop(ctx context.Context) error {
	n.stopOnce.Do(func() { n.stopErr = n.stop(ctx) })
	return n.stopErr
}

func (n *Node) stop(ctx context.Context) error {
	n.stopping.Store(true)
	var edges errgroup.Group
	edges.Go(func() error { return n.http.Shutdown(ctx) })
	edges.Go(func() error { return n.resp.Shutdown(ctx) })
	err := edges.Wait()
	if n.serving.Load() {
		n.serve.Wait()
		n.meter.Stop()
	}
	return errors.Join(err, n.closeParts())
}

// closeParts closes what was opened, top-down.
func (n *Node) closeParts() error {
	if n.pool != nil {
		n.pool.Close()
	}
	var err error
	if n.store != nil {
		err = n.store.Close()
	}
	for _, l := range []net.Listener{n.httpListener, n.respListener} {
		if l != nil {
			l.Close() // closed already where it was served
		}
	}
	return err
}

// WriteMethod says how the log's writes are made durable.
func (n *Node) WriteMethod() string { return n.store.Stats().WriteMethod }

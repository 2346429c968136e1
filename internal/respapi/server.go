// Package respapi is the Redis-protocol edge: RESP2 and RESP3, so that
// redis-cli and any Redis client can be used as they are. docs/resp.md says
// which commands are served and how they differ from Redis 7.0.15.
//
// What one connection sent together is a burst: its operations are one
// submission to the pool, and its answers one write. While a burst is not
// answered the connection is not read further, so that commands of one
// connection keep their order and a client that does not read its answers
// stops being served. A burst of reads is answered from memory at once.
//
// On Linux one event loop on a thread of its own serves all connections
// (loop_linux.go); elsewhere, and with Config.Portable, each has a goroutine
// (conn.go). Both run the same session.
//
// Commands that list, and WATCH, are not part of a burst: the burst before
// them is answered first.
package respapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/limit"
	"github.com/quipudb/quipu/internal/pool"
	"github.com/quipudb/quipu/internal/store"
)

// Backend is what the edge calls; *pool.Pool is one.
type Backend interface {
	Submit(s *pool.Submission)
	SubmitAll(ss []*pool.Submission)
	TryRead(ops []quipu.Op, results []quipu.Result) bool
	Read(ctx context.Context, ops []quipu.Op, results []quipu.Result) error
	List(ctx context.Context, req store.ListRequest) (store.ListPage, error)
	Size(ctx context.Context, tenant string) (int64, error)
	Random(ctx context.Context, tenant string) (string, bool, error)
}

// Config is what a Server is made of. Only Backend is required.
type Config struct {
	Backend Backend
	// Portable gives every connection a goroutine instead of serving all on one
	// event loop, which only Linux has.
	Portable bool
	// Flush serves FLUSHDB and FLUSHALL.
	Flush bool
	// Connections bounds the open connections.
	Connections int
	// WriteTimeout ends a connection whose client does not read its answers.
	WriteTimeout time.Duration
	Now          func() time.Time
	Node         string
	Version      string
	Logger       *slog.Logger
}

// Server serves the Redis protocol.
type Server struct {
	cfg     Config
	table   commandTable
	cursors cursors
	stats   counters

	mu       sync.Mutex
	listener net.Listener
	conns    map[*conn]struct{} // those with a goroutine
	open     int                // all
	loop     *loop              // nil if portable
	stopping bool
	wg       sync.WaitGroup
	lastID   int64
}

// New returns a server that is not serving yet.
func New(cfg Config) (*Server, error) {
	if cfg.Backend == nil {
		return nil, errors.New("respapi: no backend")
	}
	if cfg.Connections <= 0 {
		cfg.Connections = limit.Connections
	}
	if cfg.WriteTimeout <= 0 {
		cfg.WriteTimeout = 30 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, table: makeTable(), conns: make(map[*conn]struct{})}, nil
}

// Stats are figures since the start, monotonic but for Connections.
type Stats struct {
	Connections       int
	Accepted, Refused uint64
	Commands, Errors  uint64
	BytesIn, BytesOut uint64
}

type counters struct {
	accepted, refused, commands, errors, in, out, unknown atomic.Uint64
}

// Stats returns the server's figures.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	n := s.open
	s.mu.Unlock()
	return Stats{
		Connections: n, Accepted: s.stats.accepted.Load(), Refused: s.stats.refused.Load(), Commands: s.stats.commands.Load(),
		Errors: s.stats.errors.Load(), BytesIn: s.stats.in.Load(), BytesOut: s.stats.out.Load(),
	}
}

func (s *Server) port() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return ""
	}
	_, port, _ := net.SplitHostPort(s.listener.Addr().String())
	return port
}

func (s *Server) read(ctx context.Context, ops []quipu.Op, results []quipu.Result) error {
	if s.cfg.Backend.TryRead(ops, results) {
		return nil
	}
	return s.cfg.Backend.Read(ctx, ops, results)
}

// Serve accepts connections until Shutdown; it then returns nil.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listener = l
	stopping := s.stopping
	s.mu.Unlock()
	if stopping {
		l.Close()
		return nil
	}
	if err := s.startLoop(); err != nil {
		return err
	}
	for {
		nc, err := l.Accept()
		if err != nil {
			s.mu.Lock()
			stopping := s.stopping
			s.mu.Unlock()
			if stopping {
				return nil
			}
			if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
				continue
			}
			return err
		}
		s.accept(nc)
	}
}

// startLoop starts the event loop, where there is one.
func (s *Server) startLoop() error {
	if s.cfg.Portable {
		return nil
	}
	l, err := newLoop(s)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loop = l
	s.wg.Go(l.run)
	if s.stopping {
		l.shutdown(false)
	}
	return nil
}

// closed tells that a connection is gone.
func (s *Server) closed() {
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
}

func (s *Server) accept(nc net.Conn) {
	s.mu.Lock()
	full := s.open >= s.cfg.Connections
	if full || s.stopping {
		s.mu.Unlock()
		if full {
			s.stats.refused.Add(1)
			nc.SetWriteDeadline(time.Now().Add(time.Second))
			io.WriteString(nc, "-ERR max number of clients reached\r\n")
		}
		nc.Close()
		return
	}
	s.lastID++
	s.open++
	id, loop := s.lastID, s.loop
	s.mu.Unlock()
	s.stats.accepted.Add(1)
	if loop != nil && loop.add(nc, id) {
		return
	}
	c := newConn(s, nc, id)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	if s.stopping {
		c.stopReading()
	}
	s.mu.Unlock()
	go func() {
		defer s.wg.Done()
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.open--
		s.mu.Unlock()
	}()
}

// Shutdown stops accepting and reading, lets every connection answer what it
// has read, and closes. When ctx ends it closes what is left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	if s.listener != nil {
		s.listener.Close()
	}
	for c := range s.conns {
		c.stopReading()
	}
	loop := s.loop
	s.mu.Unlock()
	if loop != nil {
		loop.shutdown(false)
	}
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.mu.Lock()
		for c := range s.conns {
			c.nc.Close()
		}
		s.mu.Unlock()
		if loop != nil {
			loop.shutdown(true)
		}
		<-done
		return ctx.Err()
	}
}

// cursors remembers where scans stand, for numeric cursors.
type cursors struct {
	mu    sync.Mutex
	next  uint64
	after [maxCursors]struct {
		cursor uint64
		after  string
	}
}

// maxCursors is how many scans a node remembers; older ones are forgotten.
const maxCursors = 4096

func (c *cursors) keep(after string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	at := &c.after[c.next%maxCursors]
	at.cursor, at.after = c.next, after
	return c.next
}

func (c *cursors) find(cursor uint64) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := &c.after[cursor%maxCursors]
	return at.after, at.cursor == cursor
}

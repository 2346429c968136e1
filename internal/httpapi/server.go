// Package httpapi is the HTTP/JSON edge. docs/http.md describes its routes.
//
// A request that writes becomes one submission to the pool; reads go to the
// store. Errors are application/problem+json (RFC 9457) with a stable type,
// the outcome, and whether to retry.
package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/limit"
	"github.com/quipudb/quipu/internal/store"
)

// Backend is what the edge calls; *pool.Pool is one.
type Backend interface {
	Do(ctx context.Context, ops []quipu.Op, groups []store.Group, results []quipu.Result)
	Read(ctx context.Context, ops []quipu.Op, results []quipu.Result) error
	List(ctx context.Context, req store.ListRequest) (store.ListPage, error)
}

// Config is what a Server is made of. Only Backend is required.
type Config struct {
	Backend Backend
	// Ready returns nil if the node serves, else why not.
	Ready func() error
	// Status returns what GET /v1/status tells.
	Status func(context.Context) (any, error)
	// Metrics serves /metrics, Dashboard the page on /.
	Metrics, Dashboard http.Handler
	// Deadline ends a request's wait, Window is for Idempotency-Expires.
	Deadline, Window time.Duration
	// Connections bounds the open connections.
	Connections int
	Now         func() time.Time
	Logger      *slog.Logger
}

// Server serves HTTP.
type Server struct {
	cfg      Config
	handler  http.Handler
	http     *http.Server
	document []byte // /openapi.json
	stats    counters
}

// New returns a server that is not serving yet.
func New(cfg Config) (*Server, error) {
	if cfg.Backend == nil {
		return nil, errors.New("httpapi: no backend")
	}
	if cfg.Ready == nil {
		cfg.Ready = func() error { return nil }
	}
	if cfg.Deadline <= 0 {
		cfg.Deadline = limit.Deadline
	}
	if cfg.Window <= 0 {
		cfg.Window = limit.Window
	}
	if cfg.Connections <= 0 {
		cfg.Connections = limit.Connections
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg}
	s.handler = s.routes()
	s.http = &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    limit.HeaderBytes,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Handler returns the routes, for tests.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve serves until Shutdown; it then returns nil.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(&bounded{Listener: l, places: make(chan struct{}, s.cfg.Connections)})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown stops accepting and lets the requests under way end; when ctx ends
// it closes what is left.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	return err
}

// Stats are figures since the start, monotonic.
type Stats struct {
	Requests     uint64
	ClientErrors uint64 // 4xx
	ServerErrors uint64 // 5xx
	Microseconds uint64
	BytesIn      uint64
	BytesOut     uint64
}

type counters struct {
	requests, client, server, micros, in, out atomic.Uint64
}

// Stats returns the server's figures.
func (s *Server) Stats() Stats {
	c := &s.stats
	return Stats{
		Requests: c.requests.Load(), ClientErrors: c.client.Load(), ServerErrors: c.server.Load(),
		Microseconds: c.micros.Load(), BytesIn: c.in.Load(), BytesOut: c.out.Load(),
	}
}

// bounded accepts no more connections than it has places; others wait in the
// kernel's queue.
type bounded struct {
	net.Listener
	places chan struct{}
}

func (b *bounded) Accept() (net.Conn, error) {
	b.places <- struct{}{}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.places
		return nil, err
	}
	return &boundedConn{Conn: c, free: sync.OnceFunc(func() { <-b.places })}, nil
}

type boundedConn struct {
	net.Conn
	free func()
}

func (c *boundedConn) Close() error {
	c.free()
	return c.Conn.Close()
}

// counted wraps the routes with figures.
func (s *Server) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		cw := &countingWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(cw, r)
		s.stats.requests.Add(1)
		s.stats.micros.Add(uint64(time.Since(began).Microseconds()))
		s.stats.out.Add(uint64(cw.bytes))
		s.stats.in.Add(uint64(max(r.ContentLength, 0)))
		switch {
		case cw.status >= 500:
			s.stats.server.Add(1)
		case cw.status >= 400:
			s.stats.client.Add(1)
		}
	})
}

type countingWriter struct {
	http.ResponseWriter
	status int
	bytes  int
}

func (w *countingWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.bytes += n
	return n, err
}

// Unwrap lets http.ResponseController reach the writer beneath.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

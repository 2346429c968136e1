package respapi

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/limit"
	"github.com/quipudb/quipu/internal/pool"
)

const (
	readBytes = 16 << 10
	// keptBytes is how large a connection's idle buffers may stay.
	keptBytes = 1 << 20
)

// conn serves one connection on a goroutine of its own.
type conn struct {
	session
	nc    net.Conn
	in    []byte // read, not yet served
	start int    // of what is not served
	ended chan struct{}
}

func newConn(s *Server, nc net.Conn, id int64) *conn {
	c := &conn{nc: nc, ended: make(chan struct{}, 1)}
	c.session = session{server: s, id: id, addr: nc.RemoteAddr().String(), tenant: quipu.DefaultTenant}
	c.sub.Done = func(*pool.Submission) { c.ended <- struct{}{} }
	if tc, ok := nc.(*net.TCPConn); ok {
		tc.SetNoDelay(true)
	}
	return c
}

// stopReading ends the connection once it has answered what it has read.
func (c *conn) stopReading() { c.nc.SetReadDeadline(time.Unix(1, 0)) }

func (c *conn) serve() {
	defer c.nc.Close()
	for !c.closing {
		if err := c.fill(); err != nil {
			return
		}
		err := c.bursts()
		if err != nil && !errors.Is(err, errIncomplete) {
			c.out.fail("ERR " + err.Error())
			c.closing = true
		}
		if c.flush() != nil {
			return
		}
	}
}

// fill reads what has come, at least a byte.
func (c *conn) fill() error {
	c.in, c.start = makeRoom(c.in, c.start, readBytes, false), 0
	n, err := c.nc.Read(c.in[len(c.in):cap(c.in)])
	c.in = c.in[:len(c.in)+n]
	c.server.stats.in.Add(uint64(n))
	if n > 0 {
		return nil
	}
	return err
}

// bursts serves all complete commands that were read.
func (c *conn) bursts() error {
	for !c.closing {
		n, alone, args, err := c.gather(c.in[c.start:])
		c.start += n
		c.answer()
		if alone != nil {
			c.runBarrier(alone, args)
		}
		if len(c.out.buf) > limit.PendingAnswerBytes/4 {
			if err := c.flush(); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		if c.start == len(c.in) {
			return errIncomplete
		}
	}
	return errIncomplete
}

// answer commits or reads the burst and renders its replies.
func (c *conn) answer() {
	ops, reads := c.needsStore()
	switch {
	case !ops:
		c.render(nil)
	case reads:
		c.render(c.readAll(context.Background()))
	default:
		c.sub.Requests = max(c.commands, 1)
		c.server.cfg.Backend.Submit(&c.sub)
		<-c.ended
		c.render(c.sub.Results)
	}
}

// flush writes the answers.
func (c *conn) flush() error {
	if len(c.out.buf) == 0 {
		return nil
	}
	c.nc.SetWriteDeadline(time.Now().Add(c.server.cfg.WriteTimeout))
	n, err := c.nc.Write(c.out.buf)
	c.server.stats.out.Add(uint64(n))
	c.out.reset()
	c.begin()
	return err
}

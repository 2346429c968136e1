package respapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quipudb/quipu"
	"github.com/quipudb/quipu/internal/limit"
	"github.com/quipudb/quipu/internal/pool"
)

// loop serves all connections on one thread: it reads every connection that
// has something, hands all their bursts to the pool in one call, which mostly
// commits them on this very thread, and writes the answers. Against a
// goroutine a connection that saves a wake-up and a hop between threads for
// each burst.
//
// A connection has one burst under way at most. Bursts that can't be answered
// at once, since the pool's committer has them, or a list or the disk is read
// on a goroutine, come back through finished; an event descriptor wakes the
// loop only if it sleeps.
//
// Descriptors are registered once, edge-triggered for reading and writing:
// readable and blocked remember what epoll said. All fields but those under mu
// belong to the loop's goroutine.
type loop struct {
	server *Server
	epoll  int
	wakeFD int
	conns  map[int32]*loopConn
	subs   []*pool.Submission // of this round
	taken  []*loopConn

	stopping bool
	leaving  int // connections that are closed, but have a burst under way
	blocked  int // connections whose client does not take its answers

	mu       sync.Mutex
	incoming []*loopConn
	finished []*loopConn
	sleeping bool
	stop     bool
	kill     bool
	exited   bool
}

// loopConn is a connection of the loop.
type loopConn struct {
	session
	loop     *loop
	fd       int
	in       []byte
	start    int  // of what is not served
	full     bool // the last read filled the buffer
	readable bool // epoll told, and it was not read to the end
	hangup   bool // the client has shut its side, or the connection broke
	eof      bool // nothing more is read
	gone     bool // closed, but its burst is under way
	busy     bool // a burst is under way
	results  []quipu.Result

	alone     *command // to run when the burst is answered
	aloneArgs [][]byte
	broken    error // what was parsed last is an error, to be answered after the burst

	written      int // bytes of out
	blockedSince time.Time
}

const (
	loopReadBytes    = 4 << 10
	loopMaxReadBytes = 64 << 10
	loopEvents       = 512
)

func newLoop(s *Server) (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epoll)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	l := &loop{server: s, epoll: epoll, wakeFD: wake, conns: make(map[int32]*loopConn)}
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &ev); err != nil {
		l.closeFDs()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return l, nil
}

func (l *loop) closeFDs() {
	unix.Close(l.epoll)
	unix.Close(l.wakeFD)
}

// add takes a connection over from the net package; false if it has no
// descriptor to take.
func (l *loop) add(nc net.Conn, id int64) bool {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	fd := -1
	if cerr := raw.Control(func(own uintptr) {
		fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0)
	}); cerr != nil || err != nil {
		return false
	}
	c := &loopConn{loop: l, fd: fd}
	c.session = session{server: l.server, id: id, addr: nc.RemoteAddr().String(), tenant: quipu.DefaultTenant}
	c.sub.Done = c.subDone
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	nc.Close()
	l.mu.Lock()
	if l.exited || l.stop {
		l.mu.Unlock()
		unix.Close(fd)
		l.server.closed()
		return true
	}
	l.incoming = append(l.incoming, c)
	l.wake()
	return true
}

// wake makes the loop look at what is under mu, which is held and given back.
func (l *loop) wake() {
	sleeping := l.sleeping
	l.sleeping = false
	l.mu.Unlock()
	if sleeping {
		one := [8]byte{1}
		unix.Write(l.wakeFD, one[:])
	}
}

// shutdown lets every connection answer what it has read; kill closes them.
func (l *loop) shutdown(kill bool) {
	l.mu.Lock()
	if l.exited {
		l.mu.Unlock()
		return
	}
	l.stop = true
	l.kill = l.kill || kill
	l.wake()
}

// subDone is the pool's answer to a burst.
func (c *loopConn) subDone(*pool.Submission) {
	c.results = c.sub.Results
	c.finish()
}

// finish brings a connection back to the loop, from any goroutine.
func (c *loopConn) finish() {
	l := c.loop
	l.mu.Lock()
	l.finished = append(l.finished, c)
	l.wake()
}

// run serves until shutdown.
func (l *loop) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var events [loopEvents]unix.EpollEvent
	for {
		n, err := unix.EpollWait(l.epoll, events[:], l.timeout())
		if err != nil && !errors.Is(err, unix.EINTR) {
			l.server.cfg.Logger.Error("epoll", "error", err)
		}
		for i := range max(n, 0) {
			l.event(&events[i])
		}
		l.submit()
		for l.takeOver() {
			l.submit()
		}
		if l.blocked > 0 {
			l.dropBlocked()
		}
		if l.stopping && len(l.conns)+l.leaving == 0 && l.exit() {
			return
		}
	}
}

// exit ends the loop unless something has come in.
func (l *loop) exit() bool {
	l.mu.Lock()
	if len(l.incoming)+len(l.finished) > 0 {
		l.mu.Unlock()
		return false
	}
	l.exited = true
	l.mu.Unlock()
	l.closeFDs()
	return true
}

// timeout is how long epoll may wait: not at all if something has come in.
func (l *loop) timeout() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.incoming)+len(l.finished) > 0 || (l.stop && !l.stopping) {
		return 0
	}
	l.sleeping = true
	if l.blocked > 0 {
		return 1000
	}
	return -1
}

func (l *loop) event(ev *unix.EpollEvent) {
	if ev.Fd == int32(l.wakeFD) {
		var b [8]byte
		unix.Read(l.wakeFD, b[:])
		return
	}
	c := l.conns[ev.Fd]
	if c == nil {
		return
	}
	if ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.readable = true
		c.hangup = c.hangup || ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
	}
	if ev.Events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 && !c.blockedSince.IsZero() {
		c.unblock()
	}
	c.step()
}

// submit hands the round's bursts to the pool.
func (l *loop) submit() {
	if len(l.subs) == 0 {
		return
	}
	l.server.cfg.Backend.SubmitAll(l.subs)
	clear(l.subs)
	l.subs = l.subs[:0]
}

// takeOver serves what has come in from other goroutines, and tells whether
// there was anything.
func (l *loop) takeOver() bool {
	l.mu.Lock()
	l.sleeping = false
	incoming := l.incoming
	l.incoming = nil
	l.taken, l.finished = l.finished, l.taken[:0]
	stop, kill := l.stop, l.kill
	l.mu.Unlock()
	for _, c := range incoming {
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(c.fd)}
		l.conns[int32(c.fd)] = c
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, c.fd, &ev); err != nil {
			l.server.cfg.Logger.Error("epoll", "error", err)
			c.close()
		}
	}
	for i, c := range l.taken {
		l.taken[i] = nil
		c.finished()
	}
	if stop && (!l.stopping || kill) {
		l.stopping = true
		for _, c := range l.conns {
			c.eof = true
			if kill {
				c.close()
			} else {
				c.step()
			}
		}
	}
	return len(incoming)+len(l.taken) > 0
}

// dropBlocked closes connections whose client has not taken its answers for
// too long.
func (l *loop) dropBlocked() {
	now := time.Now()
	for _, c := range l.conns {
		if !c.blockedSince.IsZero() && now.Sub(c.blockedSince) > l.server.cfg.WriteTimeout {
			c.close()
		}
	}
}

// close closes the connection; one with a burst under way is forgotten when
// that has ended.
func (c *loopConn) close() {
	c.gone = true
	c.unblock()
	delete(c.loop.conns, int32(c.fd))
	unix.Close(c.fd) // leaves epoll with it
	if c.busy {
		c.loop.leaving++
		return
	}
	c.server.closed()
}

func (c *loopConn) unblock() {
	if !c.blockedSince.IsZero() {
		c.blockedSince = time.Time{}
		c.loop.blocked--
	}
}

// finished goes on with a connection whose burst, list or read has ended.
func (c *loopConn) finished() {
	c.busy = false
	if c.gone {
		c.loop.leaving--
		c.server.closed()
		return
	}
	if c.aloneArgs != nil && c.alone == nil {
		c.aloneArgs = nil // its answer is in out
	} else {
		c.render(c.results)
	}
	c.step()
}

// step serves the connection as far as it goes without waiting.
func (c *loopConn) step() {
	for !c.busy && !c.gone && c.blockedSince.IsZero() {
		switch {
		case c.alone != nil:
			c.runAlone()
		case c.broken != nil:
			c.out.fail("ERR " + c.broken.Error())
			c.broken, c.closing = nil, true
		case c.closing:
			if c.flush() {
				c.close()
			}
			return
		case len(c.out.buf) > limit.PendingAnswerBytes/4:
			if !c.flush() {
				return
			}
		case c.start < len(c.in) && c.burst():
		case !c.flush():
			return
		case !c.fill():
			if c.eof && !c.gone {
				c.close()
			}
			return
		}
	}
}

// burst plans what was read and begins its answer; false if no command is
// complete.
func (c *loopConn) burst() bool {
	n, alone, args, err := c.gather(c.in[c.start:])
	c.start += n
	c.alone = alone
	if alone != nil {
		c.aloneArgs = args
	}
	if err != nil && !errors.Is(err, errIncomplete) {
		c.broken = err
	}
	ops, reads := c.needsStore()
	switch {
	case !ops:
		c.render(nil)
	case reads:
		c.read()
	default:
		c.busy = true
		c.sub.Requests = max(c.commands, 1)
		c.loop.subs = append(c.loop.subs, &c.sub)
	}
	return n > 0 || c.broken != nil
}

// read answers a burst of reads, from memory or on a goroutine.
func (c *loopConn) read() {
	c.results = slices.Grow(emptied(c.results), len(c.sub.Ops))[:len(c.sub.Ops)]
	clear(c.results)
	if c.server.cfg.Backend.TryRead(c.sub.Ops, c.results) {
		c.render(c.results)
		return
	}
	c.busy = true
	go func() {
		c.readCold(context.Background(), c.results)
		c.finish()
	}()
}

// runAlone runs a command that may wait for the disk on a goroutine.
func (c *loopConn) runAlone() {
	alone, args := c.alone, c.aloneArgs
	c.alone = nil
	c.busy = true
	go func() {
		c.runBarrier(alone, args)
		c.finish()
	}()
}

// fill reads what has come; false if there is nothing to serve.
func (c *loopConn) fill() bool {
	if c.eof || !c.readable {
		return false
	}
	c.in, c.start = makeRoom(c.in, c.start, loopReadBytes, c.full && cap(c.in) < loopMaxReadBytes), 0
	space := c.in[len(c.in):cap(c.in)]
	n, err := unix.Read(c.fd, space)
	switch {
	case errors.Is(err, unix.EINTR):
		return c.fill()
	case errors.Is(err, unix.EAGAIN):
		c.readable = false
		return false
	case err != nil || n <= 0:
		c.eof = true
		return false
	}
	c.in = c.in[:len(c.in)+n]
	c.server.stats.in.Add(uint64(n))
	c.full = n == len(space)
	if !c.full && !c.hangup {
		c.readable = false // epoll tells of what comes after a short read
	}
	return true
}

// flush writes the answers; false if the client does not take them, or is gone.
func (c *loopConn) flush() bool {
	for c.written < len(c.out.buf) {
		n, err := unix.Write(c.fd, c.out.buf[c.written:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			c.blockedSince = time.Now()
			c.loop.blocked++
			return false
		case err != nil:
			c.close()
			return false
		}
		c.written += n
		c.server.stats.out.Add(uint64(n))
	}
	c.written = 0
	c.out.reset()
	c.begin()
	return true
}

package e2e

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy stands between clients that send one request at a time, in one piece,
// and a server. It loses some requests, which never reach the server, and some
// answers, after the server has given them; either breaks the connection.
type proxy struct {
	t        *testing.T
	listener net.Listener
	server   string
	wg       sync.WaitGroup

	mu    sync.Mutex
	rng   *rand.Rand
	conns []net.Conn

	requests, answers atomic.Int64
}

func newProxy(t *testing.T, server string, seed uint64) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, listener: l, server: server, rng: rand.New(rand.NewPCG(seed, 3))}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns = append(p.conns, c)
			p.mu.Unlock()
			p.wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// lost returns how many requests and answers were lost.
func (p *proxy) lost() (requests, answers int64) { return p.requests.Load(), p.answers.Load() }

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		p.t.Error(err)
		return
	}
	defer server.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		fate := p.rng.IntN(10)
		p.mu.Unlock()
		if fate == 0 {
			p.requests.Add(1)
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			p.t.Error(err)
			return
		}
		if n, err = server.Read(buf); err != nil {
			p.t.Error(err)
			return
		}
		if fate == 1 {
			p.answers.Add(1)
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

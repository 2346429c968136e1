package e2e

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/quipudb/quipu"
)

// load is what clients of both edges have sent and been told, each counting on
// the counter of its edge.
type load struct {
	sent, acked map[string]*atomic.Int64
	cut         atomic.Int64 // answers that broke off in the middle
	all         atomic.Int64 // answers
	wg          sync.WaitGroup
}

// load starts clients that add until their connection breaks, and closes enough
// after so many answers.
func (s *server) load(clients int, until int64, enough chan struct{}) *load {
	l := &load{sent: map[string]*atomic.Int64{}, acked: map[string]*atomic.Int64{}}
	for _, edge := range []string{"http", "resp"} {
		sent, acked := new(atomic.Int64), new(atomic.Int64)
		l.sent[edge], l.acked[edge] = sent, acked
		for range clients {
			c := s.caller(edge)
			l.wg.Go(func() {
				defer c.close()
				for {
					sent.Add(1)
					res, err := c.call(add(edge, 1), "")
					if errors.Is(err, errNotSent) {
						sent.Add(-1)
						return
					}
					if err != nil {
						if c.read > 0 {
							l.cut.Add(1)
						}
						return
					}
					if res.Code == quipu.CodeOK {
						acked.Add(1)
					}
					if l.all.Add(1) == until {
						close(enough)
					}
				}
			})
		}
	}
	return l
}

// TestDrain: SIGTERM under load. What was acknowledged is there after the next
// start, and nothing else: what was read was answered. No answer breaks off in
// the middle, and the process exits with 0.
func TestDrain(t *testing.T) {
	cycles := 10
	if testing.Short() {
		cycles = 2
	}
	s := newServer(t)
	total := map[string]int64{}
	for cycle := range cycles {
		s.start()
		enough := make(chan struct{})
		l := s.load(8, int64(200+100*cycle), enough)
		<-enough
		s.cmd.Process.Signal(syscall.SIGTERM)
		l.wg.Wait()
		if err := s.cmd.Wait(); err != nil {
			t.Fatalf("cycle %d: the process ended with %v\n%s", cycle, err, s.out.String())
		}
		s.cmd = nil
		if n := l.cut.Load(); n > 0 {
			t.Errorf("cycle %d: %d answers broke off in the middle", cycle, n)
		}
		s.start()
		for edge := range l.sent {
			acked := l.acked[edge].Load()
			total[edge] += acked
			if v := s.get(edge); v != total[edge] {
				t.Errorf("cycle %d: %s stands at %d; acknowledged %d, in this cycle %d of %d", cycle, edge, v, total[edge], acked, l.sent[edge].Load())
				total[edge] = v
			}
		}
		s.kill()
	}
}

// TestDiskErrors: the kernel answers EIO to the log's writes from the n-th on.
// The process ends with a clear error, no call in flight is answered as
// success, and a restart has all that was acknowledged.
func TestDiskErrors(t *testing.T) {
	if testing.Short() || os.Getenv("QUIPU_WITHOUT_STRACE") != "" {
		t.Skip("needs strace")
	}
	const calls = "pwrite64,pwritev,pwritev2,fdatasync,fsync"
	for _, when := range []string{"1+", "5", "20+", "60", "200+", "500"} {
		t.Run("from "+when, func(t *testing.T) {
			s := newServer(t)
			s.start()
			s.kill() // the folder is there, and has a log to go on with
			s.wrap = []string{"strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + calls, "-e", "inject=" + calls + ":error=EIO:when=" + when}
			s.launch()
			exited := make(chan error, 1)
			cmd := s.cmd
			go func() { exited <- cmd.Wait() }()
			s.cmd = nil // its end is awaited here
			t.Cleanup(func() { cmd.Process.Kill() })
			var err error
			l := &load{}
			if s.awaitReady(exited, &err) {
				l = s.load(3, 1<<40, nil)
				err = <-exited
				l.wg.Wait()
			}
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Errorf("the process ended with %v, want exit code 1", err)
			}
			if out := s.out.String(); !strings.Contains(out, "input/output error") {
				t.Errorf("the reason is not told:\n%s", out)
			}
			if n := l.cut.Load(); n > 0 {
				t.Errorf("%d answers broke off in the middle", n)
			}
			s.wrap = nil
			s.start()
			for edge := range l.sent {
				acked, sent := l.acked[edge].Load(), l.sent[edge].Load()
				t.Logf("%s: %d of %d acknowledged", edge, acked, sent)
				if v := s.get(edge); v < acked || v > sent {
					t.Errorf("%s stands at %d; acknowledged %d, sent %d", edge, v, acked, sent)
				}
			}
		})
	}
}

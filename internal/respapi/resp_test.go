package respapi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quipudb/quipu/internal/memstore"
	"github.com/quipudb/quipu/internal/pool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func serve(t testing.TB, portable bool, edit func(*Config)) (addr string, s *Server) {
	t.Helper()
	p, err := pool.New(pool.Config{Store: memstore.New(memstore.Config{})})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Backend: p, Flush: true, Portable: portable}
	if edit != nil {
		edit(&cfg)
	}
	s, err = New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		p.Close()
	})
	return l.Addr().String(), s
}

// onBoth runs a test on the event loop and with a goroutine a connection.
func onBoth(t *testing.T, test func(t *testing.T, portable bool)) {
	t.Run("loop", func(t *testing.T) { test(t, false) })
	t.Run("portable", func(t *testing.T) { test(t, true) })
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// talk sends a text, commands by line, and returns the raw answer until the
// connection has answered PING with a token.
func talk(t testing.TB, c net.Conn, lines string) string {
	t.Helper()
	if _, err := io.WriteString(c, lines+"\r\nECHO --end--\r\n"); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	buf := make([]byte, 4096)
	for !strings.HasSuffix(out.String(), "$7\r\n--end--\r\n") {
		n, err := c.Read(buf)
		out.Write(buf[:n])
		if err != nil {
			t.Fatalf("%v after %q", err, out.String())
		}
	}
	return strings.ReplaceAll(strings.TrimSuffix(out.String(), "$7\r\n--end--\r\n"), "\r\n", " ")
}

// TestDialogue: each row is sent at once on a fresh database.
func TestDialogue(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		addr, _ := serve(t, portable, nil)
		for _, row := range []struct{ send, want string }{
			{"INCR a\r\nGET a\r\nINCR a", ":1 $1 1 :2 "},
			{"SET a 5\r\nINCRBY a 10\r\nDECRBY a 3\r\nDECR a\r\nGET a", "+OK :15 :12 :11 $2 11 "},
			{"SET a x", "-ERR value is not an integer or out of range "},
			{"SET a 1 NX\r\nSET a 2 NX\r\nSET a 3 XX GET\r\nGET a", "+OK $-1 $1 1 $1 3 "},
			{"SET a 1 EX 100\r\nTTL a\r\nPERSIST a\r\nTTL a\r\nTTL none", "+OK :100 :1 :-1 :-2 "},
			{"SET a 1 EX 0", "-ERR invalid expire time in 'set' command "},
			{"SETNX a 1\r\nSETNX a 2\r\nGETSET a 3\r\nGETDEL a\r\nGET a", ":1 :0 $1 1 $1 3 $-1 "},
			{"MSET a 1 b 2\r\nMGET a b c\r\nMSETNX c 1 a 1\r\nMSETNX c 1 d 1\r\nEXISTS a b c d e", "+OK *3 $1 1 $1 2 $-1 :0 :1 :4 "},
			{"SADD s x y x\r\nSCARD s\r\nSISMEMBER s x\r\nSMISMEMBER s x z\r\nSREM s x y\r\nEXISTS s", ":2 :2 :1 *2 :1 :0 :2 :0 "},
			{"SADD s x\r\nINCR s\r\nTYPE s\r\nGET s\r\nSET s 1\r\nTYPE s", ":1 -WRONGTYPE Operation against a key holding the wrong kind of value +set -WRONGTYPE Operation against a key holding the wrong kind of value +OK +string "},
			{"SET a 9223372036854775807\r\nINCR a\r\nGET a", "+OK -ERR increment or decrement would overflow $19 9223372036854775807 "},
			{"MULTI\r\nINCR a\r\nSET b x\r\nGET a\r\nEXEC", "+OK +QUEUED +QUEUED +QUEUED *3 :1 -ERR value is not an integer or out of range $1 1 "},
			{"MULTI\r\nINCR\r\nEXEC", "+OK -ERR wrong number of arguments for 'incr' command -EXECABORT Transaction discarded because of previous errors. "},
			{"EXEC\r\nDISCARD\r\nMULTI\r\nMULTI\r\nDISCARD", "-ERR EXEC without MULTI -ERR DISCARD without MULTI +OK -ERR MULTI calls can not be nested +OK "},
			{"SET w 1\r\nWATCH w v\r\nSET w 2\r\nMULTI\r\nINCR w\r\nEXEC\r\nGET w", "+OK +OK +OK +OK +QUEUED *-1 $1 2 "},
			{"SET w 1\r\nWATCH w v\r\nMULTI\r\nINCR w\r\nEXEC\r\nGET w", "+OK +OK +OK +QUEUED *1 :2 $1 2 "},
			{"INCREX a BYINT 5 UBOUND 7\r\nINCREX a BYINT 5 UBOUND 7\r\nINCREX a BYINT 5 UBOUND 7 SATURATE", "*2 :5 :5 *2 :5 :0 *2 :7 :2 "},
			{"QUIPU.ONCE k1 INCR a\r\nQUIPU.ONCE k1 INCR a\r\nQUIPU.ONCE k1 REPLAYED INCR a\r\nQUIPU.ONCE k1 INCRBY a 2\r\nGET a", ":1 :1 *2 :1 :1 -IDREUSED the request id was used before for another operation on this key $1 1 "},
			{"QUIPU.ONCE k1 GET a", "-ERR QUIPU.ONCE takes a command that writes, not 'get' "},
			{"MSET k1 1 k2 2 x 3\r\nDBSIZE\r\nSCAN 0 MATCH k* COUNT 100\r\nKEYS x*", "+OK :3 *2 $1 0 *2 $2 k1 $2 k2 *1 $1 x "},
			{"SELECT _node\r\nINCR a\r\nSELECT 0", "+OK -ERR tenants whose name begins with _ can't be written +OK "},
			{"FOO a b", "-ERR unknown command 'FOO', with args beginning with: 'a' 'b'  "},
			{"EXPIRE a 10\r\nINCR a\r\nEXPIRE a 10 NX\r\nEXPIRE a 5 GT\r\nEXPIRE a 20 GT\r\nEXPIRE a -1\r\nEXISTS a", ":0 :1 :1 :0 :1 :1 :0 "},
		} {
			c := dial(t, addr)
			if got := talk(t, c, "FLUSHALL\r\n"+row.send); got != "+OK "+row.want {
				t.Errorf("sent %q\n got %q\nwant %q", row.send, got, "+OK "+row.want)
			}
		}
	})
}

// TestChunks: the same commands give the same answers however they arrive.
func TestChunks(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		addr, _ := serve(t, portable, nil)
		const send = "*2\r\n$4\r\nINCR\r\n$1\r\na\r\nINCR a\r\n*3\r\n$4\r\nSADD\r\n$1\r\ns\r\n$2\r\n\xc3\xa9\r\n*1\r\n$4\r\nPING\r\n"
		for _, size := range []int{1, 2, 3, 7, 1000} {
			c := dial(t, addr)
			talk(t, c, "FLUSHALL")
			for i := 0; i < len(send); i += size {
				io.WriteString(c, send[i:min(i+size, len(send))])
			}
			if got, want := talk(t, c, ""), ":1 :2 :1 +PONG "; got != want {
				t.Fatalf("in chunks of %d: got %q, want %q", size, got, want)
			}
		}
	})
}

func TestProtocolErrors(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		addr, _ := serve(t, portable, nil)
		for _, row := range []struct{ send, want string }{
			{"*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
			{"*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
			{"*1\r\n:1\r\n", "-ERR Protocol error: expected '$', got ':'\r\n"},
			{"*99999999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
			{"GET \"a\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"},
			{"PING\r\n*1\r\n$x\r\n", "+PONG\r\n-ERR Protocol error: invalid bulk length\r\n"},
		} {
			c := dial(t, addr)
			io.WriteString(c, row.send)
			got, err := io.ReadAll(c)
			if err != nil || string(got) != row.want {
				t.Errorf("sent %q: got %q, %v; want %q", row.send, got, err, row.want)
			}
		}
	})
}

// TestLongPipeline: ten megabytes in one go are answered in full.
func TestLongPipeline(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		addr, _ := serve(t, portable, nil)
		c := dial(t, addr)
		const n = 300_000
		go func() {
			w := bufio.NewWriter(c)
			for range n {
				io.WriteString(w, "*2\r\n$4\r\nINCR\r\n$10\r\nabcdefghij\r\n")
			}
			w.Flush()
		}()
		r := bufio.NewReader(c)
		var last string
		for range n {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			last = line
		}
		if last != ":300000\r\n" {
			t.Fatalf("the last answer is %q", last)
		}
	})
}

func TestTooManyConnections(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		addr, _ := serve(t, portable, func(c *Config) { c.Connections = 2 })
		for range 2 {
			talk(t, dial(t, addr), "PING")
		}
		got, _ := io.ReadAll(dial(t, addr))
		if string(got) != "-ERR max number of clients reached\r\n" {
			t.Fatalf("got %q", got)
		}
	})
}

// TestConcurrent: many connections count exactly, by bursts, with lists and
// reads between them.
func TestConcurrent(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		addr, _ := serve(t, portable, nil)
		const conns, rounds, burst = 40, 50, 16
		var wg sync.WaitGroup
		for i := range conns {
			c := dial(t, addr)
			wg.Go(func() {
				send := strings.Repeat("INCR hot\r\n", burst-2) + fmt.Sprintf("GET own%d\r\nINCR own%d\r\n", i, i)
				if i%10 == 0 {
					send += "DBSIZE\r\n"
				}
				r := bufio.NewReader(c)
				for n := range rounds {
					io.WriteString(c, send)
					for range burst - 2 {
						r.ReadString('\n')
					}
					if line, _ := r.ReadString('\n'); line != "$-1\r\n" {
						r.ReadString('\n')
					}
					if line, err := r.ReadString('\n'); line != fmt.Sprintf(":%d\r\n", n+1) {
						t.Errorf("connection %d, round %d: %q, %v", i, n, line, err)
						return
					}
					if i%10 == 0 {
						r.ReadString('\n')
					}
				}
			})
		}
		wg.Wait()
		want := strconv.Itoa(conns * rounds * (burst - 2))
		if got := talk(t, dial(t, addr), "GET hot"); got != fmt.Sprintf("$%d %s ", len(want), want) {
			t.Fatalf("got %q, want %s", got, want)
		}
	})
}

// TestUnreadAnswers: a client that does not read its answers is no longer
// served, hinders nobody, and is dropped in the end.
func TestUnreadAnswers(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		addr, s := serve(t, portable, func(c *Config) { c.WriteTimeout = time.Second })
		c := dial(t, addr)
		stuck := make(chan error, 1)
		go func() {
			send := []byte(strings.Repeat("ECHO "+strings.Repeat("x", 1000)+"\r\n", 1000))
			for {
				if _, err := c.Write(send); err != nil {
					stuck <- err
					return
				}
			}
		}()
		if got := talk(t, dial(t, addr), "INCR a"); got != ":1 " {
			t.Fatalf("beside it: %q", got)
		}
		if err := <-stuck; errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("it was not dropped: %v", err)
		}
		if st := s.Stats(); st.BytesOut > 100<<20 {
			t.Fatalf("%d bytes were sent", st.BytesOut)
		}
	})
}

// TestShutdown: what was read is answered, idle connections are closed.
func TestShutdown(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		addr, s := serve(t, portable, nil)
		idle, half := dial(t, addr), dial(t, addr)
		talk(t, idle, "INCR a")
		io.WriteString(half, "*2\r\n$4\r\nINCR")
		for s.Stats().BytesIn < 34 {
			time.Sleep(time.Millisecond)
		}
		if err := s.Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
		for _, c := range []net.Conn{idle, half} {
			if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil {
				t.Errorf("after the end: %q, %v", rest, err)
			}
		}
		if st := s.Stats(); st.Connections != 0 {
			t.Errorf("%d connections are left", st.Connections)
		}
	})
}

// TestHalfClosed: what a client sent before it shut its side is answered.
func TestHalfClosed(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		addr, _ := serve(t, portable, nil)
		for range 50 {
			c := dial(t, addr)
			io.WriteString(c, "PING\r\nINCR a\r\nKEYS none\r\nPING\r\n")
			c.(*net.TCPConn).CloseWrite()
			got, err := io.ReadAll(c)
			if err != nil || !strings.HasPrefix(string(got), "+PONG\r\n:") || !strings.HasSuffix(string(got), "\r\n*0\r\n+PONG\r\n") {
				t.Fatalf("got %q, %v", got, err)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("*2\r\n$3\r\nGET\r\n$1\r\na\r\n"))
	f.Add([]byte("SET \"a\\x41\" 'b'\r\n"))
	f.Add([]byte("*1000000\r\n$99999999\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		args, n, err := new(parser).parse(data, nil)
		// Byte by byte the answer is the same.
		var p parser
		for end := range len(data) + 1 {
			some, m, perr := p.parse(data[:end:end], nil)
			if errors.Is(perr, errIncomplete) && end < len(data) {
				continue
			}
			if m != n && perr == nil || err == nil && (perr != nil || !slices.EqualFunc(some, args, bytes.Equal)) {
				t.Fatalf("with %d bytes: %q, %d, %v; at once: %q, %d, %v", end, some, m, perr, args, n, err)
			}
			break
		}
		if err != nil {
			return
		}
		if n <= 0 || n > len(data) {
			t.Fatalf("took %d of %d bytes", n, len(data))
		}
		again, m, err := new(parser).parse(append(data[:n:n], "more"...), nil)
		if err != nil || m != n || len(again) != len(args) {
			t.Fatalf("what follows changes the command: %v, %d and %d bytes", err, n, m)
		}
	})
}

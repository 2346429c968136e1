package respapi

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"
)

// startRedis starts a redis-server that keeps nothing.
func startRedis(t *testing.T) (addr string) {
	t.Helper()
	if os.Getenv("QUIPU_WITHOUT_REDIS") != "" {
		t.Skip("redis-server is missing; make test says how to get it")
	}
	if _, err := exec.LookPath("redis-server"); err != nil && testing.Short() {
		t.Skip("redis-server is missing")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatalf("start redis-server: %v", err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 600 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return addr
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("redis-server did not start within 30 s")
	return ""
}

// readReply reads one RESP2 reply as it came. Members of arrays are sorted if
// unordered.
func readReply(r *bufio.Reader, unordered bool) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
	switch {
	case line[0] == '$' && n >= 0:
		body := make([]byte, n+2)
		_, err = io.ReadFull(r, body)
		return line + string(body), err
	case line[0] == '*':
		var parts []string
		for range n {
			p, err := readReply(r, unordered)
			if err != nil {
				return "", err
			}
			parts = append(parts, p)
		}
		if unordered {
			sort.Strings(parts)
		}
		return line + strings.Join(parts, ""), nil
	}
	return line, nil
}

// randomCommand makes a command that both servers serve alike. What they are
// known to answer differently (docs/resp.md) is not made: floats and texts as
// values, relative times (the two clocks differ by the round trip), scans, WATCH (of an
// absent key it may abort where Redis does not).
func randomCommand(rng *rand.Rand) []string {
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	counter := func() string { return pick("a", "b", "c", "d", "s1") }
	set := func() string { return pick("s1", "s2", "s3", "s2", "s3", "a") }
	any := func() string { return pick("a", "b", "c", "d", "s1", "s2", "s3", "none") }
	member := func() string { return pick("x", "y", "z", "1", "2", "\xc3\xa9", "a long member of a set") }
	delta := func() string {
		return pick("1", "-1", "5", "100", "-7", "0", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "x", "1.5", "", " 1", "01", "+1", "-0")
	}
	value := func() string { return pick("0", "1", "-3", "10", "9223372036854775807", "-9223372036854775808") }
	at := func() string {
		return pick("4102444800", "4102444801", "4102444799", "1", "0", "-5", "x", "9223372036854775807")
	}
	atMs := func() string {
		return pick("4102444800000", "4102444801234", "1", "-5", "x", "9223372036854775807")
	}
	many := func(f func() string, n int) (out []string) {
		for range 1 + rng.IntN(n) {
			out = append(out, f())
		}
		return out
	}
	with := func(head []string, tail ...string) []string { return append(head, tail...) }
	switch rng.IntN(35) {
	case 0, 1:
		return []string{pick("INCR", "decr"), counter()}
	case 2, 3:
		return []string{pick("INCRBY", "DecrBy"), counter(), delta()}
	case 4:
		return []string{"GET", any()}
	case 5:
		return with([]string{"SET", any(), value()}, many(func() string { return pick("NX", "XX", "GET", "KEEPTTL", "bad") }, 2)...)
	case 6:
		return []string{"SET", any(), value()}
	case 7:
		return []string{"SET", counter(), value(), pick("EXAT", "exat"), at()}
	case 8:
		return []string{"SET", counter(), value(), "PXAT", atMs()}
	case 9:
		return []string{pick("SETNX", "GETSET"), any(), value()}
	case 10:
		return []string{"GETDEL", any()}
	case 11:
		return with([]string{"MGET"}, many(any, 4)...)
	case 12:
		return []string{pick("MSET", "MSETNX"), counter(), value(), any(), value()}
	case 13:
		return with([]string{pick("DEL", "UNLINK")}, many(any, 3)...)
	case 14:
		return with([]string{pick("EXISTS", "TOUCH")}, many(any, 4)...)
	case 15:
		return []string{"TYPE", any()}
	case 16:
		return with([]string{"EXPIREAT", any(), at()}, many(func() string { return pick("NX", "XX", "GT", "LT") }, 1)[rng.IntN(2):]...)
	case 17:
		return with([]string{"PEXPIREAT", any(), atMs()}, many(func() string { return pick("NX", "XX", "GT", "LT", "bad") }, 2)...)
	case 18:
		return []string{pick("EXPIRETIME", "PEXPIRETIME"), any()}
	case 19:
		return []string{"PERSIST", any()}
	case 20, 21:
		return with([]string{"SADD", set()}, many(member, 4)...)
	case 22:
		return with([]string{"SREM", set()}, many(member, 3)...)
	case 23:
		return []string{"SCARD", set()}
	case 24:
		return []string{"SISMEMBER", set(), member()}
	case 25:
		return with([]string{"SMISMEMBER", set()}, many(member, 3)...)
	case 26:
		return []string{"SMEMBERS", set()}
	case 27:
		return []string{"DBSIZE", "x"}
	case 28:
		return []string{"KEYS", pick("*", "s*", "[ab]", "?", "n*e", "\\a")}
	case 29:
		return []string{pick("MULTI", "MULTI", "EXEC", "EXEC", "DISCARD")}
	case 30:
		return []string{pick("WATCH", "UNWATCH"), pick("w1", "w2")}[:1]
	case 31:
		return []string{"GETEX", any(), pick("PERSIST", "EXAT"), pick("4102444800", "1")}[:2+rng.IntN(3)]
	case 32:
		return []string{pick("PING", "ECHO", "INCR", "INCRBY", "SET", "GET", "SADD", "EXPIREAT", "MSET", "SETNX", "EXISTS"), "a", "1", "2"}[:1+rng.IntN(4)]
	case 33:
		return []string{pick("INCR", "DEL", "GET", "GETDEL", "TYPE"), pick("w1", "w2")}
	default:
		return []string{pick("SETEX", "PSETEX"), counter(), pick("0", "-1", "x", "9223372036854775807"), value()}
	}
}

// TestAsRedis sends the same random commands to Quipu and to Redis: the replies
// are equal byte for byte.
func TestAsRedis(t *testing.T) {
	redis := startRedis(t)
	commands := 10_000
	if testing.Short() {
		commands = 3000
	}
	onBoth(t, func(t *testing.T, portable bool) {
		quipu, _ := serve(t, portable, nil)
		for seed := range uint64(3) {
			rng := rand.New(rand.NewPCG(seed, 9))
			type end struct {
				c net.Conn
				r *bufio.Reader
			}
			var ends [2]end
			for i, addr := range []string{quipu, redis} {
				c := dial(t, addr)
				talk(t, c, "FLUSHALL")
				ends[i] = end{c, bufio.NewReader(c)}
			}
			var last []string
			watched, inMulti, lists := false, false, map[string]bool{"KEYS": true, "SMEMBERS": true, "DBSIZE": true, "WATCH": true}
			for n := range commands {
				cmd := randomCommand(rng)
				name := strings.ToUpper(cmd[0])
				if inMulti && lists[name] {
					continue // lists are refused in MULTI
				}
				if inMulti && watched && name == "MSETNX" {
					continue // refused there
				}
				switch name {
				case "MULTI":
					inMulti = true
				case "EXEC", "DISCARD":
					inMulti, watched = false, false
				case "WATCH":
					watched = true
				}
				var b strings.Builder
				fmt.Fprintf(&b, "*%d\r\n", len(cmd))
				for _, a := range cmd {
					fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
				}
				var got [2]string
				for i := range ends {
					io.WriteString(ends[i].c, b.String())
					var err error
					if got[i], err = readReply(ends[i].r, name == "KEYS" || name == "SMEMBERS"); err != nil {
						t.Fatalf("seed %d, command %d, %q: %v", seed, n, cmd, err)
					}
				}
				last = append(last, fmt.Sprintf("%q → %q", cmd, got[1]))
				if got[0] != got[1] {
					t.Fatalf("seed %d, command %d, %q:\nQuipu %q\nRedis %q\nbefore:\n%s", seed, n, cmd, got[0], got[1], strings.Join(last[max(0, len(last)-25):], "\n"))
				}
			}
		}
	})
}

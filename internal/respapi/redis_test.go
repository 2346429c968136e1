package respapi

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
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

// encode writes a command as an array of bulk strings, or as a line of quoted
// words.
func encode(cmd []string, inline bool) string {
	var b strings.Builder
	if !inline {
		fmt.Fprintf(&b, "*%d\r\n", len(cmd))
		for _, a := range cmd {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
		}
		return b.String()
	}
	for _, a := range cmd {
		b.WriteString(" \"")
		for i := range len(a) {
			if a[i] == 'a' || a[i] > 'z' {
				fmt.Fprintf(&b, "\\x%02x", a[i])
			} else {
				b.WriteByte(a[i])
			}
		}
		b.WriteByte('"')
	}
	return b.String() + "\r\n"
}

// redisEnd is one of the two servers.
type redisEnd struct {
	c net.Conn
	r *bufio.Reader
}

func (e *redisEnd) ask(cmd []string, inline, unordered bool) (string, error) {
	if _, err := io.WriteString(e.c, encode(cmd, inline)); err != nil {
		return "", err
	}
	return readReply(e.r, unordered)
}

// iterate asks from cursor to cursor, the argument at position at, and returns
// all that was listed as a set, or the error.
func (e *redisEnd) iterate(cmd []string, at int) (string, error) {
	cmd = slices.Clone(cmd)
	seen := make(map[string]bool)
	for {
		if _, err := io.WriteString(e.c, encode(cmd, false)); err != nil {
			return "", err
		}
		line, err := e.r.ReadString('\n')
		if err != nil || line != "*2\r\n" {
			return line, err // an error
		}
		cursor, err := readReply(e.r, false)
		if err != nil {
			return "", err
		}
		header, err := e.r.ReadString('\n')
		if err != nil {
			return "", err
		}
		n, _ := strconv.Atoi(strings.TrimSpace(header[1:]))
		for range n {
			entry, err := readReply(e.r, false)
			if err != nil {
				return "", err
			}
			seen[entry] = true
		}
		if cmd[at] = strings.Fields(cursor)[1]; cmd[at] == "0" {
			return fmt.Sprint(slices.Sorted(maps.Keys(seen))), nil
		}
	}
}

// about reports whether two replies are times that differ by the way from one
// server to the other.
func about(name, a, b string) bool {
	allowed := 2
	if name == "PTTL" || name == "PEXPIRETIME" {
		allowed = 2000
	}
	x, err := strconv.Atoi(strings.Trim(a, ":\r\n"))
	y, err2 := strconv.Atoi(strings.Trim(b, ":\r\n"))
	return err == nil && err2 == nil && x > 0 && y > 0 && max(x-y, y-x) <= allowed
}

// timed are the commands whose answer depends on the clock; unordered those
// whose answer has no order.
var (
	timed     = map[string]bool{"TTL": true, "PTTL": true, "EXPIRETIME": true, "PEXPIRETIME": true}
	unordered = map[string]bool{"KEYS": true, "SMEMBERS": true}
)

// TestAsRedis sends the same random commands to Quipu and to Redis: the replies
// are equal byte for byte; times that are relative within two seconds, and
// scans as the set that they list.
func TestAsRedis(t *testing.T) {
	redis := startRedis(t)
	commands := 10_000
	if testing.Short() {
		commands = 3000
	}
	onBoth(t, func(t *testing.T, portable bool) {
		quipu, _ := serve(t, portable, nil)
		for seed := range uint64(3) {
			sameAnswers(t, [2]string{quipu, redis}, seed, commands)
		}
	})
}

func sameAnswers(t *testing.T, addrs [2]string, seed uint64, commands int) {
	t.Helper()
	maker := commandMaker{rng: rand.New(rand.NewPCG(seed, 9)), seconds: 10_000}
	var ends [2]redisEnd
	for i, addr := range addrs {
		c := dial(t, addr)
		talk(t, c, "FLUSHALL")
		ends[i] = redisEnd{c, bufio.NewReader(c)}
	}
	var last []string
	watched, inMulti := false, false
	for n := range commands {
		cmd := maker.next()
		name := strings.ToUpper(cmd[0])
		// ask asks both, and fails if their answers differ.
		ask := func(one func(e *redisEnd) (string, error)) {
			t.Helper()
			var got [2]string
			for i := range ends {
				var err error
				if got[i], err = one(&ends[i]); err != nil {
					t.Fatalf("seed %d, command %d, %q: %v", seed, n, cmd, err)
				}
			}
			last = append(last, fmt.Sprintf("%q → %q", cmd, got[1]))
			if got[0] != got[1] && !(timed[name] && about(name, got[0], got[1])) {
				t.Fatalf("seed %d, command %d, %q:\nQuipu %q\nRedis %q\nbefore:\n%s", seed, n, cmd, got[0], got[1], strings.Join(last[max(0, len(last)-25):], "\n"))
			}
		}
		switch name {
		case "MULTI":
			inMulti = true
		case "EXEC", "DISCARD":
			watched = watched && !inMulti
			inMulti = false
		case "UNWATCH":
			watched = watched && inMulti
		case "MSETNX":
			if inMulti && watched {
				continue // refused there
			}
		case "WATCH":
			if len(cmd) > 1 && !inMulti {
				// The watch of an absent key may abort where Redis does not.
				there, err := ends[1].ask(append([]string{"EXISTS"}, cmd[1:]...), false, false)
				if err != nil || there != fmt.Sprintf(":%d\r\n", len(cmd)-1) {
					continue
				}
				watched = true
			}
		case "DBSIZE":
			if inMulti {
				continue // lists are refused there
			}
			// Redis counts a key that was set with a time in the past until it
			// meets it.
			ask(func(e *redisEnd) (string, error) { return e.ask(append([]string{"EXISTS"}, allKeys...), false, false) })
		case "KEYS", "SMEMBERS", "SCAN", "SSCAN", "TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME":
			if inMulti {
				continue // lists are refused there; times would stand within an array
			}
		}
		switch inline := maker.rng.IntN(4) == 0; name {
		case "SCAN":
			ask(func(e *redisEnd) (string, error) { return e.iterate(cmd, 1) })
		case "SSCAN":
			ask(func(e *redisEnd) (string, error) { return e.iterate(cmd, 2) })
		default:
			ask(func(e *redisEnd) (string, error) { return e.ask(cmd, inline, unordered[name]) })
		}
	}
}

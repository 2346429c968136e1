package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// texts lets a client that writes texts as values be served by a node, whose
// values are integers: a proxy that puts a number in the place of each text on
// the way in, and the text in the number's place on the way out. Redis' own
// tests write "foobar" where any value would do; what they look at, expiry,
// WATCH, KEYS, is answered by the node alone.
type texts struct {
	mu      sync.Mutex
	numbers map[string]string
	texts   map[string]string
}

// firstText is the number of the first text: no test uses numbers this large.
const firstText = 7_654_321_000_000_000_000

// serveTexts starts a proxy before the node at target. It ends with the test.
func serveTexts(t *testing.T, target string) (addr string) {
	t.Helper()
	x := &texts{numbers: make(map[string]string), texts: make(map[string]string)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go x.serve(c, target)
		}
	}()
	return l.Addr().String()
}

func (x *texts) serve(c net.Conn, target string) {
	defer c.Close()
	node, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer node.Close()
	go func() {
		// What came whole is passed on; the node then answers and closes.
		copyMessages(node, c, x.request)
		node.(*net.TCPConn).CloseWrite()
	}()
	copyMessages(c, node, x.reply)
}

// request replaces the values among a command's arguments.
func (x *texts) request(args []string) {
	if len(args) == 0 {
		return
	}
	first, step := 0, len(args)
	switch strings.ToLower(args[0]) {
	case "set", "setnx", "getset":
		first = 2
	case "setex", "psetex":
		first = 3
	case "mset", "msetnx":
		first, step = 2, 2
	default:
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := first; i < len(args); i += step {
		if n, err := strconv.ParseInt(args[i], 10, 64); err == nil && strconv.FormatInt(n, 10) == args[i] {
			continue
		}
		n, ok := x.numbers[args[i]]
		if !ok {
			n = strconv.Itoa(firstText + len(x.numbers))
			x.numbers[args[i]], x.texts[n] = n, args[i]
		}
		args[i] = n
	}
}

// reply puts the texts back.
func (x *texts) reply(parts []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, p := range parts {
		if text, ok := x.texts[p]; ok {
			parts[i] = text
		}
	}
}

// copyMessages copies RESP messages until one side ends; change sees the bulk
// strings of each.
func copyMessages(to io.Writer, from io.Reader, change func(bulks []string)) {
	r, w := bufio.NewReader(from), bufio.NewWriter(to)
	for {
		var m message
		if err := m.read(r); err != nil {
			return
		}
		m.inline()
		change(m.bulks)
		m.write(w)
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
	}
}

// message is one RESP message: its lines in order, and the bulk strings that
// follow those lines that announce one.
type message struct {
	lines []string
	bulks []string
}

func (m *message) read(r *bufio.Reader) error {
	for left := 1; left > 0; left-- {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		m.lines = append(m.lines, line)
		n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
		switch line[0] {
		case '*', '~', '>':
			left += max(n, 0)
		case '%':
			left += 2 * n
		case '$':
			if n < 0 {
				break
			}
			body := make([]byte, n+2)
			if _, err := io.ReadFull(r, body); err != nil {
				return err
			}
			m.bulks = append(m.bulks, string(body[:n]))
		}
	}
	return nil
}

// inline makes a command that came as a line of words one of bulk strings.
func (m *message) inline() {
	words := strings.Fields(m.lines[0])
	if len(words) == 0 || strings.ContainsAny(m.lines[0][:1], "*$+-:_~%>=") {
		return
	}
	m.lines = append(m.lines[:0], fmt.Sprintf("*%d\r\n", len(words)))
	for _, word := range words {
		m.lines, m.bulks = append(m.lines, "$"), append(m.bulks, word)
	}
}

func (m *message) write(w *bufio.Writer) {
	next := 0
	for _, line := range m.lines {
		if line[0] != '$' || line == "$-1\r\n" {
			w.WriteString(line)
			continue
		}
		fmt.Fprintf(w, "$%d\r\n%s\r\n", len(m.bulks[next]), m.bulks[next])
		next++
	}
}

// TestTexts: the proxy changes values alone.
func TestTexts(t *testing.T) {
	s := newServer(t)
	s.start()
	c, err := net.Dial("tcp", serveTexts(t, s.resp))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for _, row := range []struct{ send, want string }{
		{"SET a bar", "+OK\r\n"},
		{"GET a", "$3\r\nbar\r\n"},
		{"MSET a 1 b bar", "+OK\r\n"},
		{"MGET a b none", "*3\r\n$1\r\n1\r\n$3\r\nbar\r\n$-1\r\n"},
		{"INCR a", ":2\r\n"},
		{"SADD s bar", ":1\r\n"},
		{"TYPE b", "+string\r\n"},
		{"inline SET a foo", "+OK\r\n"},
		{"inline GET a", "$3\r\nfoo\r\n"},
		{"NONE", "-ERR unknown command 'NONE', with args beginning with: \r\n"},
	} {
		words := strings.Fields(row.send)
		if words[0] == "inline" {
			io.WriteString(c, strings.Join(words[1:], " ")+"\r\n")
		} else {
			fmt.Fprintf(c, "*%d\r\n", len(words))
			for _, word := range words {
				fmt.Fprintf(c, "$%d\r\n%s\r\n", len(word), word)
			}
		}
		var m message
		if err := m.read(r); err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		w := bufio.NewWriter(&got)
		m.write(w)
		w.Flush()
		if got.String() != row.want {
			t.Errorf("%s: got %q, want %q", row.send, got.String(), row.want)
		}
	}
}

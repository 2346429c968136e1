package respapi

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/quipudb/quipu/internal/limit"
)

// TestLimits: at each limit a command is served, one above it is refused by the
// error named, which closes the connection only where what follows can't be
// told from the command.
func TestLimits(t *testing.T) {
	if testing.Short() {
		t.Skip("sends 200 MB")
	}
	name := func(n int) string { return strings.Repeat("n", n) }
	bulks := func(args ...string) string { return encode(args, false) }
	// echo is an inline ECHO whose line, without its end, has n bytes.
	echo := func(n int) string { return "ECHO " + name(n-len("ECHO ")) }
	onBoth(t, func(t *testing.T, portable bool) {
		addr, _ := serve(t, portable, nil)
		for _, row := range []struct {
			name, send string
			begins     string // the answer begins with it
			closes     bool
		}{
			{"key at the limit", bulks("INCR", name(512)), ":1\r\n", false},
			{"key above", bulks("INCR", name(513)), "-ERR invalid key: has 513 bytes: the limit is 512\r\n", false},
			{"empty key", bulks("INCR", ""), "-ERR invalid key: ", false},
			{"key of 512 bytes with a character cut short", bulks("INCR", name(511)+"\xc3"), "-ERR invalid key: is not valid UTF-8\r\n", false},
			{"key with a control character", bulks("INCR", "a\x00b"), "-ERR invalid key: ", false},
			{"member at the limit", bulks("SADD", "s", name(512)), ":1\r\n", false},
			{"member above", bulks("SADD", "s", name(513)), "-ERR invalid member: has 513 bytes: the limit is 512\r\n", false},
			{"member that is no UTF-8", bulks("SADD", "s", "\xff"), "-ERR invalid member: is not valid UTF-8\r\n", false},
			{"error that echoes no UTF-8", bulks("\xff\xfe\r\n", "\xff"), "-ERR unknown command '", false},
			{"tenant at the limit", bulks("SELECT", name(512)), "+OK\r\n", false},
			{"tenant above", bulks("SELECT", name(513)), "-ERR invalid DB index\r\n", false},
			{"database at the limit", bulks("SELECT", "999999"), "+OK\r\n", false},
			{"database above", bulks("SELECT", "1000000"), "-ERR DB index is out of range\r\n", false},
			{"bulk string at the limit", bulks("ECHO", name(limit.CommandBytes-100)), fmt.Sprintf("$%d\r\n", limit.CommandBytes-100), false},
			{"bulk string above", fmt.Sprintf("*2\r\n$4\r\nECHO\r\n$%d\r\n", limit.CommandBytes+1), "-ERR Protocol error: invalid bulk length\r\n", true},
			{"arguments at the limit", fmt.Sprintf("*%d\r\n", limit.CommandArgs) + strings.Repeat("$1\r\nx\r\n", limit.CommandArgs), "-ERR unknown command 'x'", false},
			{"arguments above", fmt.Sprintf("*%d\r\n", limit.CommandArgs+1), "-ERR Protocol error: invalid multibulk length\r\n", true},
			{"arguments together above", "*3\r\n" + strings.Repeat(fmt.Sprintf("$%d\r\n%s\r\n", limit.CommandBytes/2, name(limit.CommandBytes/2)), 2) + "$1\r\n", "-ERR Protocol error: too big command\r\n", true},
			{"huge number of arguments", "*9223372036854775807\r\n", "-ERR Protocol error: invalid multibulk length\r\n", true},
			{"length line that does not end", "*1\r\n$" + strings.Repeat("1", 100), "-ERR Protocol error: invalid bulk length\r\n", true},
			{"inline at the limit", echo(limit.InlineBytes-2) + "\r\n", fmt.Sprintf("$%d\r\n", limit.InlineBytes-2-len("ECHO ")), false},
			{"inline above", echo(limit.InlineBytes + 1), "-ERR Protocol error: too big inline request\r\n", true},
		} {
			t.Run(row.name, func(t *testing.T) {
				c := dial(t, addr)
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					io.WriteString(c, row.send)
					if !row.closes {
						io.WriteString(c, "\r\nPING\r\n")
					}
				}()
				r := bufio.NewReader(c)
				got := make([]byte, len(row.begins))
				if _, err := io.ReadFull(r, got); err != nil || string(got) != row.begins {
					t.Fatalf("got %q, %v; want %q", got, err, row.begins)
				}
				if row.closes {
					if _, err := io.Copy(io.Discard, r); err != nil && !isReset(err) {
						t.Fatalf("it was not closed: %v", err)
					}
				} else {
					for line := ""; line != "+PONG\r\n"; {
						var err error
						if line, err = r.ReadString('\n'); err != nil {
							t.Fatalf("the connection is not served on: %v", err)
						}
					}
				}
				c.Close()
				<-sent
			})
		}
	})
}

// isReset reports whether a connection ended while more was on its way to it.
func isReset(err error) bool { return strings.Contains(err.Error(), "connection reset") }

// TestQueuedCommands: a transaction of too many commands is refused whole.
func TestQueuedCommands(t *testing.T) {
	onBoth(t, func(t *testing.T, portable bool) {
		addr, _ := serve(t, portable, nil)
		for _, row := range []struct {
			commands int
			want     string
		}{
			{limit.BatchOps, fmt.Sprintf(":%d $5 %d ", limit.BatchOps, limit.BatchOps)},
			{limit.BatchOps + 1, "+QUEUED -ERR MULTI holds at most 10000 commands -EXECABORT Transaction discarded because of previous errors. $-1 "},
		} {
			got := talk(t, dial(t, addr), "FLUSHALL\r\nMULTI\r\n"+strings.Repeat("INCR m\r\n", row.commands)+"EXEC\r\nGET m")
			if !strings.HasSuffix(got, row.want) {
				t.Errorf("%d commands: the answer ends in %q, want %q", row.commands, got[max(0, len(got)-150):], row.want)
			}
		}
	})
}

// TestSlowConnections: two thousand connections, each in the middle of a
// command that comes byte by byte, hinder nobody, and each is served when the
// rest has come.
func TestSlowConnections(t *testing.T) {
	const connections = 2000
	onBoth(t, func(t *testing.T, portable bool) {
		addr, s := serve(t, portable, nil)
		send := encode([]string{"INCR", "slow"}, false)
		slow := make([]net.Conn, connections)
		for i := range slow {
			slow[i] = dial(t, addr)
			io.WriteString(slow[i], send[:1+i%(len(send)-1)])
		}
		quick := dial(t, addr)
		for n := range 100 {
			if got := talk(t, quick, "INCR quick"); got != fmt.Sprintf(":%d ", n+1) {
				t.Fatalf("beside them: %q", got)
			}
		}
		var wg sync.WaitGroup
		for i, c := range slow {
			switch {
			case i%3 == 0:
				c.Close() // it never comes
			default:
				for at := 1 + i%(len(send)-1); at < len(send); at++ {
					io.WriteString(c, send[at:at+1])
				}
				wg.Go(func() {
					if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line[0] != ':' {
						t.Errorf("connection %d: %q, %v", i, line, err)
					}
				})
			}
		}
		wg.Wait()
		want := fmt.Sprint(connections - (connections+2)/3)
		if got := talk(t, quick, "GET slow"); got != fmt.Sprintf("$%d %s ", len(want), want) {
			t.Errorf("counted %q, want %s", got, want)
		}
		if st := s.Stats(); st.Errors != 0 || st.Refused != 0 {
			t.Errorf("errors %d, refused %d", st.Errors, st.Refused)
		}
	})
}

// TestUnfinishedCommand: what was read of a command is not read again when more
// of it comes, and nothing of a huge one is kept.
func TestUnfinishedCommand(t *testing.T) {
	const args = 100_000
	send := []byte(fmt.Sprintf("*%d\r\n", args) + strings.Repeat("$1\r\nx\r\n", args))
	var p parser
	for end := 0; end < len(send); end += 1000 {
		if _, _, err := p.parse(send[:end], nil); !errors.Is(err, errIncomplete) {
			t.Fatalf("with %d bytes: %v", end, err)
		}
		if end > 0 && (p.at < end-10 || p.at > end || len(p.args)+p.left != args) {
			t.Fatalf("of %d bytes %d are read, %d arguments and %d to come", end, p.at, len(p.args), p.left)
		}
	}
	got, n, err := p.parse(send, nil)
	if err != nil || n != len(send) || len(got) != args {
		t.Fatalf("%d arguments in %d bytes, %v", len(got), n, err)
	}
	idle := session{parser: p, args: got}
	if idle.begin(); cap(idle.parser.args)+cap(idle.args) > 2*keptEntries {
		t.Fatalf("room for %d and %d arguments is kept", cap(idle.parser.args), cap(idle.args))
	}
}

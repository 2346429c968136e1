package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// run runs the binary against the server and returns what it printed and its
// exit code.
func (s *server) run(args ...string) (out string, code int) {
	s.t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "QUIPU_SERVER=http://"+s.http, "QUIPU_RESP="+s.resp)
	b, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return string(b), exit.ExitCode()
	} else if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(b)), 0
}

// TestCommands: what the client commands print, and their exit codes.
func TestCommands(t *testing.T) {
	s := newServer(t)
	if out, code := s.run("get", "hits"); code != 4 || !strings.Contains(out, "no server at http://"+s.http+", start one: quipu serve") {
		t.Fatalf("no server: %d, %s", code, out)
	}
	s.start()
	for _, row := range []struct {
		args, out string
		code      int
	}{
		{"add hits", "1", 0},
		{"add hits -- -3", "-2", 0},
		{"add hits 5 --upper 4", "3", 0},
		{"add hits 5 --upper 4", "the value would pass its bound", 1},
		{"get hits", "3", 0},
		{"get hits --tenant other", `there is no counter "hits" in tenant "other"`, 1},
		{"set hits 9", "9", 0},
		{"reset hits", "9", 0},
		{"list", "0\thits", 0},
		{"items add a b a", "2", 0},
		{"items count", "2", 0},
		{"items count --json", `{"count":2}`, 0},
		{"add hits --tenant _node", "tenants whose name begins with _ can't be written", 1},
		{"add", "expected \"<name>\"", 2},
		{"add hits x", "expected a valid 64 bit int", 2},
		{"bench --batch 0", "--batch 0: it is 1 to 10000", 2},
		{"import - ", "--source NAME", 2},
		{"import nofile", "no such file", 1},
		{"health", "", 0},
	} {
		out, code := s.run(strings.Fields(row.args)...)
		if code != row.code || !strings.Contains(out, row.out) || code == 0 && out != row.out {
			t.Errorf("quipu %s: exit %d, %q; want %d, %q", row.args, code, out, row.code, row.out)
		}
	}
	var a struct {
		Name     string
		Value    int64
		Revision uint64
	}
	if out, _ := s.run("add", "hits", "7", "--json"); json.Unmarshal([]byte(out), &a) != nil || a.Name != "hits" || a.Value != 7 || a.Revision == 0 {
		t.Errorf("--json: %s", out)
	}
	// Two servers on one port: the second says whose it is.
	cmd := exec.Command(binary, "serve", "--data", t.TempDir(), "--node", "m", "--http", s.http, "--resp", "127.0.0.1:0")
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), fmt.Sprintf("process %d (quipu) listens there; choose another address with --http or QUIPU_HTTP", s.cmd.Process.Pid)) {
		t.Errorf("port in use: %v, %s", err, out)
	}
}

// TestSettings: a flag goes over the environment, that over .env, that over the
// default.
func TestSettings(t *testing.T) {
	s := newServer(t)
	s.start()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte("QUIPU_TENANT=fromfile\nQUIPU_SERVER=http://"+s.http+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	add := func(env []string, args ...string) {
		t.Helper()
		cmd := exec.Command(binary, append([]string{"add", "n"}, args...)...)
		cmd.Dir, cmd.Env = dir, env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	add(nil)
	add([]string{"QUIPU_TENANT=fromenv"})
	add([]string{"QUIPU_TENANT=fromenv"}, "--tenant", "fromflag")
	for _, tenant := range []string{"fromfile", "fromenv", "fromflag"} {
		if out, _ := s.run("get", "n", "--tenant", tenant); out != "1" {
			t.Errorf("%s: %s", tenant, out)
		}
	}
}

// accessLog writes a log of n requests, every 10th an error, of 500 clients.
func accessLog(t *testing.T, n int) string {
	t.Helper()
	var b bytes.Buffer
	for i := range n {
		status := 200
		if i%10 == 0 {
			status = 500
		}
		fmt.Fprintf(&b, "10.0.%d.%d - - [%d] \"GET /p/%d HTTP/1.1\" %d 10\n", i%2, i%500/2, i, i%3000, status)
	}
	path := filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestImportUnderKills: three importers of one log at once, kill -9 of
// importers and server at random moments, and all begun again, until the log
// is counted.
func TestImportUnderKills(t *testing.T) {
	n, kills := 400_000, 6
	if testing.Short() {
		n, kills = 50_000, 2
	}
	log := accessLog(t, n)
	s := newServer(t)
	s.start()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for {
				cmd := exec.Command(binary, "import", log, "--server", "http://"+s.http)
				cmd.Dir = t.TempDir()
				if err := cmd.Start(); err != nil {
					t.Error(err)
					return
				}
				ended := make(chan error, 1)
				go func() { ended <- cmd.Wait() }()
				life := time.After(rand.N(time.Second))
				if i == 0 {
					life = nil // one lives as long as the server
				}
				select {
				case err := <-ended:
					if err == nil {
						return
					}
				case <-life:
					cmd.Process.Kill()
					<-ended
				case <-stop:
					cmd.Process.Kill()
					<-ended
					return
				}
			}
		})
	}
	for range kills {
		time.Sleep(100*time.Millisecond + rand.N(400*time.Millisecond))
		s.kill()
		s.start()
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		close(stop)
		<-done
		t.Fatal("the log was not counted in two minutes")
	}
	for name, want := range map[string]int{"requests": n, "errors": n / 10, "status/5xx": n / 10, "status/200": n - n/10, "bytes": 10 * n} {
		if out, _ := s.run("get", name); out != fmt.Sprint(want) {
			t.Errorf("%s: %s, want %d", name, out, want)
		}
	}
	if out, _ := s.run("items", "count", "--set", "clients"); out != "500" {
		t.Errorf("clients: %s", out)
	}
	var paths int
	list, _ := s.run("list", "path/")
	lines := strings.Split(list, "\n")
	for _, line := range lines {
		var v int
		fmt.Sscan(line, &v)
		paths += v
	}
	if paths != n || len(lines) != 1001 {
		t.Errorf("%d paths sum to %d, want 1001 and %d", len(lines), paths, n)
	}
}

// TestBench: both APIs, open and closed, with ids and without; the counts are
// checked by the command itself.
func TestBench(t *testing.T) {
	s := newServer(t)
	s.start()
	for _, args := range []string{"--api http --rate 2000", "--api http --rate 0 --batch 100 --ids", "--api resp --rate 5000 --batch 10", "--api resp --rate 0 --ids"} {
		out, code := s.run(append(strings.Fields("bench --json --duration 500ms --connections 8 --tenant load "+args), "--server", "http://"+s.http)...)
		var r struct {
			Acknowledged, Counted int64
			Exact                 bool
		}
		if code != 0 || json.Unmarshal([]byte(out), &r) != nil || !r.Exact || r.Acknowledged == 0 {
			t.Errorf("bench %s: exit %d, %s", args, code, out)
		}
	}
}

// TestDemo: the show itself, shortened.
func TestDemo(t *testing.T) {
	seconds := "6"
	if testing.Short() {
		seconds = "2"
	}
	s := newServer(t) // only for its folder; the demo starts its own
	if out, code := s.run("demo", "--seconds", seconds); code != 0 || !strings.HasSuffix(out, "exact") || strings.Count(out, "kill -9") != 3 {
		t.Fatalf("exit %d, %s", code, out)
	}
}

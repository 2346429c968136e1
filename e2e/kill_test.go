// Package e2e runs the real binary as a process and real peers against it.
package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quipudb/quipu"
)

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "quipu-e2e-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "quipu")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/quipu").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// server is a quipu process on fixed addresses and one data folder.
type server struct {
	t          *testing.T
	dir        string
	http, resp string
	cmd        *exec.Cmd
	out        bytes.Buffer
	wrap       []string // a command that runs the process
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func newServer(t *testing.T) *server {
	s := &server{t: t, dir: t.TempDir(), http: freeAddr(t), resp: freeAddr(t)}
	t.Cleanup(func() { s.kill() })
	return s
}

func (s *server) start(args ...string) {
	s.t.Helper()
	s.launch(args...)
	if !s.awaitReady(nil, nil) {
		s.t.Fatalf("not ready: %s", s.out.String())
	}
}

// launch starts the process.
func (s *server) launch(args ...string) {
	s.t.Helper()
	s.out.Reset()
	argv := append(slices.Clone(s.wrap), binary, "serve", "--data", s.dir, "--node", "n", "--http", s.http, "--resp", s.resp, "--segment", "4194304")
	argv = append(argv, args...)
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Dir = s.dir
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// awaitReady waits until the process serves, or gives its end to err, or a
// minute has passed.
func (s *server) awaitReady(exited <-chan error, err *error) bool {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		select {
		case *err = <-exited:
			return false
		default:
		}
		resp, err := http.Get("http://" + s.http + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return true
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

func (s *server) kill() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

func cycles(t *testing.T) int {
	if n, err := strconv.Atoi(os.Getenv("QUIPU_KILL_CYCLES")); err == nil {
		return n
	}
	if testing.Short() {
		return 3
	}
	return 40
}

// TestKillCycles: load over both edges with and without request ids, kill -9
// at random moments, restart, check: acknowledged ≤ value ≤ sent, and equal
// where ids let every unknown be retried.
func TestKillCycles(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if v, err := strconv.ParseUint(os.Getenv("QUIPU_SEED"), 10, 64); err == nil {
		seed = v
	}
	t.Logf("QUIPU_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	s := newServer(t)
	var plainSent, plainAcked, keyed int64 // operations on the three counters
	var respSent, respAcked int64
	ids := quipu.NewIDSource(nil)
	s.start()
	for cycle := range cycles(t) {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		var mu sync.Mutex
		var pending []string // keyed operations that have not been acknowledged
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				mu.Lock()
				plainSent++
				mu.Unlock()
				if ok, _ := s.add("plain", ""); ok {
					mu.Lock()
					plainAcked++
					mu.Unlock()
				}
			}
		})
		for range 2 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					id := ids.Next().String()
					if ok, _ := s.add("keyed", id); !ok {
						mu.Lock()
						pending = append(pending, id)
						mu.Unlock()
					}
					mu.Lock()
					keyed++
					mu.Unlock()
				}
			})
		}
		wg.Go(func() { s.pipeline(stop, &mu, &respSent, &respAcked) })
		time.Sleep(time.Duration(20+rng.IntN(180)) * time.Millisecond)
		s.kill()
		close(stop)
		wg.Wait()
		s.start()
		for _, id := range pending {
			if ok, err := s.add("keyed", id); !ok {
				t.Fatalf("cycle %d: retry of %s: %v", cycle, id, err)
			}
		}
		check := func(name string, least, most int64) {
			t.Helper()
			if v := s.get(name); v < least || v > most {
				t.Fatalf("cycle %d: %s stands at %d, acknowledged %d, sent %d", cycle, name, v, least, most)
			}
		}
		check("plain", plainAcked, plainSent)
		check("resp", respAcked, respSent)
		check("keyed", keyed, keyed)
	}
	t.Logf("plain %d of %d acknowledged, resp %d of %d, keyed %d", plainAcked, plainSent, respAcked, respSent, keyed)
	if plainAcked == 0 || respAcked == 0 || keyed == 0 {
		t.Fatal("nothing was acknowledged")
	}
	s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		t.Fatalf("orderly stop: %v\n%s", err, s.out.String())
	}
	s.cmd = nil
	if out, err := exec.Command(binary, "verify", s.dir).CombinedOutput(); err != nil {
		t.Fatalf("verify: %v\n%s", err, out)
	}
}

// client never retries by itself: each call is counted as one sent.
var client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}

func (s *server) add(name, id string) (bool, error) {
	req, _ := http.NewRequest(http.MethodPost, "http://"+s.http+"/v1/tenants/default/counters/"+name+"/add", strings.NewReader("{}"))
	req.GetBody = nil // or the transport may send it again by itself
	if id != "" {
		req.Header.Set("Idempotency-Key", id)
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("%s: %s: %w", resp.Status, body, err)
	}
	return true, nil
}

func (s *server) get(name string) int64 {
	s.t.Helper()
	resp, err := client.Get("http://" + s.http + "/v1/tenants/default/counters/" + name)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return 0
	}
	var a struct{ Value int64 }
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		s.t.Fatal(err)
	}
	return a.Value
}

// pipeline sends INCR in bursts of 16 over RESP and counts the answers.
func (s *server) pipeline(stop chan struct{}, mu *sync.Mutex, sent, acked *int64) {
	c, err := net.Dial("tcp", s.resp)
	if err != nil {
		return
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		select {
		case <-stop:
			return
		default:
		}
		mu.Lock()
		*sent += 16
		mu.Unlock()
		if _, err := io.WriteString(c, strings.Repeat("INCR resp\r\n", 16)); err != nil {
			return
		}
		for range 16 {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			if strings.HasPrefix(line, ":") {
				mu.Lock()
				*acked++
				mu.Unlock()
			}
		}
	}
}

// TestDataFolder: a folder in use, of another node, or damaged is refused with
// a clear reason.
func TestDataFolder(t *testing.T) {
	s := newServer(t)
	s.start()
	s.add("c", "")
	second := func(node string) string {
		out, err := exec.Command(binary, "serve", "--data", s.dir, "--node", node, "--http", "127.0.0.1:0", "--resp", "127.0.0.1:0").CombinedOutput()
		if err == nil {
			t.Fatal("a second process was let in")
		}
		return string(out)
	}
	if out := second("n"); !strings.Contains(out, fmt.Sprintf("in use by process %d", s.cmd.Process.Pid)) {
		t.Fatalf("in use: %s", out)
	}
	s.kill()
	if out := second("other"); !strings.Contains(out, `belongs to node "n"`) {
		t.Fatalf("another node: %s", out)
	}
	segments, _ := filepath.Glob(filepath.Join(s.dir, "wal", "*.wal"))
	f, err := os.OpenFile(segments[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	f.ReadAt(b, 4096+50)
	f.WriteAt([]byte{b[0] ^ 1}, 4096+50)
	f.Close()
	if out := second("n"); !strings.Contains(out, "log damaged: "+segments[0]+" at offset 4096") {
		t.Fatalf("damaged: %s", out)
	}
}

// TestRedisTools: redis-cli and redis-benchmark work as they are.
func TestRedisTools(t *testing.T) {
	if os.Getenv("QUIPU_WITHOUT_REDIS") != "" || testing.Short() {
		t.Skip("needs redis-cli and redis-benchmark")
	}
	s := newServer(t)
	s.start()
	_, port, _ := net.SplitHostPort(s.resp)
	cli := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("redis-cli", append([]string{"-p", port}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("redis-cli %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	for _, row := range [][2]string{{"incrby hits 5", "5"}, {"get hits", "5"}, {"sadd s a b a", "2"}, {"scard s", "2"}, {"dbsize", "2"}, {"ttl hits", "-1"}} {
		if got := cli(strings.Fields(row[0])...); got != row[1] {
			t.Errorf("redis-cli %s printed %q, want %q", row[0], got, row[1])
		}
	}
	if out, err := exec.Command("redis-benchmark", "-p", port, "-t", "incr", "-n", "20000", "-c", "20", "-P", "8", "-q").CombinedOutput(); err != nil {
		t.Fatalf("redis-benchmark: %v\n%s", err, out)
	}
	if v := s.get("counter:__rand_int__"); v < 20000 || v > 20000+20*8 {
		t.Fatalf("redis-benchmark sent 20000, counted %d", v)
	}
}

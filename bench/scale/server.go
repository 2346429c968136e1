package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// server is the node under load.
type server struct {
	cmd        *exec.Cmd
	http, resp string
	log        string
}

// start starts a node over the folder and waits until it is ready.
func start(ctx context.Context, binary, dir string) (*server, error) {
	s := &server{log: filepath.Join(dir, "log")}
	for _, addr := range []*string{&s.http, &s.resp} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		*addr = l.Addr().String()
		l.Close()
	}
	out, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	s.cmd = exec.Command(binary, "serve", "--data", filepath.Join(dir, "data"), "--node", "bench", "--http", s.http, "--resp", s.resp)
	s.cmd.Stdout, s.cmd.Stderr = out, out
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
		if r, err := http.Get("http://" + s.http + "/readyz"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return s, nil
			}
		}
	}
	s.kill()
	return nil, errors.New("the node did not become ready: see " + s.log)
}

// kill ends the node as kill -9 does.
func (s *server) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// metrics returns the node's metrics of these names; 0 where there is none.
func (s *server) metrics(names ...string) []float64 {
	out := make([]float64, len(names))
	r, err := http.Get("http://" + s.http + "/metrics")
	if err != nil {
		return out
	}
	defer r.Body.Close()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		for i := range names {
			if name == names[i] {
				out[i], _ = strconv.ParseFloat(value, 64)
			}
		}
	}
	return out
}

// memory is what the process holds in memory, now and at most, in MiB.
func (s *server) memory() map[string]int {
	out := make(map[string]int)
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		if name == "VmRSS" || name == "VmHWM" {
			kib, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			out[name+"MiB"] = kib >> 10
		}
	}
	return out
}

var storeOpen = regexp.MustCompile(`.*store open.*`)

// replayed is the line in which the node tells what it replayed.
func (s *server) replayed() string {
	data, _ := os.ReadFile(s.log)
	return storeOpen.FindString(string(data))
}

// dropPageCache empties the system's page cache; false if it may not.
func dropPageCache() bool {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0) == nil
}

// diskWrites measures bare durable writes of 4 KiB into a file that was written
// before.
func diskWrites(dir string, span time.Duration) (p50, longest float64, err error) {
	f, err := os.OpenFile(filepath.Join(dir, "bare"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return 0, 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const size = 64 << 20
	if _, err := io.CopyN(f, zeros{}, size); err != nil {
		return 0, 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, 0, err
	}
	var block [4096]byte
	t := &tally{}
	off := int64(0)
	for end := time.Now().Add(span); time.Now().Before(end); off = (off + 4096) % size {
		began := time.Now()
		if _, err := f.WriteAt(block[:], off); err != nil {
			return 0, 0, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, 0, err
		}
		t.add(1, time.Since(began), true)
	}
	return t.quantile(50), t.quantile(100), nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

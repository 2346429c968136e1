package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestRedisPy: redis-py works as it is, with both versions of the protocol,
// and goes on after the node was killed and started again.
func TestRedisPy(t *testing.T) {
	if os.Getenv("QUIPU_WITHOUT_REDIS") != "" || testing.Short() {
		t.Skip("needs redis-py")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	python := filepath.Join(cache, "quipu-test", "redis-py-8.1.0", "bin", "python")
	if _, err := os.Stat(python); err != nil {
		t.Fatalf("redis-py is missing: %v; scripts/install-test-deps.sh gets it", err)
	}
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprintf("resp%d", protocol), func(t *testing.T) {
			s := newServer(t)
			s.start()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			_, port, _ := net.SplitHostPort(s.resp)
			cmd := exec.CommandContext(ctx, python, "testdata/clients.py", port, fmt.Sprint(protocol))
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			said := ""
			for lines := bufio.NewScanner(out); lines.Scan(); {
				switch said = lines.Text(); said {
				case "kill":
					s.kill()
				case "start":
					s.start()
				}
				io.WriteString(in, "go on\n")
			}
			if err := cmd.Wait(); err != nil || said != "done" {
				t.Fatalf("%v after %q:\n%s", err, said, stderr.String())
			}
		})
	}
}

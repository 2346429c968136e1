package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write docs/redis-suite.md anew")

// suiteUnits are the files of Redis' own tests that integers and sets can
// serve. Those that write texts as values go through the proxy of texts.
var suiteUnits = []struct {
	name  string
	texts bool
}{
	{"unit/type/incr", false},
	{"unit/type/set", false},
	{"unit/type/string", true},
	{"unit/expire", true},
	{"unit/keyspace", true},
	{"unit/scan", true},
	{"unit/multi", true},
	{"unit/other", true},
	{"unit/protocol", false},
	{"unit/quit", false},
}

// suiteTags leaves out what Redis' authors have tagged as for their server
// alone.
const suiteTags = "-needs:debug -needs:repl -needs:save -needs:reset -needs:config-maxmemory -large-memory"

// suiteDir is where scripts/install-test-deps.sh has put Redis' source.
func suiteDir(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "quipu-test", "redis-7.0.15")
	if _, err := os.Stat(filepath.Join(dir, "runtest")); err != nil {
		t.Fatalf("Redis' tests are missing: %v; scripts/install-test-deps.sh gets them", err)
	}
	return dir
}

// skips are the tests that are not run: for each unit the names, each with its
// reason, in the file's order.
type skips map[string][]skip

type skip struct{ name, reason string }

// readSkips reads testdata/redis-skip.txt: a reason after "because:", then the
// tests that it holds for, "unit: name", one a line.
func readSkips(t *testing.T) skips {
	t.Helper()
	data, err := os.ReadFile("testdata/redis-skip.txt")
	if err != nil {
		t.Fatal(err)
	}
	all, reason := make(skips), ""
	for n, line := range strings.Split(string(data), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		unit, name, ok := strings.Cut(line, ": ")
		switch {
		case !ok:
			t.Fatalf("redis-skip.txt:%d: no unit in %q", n+1, line)
		case unit == "because":
			reason = name
		case reason == "":
			t.Fatalf("redis-skip.txt:%d: no reason for %q", n+1, line)
		default:
			all[unit] = append(all[unit], skip{name, reason})
		}
	}
	return all
}

// suiteResult is what runtest said of a unit's tests, by name.
type suiteResult struct {
	passed, skipped, left, failed []string
}

var (
	colours   = regexp.MustCompile("\x1b\\[[0-9;]*m")
	suiteLine = regexp.MustCompile(`^\[(ok|skip|ignore|err|exception)\]: (.*)$`)
	duration  = regexp.MustCompile(` \(\d+ ms\)$`)
)

func parseSuite(out []byte) (r suiteResult) {
	for _, line := range strings.Split(string(colours.ReplaceAll(out, nil)), "\n") {
		m := suiteLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		list, name := &r.failed, m[2]
		switch m[1] {
		case "ok":
			list, name = &r.passed, duration.ReplaceAllString(name, "")
		case "skip":
			list = &r.skipped
		case "ignore":
			list = &r.left
		}
		if !slices.Contains(*list, name) { // some tests run in a loop
			*list = append(*list, name)
		}
	}
	return r
}

// TestRedisSuite runs Redis' own tests against a node. A test that fails must
// be on the list of skipped ones, and a skipped one must exist; what passed and
// what did not run stands by name in docs/redis-suite.md, and is held to it.
func TestRedisSuite(t *testing.T) {
	if os.Getenv("QUIPU_WITHOUT_REDIS") != "" || testing.Short() {
		t.Skip("needs Redis' source and Tcl")
	}
	dir, all := suiteDir(t), readSkips(t)
	results := make([]suiteResult, len(suiteUnits))
	t.Run("units", func(t *testing.T) {
		for i, unit := range suiteUnits {
			t.Run(unit.name, func(t *testing.T) {
				t.Parallel()
				s := newServer(t)
				s.dir = memoryDir(t)
				s.start()
				addr := s.resp
				if unit.texts {
					addr = serveTexts(t, s.resp)
				}
				results[i] = runSuite(t, dir, addr, unit.name, all[unit.name])
			})
		}
	})
	if t.Failed() {
		return
	}
	const path = "../docs/redis-suite.md"
	doc := suiteDoc(all, results)
	if *rewrite {
		if err := os.WriteFile(path, doc, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if was, err := os.ReadFile(path); err != nil || !bytes.Equal(was, doc) {
		t.Fatalf("docs/redis-suite.md is not what ran (%v); go test ./e2e -run TestRedisSuite -rewrite writes it anew:\n%s", err, doc)
	}
}

// memoryDir is a folder in memory, where there is one: on trial here are the
// answers, and one test sends 60,000 writes one by one.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "quipu-e2e-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// suitePort returns a base for the port of runtest's own server, which is one
// of the 32 below: below those that the system gives out, and all free.
func suitePort(t *testing.T) int {
	t.Helper()
next:
	for range 100 {
		base := 12_000 + 32*rand.IntN(300)
		for port := base - 32; port < base; port++ {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				continue next
			}
			l.Close()
		}
		return base
	}
	t.Fatal("no free ports")
	return 0
}

func runSuite(t *testing.T, dir, addr, unit string, skipped []skip) suiteResult {
	t.Helper()
	// The suite writes beside its tests.
	work := t.TempDir()
	if err := os.CopyFS(filepath.Join(work, "tests"), os.DirFS(filepath.Join(dir, "tests"))); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range skipped {
		names = append(names, s.name)
	}
	list := filepath.Join(work, "skip")
	if err := os.WriteFile(list, []byte(strings.Join(names, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(addr)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "tclsh", "tests/test_helper.tcl", "--host", host, "--port", port, "--baseport", fmt.Sprint(suitePort(t)),
		"--durable", "--clients", "1", "--ignore-encoding", "--ignore-digest", "--tags", suiteTags, "--skipfile", list, "--single", unit)
	cmd.Dir = work
	// runtest has children; a run that hangs is ended with all of them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	r := parseSuite(out)
	for _, s := range skipped {
		if s.name[0] != '/' && !slices.Contains(r.skipped, s.name) {
			t.Errorf("%s has no test %q that could be skipped", unit, s.name)
		}
	}
	t.Logf("passed %d: %s", len(r.passed), strings.Join(r.passed, "; "))
	t.Logf("skipped %d: %s", len(r.skipped), strings.Join(r.skipped, "; "))
	if err != nil || len(r.failed) > 0 || len(r.passed) == 0 {
		t.Errorf("%v; failed: %q\n%s", err, r.failed, colours.ReplaceAll(out, nil))
	}
	return r
}

// suiteDoc lists by name what ran and what did not.
func suiteDoc(all skips, results []suiteResult) []byte {
	var b bytes.Buffer
	passed, skipped, left := 0, 0, 0
	for _, r := range results {
		passed, skipped, left = passed+len(r.passed), skipped+len(r.skipped), left+len(r.left)
	}
	fmt.Fprintf(&b, `# Redis' own tests

`+"`make test`"+` runs these files of the tests of Redis 7.0.15 against a node, unchanged. %d tests pass, %d are skipped, each for the reason given
(`+"`e2e/testdata/redis-skip.txt`"+`), and %d are left out by the tags of Redis' authors, for instance since they need Redis' DEBUG or its own process.
This page is written by the test (`+"`go test ./e2e -run TestRedisSuite -rewrite`"+`), which fails where it is not what ran.

Units marked *texts* write texts as values, which a node refuses. A proxy puts a number in each text's place on the way in, and the text back on the way out
(`+"`e2e/texts_test.go`"+`); all else reaches the node as it is.
`, passed, skipped, left)
	for i, u := range suiteUnits {
		r := results[i]
		mark := ""
		if u.texts {
			mark = " (texts)"
		}
		fmt.Fprintf(&b, "\n## %s%s\n\nPassed, %d:\n", u.name, mark, len(r.passed))
		for _, name := range r.passed {
			fmt.Fprintf(&b, "- `%s`\n", name)
		}
		if len(r.skipped) > 0 {
			fmt.Fprintf(&b, "\nSkipped, %d:\n", len(r.skipped))
			reason := ""
			for _, s := range all[u.name] {
				if s.reason != reason {
					reason = s.reason
					fmt.Fprintf(&b, "- %s\n", reason)
				}
				fmt.Fprintf(&b, "  - `%s`\n", s.name)
			}
		}
		if len(r.left) > 0 {
			fmt.Fprintf(&b, "\nLeft out by tag, %d:\n", len(r.left))
			for _, name := range r.left {
				fmt.Fprintf(&b, "- `%s`\n", name)
			}
		}
	}
	return b.Bytes()
}
